//! Connection state recovery: a client that has lost its connection comes back as the same socket,
//! and gets what it has missed (docs/protocol.md 23).
//!
//! ```text
//! emit -> Local -> Ordered: log.append -> offset -> sockets, in the log's order
//! CONNECT {pid, offset} -> claim -> middlewares -> take -> CONNECT, what was missed, rooms
//! socket ends -> parked, until its time is up
//! ```
//!
//! A namespace with recovery owns an `Ordered`. Its events are appended to a [`Log`] and delivered
//! in one order, under one lock, so that the last offset that a client has had says all that it has
//! had. Rooms note since which place in the log a socket has been in them (`stays`); sessions are
//! kept by their private ids (`sessions`). What can't be given any more is said
//! ([`LogError`]), to the connect handler, in the counters and in the log.

mod admit;
#[cfg(feature = "redb")]
mod durable;
mod handover;
mod log;
mod memory;
mod options;
mod ordered;
mod recoverable;
mod sessions;
mod stays;
mod waiting;
mod worker;

pub use antiphon_protocol::socket::Outgoing;
#[cfg(feature = "redb")]
pub use durable::{LogFile, LogFileError};
pub use log::{
    Appending, Bounds, Log, LogError, LoggedEvent, Missed, Offset, Page, SavedSession, Stay, Stays,
};
pub use memory::MemoryLog;
pub use options::Recovery;

pub(crate) use admit::Resumption;
pub(crate) use ordered::Ordered;
pub(crate) use recoverable::Recoverable;
pub(crate) use waiting::{Change, Members, Waiting};
