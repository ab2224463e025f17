//! `@socket.io/redis-streams-adapter`: what may be recovered as entries of a stream, the rest on
//! channels, and sessions under keys (docs/protocol.md 25.15 to 25.19).

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::common::argument;
use super::document::{Document, count};
use super::member::{self, Envelope, Member};
use super::value::{Value, checked_id, id, need, some};
use super::{Answer, Frame, Interest, Limits, Malformed, Message, Received, Unsendable};
use crate::socket::OwnedArgs;

const NAME: &str = "the adapter for Redis streams";

/// Most streams that there can be, far beyond what anyone uses.
const MOST_STREAMS: u32 = 1024;

/// The codec of the adapter for Redis streams, for one server and one namespace.
///
/// ```
/// use antiphon_protocol::cluster::node::{Limits, Message, Sent, Streams};
/// use antiphon_protocol::socket::Outgoing;
///
/// let (a, b) = (Streams::new("socket.io", "/", "aaaa"), Streams::new("socket.io", "/", "bbbb"));
/// let message = Message::Broadcast {
///     event: Outgoing::event("news", &"it rains")?,
///     target: Default::default(),
///     flags: Default::default(),
///     request: None,
/// };
/// let Sent::Entry(entry) = a.encode(&message)? else { panic!() };
/// assert_eq!(entry.fields().count(), 4);
/// let received = b.decode_entry(&entry, &Limits::default(), &|_: &str| true)?;
/// assert!(received.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Streams {
    member: Member,
    channel: Box<str>,
}

/// How a message leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// As an entry of the stream (`XADD`), whose id is the offset of the event.
    Entry(Entry<'static>),
    /// On a channel (`PUBLISH`, or `SPUBLISH` with the option `useShardedPubSub`).
    Frame(Frame),
}

/// An entry of a stream. Its owner hands it to the codec of its [namespace](Self::namespace).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The namespace.
    pub namespace: Cow<'a, str>,
    from: Option<Cow<'a, str>>,
    kind: u64,
    data: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    /// An entry from its fields. Returns `None` if it has no namespace: it is somebody else's.
    ///
    /// # Errors
    /// If a field isn't what the adapter writes.
    pub fn from_fields(
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Option<Self>, Malformed> {
        let [mut namespace, mut from, mut kind, mut data] = [None; 4];
        for (field, value) in fields {
            let (place, field) = match field {
                b"nsp" => (&mut namespace, "nsp"),
                b"uid" => (&mut from, "uid"),
                b"type" => (&mut kind, "type"),
                b"data" => (&mut data, "data"),
                _ => continue,
            };
            let expected = "UTF-8";
            let text = simdutf8::basic::from_utf8(value);
            *place = Some(text.map_err(|_| Malformed::Field { field, expected })?);
        }
        let Some(namespace) = namespace else {
            return Ok(None);
        };
        let kind = kind.and_then(|kind| kind.parse().ok());
        Ok(Some(Self {
            namespace: namespace.into(),
            from: from.map(Into::into),
            kind: kind.ok_or(Malformed::Field {
                field: "type",
                expected: "the type of a message",
            })?,
            data: data.filter(|data| !data.is_empty()).map(Into::into),
        }))
    }

    /// The fields with their values, for `XADD`.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let from = self.from.as_deref().map(|from| ("uid", from.into()));
        let data = self.data.as_deref().map(|data| ("data", data.into()));
        let fields = [
            ("nsp", self.namespace.as_ref().into()),
            ("type", self.kind.to_string().into()),
        ];
        from.into_iter().chain(fields).chain(data)
    }
}

impl Streams {
    /// The codec for the server with the name `me`, which is random in Node: 8 bytes as
    /// hexadecimal digits. `prefix` is the option `channelPrefix`, by default `socket.io`.
    #[must_use]
    pub fn new(prefix: &str, namespace: &str, me: &str) -> Self {
        Self {
            member: Member::new(namespace, me),
            channel: format!("{prefix}#{namespace}#").into(),
        }
    }

    /// The channels to subscribe to: the namespace's and the server's own. How many subscribe to
    /// the first says how many servers there are.
    #[must_use]
    pub fn channels(&self) -> [String; 2] {
        [self.channel.to_string(), self.of(&self.member.me)]
    }

