//! `@socket.io/postgres-adapter`.

use antiphon_protocol::cluster::node::{
    Content, Flags, Malformed, Message, Notified, Posted, Postgres, Received, Reply,
};

use crate::expected::{answer, event, socket, target, value};
use crate::fixtures::{self, Fixture, shown};
use crate::interest::all;
use crate::members::{self, check_reading, is_same, limits, namespace, request};

/// An event with a text of this length.
fn text(length: usize) -> Message {
    let json = format!("\"{}\"", "x".repeat(length));
    Message::Broadcast {
        event: event("ev", &json, &[]),
        target: target([], []),
        flags: Flags::new(),
        request: None,
    }
}

/// Gives each message: its notification, its row if it has one, and what it says.
fn each(mut check: impl FnMut(&Fixture, Option<&Fixture>, Received)) {
    let golden = fixtures::read(include_str!("../golden/postgres.json"));
    assert_eq!(golden.len(), 54, "all steps");
    let mut row = None;
    let mut rows = 0;
    let mut step = String::new();
    for (fixture, nth) in golden {
        if fixture.name != step {
            step.clone_from(&fixture.name);
            rows = 0;
        }
        if fixture.id.is_some() {
            row = Some(fixture);
            rows += 1;
            continue;
        }
        let (name, nth) = (&*fixture.name, nth - rows);
        let own = match (name, nth) {
            ("start", 0..=3) => Some(Content::Message(Message::Hello)),
            ("start", _) => Some(Content::Message(Message::Heartbeat)),
            ("close", _) => Some(Content::Message(Message::Bye)),
            // Node writes a `Buffer` in JSON as an object.
            ("fetch binary", 1) => {
                let data = value(r#"{"key":{"type":"Buffer","data":[5]}}"#, &[]);
                Some(answer(request(name), Reply::Sockets(vec![socket(data)])))
            }
            ("emit, large", 0) => Some(Content::Message(text(8000))),
            _ => None,
        };
        let mut received = members::received(name, nth, own);
        if name == "start" {
            let senders = [1, 2, 3, 4, 3, 4, 1, 2].map(|number: u8| format!("{number:02}"));
            received.from = Some(senders[nth].repeat(8).into());
        }
        check(&fixture, row.take().as_ref(), received);
    }
}

/// The namespace, which the channel says.
fn of(fixture: &Fixture) -> &str {
    fixture.channel.strip_prefix("socket.io#").unwrap()
}

#[test]
fn what_node_writes_is_read() {
    each(|fixture, row, expected| {
        if fixture.name != "start" {
            assert_eq!(of(fixture), namespace(&fixture.name));
        }
        check_reading(&fixture.name, &expected, &|me, interest| {
            let codec = Postgres::new("socket.io", of(fixture), me);
            assert_eq!(codec.channel(), fixture.channel);
            let found = codec.decode(&fixture.payload(), &limits(), interest)?;
            match (found, row) {
                (None, _) => Ok(None),
                (Some(Notified::Received(received)), None) => Ok(Some(received)),
                (Some(Notified::Attachment { id }), Some(row)) => {
                    assert_eq!(row.id.as_deref(), Some(&*id.to_string()));
                    codec.decode_attachment(&row.payload(), &limits(), interest)
                }
                found => panic!("{}: {found:?}", fixture.name),
            }
        });
    });
}

#[test]
fn what_is_written_is_what_node_writes() {
    each(|fixture, row, received| {
        let me = received.from.as_deref().unwrap();
        let codec = Postgres::new("socket.io", of(fixture), me);
        let posted = match &received.content {
            Content::Message(message) => codec.encode(message).unwrap(),
            Content::Answer(answer) => codec.encode_answer(answer).unwrap(),
        };
        let is_same = is_same(&fixture.name);
        let frame = match (posted, row) {
            (Posted::Notification(frame), None) => frame,
            (Posted::Attachment(attachment), Some(row)) => {
                let (found, expected) = (shown(&attachment.payload), shown(&row.payload()));
                assert_eq!(found == expected, is_same, "{}: {found}", fixture.name);
                attachment.notification(row.id.as_ref().unwrap().parse().unwrap())
            }
            (posted, _) => panic!("{}: {posted:?}", fixture.name),
        };
        assert_eq!(frame.channel, fixture.channel, "{}", fixture.name);
        if is_same {
            let (found, expected) = (shown(&frame.payload), shown(&fixture.payload()));
            assert_eq!(found, expected, "{}", fixture.name);
        }
    });
}

/// Postgres takes less than 8,000 bytes. Node tries it with 8,000, and the message is lost.
#[test]
fn what_postgres_does_not_carry_is_put_into_the_table() {
    let codec = Postgres::new("socket.io", "/", "me");
    let carried = |codec: &Postgres, length| match codec.encode(&text(length)).unwrap() {
        Posted::Notification(frame) => Some(frame.payload.len()),
        Posted::Attachment(_) => None,
    };
    let empty = carried(&codec, 0).unwrap();
    assert_eq!(carried(&codec, 7_999 - empty), Some(7_999));
    assert_eq!(carried(&codec, 8_000 - empty), None);
    let small = codec.clone().largest(100);
    assert_eq!(carried(&small, 8), None);
    let large = codec.largest(1_000_000);
    assert_eq!(carried(&large, 8_000 - empty), None);
}

#[test]
fn a_row_of_ones_own_is_not_fetched() {
    let codec = Postgres::new("socket.io", "/", "me");
    let decode = |from: &str, id: &str| {
        let payload = format!(r#"{{"uid":"{from}","type":3,"attachmentId":{id}}}"#);
        codec.decode(payload.as_bytes(), &limits(), &all)
    };
    assert_eq!(decode("me", r#""7""#), Ok(None));
    for id in ["7", r#""7""#] {
        let expected = Notified::Attachment { id: 7 };
        assert_eq!(decode("other", id), Ok(Some(expected)));
    }
    for id in [
        "{}",
        r#""""#,
        r#""7; DROP TABLE""#,
        "1.5",
        "99999999999999999999",
    ] {
        let Err(Malformed::Field { field, .. }) = decode("other", id) else {
            panic!("{id}");
        };
        assert_eq!(field, "attachmentId");
    }
}

#[test]
fn what_nobody_writes_is_refused_with_the_fields_name() {
    let codec = Postgres::new("socket.io", "/", "me");
    let decode = |payload: &[u8]| match codec.decode(payload, &limits(), &all)? {
        Some(Notified::Received(received)) => Ok(Some(received)),
        None => Ok(None),
        attachment => panic!("{attachment:?}"),
    };
    members::check_refusing_payloads(&decode);
    members::check_refusing(&|kind, data| {
        let payload = format!(r#"{{"data":{data},"type":{kind}}}"#);
        let before = r#"{"data":"#.len();
        decode(payload.as_bytes()).map_err(|error| members::less(error, before))
    });
}

/// They are MessagePack.
#[test]
fn rows_are_not_trusted_either() {
    let codec = Postgres::new("socket.io", "/", "me");
    let decode = |row: &[u8]| codec.decode_attachment(row, &limits(), &all);
    let deep = b"\x82\xa4type\x09\xa4data\x81\xa6packet\x92\xa1e";
    let deep = [&deep[..], &[0x91; 1000], &[0x90]].concat();
    for row in [&b""[..], b"\x80\x00", b"\xc1", b"\x82\xa4type", &deep] {
        let found = decode(row);
        assert!(matches!(found, Err(Malformed::Value(_))), "{}", shown(row));
    }
    let field = |row| match decode(row) {
        Err(Malformed::Field { field, .. }) => field,
        found => panic!("{found:?}"),
    };
    assert_eq!(field(b"\x90"), "message");
    assert_eq!(field(b"\x80"), "type");
}
