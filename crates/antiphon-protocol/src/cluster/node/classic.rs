//! `@socket.io/redis-adapter`, `createAdapter`: broadcasts on channels that a pattern takes in,
//! requests and responses on two of their own (docs/protocol.md 25.7 to 25.10).

use std::sync::Arc;

use super::common::{Packet, argument, flags, sockets};
use super::document::{Document, count};
use super::value::{Options, Value, id, need, optional_id, some};
use super::{
    Answer, Content, Frame, Interest, Limits, Malformed, Message, Received, Reply, Sockets,
    Unsendable,
};
use crate::socket::Outgoing;

const NAME: &str = "the classic adapter";

/// The types of requests.
mod kind {
    pub(super) const IDS: u64 = 0;
    pub(super) const ALL_ROOMS: u64 = 1;
    pub(super) const JOIN: u64 = 2;
    pub(super) const LEAVE: u64 = 3;
    pub(super) const DISCONNECT: u64 = 4;
    pub(super) const FETCH: u64 = 5;
    pub(super) const SERVER_SIDE_EMIT: u64 = 6;
    pub(super) const BROADCAST: u64 = 7;
    pub(super) const CLIENT_COUNT: u64 = 8;
    pub(super) const ACKNOWLEDGED: u64 = 9;
}

/// The codec of the classic adapter, for one server and one namespace.
///
/// Servers act on their own [`Join`](Message::Join), [`Leave`](Message::Leave) and
/// [`Disconnect`](Message::Disconnect) when these come back from Redis, so these are decoded
/// whoever has sent them. All other messages of its own a server doesn't get to see.
///
/// ```
/// use antiphon_protocol::cluster::node::{Classic, Content, Limits, Message, Sockets};
/// use antiphon_protocol::socket::Outgoing;
///
/// let (a, b) = (Classic::new("socket.io", "/", "aaaaaa"), Classic::new("socket.io", "/", "bbbbbb"));
/// let message = Message::Broadcast {
///     event: Outgoing::event("news", &"it rains")?,
///     target: Sockets { rooms: vec!["lobby".into()], except: vec![] },
///     flags: Default::default(),
///     request: None,
/// };
/// let frame = a.encode(&message)?;
/// assert_eq!(frame.channel, "socket.io#/#lobby#");
///
/// let limits = Limits::default();
/// let received = b.decode(&frame.channel, &frame.payload, &limits, &|room: &str| room == "lobby")?;
/// assert_eq!(received.map(|it| it.content), Some(Content::Message(message)));
/// // A server without members of the room doesn't look at the event.
/// assert_eq!(b.decode(&frame.channel, &frame.payload, &limits, &|_: &str| false)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Classic {
    me: Arc<str>,
    namespace: Arc<str>,
    broadcasts: Arc<str>,
    requests: Arc<str>,
    responses: Arc<str>,
    answers_apart: bool,
}

impl Classic {
    /// The codec for the server with the name `me`, which is random and of 6 characters in Node.
    /// `key` is the option of the same name, by default `socket.io`.
    #[must_use]
    pub fn new(key: &str, namespace: &str, me: &str) -> Self {
        Self {
            me: me.into(),
            namespace: namespace.into(),
            broadcasts: format!("{key}#{namespace}#").into(),
            requests: format!("{key}-request#{namespace}#").into(),
            responses: format!("{key}-response#{namespace}#").into(),
            answers_apart: false,
        }
    }

    /// Whether answers are published on the asker's own channel and not on that of all servers:
    /// the option `publishOnSpecificResponseChannel`, by default `false`. Servers listen to both,
    /// from version 7.1 on. Answers to server-side emits use the channel of all in any case.
    #[must_use]
    pub const fn answers_apart(mut self, apart: bool) -> Self {
        self.answers_apart = apart;
        self
    }

