use proptest::prelude::*;

use super::*;
use crate::{
    BinaryMessage,
    engine::{Message, PacketType},
};

const BOTH: [Revision; 2] = [Revision::V3, Revision::V4];

fn text(data: &str) -> EncodedPacket {
    EncodedPacket::text(PacketType::Message, data)
}

fn text_message(data: &str) -> Packet<'_> {
    Packet::Message(Message::Text(data))
}

fn binary_message(data: &[u8]) -> Packet<'_> {
    Packet::Message(Message::Binary(BinaryMessage::Lent(data)))
}

fn decode_all(
    body: &[u8],
    revision: Revision,
    binary: bool,
) -> Result<Vec<Packet<'_>>, PayloadError> {
    decode(body, revision, binary, 100)?.collect()
}

/// "hello" as text and 1, 2, 3, 4 as bytes: the example of the protocol's documents.
fn example(revision: Revision) -> [EncodedPacket; 2] {
    [
        text("hello"),
        EncodedPacket::binary(&[1, 2, 3, 4], revision),
    ]
}

#[test]
fn revision_4_separates_packets() {
    let payload = encode(&example(Revision::V4), Revision::V4, true);
    assert!(!payload.binary);
    assert_eq!(payload.body, b"4hello\x1ebAQIDBA==");
    assert_eq!(
        decode_all(&payload.body, Revision::V4, false).unwrap(),
        [text_message("hello"), binary_message(&[1, 2, 3, 4])]
    );
}

#[test]
fn revision_3_counts_packets_as_text_where_binary_is_not_taken() {
    let payload = encode(&example(Revision::V3), Revision::V3, false);
    assert!(!payload.binary);
    assert_eq!(payload.body, b"6:4hello10:b4AQIDBA==");
    assert_eq!(
        decode_all(&payload.body, Revision::V3, false).unwrap(),
        [text_message("hello"), binary_message(&[1, 2, 3, 4])]
    );
}

#[test]
fn revision_3_is_binary_if_a_packet_is() {
    let payload = encode(&example(Revision::V3), Revision::V3, true);
    assert!(payload.binary);
    assert_eq!(
        payload.body,
        [
            0, 6, 255, 52, 104, 101, 108, 108, 111, 1, 5, 255, 4, 1, 2, 3, 4
        ]
    );
    assert_eq!(
        decode_all(&payload.body, Revision::V3, true).unwrap(),
        [text_message("hello"), binary_message(&[1, 2, 3, 4])]
    );
    let payload = encode(&[text("hello")], Revision::V3, true);
    assert!(!payload.binary);
    assert_eq!(payload.body, b"6:4hello");
}

#[test]
fn lengths_of_text_count_utf16_code_units() {
    for (data, body) in [
        ("€", "2:4€"),
        ("🦀", "3:4🦀"),
        ("e\u{301}", "3:4e\u{301}"),
        ("\u{301}", "2:4\u{301}"),
        ("\u{ffff}\u{10000}", "4:4\u{ffff}\u{10000}"),
    ] {
        let payload = encode(&[text(data)], Revision::V3, false);
        assert_eq!(payload.body, body.as_bytes());
        let twice = body.repeat(2);
        let read = decode_all(twice.as_bytes(), Revision::V3, false).unwrap();
        assert_eq!(read, [text_message(data), text_message(data)]);
    }
}

#[test]
fn lengths_of_a_binary_payload_count_bytes() {
    let packets = [text("€"), EncodedPacket::binary(&[], Revision::V3)];
    let payload = encode(&packets, Revision::V3, true);
    assert_eq!(
        payload.body,
        [0, 4, 255, b'4', 0xe2, 0x82, 0xac, 1, 1, 255, 4]
    );
    let long = EncodedPacket::binary(&[7; 1_204], Revision::V3);
    let payload = encode(&[long], Revision::V3, true);
    assert_eq!(payload.body[..7], [1, 1, 2, 0, 5, 255, 4]);
}

