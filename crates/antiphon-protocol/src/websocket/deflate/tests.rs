mod steps;

use std::borrow::Cow;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use proptest::prelude::*;

use super::*;
use crate::websocket::{Decoder, Event, FrameError, Opcode, Role, ping_frame};

const MAX: usize = 100_000;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const WINDOWS: [Window; 3] = [Window::Bits9, Window::Bits12, Window::Bits15];

/// The examples of RFC 7692 §7.2.3, each a message of its own.
const HELLO: [&[u8]; 3] = [
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",                         // one block
    b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",         // a block that isn't compressed
    b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", // two blocks
];
/// RFC 7692 §7.2.3.4: a last block, and what follows it.
const LAST_BLOCK: &[u8] = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";

/// What a compressor of its own makes of a message, for a receiver that keeps no window.
fn deflate(data: &[u8], level: u32) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(level), false);
    let mut output = Vec::with_capacity(data.len() * 2 + 100);
    compressor
        .compress_vec(data, &mut output, FlushCompress::Sync)
        .unwrap();
    assert!(output.len() < output.capacity(), "all of it was flushed");
    assert_eq!(output.split_off(output.len() - 4), [0, 0, 0xff, 0xff]);
    output
}

/// A frame of a client, of at most 65,535 bytes, whose first four bits (final, reserved) are these.
fn frame(bits: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut frame = vec![bits << 4 | opcode as u8, 0x80 | 126, length[0], length[1]];
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

const MORE: u8 = 0;
const COMPRESSED: u8 = 4;
const FINAL: u8 = 8;

fn decoder() -> Decoder {
    Decoder::new(Role::Server, MAX).with_deflate()
}

/// Bytes that don't compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

/// One message, inflated to its end.
fn inflate(mut payload: &[u8], max: usize) -> Result<Vec<u8>, FrameError> {
    let mut inflation = Inflation::new();
    while !payload.is_empty() {
        inflation.step(&mut payload, max)?;
    }
    inflation.finish()
}

/// The bytes of a message.
fn bytes(event: Event<'_>) -> Vec<u8> {
    match event {
        Event::Text(text) => text.into_owned().into_bytes(),
        Event::Binary(data) => data.into(),
        other => panic!("{other:?}"),
    }
}

/// The messages of some frames, or the first error.
fn read(decoder: &mut Decoder, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut messages = Vec::new();
    for frame in frames {
        let mut frame = frame.clone();
        let length = frame.len();
        let decoded = decoder.decode(&mut frame)?;
        assert_eq!(decoded.consumed, length);
        messages.extend(decoded.event.map(bytes));
        while decoder.is_inflating() {
            messages.extend(decoder.decode(&mut [])?.event.map(bytes));
        }
    }
    Ok(messages)
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    for message in HELLO.into_iter().chain([LAST_BLOCK]) {
        assert_eq!(inflate(message, 5).unwrap(), b"Hello");
    }
    // RFC 7692 §7.2.3.6
    assert_eq!(inflate(b"\0", 0).unwrap(), b"");
    // RFC 7692 §7.2.3.1, as a server's frame, whole and in two fragments.
    let mut client = Decoder::new(Role::Client, 7).with_deflate();
    let mut whole = *b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";
    let hello = Some(Event::Text(Cow::Borrowed("Hello")));
    assert_eq!(client.decode(&mut whole).unwrap().event, hello);
    let mut first = *b"\x41\x03\xf2\x48\xcd";
    let mut second = *b"\x80\x04\xc9\xc9\x07\x00";
    assert_eq!(client.decode(&mut first).unwrap().event, None);
    assert_eq!(client.decode(&mut second).unwrap().event, hello);
}

#[test]
fn blocks_may_follow_a_last_one() {
    let twice = [&LAST_BLOCK[..7], LAST_BLOCK].concat();
    assert_eq!(inflate(&twice, 10).unwrap(), b"HelloHello");
    // What must follow a last block has been forgotten.
    assert_eq!(inflate(&LAST_BLOCK[..7], 5).unwrap(), b"Hello");
    let nothing = [frame(FINAL | COMPRESSED, Opcode::Text, b"")];
    assert_eq!(read(&mut decoder(), &nothing).unwrap(), [b""]);
}

#[test]
fn what_no_compressor_makes_is_an_error() {
    let garbage: [&[u8]; 7] = [
        b"\xff",                         // no such type of block
        b"\x00\x05\x00\xfa\xfe\x48",     // lengths that don't fit
        b"\x00\x05\x00\xfa\xff\x48\x65", // ends within its block
        b"\x02\x01",                     // refers to what is not there
        &[LAST_BLOCK, b"\xff"].concat(),
        &HELLO[0][..3],
        // Ends within a block of its own codes, which what is put in place of the bytes left out
        // ends.
        b"\x13\x88\xf2\x48\x7a\xcd\xc9\xf2\xdb\x33\xc8\x36\x74",
    ];
    for message in garbage {
        assert_eq!(
            inflate(message, MAX),
            Err(FrameError::Deflate),
            "{message:x?}"
        );
    }
    assert_eq!(FrameError::Deflate.close_code(), 1007);
    let frames = [frame(FINAL | COMPRESSED, Opcode::Text, garbage[0])];
    assert_eq!(read(&mut decoder(), &frames), Err(FrameError::Deflate));
    assert_eq!(
        inflate(HELLO[0], 5).unwrap(),
        b"Hello",
        "the next message is read"
    );
}

#[test]
fn a_message_sees_nothing_of_the_one_before() {
    let secret = b"a secret of somebody else".repeat(10);
    let plain = deflate(&secret, 6);
    assert_eq!(inflate(&plain, MAX).unwrap(), secret);
    // Five bytes from 25 bytes ago, which is beyond the start of this message.
    assert_eq!(inflate(b"\x02\x23\x00", MAX), Err(FrameError::Deflate));
    for window in WINDOWS {
        let frames = [0; 2].map(|_| {
            let mut frame = Vec::new();
            assert!(append_compressed_frame(
                Opcode::Text,
                &secret,
                window,
                None,
                &mut frame
            ));
            frame
        });
        assert_eq!(frames[0], frames[1]);
    }
}

#[test]
fn a_message_may_be_as_large_as_the_limit_once_it_is_inflated() {
    for length in [0, 1, 999, 1_000, 1_024, 5_000, 70_000] {
        let data = vec![7; length];
        let message = deflate(&data, 9);
        assert_eq!(inflate(&message, length).unwrap(), data);
        if length > 0 {
            let max = length - 1;
            let error = inflate(&message, max).unwrap_err();
            assert_eq!(
                error,
                FrameError::TooBig {
                    length: length as u64,
                    max
                }
            );
            assert_eq!(error.close_code(), 1009);
        }
    }
}

#[test]
fn a_bomb_is_refused_as_soon_as_it_passes_the_limit() {
    let bomb = deflate(&vec![0; 100 << 20], 9);
    assert!(bomb.len() < MAX + 10_000);
    let error = inflate(&bomb, MAX).unwrap_err();
    assert_eq!(
        error,
        FrameError::TooBig {
            length: MAX as u64 + 1,
            max: MAX
        }
    );
}

#[test]
fn an_inflated_message_owns_hardly_more_than_the_limit() {
    let message = deflate(&vec![0; MAX], 9);
    assert!(inflate(&message, MAX).unwrap().capacity() <= MAX + 1);
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    let refused = Err(FrameError::ReservedBits(0x40));
    let whole = frame(FINAL | COMPRESSED, Opcode::Text, HELLO[0]);
    assert_eq!(
        read(&mut decoder(), std::slice::from_ref(&whole)).unwrap(),
        [b"Hello"]
    );
    let mut without = Decoder::new(Role::Server, MAX);
    assert_eq!(read(&mut without, &[whole]), refused);

    let first = frame(COMPRESSED, Opcode::Text, &HELLO[0][..2]);
    let again = frame(FINAL | COMPRESSED, Opcode::Continuation, &HELLO[0][2..]);
    assert_eq!(read(&mut decoder(), &[first, again]), refused);
    for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
        let control = frame(FINAL | COMPRESSED, opcode, b"");
        assert_eq!(read(&mut decoder(), &[control]), refused);
    }
    for bits in [1, 2, 5, 6, 7] {
        let frames = [frame(FINAL | bits, Opcode::Text, HELLO[0])];
        assert_eq!(
            read(&mut decoder(), &frames),
            Err(FrameError::ReservedBits(bits << 4))
        );
    }
}

