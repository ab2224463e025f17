//! No body panics, and the messages that were read are read the same after they have been written
//! again. The first byte of the input chooses the form of the body.

#![no_main]

use antiphon_protocol::engine::{EncodedPacket, Message, Packet, PacketType, Revision, payload};
use libfuzzer_sys::fuzz_target;

const MAX_PACKETS: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((form, body)) = data.split_first() else {
        return;
    };
    let (revision, binary) = match form % 3 {
        0 => (Revision::V4, false),
        1 => (Revision::V3, false),
        _ => (Revision::V3, true),
    };
    let Ok(packets) = payload::decode(body, revision, binary, MAX_PACKETS) else {
        return;
    };
    let mut messages = Vec::new();
    let mut errors = 0;
    for packet in packets {
        assert_eq!(errors, 0, "nothing follows an error");
        match packet {
            Ok(Packet::Message(message)) => messages.push(message),
            Ok(_) => {}
            Err(_) => errors += 1,
        }
    }
    assert!(messages.len() <= MAX_PACKETS);
    if !messages.is_empty() {
        check(&messages, revision, false);
        check(&messages, revision, true);
    }
});

fn check(messages: &[Message<'_>], revision: Revision, binary: bool) {
    let encoded: Vec<_> = messages.iter().map(|m| encode(m, revision)).collect();
    let payload = payload::encode(&encoded, revision, binary);
    let read = payload::decode(&payload.body, revision, payload.binary, MAX_PACKETS)
        .expect("what was encoded is a payload");
    let mut expected = messages.iter().cloned();
    for packet in read {
        assert_eq!(packet.ok(), expected.next().map(Packet::Message));
    }
    assert_eq!(expected.next(), None);
}

fn encode(message: &Message<'_>, revision: Revision) -> EncodedPacket {
    match message {
        Message::Text(data) => EncodedPacket::text(PacketType::Message, data),
        Message::Binary(data) => EncodedPacket::binary(data, revision),
    }
}
