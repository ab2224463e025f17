//! The floor: a bare tokio server that sends the bytes which the load expects, and knows nothing of
//! HTTP, WebSocket, Engine.IO or Socket.IO beyond what it takes to find the end of a frame.
//!
//! What a real server costs above this is its own; what this costs is the kernel's, and tokio's. It
//! runs on one thread: nothing is handed from one to another.
//!
//! `bench-floor PORT`; `bench-floor PORT gather`: see [`gather`]; `bench-floor PORT tls CHAIN KEY`: see
//! [`tls`]; `bench-floor PORT redis URL`: see [`redis`].

mod gather;
mod redis;
mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::AsyncReadExt as _,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The answer to the one key that the load uses (RFC 6455 §1.3), and the packet that opens a session.
const OPENING: [&[u8]; 2] = [
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    b"\x81\x6b0{\"sid\":\"aaaaaaaaaaaaaaaaaaaa\",\"upgrades\":[],\"pingInterval\":25000,\
      \"pingTimeout\":20000,\"maxPayload\":1000000}",
];

/// The answer to the packet that joins the main namespace.
const JOINED: &[u8] = b"\x81\x2040{\"sid\":\"aaaaaaaaaaaaaaaaaaaa\"}";

type Everyone = Arc<Mutex<Vec<Arc<OwnedWriteHalf>>>>;

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: bench-floor PORT [gather | tls CHAIN KEY | redis URL]");
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok());
    let address = SocketAddr::from(([127, 0, 0, 1], port.ok_or_else(usage)?));
    match arguments.next().as_deref() {
        None => one_by_one(address),
        Some("gather") => gather::run(address),
        Some("tls") => {
            let chain = arguments.next().ok_or_else(usage)?;
            let key = arguments.next().ok_or_else(usage)?;
            tls::run(address, &chain, &key)
        }
        Some("redis") => redis::run(address, &arguments.next().ok_or_else(usage)?),
        Some(_) => Err(usage()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn one_by_one(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let everyone = Everyone::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let everyone = Arc::clone(&everyone);
        tokio::spawn(async move {
            // A client that goes away is no failure.
            // The load says what was lost by it.
            if let Err(error) = serve(stream, everyone).await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}

/// A connection that has asked for the WebSocket and got it, as the load sends and expects that; if it
/// hasn't ended instead.
async fn opened(stream: TcpStream) -> io::Result<Option<(OwnedReadHalf, Arc<OwnedWriteHalf>)>> {
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let mut request = [0; 1024];
    if reader.read(&mut request).await? == 0 {
        return Ok(None);
    }
    for answer in OPENING {
        write(&writer, answer)?;
    }
    Ok(Some((reader, Arc::new(writer))))
}

async fn serve(stream: TcpStream, everyone: Everyone) -> io::Result<()> {
    let Some((reader, writer)) = opened(stream).await? else {
        return Ok(());
    };
    let mut answers = Answers::default();
    // The frame that has not come as a whole.
    let mut partial = Vec::new();
    let result = loop {
        reader.readable().await?;
        // As with a real server, a connection that is idle owns no buffer.
        let read = READ.with_borrow_mut(|buffer| {
            let kept = partial.len();
            buffer[..kept].copy_from_slice(&partial);
            partial.clear();
            let count = match reader.try_read(&mut buffer[kept..]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            let had_joined = answers.joined;
            let rest = answers.take(&mut buffer[..kept + count])?;
            partial.extend_from_slice(rest);
            if answers.joined != had_joined {
                lock(&everyone).push(Arc::clone(&writer));
            }
            answers.send(&writer, &everyone)?;
            Ok(count > 0)
        });
        match read {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    lock(&everyone).retain(|one| !Arc::ptr_eq(one, &writer));
    result
}

thread_local! {
    static READ: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 256 << 10]);
}

/// The frames that have come, and behind them what isn't one yet.
struct Frames<'d> {
    rest: &'d mut [u8],
}

impl<'d> Frames<'d> {
    /// The next frame as it is sent to others: unmasked, with its header. `None` if it hasn't come as a
    /// whole, or the connection is to end.
    fn next(&mut self) -> io::Result<Option<&'d [u8]>> {
        if self.rest.first() == Some(&0x88) {
            // A close frame: the end of the connection follows.
            self.rest = &mut [];
        }
        if self.rest.len() <= 6 {
            return Ok(None);
        }
        // Masked texts of fewer than 126 bytes: the load sends no other here.
        let length = usize::from(self.rest[1] & 0x7f);
        if self.rest[0] != 0x81 || length > 125 {
            return Err(io::Error::other("a frame that the floor doesn't know"));
        }
        if self.rest.len() < 6 + length {
            return Ok(None);
        }
        let (frame, rest) = std::mem::take(&mut self.rest).split_at_mut(6 + length);
        self.rest = rest;
        let (header, payload) = frame.split_at_mut(6);
        for (byte, mask) in payload.iter_mut().zip(header[2..].iter().cycle()) {
            *byte ^= mask;
        }
        // Side by side with what it is the header of.
        header[4..].copy_from_slice(&[0x81, length as u8]);
        Ok(Some(&frame[4..]))
    }
}

/// What is answered to a connection's frames.
#[derive(Default)]
struct Answers {
    joined: bool,
    /// For itself.
    own: Vec<u8>,
    /// For all.
    shared: Vec<u8>,
}

impl Answers {
    /// Takes every whole frame, to send it back unmasked; those that begin as a broadcast to all. Gives
    /// what is left.
    fn take<'d>(&mut self, data: &'d mut [u8]) -> io::Result<&'d [u8]> {
        let mut frames = Frames { rest: data };
        while let Some(frame) = frames.next()? {
            if self.joined {
                let answers = match frame[2..].starts_with(b"42[\"broadcast\"") {
                    true => &mut self.shared,
                    false => &mut self.own,
                };
                answers.extend_from_slice(frame);
            } else {
                self.joined = true;
                self.own.extend_from_slice(JOINED);
            }
        }
        Ok(frames.rest)
    }

    fn send(&mut self, writer: &OwnedWriteHalf, everyone: &Everyone) -> io::Result<()> {
        if !self.own.is_empty() {
            write(writer, &self.own)?;
            self.own = Vec::new();
        }
        if !self.shared.is_empty() {
            for one in &*lock(everyone) {
                // Who has gone is taken out by its own task.
                let _ = write(one, &self.shared);
            }
            self.shared = Vec::new();
        }
        Ok(())
    }
}

/// Writes all, or fails: what the load leaves unanswered always fits the socket's buffer.
fn write(writer: &OwnedWriteHalf, data: &[u8]) -> io::Result<()> {
    match writer.try_write(data)? {
        count if count == data.len() => Ok(()),
        _ => Err(io::Error::other("the socket's buffer is full")),
    }
}

fn lock(everyone: &Everyone) -> std::sync::MutexGuard<'_, Vec<Arc<OwnedWriteHalf>>> {
    everyone.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The acknowledgement of `42ID["join","r"]`.
fn joins(payload: &[u8]) -> Option<Vec<u8>> {
    let rest = payload.strip_prefix(b"42")?;
    let id = rest.strip_suffix(b"[\"join\",\"r\"]")?;
    Some([b"43", id, b"[\"r\"]"].concat())
}
