//! Any chunking of a stream gives the same events, and `tungstenite` sees the same messages in it.
//! The first byte of the input chooses the role, the second the size of the chunks.

#![no_main]

use std::io::{Read, Result, Write};

use antiphon_protocol::websocket::{Decoder, Event, FrameError, Role};
use libfuzzer_sys::fuzz_target;
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{Role as OtherRole, WebSocketConfig},
};

const MAX: usize = 1_000;
const LONGEST_HEADER: usize = 14;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The stream is over, maybe within a frame.
    Input,
    Close,
    Error(FrameError),
}

fuzz_target!(|data: &[u8]| {
    let [role, chunk, stream @ ..] = data else {
        return;
    };
    let (role, other_role) = match role % 2 {
        0 => (Role::Server, OtherRole::Server),
        _ => (Role::Client, OtherRole::Client),
    };
    let (seen, end) = read(role, stream, stream.len().max(1));
    let (seen_chunked, end_chunked) = read(role, stream, usize::from(*chunk).max(1));
    assert_eq!(seen, seen_chunked);
    assert_eq!(end, end_chunked);

    let is_error = matches!(end, End::Error(_));
    // `tungstenite` looks at a frame only once it is whole: whatever is missing comes as zeros.
    let missing = if is_error { MAX + LONGEST_HEADER } else { 0 };
    let whole = [stream, &vec![0; missing]].concat();
    let (other_seen, other_is_error) = read_with_tungstenite(other_role, &whole);
    // It has no limit of fragments and takes the long form of a short length everywhere.
    if let End::Error(FrameError::Fragments { .. } | FrameError::LongControl(_)) = end {
        assert!(other_seen.starts_with(&seen));
        return;
    }
    assert_eq!(seen, other_seen);
    // It takes a code that must not be sent for a close, which it answers with an error.
    if !matches!(end, End::Error(FrameError::CloseCode(_))) {
        assert_eq!(is_error, other_is_error, "{end:?}");
    }
});

fn read(role: Role, stream: &[u8], chunk: usize) -> (Vec<Seen>, End) {
    let mut decoder = Decoder::new(role, MAX);
    let mut pending = Vec::new();
    let mut seen = Vec::new();
    for chunk in stream.chunks(chunk) {
        pending.extend_from_slice(chunk);
        let mut start = 0;
        loop {
            let rest = &mut pending[start..];
            let length = decoder.frame_length(rest);
            let available = rest.len();
            let decoded = match decoder.decode(rest) {
                Ok(decoded) => decoded,
                Err(error) => return (seen, End::Error(error)),
            };
            let length = length.expect("a frame that was decoded has a length");
            if decoded.consumed == 0 {
                assert!(length.is_none_or(|length| length > available));
                break;
            }
            assert_eq!(length, Some(decoded.consumed));
            start += decoded.consumed;
            match decoded.event {
                Some(Event::Text(text)) => seen.push(Seen::Text(text.into_owned())),
                Some(Event::Binary(data)) => seen.push(Seen::Binary(data.into())),
                Some(Event::Ping(data)) => seen.push(Seen::Ping(data.to_vec())),
                Some(Event::Pong(data)) => seen.push(Seen::Pong(data.to_vec())),
                Some(Event::Close(_)) => return (seen, End::Close),
                None => {}
            }
        }
        pending.drain(..start);
    }
    (seen, End::Input)
}

/// Returns what was seen, and whether it ended with an error in the stream.
fn read_with_tungstenite(role: OtherRole, stream: &[u8]) -> (Vec<Seen>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX))
        .max_frame_size(Some(MAX));
    let mut socket = WebSocket::from_raw_socket(OneWay(stream), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(Message::Binary(data)) => Seen::Binary(data.to_vec()),
            Ok(Message::Ping(data)) => Seen::Ping(data.to_vec()),
            Ok(Message::Pong(data)) => Seen::Pong(data.to_vec()),
            Ok(Message::Close(_) | Message::Frame(_))
            | Err(
                Error::ConnectionClosed
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => return (seen, false),
            Err(_) => return (seen, true),
        });
    }
}

/// A connection that takes whatever is written.
struct OneWay<'s>(&'s [u8]);

impl Read for OneWay<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for OneWay<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
