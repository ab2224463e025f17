//! `@socket.io/redis-adapter`, `createShardedAdapter`: sharded channels of Redis 7
//! (docs/protocol.md 25.14).

use super::document::Document;
use super::member::{Envelope, Member};
use super::value::Value;
use super::{Answer, Frame, Interest, Limits, Malformed, Message, Received, Unsendable};

const NAME: &str = "the sharded adapter";

/// How many UTF-16 units the random ids of Node's sockets have, by which it tells them from rooms.
const ID_LENGTH: usize = 20;

/// Which rooms have a channel of their own: the option `subscriptionMode`, the same on all servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// None: all is published on the namespace's channel.
    Static,
    /// Those whose names aren't as long as an id, which has 20 characters. The default.
    #[default]
    Dynamic,
    /// All, those of single sockets among them.
    DynamicPrivate,
}

/// The codec of the adapter for sharded channels, for one server and one namespace. What it encodes
/// is published with `SPUBLISH`.
///
/// ```
/// use antiphon_protocol::cluster::node::{Mode, Sharded};
///
/// let codec = Sharded::new("socket.io", "/chat", "0123456789abcdef", Mode::Dynamic);
/// assert_eq!(codec.channels()[0], "socket.io#/chat#");
/// assert_eq!(codec.room("lobby").as_deref(), Some("socket.io#/chat#lobby#"));
/// assert_eq!(codec.room("an id of 20 symbols!"), None);
/// ```
#[derive(Debug, Clone)]
pub struct Sharded {
    member: Member,
    channel: Box<str>,
    mode: Mode,
}

impl Sharded {
    /// The codec for the server with the name `me`, which is random in Node: 8 bytes as
    /// hexadecimal digits. `prefix` is the option `channelPrefix`, by default `socket.io`.
    #[must_use]
    pub fn new(prefix: &str, namespace: &str, me: &str, mode: Mode) -> Self {
        Self {
            member: Member::new(namespace, me),
            channel: format!("{prefix}#{namespace}#").into(),
            mode,
        }
    }

    /// The channels that a server subscribes to in any case: the namespace's and its own. How many
    /// subscribe to the first says how many servers there are (`PUBSUB SHARDNUMSUB`).
    #[must_use]
    pub fn channels(&self) -> [String; 2] {
        [self.channel.to_string(), self.of(&self.member.me)]
    }

    /// The channel of a room, to which servers with members of it subscribe. Returns `None` if the
    /// namespace's is used.
    ///
    /// A server of Node never subscribes to the room of a single socket in [`Mode::Dynamic`],
    /// whatever its id looks like, but publishes by its length: ids of other lengths than 20 get
    /// lost. One that subscribes by this rule gets them.
    #[must_use]
    pub fn room(&self, room: &str) -> Option<String> {
        let has_channel = match self.mode {
            Mode::Static => false,
            Mode::Dynamic => room.encode_utf16().count() != ID_LENGTH,
            Mode::DynamicPrivate => true,
        };
        has_channel.then(|| self.of(room))
    }

    fn of(&self, name: &str) -> String {
        format!("{}{name}#", self.channel)
    }

    /// Writes a message to all servers.
    ///
    /// # Errors
    /// If the wire has no such message: lists of ids or rooms. If the arguments can't be written.
    pub fn encode(&self, message: &Message) -> Result<Frame, Unsendable> {
        let mut document = Document::for_values(message.has_binary());
        self.member.write(message, NAME, &mut document)?;
        // All servers must hear of a request, since all answer.
        let room = match message {
            Message::Broadcast {
                target,
                request: None,
                ..
            } => match &*target.rooms {
                [room] => self.room(room),
                _ => None,
            },
            _ => None,
        };
        Ok(Frame {
            channel: room.unwrap_or_else(|| self.channel.to_string()),
            payload: document.finish()?,
        })
    }

    /// Writes an answer to the server with the name `asker`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_answer(&self, asker: &str, answer: &Answer) -> Result<Frame, Unsendable> {
        let mut document = Document::for_values(answer.reply.has_binary());
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
        let Some(room) = channel.strip_prefix(&*self.channel) else {
            return Ok(None);
        };
        let room = room.strip_suffix('#').unwrap_or(room);
        if !room.is_empty() && room != &*self.member.me && !interest.has_room(room) {
            return Ok(None);
        }
        let envelope = Envelope::of(Value::of_payload(payload)?)?;
        self.member.read(envelope, limits, interest)
    }
}
