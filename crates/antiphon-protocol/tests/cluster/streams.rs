//! `@socket.io/redis-streams-adapter`.

use std::collections::BTreeMap;

use antiphon_protocol::cluster::node::{
    Content, Entry, Flags, Malformed, Message, Received, Reply, Sent, Session, Streams,
    is_entry_id, is_stream, stream_of, streams,
};

use crate::expected::{answer, event, names, target, value};
use crate::fixtures::{self, Fixture, shown};
use crate::interest::all;
use crate::members::{self, ASKER, check_reading, is_same, limits, namespace, request};

fn golden() -> Vec<(Fixture, usize)> {
    fixtures::read(include_str!("../golden/streams.json"))
}

fn each(mut check: impl FnMut(&Fixture, Received)) {
    let mut count = 0;
    for (fixture, nth) in golden() {
        if fixture.key.is_some() {
            continue;
        }
        count += 1;
        let name = &*fixture.name;
        // `@msgpack/msgpack` writes `undefined` as null.
        let null = value("null", &[]);
        let own = match (name, nth) {
            ("fetch binary", 1) => Some(members::fetched_binary()),
            ("emit with acks, nothing", 2) => {
                Some(answer(request(name), Reply::Acknowledged(null)))
            }
            ("server-side emit with acks, nothing", 1) => {
                Some(answer(request(name), Reply::Emitted(null)))
            }
            ("emit with recovery", 0) => Some(Content::Message(Message::Broadcast {
                event: event("ev", "1", &[]),
                target: target([], []),
                flags: Flags::new(),
                request: None,
            })),
            _ => None,
        };
        let mut received = members::received(name, nth, own);
        if name == "emit with recovery" {
            received.from = Some("0d0d0d0d0d0d0d0d".into());
        }
        check(&fixture, received);
    }
    assert_eq!(count, 33, "all steps");
}

fn entry(fields: &BTreeMap<String, String>) -> Entry<'_> {
    let fields = fields.iter();
    let fields = fields.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    Entry::from_fields(fields).unwrap().unwrap()
}

#[test]
fn what_node_writes_is_read() {
    each(|fixture, expected| {
        check_reading(&fixture.name, &expected, &|me, interest| {
            // Answers come on the channel of who has asked.
            let is_answer = matches!(expected.content, Content::Answer(_));
            let me = if is_answer && me == "zzzz" { ASKER } else { me };
            let codec = Streams::new("socket.io", namespace(&fixture.name), me);
            match &fixture.fields {
                Some(fields) => codec.decode_entry(&entry(fields), &limits(), interest),
                None => codec.decode(&fixture.channel, &fixture.payload(), &limits(), interest),
            }
        });
    });
}

#[test]
fn what_is_written_is_what_node_writes() {
    each(|fixture, received| {
        let name = &*fixture.name;
        let codec = Streams::new(
            "socket.io",
            namespace(name),
            received.from.as_deref().unwrap(),
        );
        let sent = match &received.content {
            Content::Message(message) => codec.encode(message).unwrap(),
            Content::Answer(answer) => Sent::Frame(codec.encode_answer(ASKER, answer).unwrap()),
        };
        match (sent, &fixture.fields) {
            (Sent::Entry(entry), Some(expected)) => {
                let fields = entry.fields();
                let fields = fields.map(|(key, value)| (key.to_owned(), value.into_owned()));
                let found: BTreeMap<_, _> = fields.collect();
                assert_eq!(&found == expected, is_same(name), "{name}: {found:?}");
            }
            (Sent::Frame(frame), None) => {
                assert_eq!(frame.channel, fixture.channel, "{name}");
                let (found, expected) = (shown(&frame.payload), shown(&fixture.payload()));
                assert_eq!(found, expected, "{name}");
            }
            (sent, _) => panic!("{name}: {sent:?}"),
        }
    });
}