#[test]
fn a_message_need_not_be_compressed() {
    let frames = [
        frame(FINAL, Opcode::Text, b"plain"),
        frame(FINAL | COMPRESSED, Opcode::Binary, HELLO[1]),
        frame(MORE, Opcode::Binary, b"frag"),
        frame(FINAL, Opcode::Continuation, b"ments"),
    ];
    let expected = [&b"plain"[..], b"Hello", b"fragments"];
    assert_eq!(read(&mut decoder(), &frames).unwrap(), expected);
}

#[test]
fn control_frames_may_come_between_compressed_fragments() {
    let mut decoder = decoder();
    decoder
        .decode(&mut frame(COMPRESSED, Opcode::Text, &HELLO[0][..4]))
        .unwrap();
    let mut ping = crate::websocket::masked_frame(Opcode::Ping, b"?", MASK);
    let event = decoder.decode(&mut ping).unwrap().event;
    assert_eq!(event, Some(Event::Ping(b"?")));
    let last = frame(FINAL, Opcode::Continuation, &HELLO[0][4..]);
    assert_eq!(read(&mut decoder, &[last]).unwrap(), [b"Hello"]);
}

#[test]
fn text_is_checked_once_it_is_inflated() {
    let broken = deflate(b"broken \xff", 6);
    let frames = [frame(FINAL | COMPRESSED, Opcode::Text, &broken)];
    assert_eq!(read(&mut decoder(), &frames), Err(FrameError::NotUtf8));
    let frames = [
        frame(COMPRESSED, Opcode::Text, &broken[..3]),
        frame(FINAL, Opcode::Continuation, &broken[3..]),
    ];
    assert_eq!(read(&mut decoder(), &frames), Err(FrameError::NotUtf8));
    let frames = [frame(FINAL | COMPRESSED, Opcode::Binary, &broken)];
    assert_eq!(read(&mut decoder(), &frames).unwrap(), [b"broken \xff"]);
}

