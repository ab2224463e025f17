//! No message panics, and what was read is read the same after it has been written again.

#![no_main]

use antiphon_protocol::engine::{EncodedPacket, Form, Message, Packet, PacketType, Revision};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for revision in [Revision::V3, Revision::V4] {
        if let Ok(packet) = Packet::from_binary(data, revision) {
            check(&packet, revision);
        }
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(packet) = Packet::from_text(text, revision)
        {
            check(&packet, revision);
        }
    }
});

fn check(packet: &Packet<'_>, revision: Revision) {
    let encoded = encode(packet, revision);
    if encoded.is_binary() {
        let read = Packet::from_binary(encoded.payload(), revision);
        assert_eq!(read.as_ref(), Ok(packet));
    }
    let mut form = Form::of(revision);
    form.base64 = true;
    let encoded = encode(packet, Revision::V4).in_form(form);
    let text = std::str::from_utf8(encoded.payload()).expect("a text packet is UTF-8");
    assert_eq!(Packet::from_text(text, revision).as_ref(), Ok(packet));
}

fn encode(packet: &Packet<'_>, revision: Revision) -> EncodedPacket {
    match packet {
        Packet::Open(data) => EncodedPacket::text(PacketType::Open, data),
        Packet::Close => EncodedPacket::text(PacketType::Close, ""),
        Packet::Ping(data) => EncodedPacket::text(PacketType::Ping, data),
        Packet::Pong(data) => EncodedPacket::text(PacketType::Pong, data),
        Packet::Message(Message::Text(data)) => EncodedPacket::text(PacketType::Message, data),
        Packet::Message(Message::Binary(data)) => EncodedPacket::binary(data, revision),
        Packet::Upgrade => EncodedPacket::text(PacketType::Upgrade, ""),
        Packet::Noop => EncodedPacket::text(PacketType::Noop, ""),
    }
}
