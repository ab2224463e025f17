//! How long the machine waits for what, and how much it believes.

use std::time::Duration;

/// A server says a heartbeat each time that so much has passed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);

/// A server that hasn't been heard for so long is dead.
pub(super) const DEAD: Duration = Duration::from_secs(7);

/// Others have so much time to answer a hello before a server that knows nobody is ready.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// Heartbeats that answer a hello come no closer to each other: many servers may start at once.
pub(super) const CLOSEST: Duration = Duration::from_millis(100);

/// After frames were dropped, the server is degraded for so long.
pub(super) const DROPPING: Duration = Duration::from_secs(10);

/// A broker that refuses frames is believed to do so for so long after the last one.
pub(super) const REFUSING: Duration = Duration::from_secs(10);

/// A log that something has waited for so long is silent.
pub(super) const SILENT: Duration = Duration::from_secs(1);

/// So many questions in a row without an answer are trouble.
pub(super) const UNANSWERED: u32 = 3;

/// More servers than that aren't believed to be one cluster.
pub(crate) const MEMBERS: usize = 4_096;
