use proptest::prelude::*;

use super::*;
use crate::websocket::{close_frame, masked_close_frame, masked_frame, ping_frame, pong_frame};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MAX: usize = 1_000;

/// An event that outlives the input, and the code of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Error(FrameError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into_owned()),
            Event::Binary(data) => Self::Binary(data.into()),
            Event::Ping(data) => Self::Ping(data.to_vec()),
            Event::Pong(data) => Self::Pong(data.to_vec()),
            Event::Close(close) => Self::Close(close.map(|c| (c.code, c.reason.to_owned()))),
        }
    }
}

/// Reads chunks as a connection does: what is no whole frame waits for the next chunk.
fn read<'c>(role: Role, chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Seen> {
    let mut decoder = Decoder::new(role, MAX);
    let mut pending = Vec::new();
    let mut seen = Vec::new();
    for chunk in chunks {
        pending.extend_from_slice(chunk);
        loop {
            let length = decoder.frame_length(&pending);
            match decoder.decode(&mut pending) {
                Ok(Decoded { consumed: 0, event }) => {
                    assert_eq!(event, None);
                    break;
                }
                Ok(Decoded { consumed, event }) => {
                    assert_eq!(length, Ok(Some(consumed)));
                    seen.extend(event.map(Seen::from));
                    pending.drain(..consumed);
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    return seen;
                }
            }
        }
    }
    seen
}

fn read_client(input: &[u8]) -> Vec<Seen> {
    read(Role::Client, [input])
}

fn error(input: &[u8]) -> FrameError {
    match read_client(input).pop() {
        Some(Seen::Error(error)) => error,
        other => panic!("expected an error: {other:?}"),
    }
}

