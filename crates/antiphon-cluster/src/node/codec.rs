//! The wires of Node's adapters, as namespaces need them: one namespace's topics, and bytes.
//!
//! A [`Codec`] chooses among the codecs of the protocol crate, puts what they encode under a
//! [`Topic`], and takes frames of the broker apart for them. It has no state. What can't be read is
//! [`Malformed`], and what can't be said an [`AdapterError`].

use std::time::Duration;

use antiphon::adapter::{AdapterError, Flags};
use antiphon_protocol::cluster::node::{
    self, Answer, Classic, Entry, Frame, Interest, Limits, Malformed, Message, Notified, Posted,
    Postgres, Received, Sent, Sharded, Streams, Unsendable, is_stream, stream_of, streams,
};
use bytes::Bytes;

use super::{place::place_of, wire::NodeWire};
use crate::{Topic, broker::entry};

/// The codec of one server and one namespace.
#[derive(Debug)]
pub(crate) enum Codec {
    Classic {
        codec: Classic,
        /// What the channels of broadcasts begin with.
        broadcasts: String,
    },
    Sharded(Sharded),
    Streams {
        codec: Streams,
        /// The stream of the namespace.
        stream: Topic,
        /// The options, of which the streams to read follow.
        name: String,
        count: u32,
    },
    Postgres(Postgres),
}

/// What is published, and under which topic.
type Outgoing = (Topic, Bytes);

/// An entry of a stream.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) place: u64,
    /// The number that its sender has given it, if that is a server of ours.
    pub(crate) number: Option<u64>,
    pub(crate) received: Received,
}

impl Codec {
    pub(crate) fn new(wire: &NodeWire, namespace: &str, me: &str) -> Self {
        match wire {
            NodeWire::Classic { key, answers_apart } => Self::Classic {
                codec: Classic::new(key, namespace, me).answers_apart(*answers_apart),
                broadcasts: format!("{key}#{namespace}#"),
            },
            NodeWire::Sharded { prefix, mode } => {
                Self::Sharded(Sharded::new(prefix, namespace, me, *mode))
            }
            NodeWire::Streams {
                prefix,
                stream,
                count,
                ..
            } => Self::Streams {
                codec: Streams::new(prefix, namespace, me),
                stream: Topic::stream(stream_of(stream, *count, namespace)),
                name: stream.clone(),
                count: *count,
            },
            NodeWire::Postgres { prefix } => Self::Postgres(Postgres::new(prefix, namespace, me)),
        }
    }

