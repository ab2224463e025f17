//! What waits for all clients together: a count, by which `shedding` keeps it within its bound.

use std::sync::atomic::{AtomicBool, AtomicUsize};

/// How much waits in the sessions of an engine.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(super) counted: AtomicUsize,
    /// A task looks at it.
    pub(super) is_watched: AtomicBool,
}
