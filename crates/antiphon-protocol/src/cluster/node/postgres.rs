//! `@socket.io/postgres-adapter`: notifications of Postgres, and a table for what they can't carry
//! (docs/protocol.md 25.20 to 25.22).
//!
//! Servers are known by what they send, which includes heartbeats. Node puts its next heartbeat off
//! by requests and heartbeats alone, and these are always read: what is dropped because nobody
//! wants it is never the only sign of life.

use std::sync::Arc;

use super::document::Document;
use super::member::{Envelope, Member};
use super::value::{Value, optional_id, some};
use super::{Answer, Frame, Interest, Limits, Malformed, Message, Received, Unsendable};

const NAME: &str = "the adapter for Postgres";

/// Most bytes that a notification can carry, by the rules of Postgres.
const LARGEST: usize = 7_999;

/// The codec of the adapter for Postgres, for one server and one namespace.
///
/// ```
/// use antiphon_protocol::cluster::node::{Limits, Message, Notified, Posted, Postgres};
/// use antiphon_protocol::socket::Outgoing;
///
/// let (a, b) = (Postgres::new("socket.io", "/", "aaaa"), Postgres::new("socket.io", "/", "bbbb"));
/// let message = Message::Broadcast {
///     event: Outgoing::event("news", &"it rains ".repeat(1000))?,
///     target: Default::default(),
///     flags: Default::default(),
///     request: None,
/// };
/// let Posted::Attachment(attachment) = a.encode(&message)? else { panic!() };
/// // INSERT INTO socket_io_attachments (payload) VALUES ($1) RETURNING id
/// let (row, id) = (attachment.payload.clone(), 7);
/// let sent = attachment.notification(id);
///
/// let (limits, wants) = (Limits::default(), &|_: &str| true);
/// let came = b.decode(&sent.payload, &limits, wants)?;
/// assert_eq!(came, Some(Notified::Attachment { id: 7 }));
/// // SELECT payload FROM socket_io_attachments WHERE id = $1
/// assert!(b.decode_attachment(&row, &limits, wants)?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Postgres {
    member: Member,
    channel: Box<str>,
    largest: usize,
}

/// How a message leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// By a notification: `SELECT pg_notify($1, $2)`.
    Notification(Frame),
    /// By a row of the table, and a notification that names it.
    Attachment(Attachment),
}

/// A message that is put into the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The bytes of the row.
    pub payload: Vec<u8>,
    channel: String,
    from: Arc<str>,
    kind: u64,
}

impl Attachment {
    /// What tells the others of the row with this id.
    #[must_use]
    pub fn notification(&self, id: i64) -> Frame {
        let (mut payload, behind) = self.notification_around();
        payload.extend_from_slice(id.to_string().as_bytes());
        payload.extend_from_slice(behind);
        Frame {
            channel: self.channel.clone(),
            payload,
        }
    }

    /// What such a notification has before the id and behind it, for who has the database put it
    /// together.
    #[must_use]
    pub fn notification_around(&self) -> (Vec<u8>, &'static [u8]) {
        const BEHIND: &[u8] = b"\"}";
        let mut document = Document::for_values(false);
        document.map(3, |document| {
            document.key("uid").text(&self.from);
            document.key("type").number(self.kind);
            document.key("attachmentId").text("");
        });
        // JSON has no way to fail.
        let mut around = document.finish().unwrap_or_default();
        around.truncate(around.len().saturating_sub(BEHIND.len()));
        (around, BEHIND)
    }
}

/// What a notification is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notified {
    /// A message or an answer.
    Received(Received),
    /// It is in the table, in the row with this id: see
    /// [`decode_attachment`](Postgres::decode_attachment).
    Attachment {
        /// The id of the row.
        id: i64,
    },
}

impl Postgres {
    /// The codec for the server with the name `me`, which is random in Node: 8 bytes as
    /// hexadecimal digits. `prefix` is the option `channelPrefix`, by default `socket.io`.
    #[must_use]
    pub fn new(prefix: &str, namespace: &str, me: &str) -> Self {
        Self {
            member: Member::new(namespace, me),
            channel: format!("{prefix}#{namespace}").into(),
            largest: LARGEST,
        }
    }

    /// Most bytes of a message that isn't put into the table. By default, and at the most, those
    /// that Postgres carries: 7,999.
    #[must_use]
    pub fn largest(mut self, bytes: usize) -> Self {
        self.largest = bytes.min(LARGEST);
        self
    }

    /// The channel to listen to. Postgres takes up to 63 bytes of it.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Writes a message to all servers.
    ///
    /// # Errors
    /// If the wire has no such message: lists of ids or rooms. If the arguments can't be written.
    pub fn encode(&self, message: &Message) -> Result<Posted, Unsendable> {
        self.posted(message.has_binary(), |document| {
            self.member.write(message, NAME, document)
        })
    }

    /// Writes an answer. All servers get it, and only the one that has asked knows it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_answer(&self, answer: &Answer) -> Result<Posted, Unsendable> {
        self.posted(answer.reply.has_binary(), |document| {
            self.member.write_answer(answer, NAME, document)
        })
    }

    fn posted(
        &self,
        has_binary: bool,
        write: impl Fn(&mut Document) -> Result<u64, Unsendable>,
    ) -> Result<Posted, Unsendable> {
        if !has_binary {
            let mut document = Document::for_values(false);
            write(&mut document)?;
            let payload = document.finish()?;
            if payload.len() <= self.largest {
                return Ok(Posted::Notification(Frame {
                    channel: self.channel.to_string(),
                    payload,
                }));
            }
        }
        let mut document = Document::msgpack();
        let kind = write(&mut document)?;
        Ok(Posted::Attachment(Attachment {
            payload: document.finish()?,
            channel: self.channel.to_string(),
            from: self.member.me.clone(),
            kind,
        }))
    }

    /// Reads what a notification on this namespace's [channel](Self::channel) carries. Returns
    /// `None` for what is of no concern, as [`Classic::decode`](super::Classic::decode) does.
    ///
    /// # Errors
    /// If it isn't what the adapter or its emitter writes, or beyond a limit.
    pub fn decode(
        &self,
        payload: &[u8],
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Notified>, Malformed> {
        let message = Value::of_json(payload)?;
        let [attachment, from] = message.fields("message", ["attachmentId", "uid"])?;
        let Some(attachment) = some(attachment) else {
            let received = self.member.read(Envelope::of(message)?, limits, interest)?;
            return Ok(received.map(Notified::Received));
        };
        if optional_id(from, "uid")?.as_ref() == Some(&self.member.me) {
            return Ok(None);
        }
        let text = attachment.room();
        let id = text
            .and_then(|id| id.parse().ok())
            .ok_or(Malformed::Field {
                field: "attachmentId",
                expected: "the id of a row",
            })?;
        Ok(Some(Notified::Attachment { id }))
    }

    /// Reads the row that a notification on this namespace's channel has named, as
    /// [`decode`](Self::decode) does.
    ///
    /// # Errors
    /// If it isn't what the adapter or its emitter writes, or beyond a limit.
    pub fn decode_attachment(
        &self,
        payload: &[u8],
        limits: &Limits,
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        let envelope = Envelope::of(Value::of_msgpack(payload)?)?;
        self.member.read(envelope, limits, interest)
    }
}
