//! What Node's adapter for Postgres, or who claims to be one, notifies or puts into the table. A
//! notification is JSON, what begins otherwise is taken for a row.
#![no_main]

use antiphon_fuzz::cluster::{Found, all, check};
use antiphon_protocol::cluster::node::{Content, Limits, Notified, Posted, Postgres};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let reader = Postgres::new("socket.io", "/", "reader");
    check(
        |limits| match payload.first() {
            Some(b'{') => notified(&reader, payload, limits),
            _ => reader.decode_attachment(payload, limits, &all),
        },
        |content, limits| {
            let sender = Postgres::new("socket.io", "/", "sender");
            let posted = match content {
                Content::Message(message) => sender.encode(message),
                Content::Answer(answer) => sender.encode_answer(answer),
            };
            match posted.expect("can be sent on") {
                Posted::Notification(frame) => notified(&reader, &frame.payload, limits),
                Posted::Attachment(attachment) => {
                    reader.decode_attachment(&attachment.payload, limits, &all)
                }
            }
        },
    );
});

fn notified(reader: &Postgres, payload: &[u8], limits: &Limits) -> Found {
    Ok(match reader.decode(payload, limits, &all)? {
        Some(Notified::Received(received)) => Some(received),
        Some(Notified::Attachment { .. }) | None => None,
    })
}