#[test]
fn compressed_fragments_are_held_to_the_limit_as_they_come() {
    let mut decoder = Decoder::new(Role::Server, 10).with_deflate();
    let frames = [
        frame(COMPRESSED, Opcode::Binary, &[0; 10]),
        frame(FINAL, Opcode::Continuation, &[0]),
    ];
    let expected = FrameError::TooBig {
        length: 11,
        max: 10,
    };
    assert_eq!(read(&mut decoder, &frames), Err(expected));
}

#[test]
fn a_compressed_message_that_was_too_big_goes_on_with_another_limit() {
    let data = "tick tock ".repeat(50);
    let message = deflate(data.as_bytes(), 6);
    let whole = vec![frame(FINAL | COMPRESSED, Opcode::Text, &message)];
    let fragments = vec![
        frame(COMPRESSED, Opcode::Text, &message[..5]),
        frame(MORE, Opcode::Continuation, b""),
        frame(FINAL, Opcode::Continuation, &message[5..]),
    ];
    for frames in [whole, fragments] {
        let mut decoder = Decoder::new(Role::Server, 300).with_deflate();
        for _ in 0..2 {
            let too_big = FrameError::TooBig {
                length: 301,
                max: 300,
            };
            let read = match decoder.is_inflating() {
                false => read(&mut decoder, &frames).unwrap_err(),
                true => decoder.decode(&mut []).unwrap_err(),
            };
            assert_eq!(read, too_big);
        }
        decoder.set_max_payload(500);
        let event = decoder.decode(&mut []).unwrap().event;
        assert_eq!(event, Some(Event::Text(Cow::Borrowed(&data))));
    }
}

#[test]
fn what_compression_does_not_shorten_is_left_alone() {
    let mut frames = b"before".to_vec();
    for data in [&b""[..], b"a", b"4hello", b"\x01\x02\x03"] {
        assert!(!append_compressed_frame(
            Opcode::Binary,
            data,
            Window::Bits15,
            None,
            &mut frames
        ));
    }
    let noise = noise(50_000);
    let appended =
        append_compressed_frame(Opcode::Binary, &noise, Window::Bits15, None, &mut frames);
    assert!(!appended);
    assert_eq!(frames, b"before");
}

#[test]
fn a_message_that_was_left_alone_does_not_show_in_the_next() {
    let text = "tick tock ".repeat(50);
    let noise = noise(80_000);
    let compressed = |window| {
        let mut frame = Vec::new();
        assert!(append_compressed_frame(
            Opcode::Text,
            text.as_bytes(),
            window,
            None,
            &mut frame
        ));
        frame
    };
    for window in WINDOWS {
        let expected = compressed(window);
        for length in (2_000..noise.len()).step_by(1_000) {
            for data in [&noise[..length], &noise] {
                let mut frames = Vec::new();
                assert!(!append_compressed_frame(
                    Opcode::Binary,
                    data,
                    window,
                    None,
                    &mut frames
                ));
            }
            assert_eq!(compressed(window), expected);
        }
    }
}

#[test]
fn only_text_and_binary_are_compressed() {
    let data = [0; 100];
    for opcode in [
        Opcode::Continuation,
        Opcode::Ping,
        Opcode::Pong,
        Opcode::Close,
    ] {
        let mut frames = Vec::new();
        assert!(!append_compressed_frame(
            opcode,
            &data,
            Window::Bits15,
            None,
            &mut frames
        ));
        assert!(frames.is_empty());
    }
}

