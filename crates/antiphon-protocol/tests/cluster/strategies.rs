//! Messages and answers of any content, for the properties of all wires.

use std::{sync::Arc, time::Duration};

use antiphon_protocol::cluster::node::{
    Answer, Content, Flags, Message, Reply, Session, SocketDetails, Sockets,
};
use antiphon_protocol::socket::{Limits, Outgoing, OwnedArgs};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Number, Value, json};

fn name() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["[a-z#]{0,3}", "\\PC{0,40}"].prop_map(Into::into)
}

fn request() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9\"é]{1,16}".prop_map(Into::into)
}

fn names() -> impl Strategy<Value = Vec<Arc<str>>> {
    vec(name(), 0..4)
}

fn target() -> impl Strategy<Value = Sockets> {
    (names(), names()).prop_map(|(rooms, except)| Sockets { rooms, except })
}

fn flags() -> impl Strategy<Value = Flags> {
    let millis = option::of((0_u64..1_000_000).prop_map(Duration::from_millis));
    (any::<bool>(), option::of(any::<bool>()), millis).prop_map(|(volatile, compress, timeout)| {
        let flags = Flags::new().volatile(volatile).compress(compress);
        flags.timeout(timeout)
    })
}

/// JSON, with `0` where an attachment may stand.
fn values() -> impl Strategy<Value = Vec<Value>> {
    let number = prop_oneof![
        any::<i64>().prop_map(Number::from),
        (-1e9..1e9).prop_filter_map("finite", Number::from_f64),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number.prop_map(Value::Number),
        prop_oneof!["\\PC{0,10}", "x{250,270}"].prop_map(Value::String),
    ];
    let value = leaf.prop_recursive(3, 12, 18, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::Array),
            vec(("[a-z]{1,5}", inner), 0..5).prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    });
    vec(value, 0..4)
}

/// Arguments as JSON, some of them binary.
fn args(most: usize) -> impl Strategy<Value = (String, Vec<Bytes>)> {
    let attachments = vec(vec(any::<u8>(), 0..20).prop_map(Bytes::from), 0..=most);
    (values(), attachments).prop_map(move |(mut values, attachments)| {
        values.truncate(most);
        let placeholders = (0..attachments.len())
            .map(|num| json!({ "a": [{ "_placeholder": true, "num": num }] }));
        // In the place of others, so that there are no more than asked for.
        for (place, placeholder) in placeholders.enumerate() {
            match values.get_mut(place) {
                Some(value) => *value = placeholder,
                None => values.push(placeholder),
            }
        }
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        (values.join(","), attachments)
    })
}

fn event() -> impl Strategy<Value = Outgoing> {
    ("\\PC{0,40}", args(4)).prop_filter_map("reserved", |(name, (json, attachments))| {
        Outgoing::from_parts(&name, &json, attachments, &Limits::default()).ok()
    })
}

/// One value, or none.
fn value() -> impl Strategy<Value = OwnedArgs> {
    args(1).prop_map(|(json, attachments)| {
        OwnedArgs::from_parts(&json, attachments, &Limits::default()).unwrap()
    })
}

fn socket() -> impl Strategy<Value = SocketDetails> {
    let id = "[a-zA-Z0-9_-]{1,20}";
    (id, value(), names(), value()).prop_map(|(id, handshake, rooms, data)| SocketDetails {
        id: id.into(),
        handshake,
        rooms,
        data,
    })
}

/// A message that all wires have.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    let request = request();
    prop_oneof![
        4 => (event(), target(), flags(), option::of(self::request())).prop_map(
            |(event, target, flags, request)| Message::Broadcast { event, target, flags, request }
        ),
        1 => (target(), names()).prop_map(|(target, rooms)| Message::Join { target, rooms }),
        1 => (target(), names()).prop_map(|(target, rooms)| Message::Leave { target, rooms }),
        1 => (target(), any::<bool>())
            .prop_map(|(target, close)| Message::Disconnect { target, close }),
        1 => (request, target()).prop_map(|(request, target)| Message::Fetch { request, target }),
        1 => (event(), option::of(self::request()))
            .prop_map(|(event, request)| Message::ServerSideEmit { event, request }),
    ]
}

/// A message of the classic adapter alone.
pub(crate) fn classic_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (request(), names()).prop_map(|(request, rooms)| Message::Ids { request, rooms }),
        request().prop_map(|request| Message::AllRooms { request }),
    ]
}

/// An answer that all wires have.
pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    let reply = prop_oneof![
        // What JavaScript keeps exactly.
        (0..1_u64 << 53).prop_map(Reply::Clients),
        value().prop_map(Reply::Acknowledged),
        vec(socket(), 0..4).prop_map(Reply::Sockets),
        value().prop_map(Reply::Emitted),
    ];
    (request(), reply).prop_map(|(request, reply)| Answer { request, reply })
}

/// An answer of the classic adapter alone. Without ids it is read as one without sockets.
pub(crate) fn classic_answer() -> impl Strategy<Value = Answer> {
    let reply = prop_oneof![
        vec(name(), 1..4).prop_map(Reply::Ids),
        names().prop_map(Reply::Rooms),
    ];
    (request(), reply).prop_map(|(request, reply)| Answer { request, reply })
}

/// Bytes that something has happened to.
pub(crate) fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (changes, any::<prop::sample::Index>()).prop_map(move |(changes, end)| {
        let mut bytes = bytes.clone();
        bytes.push(0);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        bytes
    })
}

/// What was written, as anyone may read it: JSON may be written in several ways.
pub(crate) fn same(content: Content) -> Content {
    let args = same_args;
    let event = |event: Outgoing| {
        let (name, json) = (event.name(), normal(event.json()));
        Outgoing::from_parts(&name, &json, event.attachments(), &Limits::default()).unwrap()
    };
    match content {
        Content::Message(Message::Broadcast {
            event: it,
            target,
            flags,
            request,
        }) => Content::Message(Message::Broadcast {
            event: event(it),
            target,
            flags,
            request,
        }),
        Content::Message(Message::ServerSideEmit { event: it, request }) => {
            Content::Message(Message::ServerSideEmit {
                event: event(it),
                request,
            })
        }
        Content::Answer(Answer { request, reply }) => {
            let reply = match reply {
                Reply::Acknowledged(value) => Reply::Acknowledged(args(value)),
                Reply::Emitted(value) => Reply::Emitted(args(value)),
                Reply::Sockets(sockets) => {
                    let sockets = sockets.into_iter().map(|socket| SocketDetails {
                        handshake: args(socket.handshake),
                        data: args(socket.data),
                        ..socket
                    });
                    Reply::Sockets(sockets.collect())
                }
                other => other,
            };
            Content::Answer(Answer { request, reply })
        }
        other => other,
    }
}

fn same_args(args: OwnedArgs) -> OwnedArgs {
    let (json, attachments) = (args.as_args().json(), args.as_args().attachments());
    let json = normal(json);
    OwnedArgs::from_parts(&json, attachments.to_vec(), &Limits::default()).unwrap()
}

fn normal(json: &str) -> String {
    let list: Value = serde_json::from_str(&format!("[{json}]")).unwrap();
    let list = list.to_string();
    list[1..list.len() - 1].to_owned()
}

/// A session of the adapter for Redis streams, with data as they are read.
pub(crate) fn session() -> impl Strategy<Value = Session> {
    let id = || "[a-zA-Z0-9_-]{1,20}";
    (id(), id(), names(), value()).prop_map(|(id, private_id, rooms, data)| Session {
        id: id.into(),
        private_id: private_id.into(),
        rooms,
        data: same_args(data),
    })
}
