//! The states of a socket, which `life` changes.
//!
//! ```text
//! Waiting -> Connecting -> Connected -> Disconnected
//! Connected -> Leaving -> Disconnected             the server disconnects it; something still waits for the log
//! Connecting -> Refused -> Disconnected            a middleware disconnects it; its client is told
//! Waiting, Connecting, Refused -> Replaced         its client asks anew
//! Waiting, Connecting, Refused -> Disconnected     its connection ends
//! ```

/// Behind another socket of its connection that leaves the namespace.
pub(super) const WAITING: u8 = 0;
/// Its middlewares are asked.
pub(super) const CONNECTING: u8 = 1;
/// It has joined its namespace.
pub(super) const CONNECTED: u8 = 2;
/// It has left, or won't join.
pub(super) const DISCONNECTED: u8 = 3;
/// A middleware has disconnected it: it won't join, and its client is yet to be told.
pub(super) const REFUSED: u8 = 4;
/// Its client has asked anew before it joined: it won't join, and its client isn't told.
pub(super) const REPLACED: u8 = 5;
/// The server has disconnected it: it can do nothing any more, and gets what was emitted before.
pub(super) const LEAVING: u8 = 6;