    fn of(&self, server: &str) -> String {
        format!("{}{server}#", self.channel)
    }

    /// Writes a message to all servers.
    ///
    /// # Errors
    /// If the wire has no such message: lists of ids or rooms. If the arguments can't be written.
    pub fn encode(&self, message: &Message) -> Result<Sent, Unsendable> {
        let is_ephemeral = matches!(
            message,
            Message::Broadcast {
                request: Some(_),
                ..
            } | Message::ServerSideEmit { .. }
                | Message::Fetch { .. }
                | Message::HandOver { .. }
        );
        if is_ephemeral {
            let mut document = Document::msgpack();
            self.member.write(message, NAME, &mut document)?;
            return Ok(Sent::Frame(Frame {
                channel: self.channel.to_string(),
                payload: document.finish()?,
            }));
        }
        let kind = member::kind_of(message, NAME)?;
        let mut data = None;
        if member::has_data(message) {
            let has_binary = message.has_binary();
            let mut document = Document::for_values(has_binary);
            member::write_data(message, &mut document);
            let bytes = document.finish()?;
            data = Some(match has_binary {
                true => STANDARD.encode(bytes),
                // It was written as text.
                false => String::from_utf8(bytes).unwrap_or_default(),
            });
        }
        Ok(Sent::Entry(Entry {
            namespace: self.member.namespace.to_string().into(),
            from: Some(self.member.me.to_string().into()),
            kind,
            data: data.map(Into::into),
        }))
    }

    /// Writes an answer to the server with the name `asker`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_answer(&self, asker: &str, answer: &Answer) -> Result<Frame, Unsendable> {
        let mut document = Document::msgpack();
        self.member.write_answer(answer, NAME, &mut document)?;
        Ok(Frame {
            channel: self.of(asker),
            payload: document.finish()?,
        })
    }

    /// Reads what came on a channel. Returns `None` for what is of no concern, as
    /// [`Classic::decode`](super::Classic::decode) does.
    ///
    /// # Errors
    /// If it isn't what the adapter writes, or beyond a limit.
    pub fn decode(
        &self,
        channel: &str,
        payload: &[u8],
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        let name = channel.strip_prefix(&*self.channel);
        if !name.is_some_and(|name| name.is_empty() || channel == self.of(&self.member.me)) {
            return Ok(None);
        }
        let message = Value::of_msgpack(payload)?;
        if message.is_array() {
            return Err(Malformed::OtherAdapter {
                found: "the classic adapter",
                expected: NAME,
            });
        }
        self.member.read(Envelope::of(message)?, limits, interest)
    }

    /// Reads an entry. Returns `None` for what is of no concern, as
    /// [`Classic::decode`](super::Classic::decode) does: that of another namespace, or this
    /// server's own.
    ///
    /// # Errors
    /// If it isn't what the adapter writes, or beyond a limit.
    pub fn decode_entry(
        &self,
        entry: &Entry<'_>,
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        if entry.from.as_deref() == Some(&*self.member.me) {
            return Ok(None);
        }
        self.decode_logged(entry, limits, interest)
    }

    /// As [`decode_entry`](Self::decode_entry), also what this server has sent: for a client that
    /// has missed it.
    ///
    /// # Errors
    /// If it isn't what the adapter writes, or beyond a limit.
    pub fn decode_logged(
        &self,
        entry: &Entry<'_>,
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        if *entry.namespace != *self.member.namespace {
            return Ok(None);
        }
        let bytes;
        let data = match entry.data.as_deref() {
            None => None,
            Some(json) if json.starts_with('{') => Some(Value::of_json(json.as_bytes())?),
            Some(text) => {
                bytes = decode_base64(text)?;
                Some(Value::of_msgpack(&bytes)?)
            }
        };
        let from = entry.from.as_deref().map(Cow::Borrowed);
        let from = from.map(|from| checked_id(Some(from), "uid")).transpose()?;
        let envelope = Envelope {
            kind: entry.kind,
            from,
            namespace: None,
            data,
        };
        self.member.read_logged(envelope, limits, interest)
    }
}

