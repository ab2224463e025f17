//! `@socket.io/redis-adapter`, `createShardedAdapter`.

use antiphon_protocol::cluster::node::{
    Content, Flags, Message, Mode, Received, Sharded, Unsendable,
};

use crate::expected::{event, target};
use crate::fixtures::{self, Fixture, shown};
use crate::interest::{Nothing, all};
use crate::members::{self, ASKER, check_reading, is_same, limits, namespace};

/// An event without arguments to one room.
fn to_room(name: &str, room: &str, request: Option<&str>) -> Message {
    Message::Broadcast {
        event: event(name, "", &[]),
        target: target([room], []),
        flags: Flags::new(),
        request: request.map(Into::into),
    }
}

fn each(mut check: impl FnMut(&Fixture, Mode, Received)) {
    let golden = fixtures::read(include_str!("../golden/sharded.json"));
    assert_eq!(golden.len(), 33, "all steps");
    for (fixture, nth) in golden {
        let name = &*fixture.name;
        let (mode, own) = match (name, nth) {
            ("fetch binary", 1) => (Mode::Dynamic, Some(members::fetched_binary())),
            ("emit to an own room, dynamic-private", 0) => {
                let message = to_room("ev", "socket00000000000002", None);
                (Mode::DynamicPrivate, Some(Content::Message(message)))
            }
            _ => (Mode::Dynamic, None),
        };
        let mut received = members::received(name, nth, own);
        if mode == Mode::DynamicPrivate {
            received.from = Some("0d0d0d0d0d0d0d0d".into());
        }
        check(&fixture, mode, received);
    }
}

#[test]
fn what_node_writes_is_read() {
    each(|fixture, mode, expected| {
        check_reading(&fixture.name, &expected, &|me, interest| {
            // Answers come on the channel of who has asked.
            let is_answer = matches!(expected.content, Content::Answer(_));
            let me = if is_answer && me == "zzzz" { ASKER } else { me };
            let codec = Sharded::new("socket.io", namespace(&fixture.name), me, mode);
            codec.decode(&fixture.channel, &fixture.payload(), &limits(), interest)
        });
    });
}

#[test]
fn what_is_written_is_what_node_writes() {
    each(|fixture, mode, received| {
        let me = received.from.as_deref().unwrap();
        let codec = Sharded::new("socket.io", namespace(&fixture.name), me, mode);
        let frame = match &received.content {
            Content::Message(message) => codec.encode(message).unwrap(),
            Content::Answer(answer) => codec.encode_answer(ASKER, answer).unwrap(),
        };
        assert_eq!(frame.channel, fixture.channel, "{}", fixture.name);
        if is_same(&fixture.name) {
            let (found, expected) = (shown(&frame.payload), shown(&fixture.payload()));
            assert_eq!(found, expected, "{}", fixture.name);
        }
    });
}

/// Node looks at the length alone when it publishes, and at whether it is an id of its own when it
/// subscribes.
#[test]
fn rooms_have_a_channel_by_their_length() {
    let channel = |mode, room: &str| Sharded::new("p", "/", "me", mode).room(room);
    let id = "abcdefghijklmnopqrst";
    let units = "\u{1f600}".repeat(10);
    assert_eq!(channel(Mode::Static, "a"), None);
    assert_eq!(channel(Mode::Dynamic, "a"), Some("p#/#a#".into()));
    assert_eq!(channel(Mode::Dynamic, id), None);
    assert_eq!(channel(Mode::Dynamic, &units), None, "units of UTF-16");
    let expected = Some(format!("p#/#{id}#"));
    assert_eq!(channel(Mode::DynamicPrivate, id), expected);
}

#[test]
fn a_request_is_for_all_servers_whatever_its_room() {
    let codec = Sharded::new("p", "/", "me", Mode::DynamicPrivate);
    let channel = |request| codec.encode(&to_room("e", "a", request)).unwrap().channel;
    assert_eq!(channel(None), "p#/#a#");
    assert_eq!(channel(Some("q")), "p#/#");
}

#[test]
fn channels_of_others_and_rooms_without_members_are_not_read() {
    let codec = Sharded::new("p", "/", "me", Mode::Dynamic);
    for channel in ["p#/a#", "x#/#", "", "p#/#a#"] {
        let found = codec.decode(channel, b"rubbish", &limits(), &Nothing);
        assert_eq!(found, Ok(None), "{channel}");
    }
    let found = codec.decode("p#/#a#", b"rubbish", &limits(), &all);
    assert!(found.is_err());
}

#[test]
fn a_message_of_another_namespace_is_not_read() {
    let codec = Sharded::new("p", "/", "me", Mode::Dynamic);
    let payload = br#"{"type":3,"nsp":"/b","data":{}}"#;
    assert_eq!(codec.decode("p#/#", payload, &limits(), &all), Ok(None));
}

#[test]
fn what_nobody_writes_is_refused_with_the_fields_name() {
    let codec = Sharded::new("p", "/", "me", Mode::Dynamic);
    let decode = |payload: &[u8]| codec.decode("p#/#", payload, &limits(), &all);
    members::check_refusing_payloads(&decode);
    let decode = |kind, data: &str| {
        let payload = format!(r#"{{"data":{data},"type":{kind}}}"#);
        // Offsets are those of the data.
        let offset = r#"{"data":"#.len();
        decode(payload.as_bytes()).map_err(|error| members::less(error, offset))
    };
    members::check_refusing(&decode);
}

#[test]
fn what_the_wire_has_no_form_for_is_an_error() {
    let codec = Sharded::new("p", "/", "me", Mode::Dynamic);
    let request = "q".into();
    let found = codec.encode(&Message::AllRooms { request });
    assert!(matches!(found, Err(Unsendable::NoForm { .. })), "{found:?}");
}
