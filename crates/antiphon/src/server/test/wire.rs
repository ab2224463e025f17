//! The client's half of a connection: frames and packets of Socket.IO, as what they mean.
//!
//! A task runs a [`Connection`] for as long as its client lives. It writes what the client sends,
//! answers heartbeats, and tells the client what has come ([`Received`]). The last that it tells is
//! how the connection has ended, or what of the server's is no packet.

use antiphon_protocol::{
    engine::{EncodedMessage, Revision},
    socket::{self, Limits, OwnedArgs, Packet},
    websocket::{Decoder, Event, Opcode, Role, masked_frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};

/// Bytes that are under way in each direction.
pub(super) const PIPE: usize = 64 << 10;
/// Of one message.
const MAX_PAYLOAD: usize = 256 << 20;
/// Where nothing is to be hidden, any will do.
pub(super) const MASK: [u8; 4] = [0; 4];

/// How a socket that has left was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// By a DISCONNECT packet: the server has [disconnected](crate::Socket::disconnect) it.
    Disconnected,
    /// Its connection has ended.
    Closed,
}

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Received {
    Joined(String),
    Refused(serde_json::Value),
    Event(String, Option<u64>, OwnedArgs),
    Ack(u64, OwnedArgs),
    Pong,
    Left(Left),
    Wrong(String),
}

/// The frames of a message, as a client sends them.
pub(super) fn masked(message: &EncodedMessage) -> Vec<u8> {
    let mut frames = Vec::new();
    for packet in message.packets() {
        let opcode = match packet.is_binary() {
            true => Opcode::Binary,
            false => Opcode::Text,
        };
        frames.append(&mut masked_frame(opcode, packet.payload(), MASK));
    }
    frames
}

/// The client's side of a WebSocket: it reads for as long as the client lives.
pub(super) struct Connection {
    stream: DuplexStream,
    frames: Decoder,
    packets: socket::Decoder,
    received: mpsc::UnboundedSender<Received>,
}

impl Connection {
    pub(super) fn new(stream: DuplexStream, received: mpsc::UnboundedSender<Received>) -> Self {
        let limits = Limits::new().attachments(usize::MAX);
        Self {
            stream,
            frames: Decoder::new(Role::Client, MAX_PAYLOAD),
            packets: socket::Decoder::new(Revision::V4, limits),
            received,
        }
    }

    pub(super) async fn run(mut self, mut to_send: mpsc::UnboundedReceiver<Vec<u8>>) {
        let mut input = Vec::new();
        let mut chunk = vec![0; PIPE];
        loop {
            tokio::select! {
                frames = to_send.recv() => {
                    let Some(frames) = frames else {
                        return; // the client was dropped
                    };
                    if self.stream.write_all(&frames).await.is_err() {
                        break;
                    }
                }
                read = self.stream.read(&mut chunk) => {
                    let Ok(length @ 1..) = read else {
                        break;
                    };
                    input.extend_from_slice(&chunk[..length]);
                    match self.take(&mut input).await {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(why) => {
                            let _ = self.received.send(Received::Wrong(why));
                            return;
                        }
                    }
                }
            }
        }
        let _ = self.received.send(Received::Left(Left::Closed));
    }

    /// Takes what whole frames say. Returns `false` after a close frame.
    async fn take(&mut self, input: &mut Vec<u8>) -> Result<bool, String> {
        let mut consumed = 0;
        while consumed < input.len() {
            let decoded = self.frames.decode(&mut input[consumed..]);
            let decoded = decoded.map_err(|error| error.to_string())?;
            if decoded.consumed == 0 {
                break;
            }
            consumed += decoded.consumed;
            let mut answer = None;
            let received = match decoded.event {
                None => None,
                Some(Event::Text(text)) if &*text == "2" => {
                    answer = Some(masked_frame(Opcode::Text, b"3", MASK));
                    None
                }
                Some(Event::Text(text)) => match text.strip_prefix('4') {
                    Some(packet) => {
                        let packet = self.packets.text(packet);
                        packet
                            .map_err(|error| error.to_string())?
                            .and_then(of_packet)
                    }
                    None => None, // open, close, noop
                },
                Some(Event::Binary(data)) => {
                    let whole = self.packets.binary(data.into());
                    let whole = whole.map_err(|error| error.to_string())?;
                    whole.and_then(|whole| of_packet(whole.packet()))
                }
                Some(Event::Ping(data)) => {
                    answer = Some(masked_frame(Opcode::Pong, data, MASK));
                    None
                }
                Some(Event::Pong(_)) => Some(Received::Pong),
                Some(Event::Close(_)) => return Ok(false),
            };
            if let Some(received) = received {
                // A client that was dropped waits for nothing.
                let _ = self.received.send(received);
            }
            if let Some(answer) = answer
                && self.stream.write_all(&answer).await.is_err()
            {
                return Ok(false);
            }
        }
        input.drain(..consumed);
        Ok(true)
    }
}

/// What a packet of the server means to its client.
fn of_packet(packet: Packet<'_>) -> Option<Received> {
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    match packet {
        Packet::Connect { auth, .. } => {
            let sid: serde_json::Value = json(auth.unwrap_or_default());
            let sid = sid["sid"].as_str().unwrap_or_default();
            Some(Received::Joined(sid.to_owned()))
        }
        Packet::ConnectError { data, .. } => Some(Received::Refused(json(data))),
        Packet::Disconnect { .. } => Some(Received::Left(Left::Disconnected)),
        Packet::Event { id, name, args, .. } => {
            Some(Received::Event(name.into_owned(), id, args.to_owned()))
        }
        Packet::Ack { id, args, .. } => Some(Received::Ack(id, args.to_owned())),
    }
}