/// An unmasked frame with these first four bits (final, reserved) and this opcode.
fn frame(bits: u8, opcode: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![bits << 4 | opcode, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

const FINAL: u8 = 8;
const MORE: u8 = 0;

fn text(data: &str) -> Seen {
    Seen::Text(data.to_owned())
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 6455 §5.7
    let hello = [text("Hello")];
    assert_eq!(read_client(b"\x81\x05Hello"), hello);
    assert_eq!(read_client(b"\x01\x03Hel\x80\x02lo"), hello);
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(read(Role::Server, [&masked[..]]), hello);
    assert_eq!(
        read_client(b"\x89\x05Hello"),
        [Seen::Ping(b"Hello".to_vec())]
    );
    let masked = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(
        read(Role::Server, [&masked[..]]),
        [Seen::Pong(b"Hello".to_vec())]
    );
    let data = vec![9; 256];
    let input = [&b"\x82\x7e\x01\x00"[..], &data].concat();
    assert_eq!(read_client(&input), [Seen::Binary(data)]);
}

#[test]
fn a_whole_frame_is_borrowed_and_fragments_are_owned() {
    let mut decoder = Decoder::new(Role::Client, MAX);
    let mut input = *b"\x81\x02ab";
    let event = decoder.decode(&mut input).unwrap().event;
    assert!(matches!(event, Some(Event::Text(Cow::Borrowed("ab")))));
    let decoded = decoder.decode(&mut input[..0]).unwrap();
    assert_eq!((decoded.consumed, decoded.event), (0, None));
    let mut first = *b"\x02\x01a";
    let decoded = decoder.decode(&mut first).unwrap();
    assert_eq!((decoded.consumed, decoded.event), (3, None));
    assert!(decoder.unfinished.is_some());
    let mut last = *b"\x80\x01b";
    let event = decoder.decode(&mut last).unwrap().event;
    assert!(matches!(event, Some(Event::Binary(BinaryMessage::Owned(data))) if data == "ab"));
    assert!(decoder.unfinished.is_none());
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 3 * size_of::<usize>());
}

#[test]
fn control_frames_may_come_between_fragments() {
    let input = [
        frame(MORE, 1, b"a"),
        frame(FINAL, 9, b"?"),
        frame(MORE, 0, b"b"),
        frame(FINAL, 10, b"!"),
        frame(FINAL, 0, b"c"),
    ];
    let expected = [
        Seen::Ping(b"?".to_vec()),
        Seen::Pong(b"!".to_vec()),
        text("abc"),
    ];
    assert_eq!(read_client(&input.concat()), expected);
}

#[test]
fn reserved_bits_are_an_error() {
    for bit in [1, 2, 4] {
        let expected = FrameError::ReservedBits(bit << 4);
        assert_eq!(error(&frame(FINAL | bit, 1, b"a")), expected);
        assert_eq!(error(&[(FINAL | bit) << 4]), expected, "in the first byte");
    }
}

#[test]
fn reserved_opcodes_are_an_error() {
    for opcode in (3..8).chain(11..16) {
        let expected = FrameError::UnknownOpcode(opcode);
        assert_eq!(error(&frame(FINAL, opcode, b"")), expected);
        assert_eq!(expected.close_code(), 1002);
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for (bits, opcode) in [(8, Opcode::Close), (9, Opcode::Ping), (10, Opcode::Pong)] {
        let fragment = frame(MORE, bits, b"");
        assert_eq!(error(&fragment), FrameError::FragmentedControl(opcode));
        for length in [126, 127] {
            assert_eq!(
                error(&[0x80 | bits, length]),
                FrameError::LongControl(opcode)
            );
        }
    }
    let longest = [7; 125];
    let input = ping_frame(&longest);
    assert_eq!(read_client(&input), [Seen::Ping(longest.to_vec())]);
}

#[test]
fn control_frames_are_not_held_to_the_limit_of_messages() {
    let mut decoder = Decoder::new(Role::Client, 0);
    let mut input = ping_frame(b"Hello").to_vec();
    let event = decoder.decode(&mut input).unwrap().event;
    assert_eq!(event, Some(Event::Ping(b"Hello")));
}

#[test]
fn a_length_needs_no_shortest_form() {
    assert_eq!(read_client(b"\x81\x7e\0\x01a"), [text("a")]);
    assert_eq!(read_client(b"\x81\x7f\0\0\0\0\0\0\0\x01a"), [text("a")]);
}

#[test]
fn the_highest_bit_of_a_length_must_not_be_set() {
    let expected = FrameError::Length(1 << 63);
    assert_eq!(error(b"\x82\x7f\x80\0\0\0\0\0\0\0"), expected);
}

#[test]
fn clients_mask_and_servers_do_not() {
    let unmasked = frame(FINAL, 1, b"a");
    let masked = masked_frame(Opcode::Text, b"a", MASK);
    let seen = read(Role::Server, [&unmasked[..]]);
    assert_eq!(seen, [Seen::Error(FrameError::NotMasked)]);
    assert_eq!(error(&masked), FrameError::Masked);
    assert_eq!(read(Role::Server, [&masked[..]]), [text("a")]);
    assert_eq!(read_client(&unmasked), [text("a")]);
}

#[test]
fn continuations_follow_a_fragment_and_nothing_else_does() {
    for bits in [MORE, FINAL] {
        let expected = FrameError::UnexpectedContinuation;
        assert_eq!(error(&frame(bits, 0, b"a")), expected);
        let after = [frame(FINAL, 1, b"a"), frame(bits, 0, b"b")].concat();
        assert_eq!(error(&after), expected);
        for (second, opcode) in [(1, Opcode::Text), (2, Opcode::Binary)] {
            let input = [frame(MORE, 1, b"a"), frame(bits, second, b"b")].concat();
            assert_eq!(error(&input), FrameError::ExpectedContinuation(opcode));
        }
    }
}

#[test]
fn a_message_is_too_big_before_its_payload_arrives() {
    let at_limit = masked_frame(Opcode::Binary, &[0; MAX], MASK);
    assert_eq!(
        read(Role::Server, [&at_limit[..]]),
        [Seen::Binary(vec![0; MAX])]
    );
    let over = masked_frame(Opcode::Binary, &[0; MAX + 1], MASK);
    let decoder = Decoder::new(Role::Server, MAX);
    let header = 2 + 2 + 4;
    for end in 0..header {
        assert_eq!(decoder.frame_length(&over[..end]), Ok(None));
    }
    let expected = FrameError::TooBig {
        length: MAX as u64 + 1,
        max: MAX,
    };
    assert_eq!(decoder.frame_length(&over[..header]), Err(expected));
    assert_eq!(expected.close_code(), 1009);
    let huge = b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(error(huge).close_code(), 1009);
}

#[test]
fn fragments_together_are_held_to_the_limit() {
    let part = frame(MORE, 0, &[0; 100]);
    let mut input = frame(MORE, 2, &[0; 100]);
    input.extend(part.repeat(9));
    let whole = [&input[..], &frame(FINAL, 0, b"")].concat();
    assert_eq!(read_client(&whole), [Seen::Binary(vec![0; MAX])]);
    let over = [&input[..], &frame(FINAL, 0, b"x")].concat();
    let length = MAX as u64 + 1;
    assert_eq!(error(&over), FrameError::TooBig { length, max: MAX });
    // The limit is of one message, not of the connection.
    assert_eq!(read_client(&whole.repeat(2)).len(), 2);
}

#[test]
fn a_decoder_without_a_limit_overflows_nothing() {
    let mut decoder = Decoder::new(Role::Client, usize::MAX);
    let mut input = *b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert!(decoder.frame_length(&input).unwrap().is_some());
    assert_eq!(decoder.decode(&mut input).unwrap().consumed, 0);
    decoder.decode(&mut frame(MORE, 2, b"abc")).unwrap();
    input[0] = 0x80;
    assert!(decoder.frame_length(&input).unwrap().is_some());
}

#[test]
fn fragments_are_paid_for_by_bytes() {
    for (size, most) in [(0, 1_000), (1, 1_015), (32, 2_000)] {
        let fragments = |count: usize| {
            let first = frame(MORE, 2, &vec![0; size]);
            let other = frame(MORE, 0, &vec![0; size]);
            [first, other.repeat(count - 1)].concat()
        };
        let mut decoder = Decoder::new(Role::Client, usize::MAX);
        let mut input = fragments(most + 1);
        let length = frame(MORE, 0, &vec![0; size]).len();
        for fragment in input.chunks_mut(length).take(most) {
            assert_eq!(decoder.decode(fragment).unwrap().event, None);
        }
        let error = decoder.decode(&mut input[most * length..]).unwrap_err();
        assert_eq!(error, FrameError::Fragments { max: most });
        assert_eq!(error.close_code(), 1008);
    }
}

#[test]
fn long_fragments_may_be_many() {
    let mut decoder = Decoder::new(Role::Client, usize::MAX);
    for opcode in std::iter::once(2).chain([0; 20_000]) {
        let mut fragment = frame(MORE, opcode, &[0; BYTES_A_FRAGMENT]);
        assert_eq!(decoder.decode(&mut fragment).unwrap().event, None);
    }
}

#[test]
fn text_must_be_utf8() {
    for data in [
        &b"\xff"[..],
        b"\xc3",
        b"\xc3\x28",
        b"\xed\xa0\x80",         // a surrogate
        b"\xf4\x90\x80\x80",     // beyond the last character
        b"\xc0\x80",             // longer than needed
        b"abcdefghijklmnop\xe2", // unfinished
    ] {
        assert_eq!(error(&frame(FINAL, 1, data)), FrameError::NotUtf8);
        let fragments = [frame(MORE, 1, data), frame(FINAL, 0, b"")].concat();
        assert_eq!(error(&fragments), FrameError::NotUtf8);
        assert_eq!(
            read_client(&frame(FINAL, 2, data)),
            [Seen::Binary(data.to_vec())]
        );
    }
    assert_eq!(FrameError::NotUtf8.close_code(), 1007);
}

#[test]
fn invalid_text_is_refused_before_the_last_fragment() {
    let input = [frame(MORE, 1, b"a\xe2\x82"), frame(MORE, 0, b"a")].concat();
    assert_eq!(error(&input), FrameError::NotUtf8);
}

#[test]
fn a_fragment_may_end_within_a_character() {
    let bytes = "a€🦀".as_bytes();
    let mut input = frame(MORE, 1, b"");
    for byte in bytes {
        input.extend(frame(MORE, 0, &[*byte]));
    }
    input.extend(frame(FINAL, 0, b""));
    assert_eq!(read_client(&input), [text("a€🦀")]);
}

#[test]
fn a_close_frame_has_no_payload_or_a_code() {
    assert_eq!(read_client(&frame(FINAL, 8, b"")), [Seen::Close(None)]);
    assert_eq!(error(&frame(FINAL, 8, b"\x03")), FrameError::CloseLength);
    let seen = |code, reason: &str| [Seen::Close(Some((code, reason.to_owned())))];
    assert_eq!(read_client(&close_frame(1000, "")), seen(1000, ""));
    assert_eq!(
        read_client(&close_frame(4999, "bye €")),
        seen(4999, "bye €")
    );
    let masked = masked_close_frame(1001, "bye", MASK);
    assert_eq!(read(Role::Server, [&masked[..]]), seen(1001, "bye"));
    let reason = frame(FINAL, 8, b"\x03\xe8\xff");
    assert_eq!(error(&reason), FrameError::NotUtf8);
}

#[test]
fn a_close_code_is_one_that_may_be_sent() {
    let valid = [1000..=1003, 1007..=1014, 3000..=4999];
    for code in (0..=6000).chain([u16::MAX]) {
        let seen = read_client(&close_frame(code, ""));
        let expected = if valid.iter().any(|range| range.contains(&code)) {
            Seen::Close(Some((code, String::new())))
        } else {
            Seen::Error(FrameError::CloseCode(code))
        };
        assert_eq!(seen, [expected]);
    }
}

/// One frame or more, as a test makes it up, and what is to be seen of it.
fn made() -> impl Strategy<Value = (Vec<u8>, Seen)> {
    let data = prop::collection::vec(any::<u8>(), 0..MAX);
    let short = prop::collection::vec(any::<u8>(), 0..=125);
    let mask = any::<[u8; 4]>();
    let text = ".{0,200}";
    prop_oneof![
        (text, mask).prop_map(|(text, mask)| {
            (
                masked_frame(Opcode::Text, text.as_bytes(), mask),
                Seen::Text(text),
            )
        }),
        (data.clone(), mask).prop_map(|(data, mask)| {
            (
                masked_frame(Opcode::Binary, &data, mask),
                Seen::Binary(data),
            )
        }),
        (short.clone(), mask).prop_map(|(data, mask)| {
            (masked_frame(Opcode::Ping, &data, mask), Seen::Ping(data))
        }),
        (short, mask).prop_map(|(data, mask)| {
            (masked_frame(Opcode::Pong, &data, mask), Seen::Pong(data))
        }),
        (text, 1..9_usize, mask).prop_map(|(text, size, mask)| {
            (
                fragmented(Opcode::Text, text.as_bytes(), size, mask),
                Seen::Text(text),
            )
        }),
        (data, 1..99_usize, mask).prop_map(|(data, size, mask)| {
            (
                fragmented(Opcode::Binary, &data, size, mask),
                Seen::Binary(data),
            )
        }),
    ]
}

fn fragmented(opcode: Opcode, data: &[u8], size: usize, mask: [u8; 4]) -> Vec<u8> {
    let mut frames = masked_frame(opcode, b"", mask);
    frames[0] &= 0x7f;
    for part in data.chunks(size) {
        let start = frames.len();
        frames.extend(masked_frame(Opcode::Continuation, part, mask));
        frames[start] &= 0x7f;
    }
    frames.extend(masked_frame(Opcode::Continuation, b"", mask));
    frames
}

/// Cuts a stream at any places.
fn cut<'s>(mut stream: &'s [u8], sizes: &[usize]) -> Vec<&'s [u8]> {
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (chunk, rest) = stream.split_at((*size).min(stream.len()));
        chunks.push(chunk);
        stream = rest;
    }
    chunks
}

