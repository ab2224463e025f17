//! `@socket.io/redis-adapter`, `createAdapter`.

use antiphon_protocol::cluster::node::{
    Classic, Content, EMITTER, Flags, Interest, Limits, Malformed, Message, Received, Reply,
    Unsendable,
};

use crate::expected::{self, answer, event, names, socket, target, value};
use crate::fixtures::{self, Fixture, shown};
use crate::interest::{Nothing, all};

fn golden() -> Vec<(Fixture, usize)> {
    fixtures::read(include_str!("../golden/classic.json"))
}

/// The name of a step's request: they were counted.
fn request(step: &str) -> &'static str {
    match step {
        "emit with acks, text" => "FFFFFF",
        "emit with acks, binary" => "GGGGGG",
        "emit with acks, nothing" => "HHHHHH",
        "fetch" => "IIIIII",
        "fetch binary" => "JJJJJJ",
        "fetch nothing" => "KKKKKK",
        "server-side emit with acks" => "LLLLLL",
        "server-side emit with acks, nothing" => "MMMMMM",
        _ => "",
    }
}

fn content(name: &str, nth: usize) -> Content {
    match (name, nth) {
        // Node writes a `Buffer` in JSON as an object.
        ("fetch binary", 1) => {
            let data = value(r#"{"key":{"type":"Buffer","data":[5]}}"#, &[]);
            answer("JJJJJJ", Reply::Sockets(vec![socket(data)]))
        }
        ("all rooms", 0) => Content::Message(Message::AllRooms {
            request: "NNNNNN".into(),
        }),
        ("all rooms", 1) => {
            let rooms = names(["socket00000000000001", "lobby"]);
            answer("NNNNNN", Reply::Rooms(rooms))
        }
        ("ids", 0) | ("ids of none", 0) => Content::Message(Message::Ids {
            request: "idsids".into(),
            rooms: names([if name == "ids" { "lobby" } else { "nobody" }]),
        }),
        ("ids", 2) => answer("idsids", Reply::Ids(names(["socket00000000000001"]))),
        ("ids" | "ids of none", _) => answer("idsids", Reply::Sockets(vec![])),
        ("join, one socket", 0) => Content::Message(Message::Join {
            target: target(["s1"], []),
            rooms: names(["a"]),
        }),
        ("socket.io-emitter of PyPI", 0) => Content::Message(Message::Broadcast {
            event: event("ev", "1", &[]),
            target: target([], []),
            flags: Flags::new(),
            request: None,
        }),
        ("socket.io-emitter of PyPI, room", 0) => Content::Message(Message::Broadcast {
            event: event("ev", "", &[]),
            target: target(["r1"], []),
            flags: Flags::new(),
            request: None,
        }),
        _ => expected::content(name, nth, &request).expect(name),
    }
}

/// Who has sent it.
fn from(name: &str, content: &Content) -> Option<&'static str> {
    match (name, content) {
        (_, Content::Answer(_)) => None,
        ("emitter: join" | "emitter: leave" | "emitter: disconnect", _) => None,
        ("ids" | "ids of none", _) => None,
        ("join, one socket", _) => Some("oldold"),
        ("emit in a namespace", _) => Some("CCCCCC"),
        _ if name.contains("emitter") => Some(EMITTER),
        _ => Some("BBBBBB"),
    }
}

