//! What holds for any message on each wire: what is written is read again, and nothing that comes
//! is a panic.

use std::time::Duration;

use antiphon_protocol::cluster::node::{
    Classic, Content, Entry, Frame, Interest, Limits, Message, Mode, Notified, Posted, Postgres,
    Received, Sent, Session, Sharded, Streams,
};
use proptest::prelude::*;

use crate::interest::all;
use crate::members::Found;
use crate::strategies::{answer, classic_answer, classic_message, damaged, message, same, session};

/// A wire: how a server with the name `sender` writes, and how one with the name `reader` reads.
trait Wire {
    /// What leaves: the bytes of it, and where they go.
    fn write(content: &Content) -> (String, Vec<u8>);
    fn read(place: &str, bytes: &[u8], interest: &dyn Interest) -> Found;
}

fn parts(frame: Frame) -> (String, Vec<u8>) {
    (frame.channel, frame.payload)
}

impl Wire for Classic {
    fn write(content: &Content) -> (String, Vec<u8>) {
        let sender = Self::new("socket.io", "/a", "sender");
        parts(match content {
            Content::Message(message) => sender.encode(message).unwrap(),
            Content::Answer(answer) => sender.encode_answer("reader", answer).unwrap(),
        })
    }

    fn read(channel: &str, bytes: &[u8], interest: &dyn Interest) -> Found {
        let reader = Self::new("socket.io", "/a", "reader");
        reader.decode(channel, bytes, &Limits::default(), interest)
    }
}

impl Wire for Sharded {
    fn write(content: &Content) -> (String, Vec<u8>) {
        let sender = Self::new("socket.io", "/a", "sender", Mode::Dynamic);
        parts(match content {
            Content::Message(message) => sender.encode(message).unwrap(),
            Content::Answer(answer) => sender.encode_answer("reader", answer).unwrap(),
        })
    }

    fn read(channel: &str, bytes: &[u8], interest: &dyn Interest) -> Found {
        let reader = Self::new("socket.io", "/a", "reader", Mode::Dynamic);
        reader.decode(channel, bytes, &Limits::default(), interest)
    }
}

/// The place is the channel, or the type of an entry, whose data are the bytes.
impl Wire for Streams {
    fn write(content: &Content) -> (String, Vec<u8>) {
        let sender = Self::new("socket.io", "/a", "sender");
        let sent = match content {
            Content::Message(message) => sender.encode(message).unwrap(),
            Content::Answer(answer) => {
                return parts(sender.encode_answer("reader", answer).unwrap());
            }
        };
        match sent {
            Sent::Frame(frame) => parts(frame),
            Sent::Entry(entry) => {
                let field = |name| entry.fields().find(|(key, _)| *key == name);
                let (kind, data) = (field("type").unwrap().1, field("data"));
                let data = data.map(|(_, data)| data.into_owned().into_bytes());
                (kind.into_owned(), data.unwrap_or_default())
            }
        }
    }

    fn read(place: &str, bytes: &[u8], interest: &dyn Interest) -> Found {
        let reader = Self::new("socket.io", "/a", "reader");
        let limits = Limits::default();
        if place.starts_with("socket.io#") {
            return reader.decode(place, bytes, &limits, interest);
        }
        let fields = [
            (&b"uid"[..], &b"sender"[..]),
            (b"nsp", b"/a"),
            (b"type", place.as_bytes()),
            (b"data", bytes),
        ];
        match Entry::from_fields(fields)? {
            Some(entry) => reader.decode_entry(&entry, &limits, interest),
            None => Ok(None),
        }
    }
}

/// The place is empty for a row.
impl Wire for Postgres {
    fn write(content: &Content) -> (String, Vec<u8>) {
        let sender = Self::new("socket.io", "/a", "sender");
        let posted = match content {
            Content::Message(message) => sender.encode(message).unwrap(),
            Content::Answer(answer) => sender.encode_answer(answer).unwrap(),
        };
        match posted {
            Posted::Notification(frame) => parts(frame),
            Posted::Attachment(attachment) => (String::new(), attachment.payload),
        }
    }

