//! The adapter: the line between a namespace and what carries its events to other servers.
//!
//! Everything that may concern sockets of other servers goes through the [`Adapter`] of its
//! namespace, told by rooms and exceptions, and with an event that has no form yet ([`Outgoing`]).
//! The default, [`InMemory`], knows this server alone. A cluster's adapter does the same on its
//! [`Local`] part and tells the others.
//!
//! ```text
//! emit, join, fetch, .. -> Namespace -> Adapter -> Local -> rooms -> sockets of this server
//!                                          |         ^
//!                                          v         | what other servers send
//!                                       a broker ----+
//! rooms: first and last member .. -> Adapter::changed
//! ```
//!
//! The namespace owns its adapter and calls it; [`AdapterFactory`] makes one for each namespace. An
//! adapter calls its `Local` for itself and for other servers. A question to many servers comes
//! with [`Answers`], which the adapter keeps until all have answered. What a broker delivers is
//! foreign: [`Outgoing::from_parts`] and [`OwnedArgs::from_parts`] prove it.
//!
//! # Example
//! An adapter that counts what its namespace emits, and else knows this server alone:
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
//! use antiphon::{RemoteSocket, Room, Server, Target, adapter::*};
//!
//! struct Counting {
//!     inner: InMemory,
//!     emitted: Arc<AtomicUsize>,
//! }
//!
//! impl Adapter for Counting {
//!     fn broadcast(
//!         &self,
//!         event: &Outgoing,
//!         target: &Target,
//!         flags: Flags,
//!     ) -> Result<(), AdapterError> {
//!         self.emitted.fetch_add(1, Ordering::Relaxed);
//!         // A cluster's adapter publishes the parts here, unless `flags.local` says otherwise:
//!         let _parts = (event.name(), event.json(), event.attachments());
//!         self.inner.broadcast(event, target, flags)
//!     }
//!
//!     fn broadcast_with_ack(
//!         &self,
//!         event: &Outgoing,
//!         target: &Target,
//!         flags: Flags,
//!         answers: Answers<SocketAnswer>,
//!     ) {
//!         self.inner.broadcast_with_ack(event, target, flags, answers);
//!     }
//!
//!     fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
//!         self.inner.join(target, rooms, flags)
//!     }
//!
//!     fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
//!         self.inner.leave(target, rooms, flags)
//!     }
//!
//!     fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError> {
//!         self.inner.disconnect(target, close, flags)
//!     }
//!
//!     fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>) {
//!         self.inner.fetch(target, flags, found);
//!     }
//!
//!     fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
//!         self.inner.server_count()
//!     }
//!
//!     fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError> {
//!         self.inner.server_side_emit(event)
//!     }
//!
//!     fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>) {
//!         self.inner.server_side_emit_with_ack(event, answers);
//!     }
//! }
//!
//! let emitted = Arc::new(AtomicUsize::new(0));
//! let counter = Arc::clone(&emitted);
//! let io = Server::builder()
//!     .adapter(move |_: &str, local: Local| {
//!         let emitted = Arc::clone(&counter);
//!         Arc::new(Counting { inner: InMemory::new(local), emitted }) as Arc<dyn Adapter>
//!     })
//!     .build();
//! io.emit("news", "it rains");
//! assert_eq!(emitted.load(Ordering::Relaxed), 1);
//! ```

mod answers;
mod error;
mod factory;
mod flags;
mod in_memory;
pub(crate) mod joins;
mod local;
mod membership;
mod node;
mod watcher;

pub use antiphon_protocol::socket::{DecodeError, Outgoing, OwnedArgs};

pub use crate::server::handlers::future::BoxFuture;
pub use answers::{Answered, Answers, ServerAnswer, SocketAnswer};
pub use error::AdapterError;
pub use factory::AdapterFactory;
pub use flags::Flags;
pub use in_memory::InMemory;
pub use local::Local;
pub use membership::{Membership, Watch};
pub use node::{NodeId, RemoteSocket};

pub(crate) use local::Kin;
pub(crate) use watcher::Watcher;

pub use crate::engine::{NotRelayed, Relay, RelayBody, ServerTag};

