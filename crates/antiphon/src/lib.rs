//! Socket.IO for Rust.
//!
//! Stock Socket.IO clients of every version connect unchanged, by HTTP long-polling or WebSocket.

#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "server")]
pub use bytes::Bytes;
#[cfg(feature = "server")]
pub use engine::{Cookie, Cors, PeerAddr, QueueLimits, Revision, SameSite, Stats, TransportKind};
#[cfg(feature = "server")]
pub use server::*;
