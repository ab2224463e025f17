//! What is meant by each step of `tests/cluster/golden.mjs`.

use std::{sync::Arc, time::Duration};

use antiphon_protocol::cluster::node::{
    Answer, Content, Flags, Message, Reply, SocketDetails, Sockets,
};
use antiphon_protocol::socket::{Limits, Outgoing, OwnedArgs};
use bytes::Bytes;

/// The names of the requests, where a step has one. Each adapter counts them in its own way.
pub(crate) type Requests<'r> = &'r dyn Fn(&str) -> &'static str;

pub(crate) fn names<const N: usize>(names: [&str; N]) -> Vec<Arc<str>> {
    names.map(Into::into).into()
}

pub(crate) fn target<const N: usize, const M: usize>(
    rooms: [&str; N],
    except: [&str; M],
) -> Sockets {
    Sockets {
        rooms: names(rooms),
        except: names(except),
    }
}

pub(crate) fn event(name: &str, json: &str, attachments: &[&'static [u8]]) -> Outgoing {
    let attachments = attachments.iter().map(|it| Bytes::from_static(it));
    Outgoing::from_parts(name, json, attachments, &Limits::default()).unwrap()
}

pub(crate) fn value(json: &str, attachments: &[&'static [u8]]) -> OwnedArgs {
    let attachments = attachments.iter().map(|it| Bytes::from_static(it));
    OwnedArgs::from_parts(json, attachments.collect(), &Limits::default()).unwrap()
}

fn broadcast(event: Outgoing, target: Sockets) -> Content {
    Content::Message(Message::Broadcast {
        event,
        target,
        flags: Flags::new(),
        request: None,
    })
}

fn ask(request: &str, event: Outgoing, target: Sockets) -> Content {
    Content::Message(Message::Broadcast {
        event,
        target,
        flags: Flags::new().timeout(Some(Duration::from_secs(1))),
        request: Some(request.into()),
    })
}

pub(crate) fn answer(request: &str, reply: Reply) -> Content {
    let request = request.into();
    Content::Answer(Answer { request, reply })
}

/// The socket of the responder, with these data.
pub(crate) fn socket(data: OwnedArgs) -> SocketDetails {
    SocketDetails {
        id: "socket00000000000001".into(),
        handshake: value(r#"{"headers":{"host":"a"},"auth":{}}"#, &[]),
        rooms: names(["socket00000000000001", "lobby"]),
        data,
    }
}

/// What a step publishes with each adapter. `nth` counts what is published in the step, from 0.
/// Returns `None` if it is a step of one adapter alone.
pub(crate) fn content(name: &str, nth: usize, request: Requests<'_>) -> Option<Content> {
    let placeholder = |num| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
    let everyone = Sockets::default();
    let request = request(name);
    let long = "x".repeat(300);
    Some(match (name, nth) {
        ("emit", 0) => broadcast(event("ev", r#"1,"two""#, &[]), everyone),
        ("emit to a room", 0) => broadcast(event("ev", "", &[]), target(["r1"], [])),
        ("emit to a numeric room", 0) => broadcast(event("ev", "", &[]), target(["7"], [])),
        ("emit to an own room", 0) => {
            broadcast(event("ev", "", &[]), target(["socket00000000000001"], []))
        }
        ("emit to rooms, flags", 0) => Content::Message(Message::Broadcast {
            event: event("ev", "null,true", &[]),
            target: target(["r1", "é"], ["r3"]),
            flags: Flags::new().volatile(true).compress(Some(false)),
            request: None,
        }),
        ("emit binary", 0) => {
            let [a, b, c] = [0, 1, 2].map(placeholder);
            let json = format!(r#"{a},{{"a":[{b}],"b":{c}}}"#);
            broadcast(
                event("bin", &json, &[&[1, 2, 3], "é".as_bytes(), b""]),
                everyone,
            )
        }
        ("emit values", 0) => {
            let values = "-1,-33,-129,-40000,1.5,255,65536,1099511627776,[[],{}]";
            let json = format!(r#"{values},{{"k":"{long}"}}"#);
            broadcast(event("é \"\n", &json, &[]), everyone)
        }
        ("emit many", 0) => {
            let numbers: Vec<_> = (0..20).map(|number| number.to_string()).collect();
            broadcast(event("many", &numbers.join(","), &[]), everyone)
        }
        ("emit in a namespace", 0) => broadcast(event("ev", "", &[]), everyone),
        ("emit with acks, text", 0) => ask(request, event("ask", r#""text""#, &[]), everyone),
        ("emit with acks, binary", 0) => {
            let event = event("ask", &placeholder(0), &[&[9]]);
            ask(request, event, target(["lobby"], []))
        }
        ("emit with acks, nothing", 0) => ask(request, event("ask", "", &[]), everyone),
        (_, 1) if name.starts_with("emit with acks") => answer(request, Reply::Clients(1)),
        ("emit with acks, text", 2) => {
            answer(request, Reply::Acknowledged(value(r#""text""#, &[])))
        }
        ("emit with acks, binary", 2) => {
            let acknowledged = value(&placeholder(0), &[&[1, 2]]);
            answer(request, Reply::Acknowledged(acknowledged))
        }
        ("emit with acks, nothing", 2) => {
            answer(request, Reply::Acknowledged(OwnedArgs::default()))
        }
        ("join", 0) => Content::Message(Message::Join {
            target: target(["r1"], ["r2"]),
            rooms: names(["a", "b"]),
        }),
        ("leave", 0) => Content::Message(Message::Leave {
            target: everyone,
            rooms: names(["a"]),
        }),
        ("disconnect", 0) => Content::Message(Message::Disconnect {
            target: target(["nobody"], []),
            close: true,
        }),
        ("fetch", 0) => Content::Message(Message::Fetch {
            request: request.into(),
            target: target(["lobby"], []),
        }),
        ("fetch", 1) => {
            let found = socket(value(r#"{"name":"é"}"#, &[]));
            answer(request, Reply::Sockets(vec![found]))
        }
        ("fetch binary", 0) => Content::Message(Message::Fetch {
            request: request.into(),
            target: everyone,
        }),
        ("fetch nothing", 0) => Content::Message(Message::Fetch {
            request: request.into(),
            target: target(["nobody"], []),
        }),
        ("fetch nothing", 1) => answer(request, Reply::Sockets(vec![])),
        ("server-side emit", 0) => Content::Message(Message::ServerSideEmit {
            event: event("hello", r#"{"a":1}"#, &[]),
            request: None,
        }),
        ("server-side emit with acks", 0) => Content::Message(Message::ServerSideEmit {
            event: event("question", "1", &[]),
            request: Some(request.into()),
        }),
        ("server-side emit with acks", 1) => answer(request, Reply::Emitted(value(r#""w5""#, &[]))),
        ("server-side emit with acks, nothing", 0) => Content::Message(Message::ServerSideEmit {
            event: event("question", "", &[]),
            request: Some(request.into()),
        }),
        ("server-side emit with acks, nothing", 1) => {
            answer(request, Reply::Emitted(OwnedArgs::default()))
        }
        ("emitter: emit", 0) => broadcast(event("ev", "1", &[]), everyone),
        ("emitter: emit to rooms", 0) => Content::Message(Message::Broadcast {
            event: event("ev", "", &[]),
            target: target(["r1", "r2"], ["r3"]),
            flags: Flags::new().volatile(true),
            request: None,
        }),
        ("emitter: emit binary", 0) => {
            broadcast(event("ev", &placeholder(0), &[&[1]]), target(["r1"], []))
        }
        ("emitter: join", 0) => Content::Message(Message::Join {
            target: target(["r1"], []),
            rooms: names(["a"]),
        }),
        ("emitter: leave", 0) => Content::Message(Message::Leave {
            target: target([], ["r1"]),
            rooms: names(["a"]),
        }),
        ("emitter: disconnect", 0) => Content::Message(Message::Disconnect {
            target: everyone,
            close: true,
        }),
        ("emitter: server-side emit", 0) => Content::Message(Message::ServerSideEmit {
            event: event("hello", "1", &[]),
            request: None,
        }),
        _ => return None,
    })
}
