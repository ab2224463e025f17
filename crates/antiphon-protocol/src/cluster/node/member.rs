//! The messages of Node's class `ClusterAdapter`, which all adapters but the classic one share
//! (docs/protocol.md 25.11): `{"type":3,"data":{..},"uid":"..","nsp":".."}`.

use std::{sync::Arc, time::Duration};

use super::common::{Packet, argument, flags, sockets};
use super::document::{Document, count};
use super::value::{Options, Value, id, need, optional_id, some};
use super::{
    Answer, Content, Interest, Limits, Malformed, Message, Received, Reply, Sockets, Unsendable,
};

/// The types of messages.
mod kind {
    pub(super) const HELLO: u64 = 1;
    pub(super) const HEARTBEAT: u64 = 2;
    pub(super) const BROADCAST: u64 = 3;
    pub(super) const JOIN: u64 = 4;
    pub(super) const LEAVE: u64 = 5;
    pub(super) const DISCONNECT: u64 = 6;
    pub(super) const FETCH: u64 = 7;
    pub(super) const FETCHED: u64 = 8;
    pub(super) const SERVER_SIDE_EMIT: u64 = 9;
    pub(super) const EMITTED: u64 = 10;
    pub(super) const CLIENT_COUNT: u64 = 11;
    pub(super) const ACKNOWLEDGED: u64 = 12;
    pub(super) const BYE: u64 = 13;
    /// No adapter of Node's has it.
    pub(super) const HAND_OVER: u64 = 100;
}

/// A server in one namespace.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) me: Arc<str>,
    pub(super) namespace: Arc<str>,
}

/// The envelope of a message: where its parts stand.
#[derive(Debug, Clone)]
pub(super) struct Envelope<'a> {
    pub(super) kind: u64,
    pub(super) from: Option<Arc<str>>,
    pub(super) namespace: Option<Value<'a>>,
    pub(super) data: Option<Value<'a>>,
}

impl<'a> Envelope<'a> {
    pub(super) fn of(message: Value<'a>) -> Result<Self, Malformed> {
        let names = ["type", "uid", "nsp", "data"];
        let [kind, from, namespace, data] = message.fields("message", names)?;
        let kind = kind.and_then(Value::integer).ok_or(Malformed::Field {
            field: "type",
            expected: "the type of a message",
        })?;
        Ok(Self {
            kind,
            from: optional_id(from, "uid")?,
            namespace: some(namespace),
            data: some(data),
        })
    }
}

impl Member {
    pub(super) fn new(namespace: &str, me: &str) -> Self {
        Self {
            me: me.into(),
            namespace: namespace.into(),
        }
    }

    /// Writes a message with its envelope. Returns its type.
    pub(super) fn write(
        &self,
        message: &Message,
        adapter: &'static str,
        document: &mut Document,
    ) -> Result<u64, Unsendable> {
        let kind = kind_of(message, adapter)?;
        self.envelope(kind, document, |document| {
            if has_data(message) {
                write_data(message, document.key("data"));
            }
        });
        Ok(kind)
    }

    /// Writes an answer with its envelope. Returns its type.
    pub(super) fn write_answer(
        &self,
        answer: &Answer,
        adapter: &'static str,
        document: &mut Document,
    ) -> Result<u64, Unsendable> {
        let Answer { request, reply } = answer;
        let (kind, entries) = match reply {
            Reply::Clients(_) => (kind::CLIENT_COUNT, 1),
            Reply::Acknowledged(value) => (kind::ACKNOWLEDGED, count(value)),
            Reply::Sockets(_) => (kind::FETCHED, 1),
            Reply::Emitted(value) => (kind::EMITTED, count(value)),
            Reply::Ids(_) | Reply::Rooms(_) => {
                let what = "lists of ids or rooms";
                return Err(Unsendable::NoForm { adapter, what });
            }
        };
        self.envelope(kind, document, |document| {
            document.key("data").map(1 + entries, |document| {
                document.key("requestId").text(request);
                match reply {
                    Reply::Clients(count) => document.key("clientCount").number(*count),
                    Reply::Sockets(sockets) => document.key("sockets").sockets(sockets),
                    Reply::Acknowledged(value) | Reply::Emitted(value) => {
                        document.argument("packet", value);
                    }
                    Reply::Ids(_) | Reply::Rooms(_) => {}
                }
            });
        });
        Ok(kind)
    }