    /// The pattern of the channels of broadcasts, for `PSUBSCRIBE`. Glob characters of the
    /// namespace are escaped, which Node doesn't do.
    #[must_use]
    pub fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.broadcasts.len() + 1);
        for character in self.broadcasts.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        pattern
    }

    /// The channels to subscribe to beside the [pattern](Self::pattern): requests, responses to
    /// all, responses to this server. How many subscribe to the first says how many servers there
    /// are (`PUBSUB NUMSUB`).
    #[must_use]
    pub fn channels(&self) -> [String; 3] {
        let requests = self.requests.to_string();
        let responses = self.responses.to_string();
        [requests, responses, self.responses_of(&self.me)]
    }

    fn responses_of(&self, server: &str) -> String {
        format!("{}{server}#", self.responses)
    }

    /// Writes a message to all servers.
    ///
    /// # Errors
    /// If the wire has no such message: there are no heartbeats. If the arguments can't be written.
    pub fn encode(&self, message: &Message) -> Result<Frame, Unsendable> {
        let mut document = Document::for_values(message.has_binary());
        match message {
            Message::Broadcast {
                event,
                target,
                flags,
                request: None,
            } => {
                document = Document::msgpack();
                document.list(3, |document| {
                    document.text(&self.me);
                    self.packet(event, document);
                    document.options(target, Some(*flags));
                });
                let channel = match &*target.rooms {
                    [room] => format!("{}{room}#", self.broadcasts),
                    _ => self.broadcasts.to_string(),
                };
                let payload = document.finish()?;
                return Ok(Frame { channel, payload });
            }
            Message::Broadcast {
                event,
                target,
                flags,
                request: Some(request),
            } => {
                document = Document::msgpack();
                self.request(
                    Some(request),
                    kind::BROADCAST,
                    2,
                    &mut document,
                    |document| {
                        self.packet(event, document.key("packet"));
                        document.key("opts").options(target, Some(*flags));
                    },
                );
            }
            Message::Join { target, rooms } => {
                self.rooms(kind::JOIN, target, rooms, &mut document);
            }
            Message::Leave { target, rooms } => {
                self.rooms(kind::LEAVE, target, rooms, &mut document);
            }
            Message::Disconnect { target, close } => {
                self.request(None, kind::DISCONNECT, 2, &mut document, |document| {
                    document.key("opts").options(target, None);
                    document.key("close").boolean(*close);
                });
            }
            Message::Fetch { request, target } => {
                self.request(Some(request), kind::FETCH, 1, &mut document, |document| {
                    document.key("opts").options(target, None);
                });
            }
            Message::ServerSideEmit { event, request } => {
                let kind = kind::SERVER_SIDE_EMIT;
                self.request(request.as_deref(), kind, 1, &mut document, |document| {
                    document.key("data").event(event);
                });
            }
            Message::Ids { request, rooms } => {
                self.request(Some(request), kind::IDS, 1, &mut document, |document| {
                    document.key("rooms").texts(rooms);
                });
            }
            Message::AllRooms { request } => {
                self.request(Some(request), kind::ALL_ROOMS, 0, &mut document, |_| {});
            }
            Message::Hello | Message::Heartbeat | Message::Bye | Message::HandOver { .. } => {
                return Err(Unsendable::NoForm {
                    adapter: NAME,
                    what: "heartbeats, or sessions",
                });
            }
        }
        Ok(Frame {
            channel: self.requests.to_string(),
            payload: document.finish()?,
        })
    }

    /// Writes an answer to the server with the name `asker`. A request that came without a name is
    /// an emitter's, and needs no answer.
    ///
    /// # Errors
    /// If the arguments can't be written.
    pub fn encode_answer(&self, asker: &str, answer: &Answer) -> Result<Frame, Unsendable> {
        let Answer { request, reply } = answer;
        // Node writes each acknowledgement as MessagePack.
        let is_acknowledged = matches!(reply, Reply::Acknowledged(_));
        let mut document = Document::for_values(is_acknowledged || reply.has_binary());
        let (kind, entries) = match reply {
            Reply::Clients(_) => (Some(kind::CLIENT_COUNT), 1),
            Reply::Acknowledged(value) => (Some(kind::ACKNOWLEDGED), count(value)),
            Reply::Emitted(value) => (Some(kind::SERVER_SIDE_EMIT), count(value)),
            Reply::Sockets(_) | Reply::Ids(_) | Reply::Rooms(_) => (None, 1),
        };
        document.map(usize::from(kind.is_some()) + 1 + entries, |document| {
            if let Some(kind) = kind {
                document.key("type").number(kind);
            }
            document.key("requestId").text(request);
            match reply {
                Reply::Clients(count) => document.key("clientCount").number(*count),
                Reply::Acknowledged(value) => document.argument("packet", value),
                Reply::Emitted(value) => document.argument("data", value),
                Reply::Sockets(sockets) => document.key("sockets").sockets(sockets),
                Reply::Ids(ids) => document.key("sockets").texts(ids),
                Reply::Rooms(rooms) => document.key("rooms").texts(rooms),
            }
        });
        let is_apart = self.answers_apart && !matches!(reply, Reply::Emitted(_));
        Ok(Frame {
            channel: match is_apart {
                true => self.responses_of(asker),
                false => self.responses.to_string(),
            },
            payload: document.finish()?,
        })
    }

    fn packet(&self, event: &Outgoing, document: &mut Document) {
        document.map(3, |document| {
            document.key("type").number(2);
            document.key("data").event(event);
            document.key("nsp").text(&self.namespace);
        });
    }

    /// Writes a request with so many entries of its own.
    fn request(
        &self,
        request: Option<&str>,
        kind: u64,
        entries: usize,
        document: &mut Document,
        write: impl FnOnce(&mut Document),
    ) {
        document.map(2 + usize::from(request.is_some()) + entries, |document| {
            document.key("uid").text(&self.me);
            if let Some(request) = request {
                document.key("requestId").text(request);
            }
            document.key("type").number(kind);
            write(document);
        });
    }

    fn rooms(&self, kind: u64, target: &Sockets, rooms: &[Arc<str>], document: &mut Document) {
        self.request(None, kind, 2, document, |document| {
            document.key("opts").options(target, None);
            document.key("rooms").texts(rooms);
        });
    }

    /// Reads what came on a channel.
    ///
    /// Returns `None` for what is of no concern: the channel isn't this namespace's, the sender is
    /// this server, no receiver is here, or nobody here has asked. It is known before arguments are
    /// read. What must be
    /// answered is never dropped for want of a receiver.
    ///
    /// # Errors
    /// If it isn't what the adapter or an emitter writes, or beyond a limit.
    pub fn decode(
        &self,
        channel: &str,
        payload: &[u8],
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        if let Some(room) = channel.strip_prefix(&*self.broadcasts) {
            let room = room.strip_suffix('#').unwrap_or(room);
            if !room.is_empty() && !interest.has_room(room) {
                return Ok(None);
            }
            return self.broadcast(payload, limits, interest);
        }
        if channel.starts_with(&*self.responses) {
            return response(Value::of_payload(payload)?, limits, interest);
        }
        if channel == &*self.requests {
            return self.decode_request(Value::of_payload(payload)?, limits, interest);
        }
        Ok(None)
    }

    fn broadcast(
        &self,
        payload: &[u8],
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        let message = Value::of_msgpack(payload)?;
        if message.is_object() {
            return Err(Malformed::OtherAdapter {
                found: "the adapter for Redis streams",
                expected: NAME,
            });
        }
        let [from, packet, options] = message.first("message")?;
        let from = id(need(from, "uid", "a string")?, "uid")?;
        if from == self.me {
            return Ok(None);
        }
        let packet = Packet::of(packet)?;
        let options = Options::of(options)?;
        if !packet.is_for(&self.namespace) || !options.wanted(interest)? {
            return Ok(None);
        }
        Ok(received(
            Some(from),
            Content::Message(Message::Broadcast {
                target: options.target()?,
                flags: flags(options.flags)?,
                event: packet.event(limits)?,
                request: None,
            }),
        ))
    }

    fn decode_request(
        &self,
        message: Value<'_>,
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        let [kind, from, request, options, rooms] =
            message.fields("request", ["type", "uid", "requestId", "opts", "rooms"])?;
        let kind = kind.and_then(Value::integer).ok_or(Malformed::Field {
            field: "type",
            expected: "the type of a request",
        })?;
        let from = optional_id(from, "uid")?;
        let is_echoed = matches!(kind, kind::JOIN | kind::LEAVE | kind::DISCONNECT);
        if from.as_deref() == Some(&*self.me) && !is_echoed {
            return Ok(None);
        }
        let request = optional_id(request, "requestId")?;
        let need_request = || {
            request.clone().ok_or(Malformed::Field {
                field: "requestId",
                expected: "a string",
            })
        };
        let content = match kind {
            kind::IDS => Message::Ids {
                request: need_request()?,
                rooms: some(rooms).map_or(Ok(Vec::new()), |it| it.rooms("rooms"))?,
            },
            kind::ALL_ROOMS => Message::AllRooms {
                request: need_request()?,
            },
            kind::JOIN | kind::LEAVE | kind::DISCONNECT => {
                let [socket, room, close] = message.fields("request", ["sid", "room", "close"])?;
                let target = match (some(options), socket) {
                    (None, Some(socket)) => {
                        let socket = id(socket, "sid")?;
                        if !interest.has_room(&socket) {
                            return Ok(None);
                        }
                        Sockets {
                            rooms: vec![socket],
                            except: Vec::new(),
                        }
                    }
                    (options, _) => {
                        let options = Options::of(options)?;
                        if !options.wanted(interest)? {
                            return Ok(None);
                        }
                        options.target()?
                    }
                };
                let rooms = || match (some(rooms), room.and_then(Value::room)) {
                    (None, Some(room)) => Ok(vec![room.into()]),
                    (rooms, _) => need(rooms, "rooms", "an array")?.rooms("rooms"),
                };
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
            kind::FETCH => Message::Fetch {
                request: need_request()?,
                target: Options::of(options)?.target()?,
            },
            kind::SERVER_SIDE_EMIT => {
                let [data] = message.fields("request", ["data"])?;
                Message::ServerSideEmit {
                    event: need(data, "data", "an array")?.event(limits)?,
                    request,
                }
            }
            kind::BROADCAST => {
                let [packet] = message.fields("request", ["packet"])?;
                let options = Options::of(options)?;
                Message::Broadcast {
                    request: Some(need_request()?),
                    target: options.target()?,
                    flags: flags(options.flags)?,
                    event: Packet::of(packet)?.event(limits)?,
                }
            }
            unknown => return Err(Malformed::UnknownType(unknown)),
        };
        Ok(received(from, Content::Message(content)))
    }
}

