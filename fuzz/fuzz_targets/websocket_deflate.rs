//! Inflating anything ends within its bound, and gives what `flate2` gives in one go. What we
//! compress is read back, by us and by `flate2`. The first byte of the input chooses the window, the
//! next two the bound.

#![no_main]

use antiphon_protocol::websocket::{
    Decoder, Event, FrameError, Opcode, Role, append_frame,
    deflate::{Window, append_compressed_frame},
};
use flate2::{Decompress, FlushDecompress, Status};
use libfuzzer_sys::fuzz_target;

const COMPRESSED: u8 = 0x40;

fuzz_target!(|data: &[u8]| {
    let [window, a, b, data @ ..] = data else {
        return;
    };
    let window = match window % 3 {
        0 => Window::Bits9,
        1 => Window::Bits12,
        _ => Window::Bits15,
    };
    inflate(data, usize::from(u16::from_be_bytes([*a, *b])));
    round_trip(data, window);
});

/// Takes the data for a compressed message.
fn inflate(message: &[u8], max: usize) {
    let mut frame = Vec::new();
    append_frame(Opcode::Binary, message, None, &mut frame);
    frame[0] |= COMPRESSED;
    let mut decoder = Decoder::new(Role::Client, max).with_deflate();
    let ours = match decode(&mut decoder, &mut frame) {
        Ok(message) => Some(message),
        Err(FrameError::TooBig { length, .. }) if message.len() <= max => {
            assert_eq!(length, max as u64 + 1);
            return;
        }
        Err(FrameError::TooBig { .. }) => return,
        Err(FrameError::Deflate) => None,
        Err(other) => panic!("{other:?}"),
    };
    assert!(ours.as_ref().is_none_or(|data| data.len() <= max));
    // `flate2` ends with the first last block, and doesn't ask whether the data is complete.
    let (theirs, status) = in_one_go(message, max);
    match (ours, status) {
        (Some(ours), Some(Status::StreamEnd)) => assert!(ours.starts_with(&theirs)),
        (Some(ours), status) => {
            assert!(status.is_some() || message.is_empty());
            assert_eq!(ours, theirs);
        }
        (None, _) => {}
    }
}

/// The message of a frame, inflated to its end.
fn decode(decoder: &mut Decoder, frame: &mut [u8]) -> Result<Vec<u8>, FrameError> {
    let message = |event: Event<'_>| match event {
        Event::Binary(data) => Vec::from(data),
        other => panic!("expected a message: {other:?}"),
    };
    let mut decoded = decoder.decode(frame)?.event.map(message);
    while decoder.is_inflating() {
        assert!(decoded.is_none());
        decoded = decoder.decode(&mut [])?.event.map(message);
    }
    Ok(decoded.expect("a whole message"))
}

/// Takes the data for a message.
fn round_trip(data: &[u8], window: Window) {
    let mut frame = Vec::new();
    if !append_compressed_frame(Opcode::Binary, data, window, None, &mut frame) {
        assert!(frame.is_empty());
        return;
    }
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let payload = frame[header..].to_vec();
    assert!(payload.len() < data.len());
    assert_eq!(in_one_go(&payload, data.len()).0, data);
    let mut decoder = Decoder::new(Role::Client, data.len()).with_deflate();
    match decoder.decode(&mut frame).map(|decoded| decoded.event) {
        Ok(Some(Event::Binary(read))) => assert_eq!(&read[..], &data[..]),
        other => panic!("expected a message: {other:?}"),
    }
}

/// What `flate2` makes of a message in one call; no status if that is an error.
fn in_one_go(message: &[u8], max: usize) -> (Vec<u8>, Option<Status>) {
    let mut output = Vec::with_capacity(max + 1);
    let input = [message, &[0, 0, 0xff, 0xff]].concat();
    let status = Decompress::new(false)
        .decompress_vec(&input, &mut output, FlushDecompress::Sync)
        .ok();
    (output, status)
}
