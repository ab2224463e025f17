//! Messages in MessagePack, as a peer pleases. None may panic or grow, and what is taken for a packet
//! must hold JSON within the limits, be readable as a type, and survive being sent on.
#![no_main]

use antiphon_protocol::socket::{Limits, Packet, RESERVED_EVENTS, msgpack};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const SMALL: Limits = Limits::new()
    .attachments(2)
    .depth(4)
    .values(20)
    .namespace(8)
    .event_name(8)
    .ack_digits(3);

fuzz_target!(|message: &[u8]| {
    let mut buffer = msgpack::Buffer::default();
    for limits in [Limits::default(), SMALL] {
        if let Ok(packet) = msgpack::decode(message, &limits, &mut buffer) {
            check(&packet, message, &limits);
        }
    }
});

fn check(packet: &Packet<'_>, message: &[u8], limits: &Limits) {
    // What U+FFFD stands for may be shorter.
    assert!(packet.namespace().len() <= 3 * limits.namespace);
    let (text, attachments) = match packet {
        Packet::Connect { auth, .. } => (auth.unwrap_or("{}").to_owned(), 0),
        Packet::Disconnect { .. } => return,
        Packet::ConnectError { data, .. } => ((*data).to_owned(), 0),
        Packet::Event { name, args, .. } => {
            assert!(name.len() <= limits.event_name);
            assert!(!RESERVED_EVENTS.contains(&&**name));
            (format!("[{}]", args.json()), args.attachments().len())
        }
        Packet::Ack { args, .. } => (format!("[{}]", args.json()), args.attachments().len()),
    };
    assert!(attachments <= limits.attachments);
    assert!(text.len() <= 7 * message.len() + 50 * attachments);
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        let (depth, values) = size(&value);
        // A placeholder is one value in the message.
        assert!(depth <= usize::from(limits.depth) + usize::from(attachments > 0));
        assert!(values <= limits.values + 1 + 2 * attachments);
    } else {
        panic!("no JSON: {text}");
    }
    if let Packet::Event { args, .. } | Packet::Ack { args, .. } = packet {
        let _ = args.deserialize::<(bytes::Bytes, Value)>();
        let _ = args.deserialize::<Vec<Option<bytes::Bytes>>>();
    }
    let mut again = b"before".to_vec();
    msgpack::encode(packet, &mut again).expect("can be sent on");
    let mut buffer = msgpack::Buffer::default();
    let found = msgpack::decode(&again["before".len()..], limits, &mut buffer);
    // A name that was a number is a string then, a lone byte of a namespace three.
    if packet.namespace().len() <= limits.namespace {
        assert_eq!(found.as_ref(), Ok(packet));
    }
}

/// How deep a value is, and of how many it is made.
fn size(value: &Value) -> (usize, usize) {
    let parts: Vec<_> = match value {
        Value::Array(list) => list.iter().map(size).collect(),
        Value::Object(map) => map.values().map(size).collect(),
        _ => return (0, 1),
    };
    let depth = parts.iter().map(|(depth, _)| depth).max();
    let values: usize = parts.iter().map(|(_, values)| values).sum();
    (1 + depth.unwrap_or(&0), 1 + values)
}
