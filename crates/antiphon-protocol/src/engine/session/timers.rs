//! The deadlines of a session, by name.
//!
//! Each is kept beside the state that it belongs to and goes with it: no timer has to be stopped. A
//! machine lists those that run, and [`earliest`] is the one that its driver sleeps for.

use std::time::Instant;

use super::transport::UpgradeTarget;

/// What a deadline of a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// A closing session is given up.
    Close,
    /// What was given to the transport has not been taken: the peer doesn't read.
    Stall,
    /// The queue is beyond its limits, and the peer has taken nothing of it.
    Behind,
    /// The client of a session with offsets has not come again (docs/protocol.md 12.5).
    Return,
    /// The upgrade was not completed.
    Upgrade(UpgradeTarget),
    /// A poll that waits gets a noop, so that the client of this upgrade can pause (10.4).
    Noop(UpgradeTarget),
    /// This side's next ping.
    Ping,
    /// The peer's ping or pong has not come.
    Silence,
}

/// The timer that is due first; of several at the same time the first of the list.
pub(super) fn earliest<const N: usize>(
    timers: [Option<(Timer, Instant)>; N],
) -> Option<(Timer, Instant)> {
    timers.into_iter().flatten().min_by_key(|&(_, at)| at)
}
