//! [`NodeWire`]: which of Node's adapters the other servers have. What the wires say is the codec's.

use antiphon_protocol::cluster::node::{Mode, is_stream, streams};

/// Which of Node's adapters the other servers have, and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeWire {
    /// `createAdapter` of `@socket.io/redis-adapter`.
    Classic {
        /// The option `key`.
        key: String,
        /// The option `publishOnSpecificResponseChannel`.
        answers_apart: bool,
    },
    /// `createShardedAdapter` of `@socket.io/redis-adapter`. The broker has to use the sharded
    /// channels of Redis 7.
    Sharded {
        /// The option `channelPrefix`.
        prefix: String,
        /// The option `subscriptionMode`.
        mode: Mode,
    },
    /// `createAdapter` of `@socket.io/redis-streams-adapter`. The broker has to be a Redis.
    Streams {
        /// The option `streamName`.
        stream: String,
        /// The option `streamCount`. 0 counts as 1.
        count: u32,
        /// The option `maxLen`: about so many entries are kept in each stream.
        max_len: u64,
        /// The option `channelPrefix`: questions and answers go by channels.
        prefix: String,
        /// The option `useShardedPubSub`: these are sharded channels of Redis 7.
        sharded: bool,
        /// The option `sessionKeyPrefix`: what the keys of sessions begin with.
        sessions: String,
    },
    /// `createAdapter` of `@socket.io/postgres-adapter`. Frames are JSON, to be notified, or for a
    /// row of the table of attachments: then they are [packed](crate::broker::entry), what the
    /// notification has before the id of the row, what it has behind it, and the row. A row that
    /// comes is packed, too; what is around its id is of no matter.
    Postgres {
        /// The option `channelPrefix`.
        prefix: String,
    },
}

impl NodeWire {
    /// The classic adapter with its default options.
    #[must_use]
    pub fn classic() -> Self {
        Self::Classic {
            key: "socket.io".to_owned(),
            answers_apart: false,
        }
    }

    /// The sharded adapter with its default options.
    ///
    /// ```
    /// use antiphon_cluster::node::{Mode, NodeWire};
    ///
    /// // createShardedAdapter(pub, sub, { subscriptionMode: "static" })
    /// let mut wire = NodeWire::sharded();
    /// if let NodeWire::Sharded { mode, .. } = &mut wire {
    ///     *mode = Mode::Static;
    /// }
    /// ```
    #[must_use]
    pub fn sharded() -> Self {
        Self::Sharded {
            prefix: "socket.io".to_owned(),
            mode: Mode::Dynamic,
        }
    }

    /// The adapter for Redis streams with its default options.
    ///
    /// ```
    /// use antiphon_cluster::node::NodeWire;
    ///
    /// // createAdapter(client, { streamName: "shop", maxLen: 50_000 })
    /// let mut wire = NodeWire::streams();
    /// if let NodeWire::Streams { stream, max_len, .. } = &mut wire {
    ///     *stream = "shop".to_owned();
    ///     *max_len = 50_000;
    /// }
    /// ```
    #[must_use]
    pub fn streams() -> Self {
        Self::Streams {
            stream: "socket.io".to_owned(),
            count: 1,
            max_len: 10_000,
            prefix: "socket.io".to_owned(),
            sharded: false,
            sessions: "sio:session:".to_owned(),
        }
    }

    /// The adapter for Postgres with its default options.
    #[must_use]
    pub fn postgres() -> Self {
        Self::Postgres {
            prefix: "socket.io".to_owned(),
        }
    }

    /// The streams that a server reads: none but with [`Streams`](Self::Streams).
    #[must_use]
    pub fn streams_to_read(&self) -> Vec<String> {
        match self {
            Self::Streams { stream, count, .. } => streams(stream, *count),
            _ => Vec::new(),
        }
    }

    /// Whether this is the name of a stream that servers read.
    pub(crate) fn is_stream(&self, topic: &str) -> bool {
        match self {
            Self::Streams { stream, count, .. } => is_stream(stream, *count, topic),
            _ => false,
        }
    }

    /// What the names of all its channels begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::Classic { key, .. } => key,
            Self::Sharded { prefix, .. }
            | Self::Streams { prefix, .. }
            | Self::Postgres { prefix } => prefix,
        }
    }
}