#[test]
fn frames_are_appended_behind_others() {
    let mut frames = ping_frame(b"first").to_vec();
    let length = frames.len();
    assert!(append_compressed_frame(
        Opcode::Text,
        &[b'a'; 500],
        Window::Bits9,
        None,
        &mut frames
    ));
    assert_eq!(frames[..length], ping_frame(b"first"));
    assert_eq!(frames[length], 0xc1);
    let mut client = Decoder::new(Role::Client, MAX).with_deflate();
    let event = client.decode(&mut frames[length..]).unwrap().event;
    assert_eq!(event, Some(Event::Text(Cow::Owned("a".repeat(500)))));
}

/// Inflates with a window of exactly this size, as a peer does that asked for it.
fn inflate_within(window: Window, message: &[u8], length: usize) -> Vec<u8> {
    let mut inflater = Decompress::new_with_window_bits(false, window.bits());
    let mut output = Vec::with_capacity(length + 1);
    let input = [message, &[0, 0, 0xff, 0xff]].concat();
    // By parts, so that the inflater has to remember what was written.
    for part in input.chunks(97) {
        inflater
            .decompress_vec(part, &mut output, FlushDecompress::None)
            .unwrap();
    }
    output
}

/// Data with much to refer to, near and far, and some noise.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<Vec<u8>>(),
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        (".{0,40}", 0..500_usize).prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn messages_are_compressed_as_if_each_were_the_first(
        messages in prop::collection::vec(data(), 1..4),
        noise in prop::collection::vec(any::<u8>(), 0..30_000),
        window in prop::sample::select(&WINDOWS[..]),
        level in 1..=9_u8,
    ) {
        let how = (window, Level::new(level).unwrap());
        let compressed = |data: &[u8]| {
            let mut frame = Vec::new();
            append_frame_at_level(Opcode::Binary, data, how, None, &mut frame);
            frame
        };
        for message in &messages {
            compressed(&noise);
            let again = compressed(message);
            let message = message.clone();
            let first = std::thread::spawn(move || {
                let mut frame = Vec::new();
                append_frame_at_level(Opcode::Binary, &message, how, None, &mut frame);
                frame
            });
            prop_assert_eq!(again, first.join().unwrap());
        }
    }

    #[test]
    fn a_compressed_frame_is_read_back(
        data in data(),
        window in prop::sample::select(&WINDOWS[..]),
        mask: Option<[u8; 4]>,
    ) {
        let mut frame = Vec::new();
        if append_compressed_frame(Opcode::Binary, &data, window, mask, &mut frame) {
            prop_assert!(frame.len() < data.len() + 14);
            let role = if mask.is_some() { Role::Server } else { Role::Client };
            let mut decoder = Decoder::new(role, data.len()).with_deflate();
            prop_assert_eq!(decoder.frame_length(&frame), Ok(Some(frame.len())));
            let event = decoder.decode(&mut frame).unwrap().event;
            prop_assert_eq!(event, Some(Event::Binary(data.into())));
        } else {
            prop_assert!(frame.is_empty());
        }
    }

    #[test]
    fn a_receiver_needs_no_larger_window(
        data in data(),
        window in prop::sample::select(&WINDOWS[..]),
    ) {
        let mut frame = Vec::new();
        if append_compressed_frame(Opcode::Binary, &data, window, None, &mut frame) {
            let header = match frame[1] { 126 => 4, 127 => 10, _ => 2 };
            prop_assert_eq!(inflate_within(window, &frame[header..], data.len()), data);
        }
    }

    #[test]
    fn any_fragments_of_a_compressed_message_are_read(
        data in data(),
        level in 0..=9_u32,
        size in 1_000..60_000_usize,
    ) {
        let message = deflate(&data, level);
        let mut frames = vec![frame(COMPRESSED, Opcode::Binary, b"")];
        frames.extend(message.chunks(size).map(|part| frame(MORE, Opcode::Continuation, part)));
        frames.push(frame(FINAL, Opcode::Continuation, b""));
        let mut decoder = Decoder::new(Role::Server, data.len().max(message.len())).with_deflate();
        prop_assert_eq!(read(&mut decoder, &frames), Ok(vec![data]));
    }

    #[test]
    fn inflating_anything_ends_within_the_limit(
        message: Vec<u8>,
        data in data(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        max in 0..50_000_usize,
    ) {
        let mut broken = deflate(&data, 6);
        for (at, flip) in flips {
            let at = at.index(broken.len());
            broken[at] ^= flip;
        }
        for message in [message, broken] {
            match inflate(&message, max) {
                Ok(inflated) => prop_assert!(inflated.len() <= max && inflated.capacity() <= max.max(1) + 1),
                Err(FrameError::TooBig { length, .. }) => prop_assert_eq!(length, max as u64 + 1),
                Err(error) => prop_assert_eq!(error, FrameError::Deflate),
            }
        }
    }
}