    fn envelope(&self, kind: u64, document: &mut Document, write: impl FnOnce(&mut Document)) {
        let has_data = !matches!(kind, kind::HELLO | kind::HEARTBEAT | kind::BYE);
        document.map(3 + usize::from(has_data), |document| {
            document.key("type").number(kind);
            write(document);
            document.key("uid").text(&self.me);
            document.key("nsp").text(&self.namespace);
        });
    }

    /// Reads a message. Returns `None` for what is of no concern here.
    pub(super) fn read(
        &self,
        envelope: Envelope<'_>,
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        if envelope.from.as_ref() == Some(&self.me) {
            return Ok(None);
        }
        self.read_logged(envelope, limits, interest)
    }

    /// As [`read`](Self::read), the messages of this server among them.
    pub(super) fn read_logged(
        &self,
        envelope: Envelope<'_>,
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        // An emitter doesn't write it. The channel is this namespace's, then.
        let namespace = envelope.namespace.map(|it| it.text());
        if namespace.is_some_and(|it| it.as_deref() != Some(&*self.namespace)) {
            return Ok(None);
        }
        let content = read(envelope.kind, envelope.data, limits, interest)?;
        let from = envelope.from;
        Ok(content.map(|content| Received { from, content }))
    }
}

/// The type of a message.
pub(super) const fn kind_of(message: &Message, adapter: &'static str) -> Result<u64, Unsendable> {
    Ok(match message {
        Message::Hello => kind::HELLO,
        Message::Heartbeat => kind::HEARTBEAT,
        Message::Broadcast { .. } => kind::BROADCAST,
        Message::Join { .. } => kind::JOIN,
        Message::Leave { .. } => kind::LEAVE,
        Message::Disconnect { .. } => kind::DISCONNECT,
        Message::Fetch { .. } => kind::FETCH,
        Message::ServerSideEmit { .. } => kind::SERVER_SIDE_EMIT,
        Message::Bye => kind::BYE,
        Message::HandOver { .. } => kind::HAND_OVER,
        Message::Ids { .. } | Message::AllRooms { .. } => {
            let what = "requests of ids or rooms";
            return Err(Unsendable::NoForm { adapter, what });
        }
    })
}

/// Whether the message has more than its type.
pub(super) const fn has_data(message: &Message) -> bool {
    !matches!(message, Message::Hello | Message::Heartbeat | Message::Bye)
}

/// Writes what a message has beside its type.
pub(super) fn write_data(message: &Message, document: &mut Document) {
    match message {
        Message::Broadcast {
            event,
            target,
            flags,
            request,
        } => document.map(2 + usize::from(request.is_some()), |document| {
            document.key("packet").map(2, |document| {
                document.key("type").number(2);
                document.key("data").event(event);
            });
            if let Some(request) = request {
                document.key("requestId").text(request);
            }
            document.key("opts").options(target, Some(*flags));
        }),
        Message::Join { target, rooms } | Message::Leave { target, rooms } => {
            document.map(2, |document| {
                options(target, document);
                document.key("rooms").texts(rooms);
            });
        }
        Message::Disconnect { target, close } => document.map(2, |document| {
            options(target, document);
            document.key("close").boolean(*close);
        }),
        Message::Fetch { request, target } => document.map(2, |document| {
            options(target, document);
            document.key("requestId").text(request);
        }),
        Message::ServerSideEmit { event, request } => {
            document.map(1 + usize::from(request.is_some()), |document| {
                if let Some(request) = request {
                    document.key("requestId").text(request);
                }
                document.key("packet").event(event);
            });
        }
        Message::HandOver { private_id, waited } => document.map(2, |document| {
            document.key("pid").text(private_id);
            let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            document.key("waited").number(millis);
        }),
        Message::Hello
        | Message::Heartbeat
        | Message::Bye
        | Message::Ids { .. }
        | Message::AllRooms { .. } => {}
    }
}