/// The fixture, the namespace and what it says.
fn each(mut check: impl FnMut(&Fixture, &'static str, Received)) {
    let golden = golden();
    assert_eq!(golden.len(), 50, "all steps");
    for (fixture, nth) in golden {
        let content = content(&fixture.name, nth);
        let from = from(&fixture.name, &content).map(Into::into);
        let namespace = match &*fixture.name {
            "emit in a namespace" | "emitter: emit binary" => "/admin",
            _ => "/",
        };
        check(&fixture, namespace, Received { from, content });
    }
}

#[test]
fn what_node_writes_is_read() {
    each(|fixture, namespace, expected| {
        let classic = Classic::new("socket.io", namespace, "zzzzzz");
        let (channel, payload) = (&fixture.channel, fixture.payload());
        let found = classic.decode(channel, &payload, &Limits::default(), &all);
        assert_eq!(found, Ok(Some(expected)), "{}", fixture.name);
    });
}

#[test]
fn what_is_written_is_what_node_writes() {
    let mut same = 0;
    each(|fixture, namespace, received| {
        let me = received.from.as_deref().unwrap_or("zzzzzz");
        let classic = Classic::new("socket.io", namespace, me);
        let frame = match &received.content {
            Content::Message(message) => classic.encode(message).unwrap(),
            Content::Answer(answer) => classic.encode_answer("BBBBBB", answer).unwrap(),
        };
        assert_eq!(frame.channel, fixture.channel, "{}", fixture.name);
        match &*fixture.name {
            // Emitters have another order, or no name. Rooms are strings here. Old forms.
            "emit to a numeric room" | "ids" | "ids of none" | "join, one socket" => {}
            name if name.contains("emitter") => {}
            name => {
                same += 1;
                assert_eq!(shown(&frame.payload), shown(&fixture.payload()), "{name}");
            }
        }
    });
    assert_eq!(same, 33);
}

#[test]
fn a_servers_own_messages_come_back_only_where_it_acts_on_them() {
    each(|fixture, namespace, received| {
        let Some(from) = &received.from else { return };
        let is_echoed = matches!(
            received.content,
            Content::Message(
                Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. }
            )
        );
        let classic = Classic::new("socket.io", namespace, from);
        let (channel, payload) = (&fixture.channel, fixture.payload());
        let found = classic.decode(channel, &payload, &Limits::default(), &all);
        let expected = is_echoed.then_some(received);
        assert_eq!(found, Ok(expected), "{}", fixture.name);
    });
}

#[test]
fn without_members_only_what_must_be_answered_is_read() {
    each(|fixture, namespace, received| {
        let is_wanted = match &received.content {
            Content::Answer(_) => false,
            Content::Message(Message::Broadcast {
                request: None,
                target,
                ..
            })
            | Content::Message(
                Message::Join { target, .. }
                | Message::Leave { target, .. }
                | Message::Disconnect { target, .. },
            ) => target.rooms.is_empty(),
            Content::Message(_) => true,
        };
        let classic = Classic::new("socket.io", namespace, "zzzzzz");
        let (channel, payload) = (&fixture.channel, fixture.payload());
        let found = classic.decode(channel, &payload, &Limits::default(), &Nothing);
        let expected = is_wanted.then_some(received);
        assert_eq!(found, Ok(expected), "{}", fixture.name);
    });
}

/// Several rooms are told on the namespace's channel, so the rooms in the message count.
#[test]
fn an_event_for_several_rooms_is_read_if_one_has_members() {
    let golden = golden();
    let fixture = golden
        .iter()
        .find(|(it, _)| it.name == "emit to rooms, flags");
    let (channel, payload) = fixture.map(|(it, _)| (&it.channel, it.payload())).unwrap();
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    let found = |wanted: &str| {
        let limits = Limits::default();
        let found = classic.decode(channel, &payload, &limits, &|room: &str| room == wanted);
        found.unwrap().is_some()
    };
    assert!(found("é"));
    assert!(!found("r3"));
}

#[test]
fn arguments_of_what_is_not_wanted_are_not_read() {
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    // An event without a name, which is an error if it is read.
    let payload = b"\x93\xa6aaaaaa\x83\xa4type\x02\xa4data\x90\xa3nsp\xa1/\x82\xa5rooms\x91\xa2r1\
        \xa6except\x90";
    let limits = Limits::default();
    let decode =
        |channel, interest: &dyn Interest| classic.decode(channel, payload, &limits, interest);
    assert!(decode("socket.io#/#r1#", &all).is_err());
    assert_eq!(decode("socket.io#/#r1#", &Nothing), Ok(None));
    assert_eq!(decode("socket.io#/#", &Nothing), Ok(None));
    let me = Classic::new("socket.io", "/", "aaaaaa");
    assert_eq!(me.decode("socket.io#/#", payload, &limits, &all), Ok(None));
    let other = Classic::new("socket.io", "/other", "zzzzzz");
    let channel = "socket.io#/other#";
    assert_eq!(other.decode(channel, payload, &limits, &all), Ok(None));
}