/// The stream of a namespace, given the options `streamName` and `streamCount`.
///
/// Node takes the remainder of a hash that may be negative, and then writes to a stream that no
/// server reads (`socket.io--1`). This one is never negative: all servers read it.
#[must_use]
pub fn stream_of(name: &str, count: u32, namespace: &str) -> String {
    match i64::from(count) {
        ..=1 => name.to_owned(),
        count => {
            let hash = namespace.encode_utf16().fold(0_i32, |hash, unit| {
                hash.wrapping_mul(31).wrapping_add(unit.into())
            });
            format!("{name}-{}", i64::from(hash).rem_euclid(count))
        }
    }
}

/// The streams to read, given the options `streamName` and `streamCount`: those that there should
/// be, and behind them those that only servers of Node write to (see [`stream_of`]). A count above
/// 1,024 counts as that.
#[must_use]
pub fn streams(name: &str, count: u32) -> Vec<String> {
    match i64::from(count.min(MOST_STREAMS)) {
        ..=1 => vec![name.to_owned()],
        count => {
            let (should_be, others) = (0..count, 1..count);
            let should_be = should_be.map(|number| format!("{name}-{number}"));
            let others = others.map(|number| format!("{name}--{number}"));
            should_be.chain(others).collect()
        }
    }
}

/// Whether this is the name of one of the [`streams`] to read.
#[must_use]
pub fn is_stream(name: &str, count: u32, stream: &str) -> bool {
    let Some(number) = stream.strip_prefix(name) else {
        return false;
    };
    match count.min(MOST_STREAMS) {
        ..=1 => number.is_empty(),
        count => {
            let number = number.strip_prefix('-').map(str::parse::<i64>);
            let number = number.and_then(Result::ok);
            number.is_some_and(|number| number.abs() < i64::from(count))
        }
    }
}

/// Whether a client's offset is the id of an entry.
///
/// ```
/// use antiphon_protocol::cluster::node::is_entry_id;
///
/// assert!(is_entry_id("1700000000000-0"));
/// assert!(!is_entry_id("$"));
/// ```
#[must_use]
pub fn is_entry_id(offset: &str) -> bool {
    let is_number = |text: &str| text.parse::<u64>().is_ok() && !text.starts_with('+');
    offset
        .split_once('-')
        .is_some_and(|(time, number)| is_number(time) && is_number(number))
}

/// The session of a socket that may come back, as it is kept under `sio:session:<private id>` (the
/// option `sessionKeyPrefix`) until its time is up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// The id of the socket.
    pub id: Arc<str>,
    /// Its private id.
    pub private_id: Arc<str>,
    /// Its rooms, that of its own id among them.
    pub rooms: Vec<Arc<str>>,
    /// What the application has put there: one value, or none.
    pub data: OwnedArgs,
}

impl Session {
    /// The value that is kept.
    ///
    /// # Errors
    /// If the data can't be written.
    pub fn encode(&self) -> Result<String, Unsendable> {
        let mut document = Document::msgpack();
        document.map(3 + count(&self.data), |document| {
            document.key("sid").text(&self.id);
            document.key("pid").text(&self.private_id);
            document.key("rooms").texts(&self.rooms);
            document.argument("data", &self.data);
        });
        Ok(STANDARD.encode(document.finish()?))
    }

    /// A session from the value that was kept.
    ///
    /// # Errors
    /// If it isn't what the adapter keeps, or beyond a limit.
    pub fn decode(value: &str, limits: &Limits) -> Result<Self, Malformed> {
        let bytes = decode_base64(value)?;
        let session = Value::of_msgpack(&bytes)?;
        let names = ["sid", "pid", "rooms", "data"];
        let [socket, private, rooms, data] = session.fields("session", names)?;
        let text = |value, field| id(need(value, field, "a string")?, field);
        Ok(Self {
            id: text(socket, "sid")?,
            private_id: text(private, "pid")?,
            rooms: need(some(rooms), "rooms", "an array")?.rooms("rooms")?,
            data: argument(data, limits)?,
        })
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>, Malformed> {
    STANDARD.decode(text).map_err(|_| Malformed::Base64)
}
