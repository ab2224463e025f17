//! What is known of JetStream's streams, so that it need not be asked for each entry.
//!
//! The journal notes what it has found, made or been told. All of it is forgotten with the
//! connection: a stream may be another one by the next.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon_cluster::Topic;

/// A stream of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    pub(crate) base: u64,
    pub(crate) name: String,
}

/// What is known of the streams by this connection.
#[derive(Default)]
pub(crate) struct Streams {
    known: Mutex<Known>,
}

#[derive(Default)]
pub(crate) struct Known {
    pub(crate) logs: HashMap<Topic, Stream>,
    /// Streams of sessions, and for how long they were told to keep them.
    pub(crate) sessions: HashMap<String, Option<Duration>>,
}

impl Streams {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is lost, and anything may happen meanwhile.
    pub(crate) fn forget(&self) {
        *self.known() = Known::default();
    }
}
