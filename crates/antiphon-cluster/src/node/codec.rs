//! The wires of Node's adapters, as the router needs them: one namespace's topics, and bytes.

use antiphon::adapter::AdapterError;
use antiphon_protocol::cluster::node::{
    Answer, Classic, Frame, Interest, Limits, Malformed, Message, Mode, Notified, Posted, Postgres,
    Received, Sharded, Unsendable,
};
use bytes::Bytes;

use super::NodeWire;
use crate::Topic;

/// The codec of one server and one namespace.
#[derive(Debug)]
pub(crate) enum Codec {
    Classic {
        codec: Classic,
        /// What the channels of broadcasts begin with.
        broadcasts: String,
    },
    Sharded(Sharded),
    Postgres(Postgres),
}

/// What is published, and under which topic.
type Outgoing = (Topic, Bytes);

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
            Self::Postgres(codec) => vec![Topic::new(codec.channel())],
        }
    }

    /// The topic of a room, if it has one of its own.
    pub(crate) fn room(&self, room: &str) -> Option<Topic> {
        match self {
            Self::Classic { .. } | Self::Postgres(_) => None,
            Self::Sharded(codec) => codec.room(room).map(Topic::new),
        }
    }

    pub(crate) fn encode(&self, message: &Message) -> Result<Outgoing, AdapterError> {
        let sent = match self {
            Self::Classic { codec, .. } => codec.encode(message).map(framed),
            Self::Sharded(codec) => codec.encode(message).map(framed),
            Self::Postgres(codec) => codec.encode(message).map(|sent| posted(codec, sent)),
        };
        sent.map_err(unsendable)
    }

    pub(crate) fn encode_answer(
        &self,
        asker: &str,
        answer: &Answer,
    ) -> Result<Outgoing, AdapterError> {
        let sent = match self {
            Self::Classic { codec, .. } => codec.encode_answer(asker, answer).map(framed),
            Self::Sharded(codec) => codec.encode_answer(asker, answer).map(framed),
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
            Self::Postgres(codec) if !bytes.starts_with(b"{") => {
                codec.decode_attachment(bytes, &limits, interest)
            }
            Self::Postgres(codec) => match codec.decode(bytes, &limits, interest)? {
                Some(Notified::Received(received)) => Ok(Some(received)),
                // The broker has put what the row holds in its place.
                Some(Notified::Attachment { .. }) | None => Ok(None),
            },
        }
    }
}

fn framed(frame: Frame) -> Outgoing {
    (Topic::new(frame.channel), frame.payload.into())
}

/// What a notification can't carry is no JSON: the broker puts it into the table.
fn posted(codec: &Postgres, posted: Posted) -> Outgoing {
    match posted {
        Posted::Notification(frame) => framed(frame),
        Posted::Attachment(attachment) => (Topic::new(codec.channel()), attachment.payload.into()),
    }
}

impl NodeWire {
    /// The namespace that what is published under a topic concerns. Names of namespaces with a `#`
    /// can't be told from rooms here, as in Node.
    pub(crate) fn namespace_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let (key, apart) = match self {
            Self::Classic { key, .. } => (key, &["-request#", "-response#", "#"][..]),
            Self::Sharded { prefix, .. } | Self::Postgres { prefix } => (prefix, &["#"][..]),
        };
        let rest = topic.strip_prefix(key.as_str())?;
        let rest = apart.iter().find_map(|part| rest.strip_prefix(part))?;
        match self {
            Self::Postgres { .. } => Some(rest),
            _ => rest.split_once('#').map(|(namespace, _)| namespace),
        }
    }

    /// Whether servers say again and again that they are there. Otherwise they are counted.
    pub(crate) const fn has_heartbeats(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }
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

/// Which rooms have a channel of their own, where Node's sharded adapter is used.
pub(crate) const MODE: Mode = Mode::Dynamic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_name_their_namespace() {
        let classic = NodeWire::classic();
        let sharded = NodeWire::sharded();
        let postgres = NodeWire::postgres();
        for (wire, topic, expected) in [
            (&classic, "socket.io#/#", Some("/")),
            (&classic, "socket.io#/chat#room#", Some("/chat")),
            (&classic, "socket.io-request#/chat#", Some("/chat")),
            (&classic, "socket.io-response#/#aaaaaa#", Some("/")),
            (&classic, "other#/#", None),
            (&classic, "socket.io", None),
            (&sharded, "socket.io#/chat#room#", Some("/chat")),
            (&sharded, "socket.io-request#/chat#", None),
            (&postgres, "socket.io#/chat", Some("/chat")),
            (&postgres, "other#/", None),
        ] {
            assert_eq!(wire.namespace_of(topic), expected, "{topic}");
        }
    }

    #[test]
    fn a_namespace_hears_the_topics_that_name_it() {
        for wire in [
            NodeWire::classic(),
            NodeWire::sharded(),
            NodeWire::postgres(),
        ] {
            for topic in Codec::new(&wire, "/chat", "aaaaaa").topics() {
                assert_eq!(wire.namespace_of(topic.name()), Some("/chat"), "{topic}");
            }
        }
    }
}