use crate::server::{Room, Target};

/// What a namespace needs of what connects it with other servers.
///
/// All methods are called by any thread, many at a time, often by a handler of events, and maybe
/// outside of a runtime. So none of them blocks or waits: what takes longer is put into a queue of
/// the adapter's, which must be bounded, and done by a task of its own. Calls of one thread that
/// reach other servers do so in their order.
///
/// The part of this server is done through [`Local`] before a method returns, whatever becomes of
/// the others. An error says that others could not be told; the caller gets it, and nothing is
/// tried again.
pub trait Adapter: Send + Sync + 'static {
    /// Called once, when the namespace has been made, before anything else but
    /// [`watch`](Self::watch); maybe outside of a runtime. The default does nothing. It must not
    /// ask the server for its own namespace.
    fn start(&self) {}

    /// Called if its namespace, which clients have caused, goes away while the server goes on: nobody
    /// is in it. Nothing more is to be heard for it. Another one of the same name may come behind it,
    /// with an adapter of its own. It is called under the lock of all namespaces: it takes a note and
    /// returns. The default does nothing.
    fn removed(&self) {}

    /// Called once by [`Server::close`](crate::Server::close), when all sockets have left. What
    /// waits for other servers is to be sent, and the connection given up. It is waited for, for 5
    /// s at the most. Calls that come later get [`AdapterError::Closed`]. The default does nothing.
    fn close(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    /// Which changes [`changed`](Self::changed) is told of. Asked once, before
    /// [`start`](Self::start). None by default.
    fn watch(&self) -> Watch {
        Watch::Nothing
    }

    /// A socket has come or gone, or a room of this server has. The changes of a namespace come one
    /// by one, in the order in which they happen.
    ///
    /// It is called under the lock of the rooms: it takes a note and returns. Calling [`Local`], a
    /// namespace or a socket from here is a deadlock.
    fn changed(&self, change: Membership<'_>) {
        let _ = change;
    }

    /// Sends an event to the sockets of `target`.
    ///
    /// # Errors
    /// If other servers can't be told.
    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError>;

    /// Sends an event that asks for an acknowledgement to the sockets of `target`.
    ///
    /// Each answer goes to [`answers`](Answers::give) as it comes, and how many sockets were asked
    /// to [`expect`](Answers::expect): the sum of [`Local::broadcast_with_ack`] and what each other
    /// server says. A server that is asked is [`missing`](Answers::missing) until it has said its
    /// count, and again if it dies with answers owed. The adapter keeps `answers` until no more can
    /// come from other servers, or [until nobody waits](Answers::closed).
    ///
    /// On the other server the event is sent by `Local::broadcast_with_ack` with answers of its own
    /// ([`Answers::channel`], with the time that [remains](Answers::remaining)). Ids of
    /// acknowledgements never travel.
    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers<SocketAnswer>,
    );

    /// Puts the sockets of `target` into rooms. A socket that joins by itself
    /// ([`Socket::join`](crate::Socket::join)) doesn't come here: see [`changed`](Self::changed).
    ///
    /// # Errors
    /// If other servers can't be told.
    fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError>;

    /// Takes the sockets of `target` out of rooms.
    ///
    /// # Errors
    /// If other servers can't be told.
    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError>;

    /// Disconnects the sockets of `target` from the namespace, or closes their connections.
    ///
    /// # Errors
    /// If other servers can't be told.
    fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError>;

    /// Gives the sockets of `target` to `found`: those of [`Local::fetch`], and those of the other
    /// servers, which are [`missing`](Answers::missing) until they have answered.
    fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>);

    /// How many servers there are, this one among them. It is waited for as long as for an
    /// acknowledgement.
    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>>;

    /// Sends an event to the other servers: there, to [`Local::server_side_emit`]. This one doesn't
    /// hear it.
    ///
    /// # Errors
    /// If other servers can't be told.
    fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError>;

    /// As [`server_side_emit`](Self::server_side_emit), and gives what the handlers of each server
    /// return to `answers`. A server is [`missing`](Answers::missing) until it has answered, also
    /// with nothing.
    fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>);
}