    /// The topics that a server hears in any case. As many as hear the first are there, if they
    /// have no heartbeats.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        match self {
            Self::Classic { codec, broadcasts } => {
                let broadcasts = Topic::beginning_with(broadcasts.as_str());
                let channels = codec.channels().map(Topic::new);
                channels.into_iter().chain([broadcasts]).collect()
            }
            Self::Sharded(codec) => codec.channels().map(Topic::new).into(),
            Self::Streams {
                codec, name, count, ..
            } => {
                let channels = codec.channels().map(Topic::new);
                let streams = streams(name, *count).into_iter().map(Topic::stream);
                channels.into_iter().chain(streams).collect()
            }
            Self::Postgres(codec) => vec![Topic::new(codec.channel())],
        }
    }

    /// The topic of a room, if it has one of its own.
    pub(crate) fn room(&self, room: &str) -> Option<Topic> {
        match self {
            Self::Classic { .. } | Self::Streams { .. } | Self::Postgres(_) => None,
            Self::Sharded(codec) => codec.room(room).map(Topic::new),
        }
    }

    /// Whether this is the name of a stream that servers read.
    pub(crate) fn is_stream(&self, topic: &str) -> bool {
        match self {
            Self::Streams { name, count, .. } => is_stream(name, *count, topic),
            _ => false,
        }
    }

    pub(crate) fn encode(&self, message: &Message) -> Result<Outgoing, AdapterError> {
        let sent = match self {
            Self::Classic { codec, .. } => codec.encode(message).map(framed),
            Self::Sharded(codec) => codec.encode(message).map(framed),
            Self::Streams { codec, stream, .. } => codec.encode(message).map(|sent| match sent {
                Sent::Frame(frame) => framed(frame),
                Sent::Entry(entry) => (stream.clone(), packed(&entry, None)),
            }),
            Self::Postgres(codec) => codec.encode(message).map(|sent| posted(codec, sent)),
        };
        sent.map_err(unsendable)
    }

    /// As [`encode`](Self::encode), with a number of this server's, by which it knows the entry when
    /// that comes back. Servers of Node leave it alone.
    pub(crate) fn encode_numbered(
        &self,
        message: &Message,
        number: u64,
    ) -> Result<Outgoing, AdapterError> {
        let Self::Streams { codec, stream, .. } = self else {
            return self.encode(message);
        };
        match codec.encode(message).map_err(unsendable)? {
            Sent::Frame(frame) => Ok(framed(frame)),
            Sent::Entry(entry) => Ok((stream.clone(), packed(&entry, Some(number)))),
        }
    }

    /// Reads an entry of a stream, those of this server among them. Returns `None` for what is of no
    /// concern.
    pub(crate) fn decode_logged(
        &self,
        bytes: &[u8],
        interest: &dyn Interest,
    ) -> Result<Option<Logged>, Malformed> {
        let Self::Streams { codec, .. } = self else {
            return Ok(None);
        };
        let (id, fields) = unpacked(bytes)?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let number = entry::sender(&fields).map(|(_, number)| number);
        let Some(entry) = Entry::from_fields(fields)? else {
            return Ok(None);
        };
        let place = text(id).and_then(place_of).ok_or(Malformed::Field {
            field: "id",
            expected: "the id of an entry",
        })?;
        let received = codec.decode_logged(&entry, &limits(), interest)?;
        Ok(received.map(|received| Logged {
            place,
            number,
            received,
        }))
    }

    /// The place of an entry of a stream.
    pub(crate) fn place(&self, bytes: &[u8]) -> Option<u64> {
        let (id, _) = entry::unpack(bytes)?;
        place_of(std::str::from_utf8(id).ok()?)
    }

    /// The stream of the namespace, if this wire has streams.
    pub(crate) const fn stream(&self) -> Option<&Topic> {
        match self {
            Self::Streams { stream, .. } => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn encode_answer(
        &self,
        asker: &str,
        answer: &Answer,
    ) -> Result<Outgoing, AdapterError> {
        let sent = match self {
            Self::Classic { codec, .. } => codec.encode_answer(asker, answer).map(framed),
            Self::Sharded(codec) => codec.encode_answer(asker, answer).map(framed),
            Self::Streams { codec, .. } => codec.encode_answer(asker, answer).map(framed),
            Self::Postgres(codec) => codec.encode_answer(answer).map(|sent| posted(codec, sent)),
        };
        sent.map_err(unsendable)
    }

    pub(crate) fn decode(
        &self,
        topic: &str,
        bytes: &[u8],
        interest: &dyn Interest,
    ) -> Result<Option<Received>, Malformed> {
        let limits = limits();
        match self {
            Self::Classic { codec, .. } => codec.decode(topic, bytes, &limits, interest),
            Self::Sharded(codec) => codec.decode(topic, bytes, &limits, interest),
            Self::Streams { codec, .. } if self.is_stream(topic) => {
                let (_, fields) = unpacked(bytes)?;
                match Entry::from_fields(fields)? {
                    Some(entry) => codec.decode_entry(&entry, &limits, interest),
                    None => Ok(None),
                }
            }
            Self::Streams { codec, .. } => codec.decode(topic, bytes, &limits, interest),
            Self::Postgres(codec) if !bytes.starts_with(b"{") => {
                let (_, fields) = unpacked(bytes)?;
                let row = fields.first().map_or(&b""[..], |(_, row)| row);
                codec.decode_attachment(row, &limits, interest)
            }
            Self::Postgres(codec) => match codec.decode(bytes, &limits, interest)? {
                Some(Notified::Received(received)) => Ok(Some(received)),
                // The broker has put what the row holds in its place.
                Some(Notified::Attachment { .. }) | None => Ok(None),
            },
        }
    }
}

fn packed(entry: &Entry<'_>, number: Option<u64>) -> Bytes {
    let fields: Vec<_> = entry.fields().collect();
    let fields = fields.iter();
    let fields = fields.map(|(field, value)| (field.as_bytes(), value.as_bytes()));
    let number = number.map(|number| number.to_string());
    let number = number
        .iter()
        .map(|number| (entry::NUMBER, number.as_bytes()));
    entry::pack(b"", fields.chain(number))
}

/// What the broker has put together. Others may publish under the name of a stream, too, where the
/// broker has none.
fn unpacked(bytes: &[u8]) -> Result<(&[u8], Vec<entry::Field<'_>>), Malformed> {
    entry::unpack(bytes).ok_or(Malformed::Field {
        field: "entry",
        expected: "fields with their values",
    })
}

fn framed(frame: Frame) -> Outgoing {
    (Topic::new(frame.channel), frame.payload.into())
}

/// What a notification can't carry is packed, for a row of the table: what the notification of the
/// row has before its id, what it has behind it, and the row.
fn posted(codec: &Postgres, posted: Posted) -> Outgoing {
    match posted {
        Posted::Notification(frame) => framed(frame),
        Posted::Attachment(attachment) => {
            let (before, behind) = attachment.notification_around();
            let frame = entry::pack(&before, [(behind, &attachment.payload[..])]);
            (Topic::new(codec.channel()), frame)
        }
    }
}

impl NodeWire {
    /// The namespace that what has come under a topic concerns. Names of namespaces with a `#` can't
    /// be told from rooms on some wires, as in Node.
    ///
    /// # Errors
    /// If it is an entry of a stream that isn't understood.
    pub(crate) fn namespace_of<'t>(
        &self,
        topic: &'t str,
        bytes: &'t [u8],
    ) -> Result<Option<&'t str>, Malformed> {
        let (key, apart) = match self {
            Self::Classic { key, .. } => (key, &["-request#", "-response#", "#"][..]),
            Self::Streams { stream, count, .. } if is_stream(stream, *count, topic) => {
                return entry_namespace(bytes);
            }
            Self::Sharded { prefix, .. }
            | Self::Streams { prefix, .. }
            | Self::Postgres { prefix } => (prefix, &["#"][..]),
        };
        let rest = topic.strip_prefix(key.as_str());
        let rest = rest.and_then(|rest| apart.iter().find_map(|part| rest.strip_prefix(part)));
        Ok(match self {
            Self::Postgres { .. } => rest,
            _ => rest.and_then(|rest| Some(rest.split_once('#')?.0)),
        })
    }

    /// Whether servers say again and again that they are there. Otherwise they are counted.
    pub(crate) const fn has_heartbeats(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }
}