#[test]
fn channels_of_others_are_of_no_concern() {
    let classic = Classic::new("socket.io", "/a", "zzzzzz");
    let limits = Limits::default();
    for channel in [
        "",
        "socket.io",
        "socket.io#/#",
        "socket.io#/ab#",
        "socket.io-request#/#",
        "socket.io-request#/a#b",
        "socket.io-response#/ab#",
    ] {
        assert_eq!(
            classic.decode(channel, b"", &limits, &all),
            Ok(None),
            "{channel}"
        );
    }
}

/// With the default prefixes both use `socket.io#/#`, and a server of Node dies of it.
#[test]
fn a_message_of_the_streams_adapter_is_told_from_rubbish() {
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    let message = b"\x84\xa4type\x07\xa4data\x80\xa3uid\xa1a\xa3nsp\xa1/";
    let found = classic.decode("socket.io#/#", message, &Limits::default(), &all);
    assert!(
        matches!(found, Err(Malformed::OtherAdapter { .. })),
        "{found:?}"
    );
}

#[test]
fn channels_and_pattern() {
    let classic = Classic::new("key", "/a*[b]?\\", "zzzzzz");
    assert_eq!(classic.pattern(), r"key#/a\*\[b\]\?\\#*");
    let classic = Classic::new("key", "/", "zzzzzz");
    assert_eq!(classic.pattern(), "key#/#*");
    let expected = [
        "key-request#/#",
        "key-response#/#",
        "key-response#/#zzzzzz#",
    ];
    assert_eq!(classic.channels(), expected);
}

#[test]
fn answers_apart_go_to_the_asker_alone_but_for_server_side_emits() {
    let classic = Classic::new("key", "/", "zzzzzz").answers_apart(true);
    let channel = |reply| match answer("q", reply) {
        Content::Answer(answer) => classic.encode_answer("aaaaaa", &answer).unwrap().channel,
        Content::Message(_) => unreachable!(),
    };
    assert_eq!(channel(Reply::Clients(1)), "key-response#/#aaaaaa#");
    assert_eq!(channel(Reply::Sockets(vec![])), "key-response#/#aaaaaa#");
    assert_eq!(channel(Reply::Emitted(value("1", &[]))), "key-response#/#");
}

#[test]
fn what_the_wire_has_no_form_for_is_an_error() {
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    for message in [Message::Hello, Message::Heartbeat, Message::Bye] {
        let found = classic.encode(&message);
        assert!(matches!(found, Err(Unsendable::NoForm { .. })), "{found:?}");
    }
}

