//! [`ClusterStats`]: the numbers by which users see how a cluster goes. The link counts frames, and the
//! handles that users have put what logs and passing count beside them.

use serde::Serialize;

/// What has happened so far, in frames, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClusterStats {
    /// Given to the broker.
    pub published: u64,
    /// Not taken by the broker: it was away, or full.
    pub refused: u64,
    /// Taken by the broker, and lost with its connection: all that may not have been sent.
    pub lost: u64,
    /// Read, those of this server among them.
    pub received: u64,
    /// Dropped, since they came faster than they could be read.
    pub dropped: u64,
    /// Not understood.
    pub malformed: u64,
    /// Logged events of this server that wait for the broker now: it hasn't stored them, or hasn't
    /// brought them back yet.
    pub waiting: usize,
    /// Topics that are subscribed to.
    pub topics: usize,
    /// Requests of clients that were passed on to the server of their session.
    pub passed_on: u64,
    /// Requests that weren't: their server is unknown, has no address, or didn't respond.
    pub not_passed_on: u64,
}
