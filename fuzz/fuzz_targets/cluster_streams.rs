//! What Node's adapter for Redis streams, or who claims to be one, publishes, adds and keeps. The
//! first byte is the type of an entry, or 0 for a channel, or 255 for a session.
#![no_main]

use antiphon_fuzz::cluster::{Found, all, check};
use antiphon_protocol::cluster::node::{Content, Entry, Limits, Sent, Session, Streams};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, payload)) = data.split_first() else {
        return;
    };
    let reader = Streams::new("socket.io", "/", "reader");
    let kind_text = kind.to_string();
    let read = |limits: &Limits| match kind {
        0 => reader.decode("socket.io#/#", payload, limits, &all),
        _ => {
            let fields = [
                (&b"uid"[..], &b"a"[..]),
                (b"nsp", b"/"),
                (b"type", kind_text.as_bytes()),
                (b"data", payload),
            ];
            match Entry::from_fields(fields)? {
                Some(entry) => reader.decode_entry(&entry, limits, &all),
                None => Ok(None),
            }
        }
    };
    if kind == 255 {
        return session(payload);
    }
    check(read, |content, limits| again(&reader, content, limits));
});

fn again(reader: &Streams, content: &Content, limits: &Limits) -> Found {
    let sender = Streams::new("socket.io", "/", "sender");
    let sent = match content {
        Content::Message(message) => sender.encode(message),
        Content::Answer(answer) => sender.encode_answer("reader", answer).map(Sent::Frame),
    };
    match sent.expect("can be sent on") {
        Sent::Frame(frame) => reader.decode(&frame.channel, &frame.payload, limits, &all),
        Sent::Entry(entry) => reader.decode_entry(&entry, limits, &all),
    }
}

fn session(value: &[u8]) {
    let Ok(session) = Session::decode(&String::from_utf8_lossy(value), &Limits::default()) else {
        return;
    };
    let written = session.encode().expect("can be kept");
    // A text that was no UTF-8 is longer now, and may be beyond a limit.
    if let Ok(found) = Session::decode(&written, &Limits::default()) {
        assert_eq!(found, session);
    }
}