#[test]
fn the_first_response_of_a_client_of_revision_3_is_read() {
    let body = br#"15:0{"sid":"abcd"}2:40"#;
    assert_eq!(
        decode_all(body, Revision::V3, false).unwrap(),
        [Packet::Open(r#"{"sid":"abcd"}"#), text_message("0")]
    );
}

#[test]
fn no_packets_are_an_empty_payload() {
    assert_eq!(encode([], Revision::V4, false).body, b"");
    for binary in [false, true] {
        let payload = encode([], Revision::V3, binary);
        assert_eq!(payload.body, b"0:");
        assert!(!payload.binary);
    }
    assert_eq!(decode_all(b"0:", Revision::V3, false), Ok(vec![]));
    let read = decode_all(b"0:2:400:", Revision::V3, false);
    assert_eq!(read, Ok(vec![text_message("0")]));
}

#[test]
fn an_empty_body_is_an_error() {
    for (revision, binary) in [
        (Revision::V4, false),
        (Revision::V3, false),
        (Revision::V3, true),
    ] {
        assert_eq!(decode_all(b"", revision, binary), Err(PayloadError::Empty));
    }
}

#[test]
fn revision_4_takes_no_binary_body() {
    for body in [&b""[..], b"4hello", &[0, 1, 255, b'2']] {
        let read = decode_all(body, Revision::V4, true);
        assert_eq!(read, Err(PayloadError::BinaryContent));
    }
}

#[test]
fn text_must_be_utf8() {
    for revision in BOTH {
        let read = decode_all(b"2:4\xff", revision, false);
        assert_eq!(read, Err(PayloadError::NotUtf8));
    }
    let read = decode_all(&[0, 2, 255, b'4', 0xff], Revision::V3, true);
    assert_eq!(read, Err(PayloadError::NotUtf8));
    // Each packet is a text of its own: a character doesn't go on in the next.
    let read = decode_all(
        &[0, 2, 255, b'4', 0xc3, 0, 1, 255, 0xa9],
        Revision::V3,
        true,
    );
    assert_eq!(read, Err(PayloadError::NotUtf8));
}

#[test]
fn packets_over_the_limit_are_an_error_behind_those_within_it() {
    let packets = [text("a"), text("b"), text("c")];
    let with_bytes = example(Revision::V3);
    for (payload, revision, count) in [
        (encode(&packets, Revision::V4, false), Revision::V4, 3),
        (encode(&packets, Revision::V3, false), Revision::V3, 3),
        (encode(&with_bytes, Revision::V3, true), Revision::V3, 2),
    ] {
        let packets = |max| decode(&payload.body, revision, payload.binary, max).unwrap();
        assert_eq!(packets(count).filter(Result::is_ok).count(), count);
        assert!(packets(count).all(|packet| packet.is_ok()));
        let max = count - 1;
        let mut over = packets(max);
        assert_eq!(over.by_ref().take(max).filter(Result::is_ok).count(), max);
        assert_eq!(over.next(), Some(Err(PayloadError::TooManyPackets { max })));
        assert_eq!(over.next(), None);
    }
    // Nothing counts too, so that a body of nothing but nothing is refused.
    let read = decode(b"0:0:0:", Revision::V3, false, 2).unwrap().next();
    assert_eq!(read, Some(Err(PayloadError::TooManyPackets { max: 2 })));
}

#[test]
fn nothing_follows_an_error() {
    for (body, revision, binary) in [
        (&b"4a\x1e\x1e4b"[..], Revision::V4, false),
        (b"2:4a1:x2:4b", Revision::V3, false),
        (
            &[0, 2, 255, b'4', b'a', 2, 0, 2, 255, b'4', b'b'],
            Revision::V3,
            true,
        ),
    ] {
        let mut packets = decode(body, revision, binary, 100).unwrap();
        assert_eq!(packets.next(), Some(Ok(text_message("a"))));
        assert!(packets.next().unwrap().is_err());
        assert_eq!(packets.next(), None);
        assert_eq!(packets.next(), None);
    }
}

#[test]
fn an_empty_packet_between_separators_is_an_error() {
    for body in ["\x1e", "4a\x1e", "\x1e4a", "4a\x1e\x1e4b"] {
        let read = decode_all(body.as_bytes(), Revision::V4, false);
        assert_eq!(
            read,
            Err(PayloadError::Packet(PacketError::Empty)),
            "{body:?}"
        );
    }
}

#[test]
fn a_length_is_decimal_digits_and_a_delimiter() {
    for body in [
        ":4a",
        "2",
        "2;4a",
        "-1:4a",
        "+2:4a",
        " 2:4a",
        "0x2:4a",
        "2.0:4a",
        "€:4a",
        "99999999999999999999999:4a",
    ] {
        let read = decode_all(body.as_bytes(), Revision::V3, false);
        assert_eq!(read, Err(PayloadError::Length), "{body}");
    }
    for body in [
        &[0][..],
        &[0, 255],
        &[0, 1],
        &[0, b'1', 255, b'2'],
        &[0, 10, 255, b'2'],
        &[[0].as_slice(), &[9; 30], &[255]].concat(),
    ] {
        let read = decode_all(body, Revision::V3, true);
        assert_eq!(read, Err(PayloadError::Length), "{body:?}");
    }
    let read = decode_all(b"0002:4a", Revision::V3, false);
    assert_eq!(read, Ok(vec![text_message("a")]));
}

#[test]
fn a_length_beyond_the_end_is_an_error() {
    for (body, expected) in [
        ("3:4a", 3),
        ("1:", 1),
        ("5:4🦀", 5),
        ("18446744073709551615:4", usize::MAX),
    ] {
        let read = decode_all(body.as_bytes(), Revision::V3, false);
        assert_eq!(read, Err(PayloadError::Truncated { expected }), "{body}");
    }
    let read = decode_all(&[0, 3, 255, b'4', b'a'], Revision::V3, true);
    assert_eq!(read, Err(PayloadError::Truncated { expected: 3 }));
}

#[test]
fn a_length_must_not_split_a_character() {
    for body in ["2:4🦀", "2:4🦀2:4a"] {
        let read = decode_all(body.as_bytes(), Revision::V3, false);
        assert_eq!(read, Err(PayloadError::SplitCharacter { length: 2 }));
    }
}

#[test]
fn a_packet_of_a_binary_payload_is_text_or_binary() {
    let read = decode_all(&[2, 1, 255, b'2'], Revision::V3, true);
    assert_eq!(read, Err(PayloadError::Kind(2)));
    let read = decode_all(&[1, 1, 255, 3], Revision::V3, true);
    assert_eq!(read, Err(PayloadError::Packet(PacketError::BinaryType(3))));
    let read = decode_all(
        &[0, 5, 255, b'b', b'4', b'A', b'Q', b'='],
        Revision::V3,
        true,
    );
    assert_eq!(read, Ok(vec![binary_message(&[1])]));
}

#[test]
fn what_is_encoded_fits_its_capacity() {
    let packets = vec![EncodedPacket::binary(&[0; 10], Revision::V3); 100];
    for binary in [false, true] {
        let body = encode(&packets, Revision::V3, binary).body;
        assert!(body.capacity() <= packets.len() * (LENGTH_ROOM + packets[0].base64_length()));
    }
}

/// One message, as a test makes it up.
#[derive(Debug, Clone)]
enum Made {
    Text(String),
    Binary(Vec<u8>),
}

impl Made {
    fn encode(&self, revision: Revision) -> EncodedPacket {
        match self {
            Self::Text(data) => text(data),
            Self::Binary(data) => EncodedPacket::binary(data, revision),
        }
    }

    fn packet(&self) -> Packet<'_> {
        match self {
            Self::Text(data) => text_message(data),
            Self::Binary(data) => binary_message(data),
        }
    }
}

/// Texts of one to four bytes a character, lone combining marks and digits that look like lengths.
fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        "[a-c0-9:\u{301}\u{fe0f}\u{80}é€\u{ffff}🦀\u{10000}\u{10ffff}]{0,12}".prop_map(Made::Text),
        "[^\u{1e}]{0,40}".prop_map(Made::Text),
        any::<Vec<u8>>().prop_map(Made::Binary),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        messages in prop::collection::vec(made(), 1..20),
        revision in prop::sample::select(&BOTH),
        binary: bool,
    ) {
        let packets: Vec<_> = messages.iter().map(|made| made.encode(revision)).collect();
        let payload = encode(&packets, revision, binary);
        let read = decode_all(&payload.body, revision, payload.binary).unwrap();
        let expected: Vec<_> = messages.iter().map(Made::packet).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn utf16_lengths_are_those_of_the_standard_library(text: String) {
        let length = text.encode_utf16().count();
        prop_assert_eq!(utf16_length(text.as_bytes()), length);
        prop_assert_eq!(utf16_end(&format!("{text}x"), length), Ok(text.len()));
        prop_assert_eq!(utf16_end(&text, length), Ok(text.len()));
    }

    #[test]
    fn no_body_panics(
        body: Vec<u8>,
        text in "([0-9]{0,2}:)?[0-6b]?[a-z€🦀\u{1e}]{0,3}([0-9]{0,3}:?[0-6b]?.{0,9}){0,3}",
    ) {
        for body in [&body, text.as_bytes()] {
            for revision in BOTH {
                for binary in [false, true] {
                    if let Ok(packets) = decode(body, revision, binary, 10) {
                        prop_assert!(packets.count() <= 11);
                    }
                }
            }
        }
    }

    #[test]
    fn no_binary_body_panics(
        packets in prop::collection::vec(
            (0..3_u8, prop::collection::vec(0..11_u8, 0..3), any::<Vec<u8>>()),
            0..5,
        ),
    ) {
        let mut body = Vec::new();
        for (kind, length, data) in &packets {
            body.push(*kind);
            body.extend_from_slice(length);
            body.push(255);
            body.extend_from_slice(data);
        }
        if let Ok(packets) = decode(&body, Revision::V3, true, 10) {
            prop_assert!(packets.count() <= 11);
        }
    }
}

proptest! {
    #[test]
    fn packets_that_are_passed_over_are_those_that_would_be_read(
        messages: Vec<Vec<u8>>,
        binary: bool,
        count in 0_usize..8,
    ) {
        for revision in BOTH {
            let encoded = messages.iter().map(|data| EncodedPacket::binary(data, revision));
            let body = encode(&encoded.collect::<Vec<_>>(), revision, binary);
            if body.body.is_empty() {
                continue;
            }
            let packets = || decode(&body.body, revision, body.binary, usize::MAX).unwrap();
            let mut passed = packets();
            passed.pass(count).unwrap();
            prop_assert!(passed.eq(packets().skip(count)));
        }
    }
}