fn received(from: Option<Arc<str>>, content: Content) -> Option<Received> {
    Some(Received { from, content })
}

/// Reads a response. Only some say what they are, others must be told by what they hold.
fn response(
    message: Value<'_>,
    limits: &Limits,
    interest: &dyn Interest,
) -> Result<Option<Received>, Malformed> {
    let names = ["requestId", "type", "sockets", "rooms", "clientCount"];
    let [request, kind, found, rooms, clients] = message.fields("response", names)?;
    let request = id(need(request, "requestId", "a string")?, "requestId")?;
    if !interest.has_asked(&request) {
        return Ok(None);
    }
    let reply = match (kind.and_then(Value::integer), some(found), some(rooms)) {
        (Some(kind::CLIENT_COUNT), ..) => {
            let expected = "a number";
            let clients = clients.and_then(Value::integer);
            Reply::Clients(clients.ok_or(Malformed::Field {
                field: "clientCount",
                expected,
            })?)
        }
        (Some(kind::ACKNOWLEDGED), ..) => {
            let [packet] = message.fields("response", ["packet"])?;
            Reply::Acknowledged(argument(packet, limits)?)
        }
        (Some(kind::SERVER_SIDE_EMIT), ..) => {
            let [data] = message.fields("response", ["data"])?;
            Reply::Emitted(argument(data, limits)?)
        }
        (Some(unknown), ..) => return Err(Malformed::UnknownType(unknown)),
        (None, Some(found), _) => {
            let [first] = found.first("sockets")?;
            match first.is_some_and(|first| first.text().is_some()) {
                true => Reply::Ids(found.rooms("sockets")?),
                false => Reply::Sockets(sockets(found, limits)?),
            }
        }
        (None, None, Some(rooms)) => Reply::Rooms(rooms.rooms("rooms")?),
        // Something was done for one socket: old servers ask for that.
        (None, None, None) => return Ok(None),
    };
    Ok(received(None, Content::Answer(Answer { request, reply })))
}
