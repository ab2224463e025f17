//! The log that the servers of a cluster share: recovery over nodes.
//!
//! ```text
//! emit -> Shared::append -> Journal::append -> the broker: a place for it
//!                                               |  as a frame of the log's topic
//! Link -> Shared::heard -> Tail: the next? -----+
//!            |                 else the reader reads what was missed
//!            v
//!         replica (what recovery reads) and Local::deliver, or the promise of whoever emitted it
//! ```
//!
//! A namespace with recovery has a `Shared` log if its broker has a [`Journal`]. All servers deliver
//! its events in the order of the journal, their own when they come back. Sessions are saved in the
//! journal, with the server that owns each (`sessions`).

mod handover;
mod journal;
mod logs;
mod owed;
mod sessions;
mod shared;
mod tail;
mod unheard;

pub(crate) use handover::HandingOver;
pub use journal::{Append, Change, Extent, Journal, Kept, Placed};
pub(crate) use logs::{Logs, Slow, Waits};
pub(crate) use owed::{Asking, Owed, Waiting};
pub(crate) use shared::Shared;