#[test]
fn the_order_of_an_entrys_fields_is_nodes() {
    let codec = Streams::new("socket.io", "/", "me");
    let keys = |message| match codec.encode(&message).unwrap() {
        Sent::Entry(entry) => entry.fields().map(|(key, _)| key).collect::<Vec<_>>(),
        Sent::Frame(_) => panic!(),
    };
    let message = Message::Disconnect {
        target: target([], []),
        close: true,
    };
    assert_eq!(keys(message), ["uid", "nsp", "type", "data"]);
    assert_eq!(keys(Message::Heartbeat), ["uid", "nsp", "type"]);
}

#[test]
fn what_a_server_has_logged_it_reads_for_a_client_that_has_missed_it() {
    let golden = golden();
    let (fixture, _) = golden.iter().find(|(it, _)| it.name == "emit").unwrap();
    let entry = entry(fixture.fields.as_ref().unwrap());
    let codec = Streams::new("socket.io", "/", ASKER);
    assert_eq!(codec.decode_entry(&entry, &limits(), &all), Ok(None));
    let expected = members::received("emit", 0, None);
    let found = codec.decode_logged(&entry, &limits(), &all);
    assert_eq!(found, Ok(Some(expected)));
    let other = Streams::new("socket.io", "/other", ASKER);
    assert_eq!(other.decode_logged(&entry, &limits(), &all), Ok(None));
}

#[test]
fn sessions_are_nodes() {
    let golden = golden();
    let (fixture, _) = golden.iter().find(|(it, _)| it.key.is_some()).unwrap();
    let data = r#"{"name":"é","key":{"_placeholder":true,"num":0}}"#;
    let expected = Session {
        id: "socket00000000000002".into(),
        private_id: "socket00000000000003".into(),
        rooms: names(["socket00000000000002", "lobby"]),
        data: value(data, &[&[5]]),
    };
    let key = format!("sio:session:{}", expected.private_id);
    assert_eq!(fixture.key.as_deref(), Some(&*key));
    let found = Session::decode(&fixture.value, &limits());
    assert_eq!(found.as_ref(), Ok(&expected));
    assert_eq!(expected.encode().unwrap(), fixture.value);
}

#[test]
fn what_is_no_session_is_refused() {
    let field = |value| match Session::decode(value, &limits()) {
        Err(Malformed::Field { field, .. }) => field,
        found => panic!("{found:?}"),
    };
    assert_eq!(Session::decode("?", &limits()), Err(Malformed::Base64));
    let empty = Session::decode("", &limits());
    assert!(matches!(empty, Err(Malformed::Value(_))), "{empty:?}");
    assert_eq!(field("kA=="), "session", "an array");
    assert_eq!(field("gA=="), "sid", "an empty map");
}

#[test]
fn entries_without_a_namespace_are_somebody_elses() {
    let is_entry = |fields: &[(&'static str, &'static str)]| {
        let fields = fields.iter();
        let fields = fields.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        Entry::from_fields(fields).map(|entry| entry.is_some())
    };
    let no_type = Err(Malformed::Field {
        field: "type",
        expected: "the type of a message",
    });
    assert_eq!(is_entry(&[]), Ok(false));
    assert_eq!(is_entry(&[("type", "3"), ("x", "y")]), Ok(false));
    assert_eq!(is_entry(&[("nsp", "/"), ("type", "1")]), Ok(true));
    assert_eq!(is_entry(&[("nsp", "/")]), no_type);
    assert_eq!(is_entry(&[("nsp", "/"), ("type", "x")]), no_type);
    let bytes = Entry::from_fields([(&b"nsp"[..], &b"\xff"[..])]);
    assert!(matches!(bytes, Err(Malformed::Field { field: "nsp", .. })));
}

fn decode_entry(kind: &str, data: &str) -> Result<Option<Received>, Malformed> {
    let fields = [("nsp", "/"), ("uid", "a"), ("type", kind), ("data", data)];
    let fields = fields.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    let entry = Entry::from_fields(fields)?.unwrap();
    Streams::new("socket.io", "/", "me").decode_entry(&entry, &limits(), &all)
}