/// The namespace of an entry. One without is somebody else's.
fn entry_namespace(bytes: &[u8]) -> Result<Option<&str>, Malformed> {
    let (_, fields) = unpacked(bytes)?;
    let namespace = fields.into_iter().rfind(|(field, _)| *field == b"nsp");
    let text = namespace.map(|(_, value)| std::str::from_utf8(value));
    text.transpose().map_err(|_| Malformed::Field {
        field: "nsp",
        expected: "UTF-8",
    })
}

/// Flags as the wires know them. `timeout`: for acknowledgements.
pub(super) const fn wire_flags(flags: Flags, timeout: Option<Duration>) -> node::Flags {
    node::Flags::new().volatile(flags.volatile).timeout(timeout)
}

/// Servers emit without the limits that clients have.
fn limits() -> Limits {
    let limits = Limits::new().depth(127).values(10_000_000);
    limits.event_name(65_536)
}

fn unsendable(error: Unsendable) -> AdapterError {
    AdapterError::Unreachable {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wires() -> [NodeWire; 4] {
        [
            NodeWire::classic(),
            NodeWire::sharded(),
            NodeWire::streams(),
            NodeWire::postgres(),
        ]
    }

    #[test]
    fn topics_name_their_namespace() {
        let [classic, sharded, streams, postgres] = wires();
        for (wire, topic, expected) in [
            (&classic, "socket.io#/#", Some("/")),
            (&classic, "socket.io#/chat#room#", Some("/chat")),
            (&classic, "socket.io-request#/chat#", Some("/chat")),
            (&classic, "socket.io-response#/#aaaaaa#", Some("/")),
            (&classic, "other#/#", None),
            (&classic, "socket.io", None),
            (&sharded, "socket.io#/chat#room#", Some("/chat")),
            (&sharded, "socket.io-request#/chat#", None),
            (&streams, "socket.io#/chat#", Some("/chat")),
            (&streams, "socket.io#/chat#aaaaaa#", Some("/chat")),
            (&postgres, "socket.io#/chat", Some("/chat")),
            (&postgres, "other#/", None),
        ] {
            assert_eq!(wire.namespace_of(topic, b""), Ok(expected), "{topic}");
        }
    }

    #[test]
    fn entries_of_a_stream_name_their_namespace_themselves() {
        let wire = NodeWire::streams();
        let named = |fields: &[entry::Field<'static>]| {
            let frame = entry::pack(b"1-0", fields.iter().copied());
            wire.namespace_of("socket.io", &frame)
                .map(|it| it.map(str::to_owned))
        };
        assert_eq!(
            named(&[(b"type", b"3"), (b"nsp", b"/chat")]),
            Ok(Some("/chat".into()))
        );
        assert_eq!(named(&[(b"of", b"another")]), Ok(None));
        assert!(named(&[(b"nsp", b"\xff")]).is_err());
        assert!(wire.namespace_of("socket.io", b"garbage").is_err());
    }

    #[test]
    fn a_namespace_hears_the_topics_that_name_it() {
        for wire in wires() {
            for topic in Codec::new(&wire, "/chat", "aaaaaa").topics() {
                if !topic.is_stream() {
                    let namespace = wire.namespace_of(topic.name(), b"");
                    assert_eq!(namespace, Ok(Some("/chat")), "{topic}");
                }
            }
        }
    }

    #[test]
    fn a_namespace_writes_to_a_stream_that_all_read() {
        let mut wire = NodeWire::streams();
        if let NodeWire::Streams { count, .. } = &mut wire {
            *count = 3;
        }
        for namespace in ["/", "/chat", "/admin", "/a", "/b"] {
            let codec = Codec::new(&wire, namespace, "aaaaaa");
            let (topic, _) = codec.encode(&Message::Heartbeat).unwrap();
            assert!(topic.is_stream());
            assert!(codec.topics().contains(&topic), "{topic}");
        }
    }
}
