//! Transports: what carries a session's packets.
//!
//! Each takes what its requests or its WebSocket bring to the session's machine, and gives them
//! what waits in the session. [`polling`] and [`streaming`] live in the futures of HTTP requests;
//! [`websocket`] is a task, which a [`probe`] begins where a session upgrades. A session has one
//! [`driver`] at a time. When a transport is dropped, a guard tells its session.

pub(crate) mod buffer;
pub(crate) mod driver;
pub(crate) mod goodbye;
pub(crate) mod joined;
pub(crate) mod polling;
pub(crate) mod probe;
pub(crate) mod requests;
pub(crate) mod stream;
pub(crate) mod streaming;
pub(crate) mod unread;
pub(crate) mod websocket;
