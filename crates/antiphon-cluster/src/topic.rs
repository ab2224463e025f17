//! What a broker carries frames under.

use std::{fmt, sync::Arc};

/// The name under which frames are published, and which servers subscribe to.
///
/// A broker maps it to what it has: a channel of Redis, a subject of NATS. Names hold whatever users
/// call their namespaces and rooms, so a broker whose own names know fewer characters escapes them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    name: Arc<str>,
    is_pattern: bool,
}

impl Topic {
    /// The topic of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            is_pattern: false,
        }
    }

    /// All topics whose names begin so: for subscriptions to what Node's classic adapter
    /// publishes. Nothing is published under a pattern.
    #[must_use]
    pub fn beginning_with(prefix: impl Into<Arc<str>>) -> Self {
        Self {
            name: prefix.into(),
            is_pattern: true,
        }
    }

    /// Its name; that of a pattern is what the names begin with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it stands for all topics whose names begin so.
    #[must_use]
    pub const fn is_pattern(&self) -> bool {
        self.is_pattern
    }

    /// Whether who subscribes to this gets what is published under `topic`.
    #[must_use]
    pub fn covers(&self, topic: &str) -> bool {
        match self.is_pattern {
            true => topic.starts_with(&*self.name),
            false => topic == &*self.name,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        f.write_str(if self.is_pattern { "*" } else { "" })
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({self})")
    }
}