/// Node reads requests and responses in both forms, and JSON has none for bytes.
#[test]
fn binary_values_of_requests_and_responses_are_sent_as_messagepack() {
    let classic = Classic::new("socket.io", "/", "aaaaaa");
    let bytes = value(r#"{"a":{"_placeholder":true,"num":0}}"#, &[&[1, 2]]);
    let sent = [
        answer(
            "q",
            Reply::Sockets(vec![socket(bytes.clone()), socket(bytes.clone())]),
        ),
        answer("q", Reply::Emitted(bytes)),
        Content::Message(Message::ServerSideEmit {
            event: event("ev", r#"{"_placeholder":true,"num":0}"#, &[&[1]]),
            request: Some("q".into()),
        }),
    ];
    for content in sent {
        let frame = match &content {
            Content::Message(message) => classic.encode(message).unwrap(),
            Content::Answer(answer) => classic.encode_answer("bbbbbb", answer).unwrap(),
        };
        assert_ne!(frame.payload[0], b'{');
        let reader = Classic::new("socket.io", "/", "bbbbbb");
        let found = reader.decode(&frame.channel, &frame.payload, &Limits::default(), &all);
        assert_eq!(found.unwrap().unwrap().content, content);
    }
}

#[test]
fn what_nobody_writes_is_refused_with_the_fields_name() {
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    let field = |channel: &str, payload: &str| {
        let limits = Limits::default();
        match classic.decode(channel, payload.as_bytes(), &limits, &all) {
            Err(Malformed::Field { field, .. }) => field,
            found => panic!("{payload}: {found:?}"),
        }
    };
    for (payload, name) in [
        (r#"{}"#, "type"),
        (r#"{"type":"5"}"#, "type"),
        (r#"{"type":-1}"#, "type"),
        (r#"{"type":5,"requestId":"q"}"#, "opts"),
        (r#"{"type":5,"opts":{}}"#, "requestId"),
        (r#"{"type":5,"requestId":5,"opts":{}}"#, "requestId"),
        (r#"{"type":5,"requestId":"q","opts":[]}"#, "opts"),
        (r#"{"type":5,"requestId":"q","opts":{"rooms":{}}}"#, "rooms"),
        (
            r#"{"type":5,"requestId":"q","opts":{"rooms":[[]]}}"#,
            "rooms",
        ),
        (
            r#"{"type":5,"requestId":"q","opts":{"except":[null]}}"#,
            "except",
        ),
        (r#"{"type":2,"opts":{}}"#, "rooms"),
        (r#"{"type":2,"rooms":[]}"#, "opts"),
        (r#"{"type":6}"#, "data"),
        (r#"{"type":7,"requestId":"q","opts":{}}"#, "packet"),
        (
            r#"{"type":7,"requestId":"q","opts":{},"packet":{"type":0,"data":[]}}"#,
            "packet.type",
        ),
        (
            r#"{"type":7,"requestId":"q","opts":{},"packet":{"type":2}}"#,
            "packet.data",
        ),
        (
            r#"{"type":7,"requestId":"q","opts":{"flags":1},"packet":{"type":2,"data":["e"]}}"#,
            "flags",
        ),
    ] {
        assert_eq!(field("socket.io-request#/#", payload), name, "{payload}");
    }
    let long = format!(r#"{{"requestId":"{}"}}"#, "q".repeat(129));
    for (payload, name) in [
        (r#"{}"#, "requestId"),
        (&*long, "requestId"),
        (r#"{"requestId":"q","type":8}"#, "clientCount"),
        (
            r#"{"requestId":"q","type":8,"clientCount":-1}"#,
            "clientCount",
        ),
        (r#"{"requestId":"q","sockets":{}}"#, "sockets"),
        (r#"{"requestId":"q","sockets":[{}]}"#, "sockets.rooms"),
        (
            r#"{"requestId":"q","sockets":[{"rooms":[]}]}"#,
            "sockets.id",
        ),
        (r#"{"requestId":"q","sockets":["a",{}]}"#, "sockets"),
        (r#"{"requestId":"q","rooms":1}"#, "rooms"),
    ] {
        assert_eq!(field("socket.io-response#/#", payload), name, "{payload}");
    }
}

#[test]
fn sockets_are_bounded_together_with_their_rooms() {
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    let sockets = |rooms: u32| {
        let socket = [&b"\x82\xa2id\xa1a\xa5rooms\xdd"[..], &rooms.to_be_bytes()];
        let socket = [socket.concat(), vec![0xa0; rooms as usize]].concat();
        let head = &b"\x82\xa9requestId\xa1q\xa7sockets\x92"[..];
        let payload = [head, &socket, &socket].concat();
        classic.decode("socket.io-response#/#", &payload, &Limits::default(), &all)
    };
    assert!(sockets(499_999).is_ok());
    let (field, limit) = ("sockets", 1_000_000);
    assert_eq!(sockets(500_000), Err(Malformed::TooMany { field, limit }));
}

#[test]
fn a_list_is_bounded_whatever_the_broker_lets_through() {
    let classic = Classic::new("socket.io", "/", "zzzzzz");
    let rooms = |count: u32| {
        let head = [
            &b"\x82\xa9requestId\xa1q\xa5rooms\xdd"[..],
            &count.to_be_bytes(),
        ];
        let payload = [head.concat(), vec![0xa0; count as usize]].concat();
        classic.decode("socket.io-response#/#", &payload, &Limits::default(), &all)
    };
    assert!(rooms(1_000_000).is_ok());
    let (field, limit) = ("rooms", 1_000_000);
    assert_eq!(rooms(1_000_001), Err(Malformed::TooMany { field, limit }));
}