/// Node writes flags here, too, of which none means anything.
fn options(target: &Sockets, document: &mut Document) {
    document
        .key("opts")
        .options(target, Some(super::Flags::new()));
}

fn read(
    kind: u64,
    data: Option<Value<'_>>,
    limits: &Limits,
    interest: &dyn Interest,
) -> Result<Option<Content>, Malformed> {
    match kind {
        kind::HELLO => return Ok(Some(Content::Message(Message::Hello))),
        kind::HEARTBEAT => return Ok(Some(Content::Message(Message::Heartbeat))),
        kind::BYE => return Ok(Some(Content::Message(Message::Bye))),
        _ => {}
    }
    let data = need(data, "data", "an object")?;
    let names = ["requestId", "opts", "packet", "rooms", "close"];
    let [request, options, packet, rooms, close] = data.fields("data", names)?;
    let request = optional_id(request, "data.requestId")?;
    let need_request = || {
        request.clone().ok_or(Malformed::Field {
            field: "data.requestId",
            expected: "a string",
        })
    };
    let rooms = || need(some(rooms), "data.rooms", "an array")?.rooms("data.rooms");
    Ok(Some(Content::Message(match kind {
        kind::BROADCAST => {
            let options = Options::of(options)?;
            if request.is_none() && !options.wanted(interest)? {
                return Ok(None);
            }
            Message::Broadcast {
                target: options.target()?,
                flags: flags(options.flags)?,
                event: Packet::of(packet)?.event(limits)?,
                request,
            }
        }
        kind::JOIN | kind::LEAVE | kind::DISCONNECT => {
            let options = Options::of(options)?;
            if !options.wanted(interest)? {
                return Ok(None);
            }
            let target = options.target()?;
            match kind {
                kind::JOIN => Message::Join {
                    target,
                    rooms: rooms()?,
                },
                kind::LEAVE => Message::Leave {
                    target,
                    rooms: rooms()?,
                },
                _ => Message::Disconnect {
                    target,
                    close: close.is_some_and(Value::is_true),
                },
            }
        }
        kind::HAND_OVER => {
            let [private, waited] = data.fields("data", ["pid", "waited"])?;
            let private = need(private, "data.pid", "a string")?;
            let (field, expected) = ("data.waited", "a number of milliseconds");
            let waited = need(waited, field, expected)?.integer();
            Message::HandOver {
                private_id: id(private, "data.pid")?,
                waited: Duration::from_millis(waited.ok_or(Malformed::Field { field, expected })?),
            }
        }
        kind::FETCH => Message::Fetch {
            request: need_request()?,
            target: Options::of(options)?.target()?,
        },
        kind::SERVER_SIDE_EMIT => Message::ServerSideEmit {
            event: need(packet, "data.packet", "an array")?.event(limits)?,
            request,
        },
        kind::FETCHED | kind::EMITTED | kind::CLIENT_COUNT | kind::ACKNOWLEDGED => {
            let request = need_request()?;
            if !interest.has_asked(&request) {
                return Ok(None);
            }
            let reply = read_reply(kind, data, packet, limits)?;
            return Ok(Some(Content::Answer(Answer { request, reply })));
        }
        unknown => return Err(Malformed::UnknownType(unknown)),
    })))
}

fn read_reply(
    kind: u64,
    data: Value<'_>,
    packet: Option<Value<'_>>,
    limits: &Limits,
) -> Result<Reply, Malformed> {
    let [found, clients] = data.fields("data", ["sockets", "clientCount"])?;
    Ok(match kind {
        kind::FETCHED => {
            let found = need(found, "data.sockets", "an array")?;
            Reply::Sockets(sockets(found, limits)?)
        }
        kind::EMITTED => Reply::Emitted(argument(packet, limits)?),
        kind::CLIENT_COUNT => {
            let clients = clients.and_then(Value::integer);
            Reply::Clients(clients.ok_or(Malformed::Field {
                field: "data.clientCount",
                expected: "a number",
            })?)
        }
        _ => Reply::Acknowledged(argument(packet, limits)?),
    })
}
