//! Handlers: what can be one, how an event finds it, and how it is called.
//!
//! ```text
//! event -> dispatch -> listeners -> handler (extract, args) -> its future, watched
//! ```
//!
//! A namespace and each of its sockets own [`listeners`]. [`dispatch`] is given an event, looks
//! there, and calls what it finds, which is [`erased`], with a [`context`]; a [`handler`] takes its
//! arguments from that by [`extract`], and is a [`callable`]. [`server_side`] has those of what other servers emit. [`watch`] warns of one
//! that blocks its thread. A handler's panic ends that call alone.

pub(crate) mod args;
pub(crate) mod binary;
pub(crate) mod callable;
pub(crate) mod context;
pub(crate) mod dispatch;
pub(crate) mod erased;
pub(crate) mod extract;
pub(crate) mod future;
pub(crate) mod handler;
pub(crate) mod kinds;
pub(crate) mod listeners;
pub(crate) mod permits;
pub(crate) mod server_side;
pub(crate) mod watch;
