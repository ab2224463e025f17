//! How a broadcast travels: what adapters carry with it, and logs are given.

use std::time::Duration;

use crate::engine::QueuePolicy;

/// How a broadcast travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flags {
    /// Receivers that can't take it at once don't get it.
    pub volatile: bool,
    /// What becomes of it for receivers that read slowly. If it is `None` the namespace says.
    pub policy: Option<QueuePolicy>,
    /// Sockets of this server only: nothing is told to others.
    pub local: bool,
    /// Sockets that join one of the rooms later get it, as long as it is the last such event there.
    pub retain: bool,
    /// Each receiver's server keeps it until the receiver acknowledges it, and sends it again after
    /// this pause first.
    pub at_least_once: Option<Duration>,
}

impl Flags {
    /// Those of a [parent](super::Local::is_parent)'s event in a child of this name: one client may be in
    /// several children, and what waits for it there is several states.
    pub(crate) fn within(self, child: &str) -> Self {
        let policy = self.policy.map(|policy| match policy {
            QueuePolicy::Conflate(key) => QueuePolicy::Conflate(key.within(child)),
            policy => policy,
        });
        Self { policy, ..self }
    }
}
