//! What servers tell each other by the adapters of Node, so that servers of both kinds can be in
//! one cluster (docs/protocol.md 25).
//!
//! A server tells all others a [`Message`], and one other an [`Answer`]. Both are the same whatever
//! carries them. Each wire has a codec, which belongs to one server and one namespace, knows their
//! names and has no state: a message gives a [`Frame`], bytes and the channel that they belong to;
//! a channel and bytes give [`Received`]. What a codec writes Node's packages read, and the other
//! way round: the fixtures of the tests were written by them.
//!
//! | codec | Node's package | carried by |
//! |---|---|---|
//! | [`Classic`] | `@socket.io/redis-adapter`, `createAdapter`; its emitters | Redis, `PUBLISH` |
//! | [`Sharded`] | `@socket.io/redis-adapter`, `createShardedAdapter` | Redis 7, `SPUBLISH` |
//! | [`Streams`] | `@socket.io/redis-streams-adapter` | Redis, streams and `PUBLISH` |
//! | [`Postgres`] | `@socket.io/postgres-adapter`; its emitter | Postgres, `NOTIFY` and a table |
//!
//! What a broker delivers is foreign, since anyone who reaches it can write there, and older or
//! other programs do. So everything is proven: arguments within the [`Limits`], lists within
//! bounds, and whatever else it is a [`Malformed`], which names the field. A receiver counts and
//! skips it. Before arguments are looked at it is known whether a message is this server's own, is
//! for rooms that it has no members of, or answers what it hasn't asked ([`Interest`]): decoding
//! gives `None` then.

mod classic;
mod common;
mod document;
mod error;
mod member;
mod message;
mod postgres;
mod sharded;
mod streams;
mod value;

pub use super::SocketDetails;
pub use super::Sockets;
pub use crate::socket::Limits;
pub use classic::Classic;
pub use error::{Malformed, Unsendable};
pub use message::{Answer, Content, Flags, Frame, Interest, Message, Received, Reply};
pub use postgres::{Attachment, Notified, Posted, Postgres};
pub use sharded::{Mode, Sharded};
pub use streams::{Entry, Sent, Session, Streams, is_entry_id, is_stream, stream_of, streams};

/// The name that emitters have: programs that emit, join, leave and disconnect without a server. A
/// codec with this name writes for one. Nobody counts it, and it gets no answers.
pub const EMITTER: &str = "emitter";

/// Most bytes of the name that a server or a request has.
const MOST_ID: usize = 128;

/// Most rooms in one list, and most sockets with their rooms in one answer.
const MOST_ENTRIES: usize = 1_000_000;