    fn read(channel: &str, bytes: &[u8], interest: &dyn Interest) -> Found {
        let reader = Self::new("socket.io", "/a", "reader");
        let limits = Limits::default();
        if channel.is_empty() {
            return reader.decode_attachment(bytes, &limits, interest);
        }
        Ok(match reader.decode(bytes, &limits, interest)? {
            Some(Notified::Received(received)) => Some(received),
            Some(Notified::Attachment { .. }) | None => None,
        })
    }
}

/// What all wires have, but for heartbeats.
fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        message().prop_map(Content::Message),
        answer().prop_map(Content::Answer),
    ]
}

fn classic_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => content(),
        1 => classic_message().prop_map(Content::Message),
        1 => classic_answer().prop_map(Content::Answer),
    ]
}

fn member_content() -> impl Strategy<Value = Content> {
    let alive = [Message::Hello, Message::Heartbeat, Message::Bye].map(Content::Message);
    let hand_over = ("[a-z.]{1,30}", any::<u32>()).prop_map(|(private_id, waited)| {
        let private_id = private_id.into();
        let waited = Duration::from_millis(waited.into());
        Content::Message(Message::HandOver { private_id, waited })
    });
    prop_oneof![
        9 => content(),
        1 => proptest::sample::select(alive.to_vec()),
        1 => hand_over,
    ]
}

fn check_round_trip<W: Wire>(content: Content, from: Option<&str>) -> Result<(), TestCaseError> {
    let (place, bytes) = W::write(&content);
    let found = W::read(&place, &bytes, &all);
    let found = found.map(|found| {
        found.map(|found| Received {
            content: same(found.content),
            ..found
        })
    });
    let from = from.map(Into::into);
    let content = same(content);
    prop_assert_eq!(found, Ok(Some(Received { from, content })));
    Ok(())
}

/// What is written, and the bytes with something changed.
fn damage<W: Wire>(
    content: impl Strategy<Value = Content>,
) -> impl Strategy<Value = (String, Vec<u8>)> {
    content.prop_flat_map(|content| {
        let (place, bytes) = W::write(&content);
        (Just(place), damaged(bytes))
    })
}

proptest! {
    #[test]
    fn classic_is_read_as_it_was_written(content in classic_content()) {
        let from = matches!(content, Content::Message(_)).then_some("sender");
        check_round_trip::<Classic>(content, from)?;
    }

    #[test]
    fn sharded_is_read_as_it_was_written(content in member_content()) {
        check_round_trip::<Sharded>(content, Some("sender"))?;
    }

    #[test]
    fn streams_is_read_as_it_was_written(content in member_content()) {
        check_round_trip::<Streams>(content, Some("sender"))?;
    }

    #[test]
    fn postgres_is_read_as_it_was_written(content in member_content()) {
        check_round_trip::<Postgres>(content, Some("sender"))?;
    }

    #[test]
    fn a_session_is_read_as_it_was_written(session in session()) {
        let written = session.encode().unwrap();
        let found = Session::decode(&written, &Limits::default());
        prop_assert_eq!(found, Ok(session));
    }

    #[test]
    fn damaged_bytes_of_classic_are_no_panic((place, bytes) in damage::<Classic>(classic_content())) {
        let _ = Classic::read(&place, &bytes, &all);
    }

    #[test]
    fn damaged_bytes_of_sharded_are_no_panic((place, bytes) in damage::<Sharded>(member_content())) {
        let _ = Sharded::read(&place, &bytes, &all);
    }

    #[test]
    fn damaged_bytes_of_streams_are_no_panic((place, bytes) in damage::<Streams>(member_content())) {
        let _ = Streams::read(&place, &bytes, &all);
    }

    #[test]
    fn damaged_bytes_of_postgres_are_no_panic((place, bytes) in damage::<Postgres>(member_content())) {
        let _ = Postgres::read(&place, &bytes, &all);
    }

    #[test]
    fn a_damaged_session_is_no_panic(
        text in session().prop_flat_map(|session| damaged(session.encode().unwrap().into_bytes()))
    ) {
        let _ = Session::decode(&String::from_utf8_lossy(&text), &Limits::default());
    }
}