#[test]
fn what_nobody_writes_is_refused_with_the_fields_name() {
    members::check_refusing(&|kind, data| match data {
        // Data that is no object is base64.
        "[]" => {
            assert_eq!(
                decode_entry(&kind.to_string(), data),
                Err(Malformed::Base64)
            );
            decode_entry(&kind.to_string(), "kA==")
        }
        _ => decode_entry(&kind.to_string(), data),
    });
}

#[test]
fn an_entry_may_not_say_who_has_sent_it() {
    let from = |from: Option<&str>| {
        let fields = [("nsp", "/"), ("type", "2")].into_iter();
        let fields = fields.chain(from.map(|from| ("uid", from)));
        let fields = fields.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        let entry = Entry::from_fields(fields).unwrap().unwrap();
        let found = Streams::new("socket.io", "/", "me").decode_entry(&entry, &limits(), &all);
        found.map(|received| received.unwrap().from)
    };
    assert_eq!(from(None), Ok(None));
    assert_eq!(from(Some("a")), Ok(Some("a".into())));
    let long = from(Some(&"a".repeat(129)));
    assert!(matches!(long, Err(Malformed::Field { field: "uid", .. })));
}

#[test]
fn a_heartbeat_has_no_data() {
    let found = decode_entry("2", "").unwrap().unwrap();
    assert_eq!(found.content, Content::Message(Message::Heartbeat));
}

#[test]
fn a_message_of_the_classic_adapter_is_told_from_rubbish() {
    let codec = Streams::new("socket.io", "/", "me");
    let classic = b"\x93\xa6aaaaaa\x83\xa4type\x02\xa4data\x91\xa1e\xa3nsp\xa1/\x80";
    let found = codec.decode("socket.io#/#", classic, &limits(), &all);
    assert!(
        matches!(found, Err(Malformed::OtherAdapter { .. })),
        "{found:?}"
    );
    // The classic adapter has a channel for each room, too.
    for channel in ["socket.io#/#room#", "socket.io#/other#", "x"] {
        let found = codec.decode(channel, classic, &limits(), &all);
        assert_eq!(found, Ok(None), "{channel}");
    }
}

#[test]
fn a_namespace_has_a_stream_that_all_servers_read() {
    assert_eq!(stream_of("socket.io", 1, "/a"), "socket.io");
    assert_eq!(stream_of("socket.io", 0, "/a"), "socket.io");
    assert_eq!(streams("socket.io", 1), ["socket.io"]);
    assert_eq!(streams("s", 3), ["s-0", "s-1", "s-2", "s--1", "s--2"]);
    assert_eq!(streams("s", u32::MAX).len(), 2047);
    for count in [0, 1, 3, u32::MAX] {
        assert!(
            streams("s", count)
                .iter()
                .all(|name| is_stream("s", count, name))
        );
    }
    for other in ["s", "s-3", "s--3", "s-", "t-1", "s-1-"] {
        assert!(!is_stream("s", 3, other), "{other}");
    }
    assert!(!is_stream("s", 1, "s-0"));
    for (namespace, hash) in HASHES {
        for count in 2..10_u8 {
            let number = hash.rem_euclid(count.into());
            let stream = stream_of("s", count.into(), namespace);
            assert_eq!(stream, format!("s-{number}"), "{namespace}");
        }
    }
    assert!(HASHES.iter().any(|(_, hash)| *hash < 0));
}

/// Namespaces, and what the adapter's `hashCode` says of them.
const HASHES: [(&str, i32); 6] = [
    ("/", 47),
    ("/admin", 1_438_238_848),
    ("/chat room", 915_667_284),
    ("/é", 1690),
    ("/\u{1f600}", 1_818_066),
    ("/a long name of a namespace", -1_484_744_590),
];

#[test]
fn offsets_are_ids_of_entries() {
    for id in ["0-0", "1700000000000-12", "18446744073709551615-1"] {
        assert!(is_entry_id(id), "{id}");
    }
    for id in [
        "", "$", "-", "1", "1-", "-1", "1-+1", "1-1-1", " 1-1", "1-x",
    ] {
        assert!(!is_entry_id(id), "{id}");
    }
    assert!(!is_entry_id("18446744073709551616-1"));
}