proptest! {
    #[test]
    fn any_chunking_of_a_stream_gives_the_same_events(
        made in prop::collection::vec(made(), 1..10),
        sizes in prop::collection::vec(1..200_usize, 1..10),
    ) {
        let (frames, expected): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let stream = frames.concat();
        prop_assert_eq!(&read(Role::Server, [&stream[..]]), &expected);
        prop_assert_eq!(read(Role::Server, cut(&stream, &sizes)), expected);
    }

    #[test]
    fn any_chunking_of_a_broken_stream_gives_the_same_error(
        made in prop::collection::vec(made(), 1..4),
        at: prop::sample::Index,
        flip in 1..=255_u8,
        sizes in prop::collection::vec(1..200_usize, 1..10),
    ) {
        let mut stream: Vec<u8> = made.into_iter().flat_map(|(frames, _)| frames).collect();
        let at = at.index(stream.len());
        stream[at] ^= flip;
        let whole = read(Role::Server, [&stream[..]]);
        prop_assert_eq!(read(Role::Server, cut(&stream, &sizes)), whole);
    }

    #[test]
    fn a_server_is_read_by_a_client(data in prop::collection::vec(any::<u8>(), 0..=125)) {
        let stream = [ping_frame(&data), pong_frame(&data)].concat();
        prop_assert_eq!(read_client(&stream), [Seen::Ping(data.clone()), Seen::Pong(data)]);
    }

    #[test]
    fn no_bytes_panic(
        bytes: Vec<u8>,
        headers in prop::collection::vec(any::<[u8; 2]>(), 0..20),
        sizes in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let short: Vec<u8> = headers.iter().flat_map(|[a, b]| [a & 0x8b, b & 0x83]).collect();
        for bytes in [&bytes, &short] {
            for role in [Role::Server, Role::Client] {
                let whole = read(role, [&bytes[..]]);
                prop_assert_eq!(read(role, cut(bytes, &sizes)), whole);
            }
        }
    }
}
