//! What holds for any message on each wire: what is written is read again, and nothing that comes
//! is a panic.

use antiphon_protocol::cluster::node::{Classic, Content, Frame, Limits, Received};
use proptest::prelude::*;

use crate::strategies::{answer, classic_answer, classic_message, damaged, message, same};

fn all(_: &str) -> bool {
    true
}

/// As a message is written by one server, or an answer to another.
fn classic_frame(content: &Content) -> Frame {
    let sender = Classic::new("socket.io", "/a", "sender");
    match content {
        Content::Message(message) => sender.encode(message).unwrap(),
        Content::Answer(answer) => sender.encode_answer("reader", answer).unwrap(),
    }
}

fn classic_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        prop_oneof![3 => message(), 1 => classic_message()].prop_map(Content::Message),
        prop_oneof![3 => answer(), 1 => classic_answer()].prop_map(Content::Answer),
    ]
}

proptest! {
    #[test]
    fn classic_is_read_as_it_was_written(content in classic_content()) {
        let frame = classic_frame(&content);
        let reader = Classic::new("socket.io", "/a", "reader");
        let found = reader.decode(&frame.channel, &frame.payload, &Limits::default(), &all);
        let found = found.unwrap().unwrap();
        let from = matches!(content, Content::Message(_)).then(|| "sender".into());
        let found = Received { content: same(found.content), ..found };
        prop_assert_eq!(found, Received { from, content: same(content) });
    }

    #[test]
    fn damaged_bytes_of_classic_are_no_panic(
        (frame, payload) in classic_content().prop_map(|content| classic_frame(&content))
            .prop_flat_map(|frame| (Just(frame.channel), damaged(frame.payload)))
    ) {
        let reader = Classic::new("socket.io", "/a", "reader");
        let _ = reader.decode(&frame, &payload, &Limits::default(), &all);
    }
}
