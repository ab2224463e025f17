//! The deadlines and bounds of a session. Those of the heartbeat are the server's, which its client
//! learns from the handshake.

use std::time::Duration;

use crate::engine::QueueLimits;

/// The deadlines and bounds of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionConfig {
    /// Time between two heartbeats.
    pub ping_interval: Duration,
    /// How long an answer to a heartbeat may take.
    pub ping_timeout: Duration,
    /// How long an upgrade may take, from its transport's opening.
    pub upgrade_timeout: Duration,
    /// How long a closing session waits for its queue to drain or its next poll.
    pub close_timeout: Duration,
    /// Bounds of the outbound queue.
    pub queue: QueueLimits,
    /// Packets that the response of one poll may have, one at least. Some clients refuse many
    /// (python-engineio more than 16).
    pub packets_per_poll: usize,
}

impl SessionConfig {
    /// How long the peer may be silent, and how long a transport may take nothing.
    pub(super) fn patience(&self) -> Duration {
        self.ping_interval + self.ping_timeout
    }
}
