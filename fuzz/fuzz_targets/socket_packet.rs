//! Messages of a connection, as its peer pleases. None may panic, and what is taken for a packet
//! must hold JSON and survive being passed on.
#![no_main]

use antiphon_protocol::engine::{EncodedMessage, Revision};
use antiphon_protocol::socket::{DecodeError, Decoder, Limits, Packet, ack_from, event_from};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

// The first byte chooses the revision. Lines are texts, but those that begin with `b` are binary.
fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let revision = if first & 1 == 0 {
        Revision::V3
    } else {
        Revision::V4
    };
    let mut decoder = Decoder::new(revision, Limits::default());
    for message in rest.split(|&byte| byte == b'\n') {
        if let Some(binary) = message.strip_prefix(b"b") {
            if let Ok(Some(assembled)) = decoder.binary(Bytes::copy_from_slice(binary)) {
                check(&assembled.packet(), revision);
            }
        } else if let Ok(text) = std::str::from_utf8(message) {
            match decoder.text(text) {
                Ok(Some(packet)) => check(&packet, revision),
                Ok(None) => assert!(decoder.is_incomplete()),
                Err(DecodeError::InvalidJson { .. }) => refused(text),
                Err(_) => {}
            }
        }
    }
});

fn json(text: &str) {
    serde_json::from_str::<IgnoredAny>(text).expect("JSON");
}

/// What is refused as the JSON of an event or an ack must not be JSON.
fn refused(text: &str) {
    if !text.starts_with(['2', '3', '5', '6']) {
        return;
    }
    let payload = match text.split_once(',') {
        Some((head, rest))
            if head[1..]
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')
                .starts_with('/') =>
        {
            rest
        }
        _ => &text[1..],
    };
    let start = payload.find(['[', '{', '"']).unwrap_or(payload.len());
    if payload[..start]
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        assert!(serde_json::from_str::<IgnoredAny>(&payload[start..]).is_err());
    }
}

fn check(packet: &Packet<'_>, revision: Revision) {
    let again = match packet {
        Packet::Connect { auth, .. } => {
            auth.map(json);
            return;
        }
        Packet::Disconnect { .. } => return,
        Packet::ConnectError { data, .. } => {
            json(data);
            return;
        }
        Packet::Event {
            namespace,
            id,
            name,
            args,
        } => {
            json(&format!("[{}]", args.json()));
            event_from(namespace, *id, name, *args)
        }
        Packet::Ack {
            namespace,
            id,
            args,
        } => {
            json(&format!("[{}]", args.json()));
            ack_from(namespace, *id, *args)
        }
    };
    same(&again.expect("can be passed on"), packet, revision);
}

fn same(message: &EncodedMessage, packet: &Packet<'_>, revision: Revision) {
    let mut decoder = Decoder::new(revision, Limits::default());
    let text = std::str::from_utf8(&message.first().payload()[1..]).expect("UTF-8");
    if let Some(found) = decoder.text(text).expect("a packet") {
        assert_eq!(&found, packet);
        return;
    }
    let mut last = None;
    for attachment in message.attachments() {
        let data = Bytes::copy_from_slice(attachment.payload());
        last = decoder.binary(data).expect("outstanding");
    }
    assert_eq!(&last.expect("complete").packet(), packet);
}
