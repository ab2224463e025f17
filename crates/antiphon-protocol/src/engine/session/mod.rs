//! One session of Engine.IO, as its server or its client sees it: pure state.
//!
//! A session outlives the requests and connections that carry it. Its machine,
//! [`ServerSession`] or [`ClientSession`], belongs to whoever does the I/O, and is driven by inputs
//! and the time alone, so that every race can be played through with made-up time. There are four
//! ways in and out:
//!
//! * **Inputs.** `handle` takes what has happened (a packet, a request, a WebSocket that takes no
//!   more) and the time, and says what is to be done. `send` queues a message.
//! * **Time.** `deadline` says when the input `Timeout` is due, `next_timer` also for what.
//! * **Outputs.** What waits is taken by whoever can carry it: a response, a stream, a WebSocket.
//! * **Queries** change nothing. After each input ask `closed`: a closed session stays closed.
//!
//! Messages of the peer are the one thing that doesn't pass `handle`: no deadline depends on them,
//! and they are nearly all that comes. Whether they are the application's is asked of
//! `takes_messages`.
//!
//! The two roles share what is in this folder: [`Timer`], the phases, the heartbeat, the upgrade
//! and the transports. A peer's mistake ends the session with a [`CloseReason`]; it never panics.

pub mod client;
mod config;
mod heartbeat;
mod phase;
mod requests;
pub mod server;
mod timers;
mod transport;
mod upgrade;

pub use client::ClientSession;
pub use config::SessionConfig;
pub use phase::CloseReason;
pub use server::ServerSession;
pub use timers::Timer;
pub use transport::{TransportKind, UpgradeTarget};

#[cfg(test)]
mod tests;
