//! [`Topic`]: the name that frames are published under, and what a broker has to know of it.

use std::{fmt, sync::Arc};

/// The name under which frames are published, and which servers subscribe to.
///
/// A broker maps it to what it has: a channel of Redis, a subject of NATS. Names hold whatever users
/// call their namespaces and rooms, so a broker whose own names know fewer characters escapes them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    name: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Plain,
    Pattern,
    Stream,
    Log,
}

impl Topic {
    /// The topic of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::of(name.into(), Kind::Plain)
    }

    const fn of(name: Arc<str>, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// All topics whose names begin so: for subscriptions to what Node's classic adapter
    /// publishes. Nothing is published under a pattern.
    #[must_use]
    pub fn beginning_with(prefix: impl Into<Arc<str>>) -> Self {
        Self::of(prefix.into(), Kind::Pattern)
    }

    /// A stream, which keeps what is published there: for what Node's adapter for Redis streams
    /// says. Its frames are [entries](crate::broker::entry). A broker without streams takes it for
    /// any other topic.
    #[must_use]
    pub fn stream(name: impl Into<Arc<str>>) -> Self {
        Self::of(name.into(), Kind::Stream)
    }

    /// The log of a namespace, which is named by its topic: what a [journal](crate::log::Journal)
    /// appends there is published under it.
    pub(crate) fn log(name: impl Into<Arc<str>>) -> Self {
        Self::of(name.into(), Kind::Log)
    }

    /// Its name; that of a pattern is what the names begin with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is what it is by its name alone: no pattern, no stream and no log.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Plain)
    }

    /// Whether it stands for all topics whose names begin so.
    #[must_use]
    pub const fn is_pattern(&self) -> bool {
        matches!(self.kind, Kind::Pattern)
    }

    /// Whether it is a stream.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Stream)
    }

    /// Whether it is the log of a namespace. A broker of several machines may subscribe to it where
    /// the log is kept.
    #[must_use]
    pub const fn is_log(&self) -> bool {
        matches!(self.kind, Kind::Log)
    }

    /// Whether who subscribes to this gets what is published under `topic`.
    #[must_use]
    pub fn covers(&self, topic: &str) -> bool {
        match self.is_pattern() {
            true => topic.starts_with(&*self.name),
            false => topic == &*self.name,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        f.write_str(if self.is_pattern() { "*" } else { "" })
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({self})")
    }
}
