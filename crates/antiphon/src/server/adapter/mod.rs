//! The adapter: the line between a namespace and what carries its broadcasts to other servers.
//!
//! Everything that may concern sockets of other servers goes through it, told by rooms and
//! exceptions, and with an event that has no form yet ([`Outgoing`]). The default, [`InMemory`], knows this server
//! alone. A cluster's adapter does the same on its [`Local`] part and tells the others.

mod in_memory;
mod local;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

pub use antiphon_protocol::socket::Outgoing;
use antiphon_protocol::socket::OwnedArgs;
use tokio::sync::mpsc;

pub use in_memory::InMemory;
pub use local::Local;

use crate::server::{Room, SocketId, Target, rooms::RoomNames};

/// How a broadcast travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flags {
    /// Receivers that can't take it at once don't get it.
    pub volatile: bool,
    /// Sockets of this server only.
    pub local: bool,
    /// How long acknowledgements are waited for.
    pub timeout: Option<Duration>,
}

/// Where the answers to a broadcast go: the socket that answered, and its answer.
pub type Answers = mpsc::UnboundedSender<(SocketId, OwnedArgs)>;

/// Why an adapter could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// Not all other servers have answered in time.
    #[error("timeout reached: missing {missing} responses")]
    Timeout {
        /// How many are missing.
        missing: usize,
    },
    /// The adapter has not answered in time at all.
    #[error("timeout reached: the adapter has not answered")]
    NoAnswer,
    /// The broker could not be reached.
    #[error("the broker failed: {0}")]
    Broker(String),
}

/// A socket, on this server or another.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteSocket {
    /// Its id.
    pub id: SocketId,
    /// Its rooms, that of its own id among them.
    pub rooms: Vec<Room>,
}

impl fmt::Debug for RemoteSocket {
    /// Ids are shortened, as names of rooms too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSocket")
            .field("id", &self.id)
            .field("rooms", &RoomNames(&self.rooms))
            .finish()
    }
}

/// What a namespace needs of an adapter. Calls must not block.
pub trait Adapter: Send + Sync + 'static {
    /// Sends an event to the sockets of `target`.
    fn broadcast(&self, event: &Outgoing, target: &Target, flags: Flags);

    /// Sends an event that asks for an acknowledgement to the sockets of `target`. The answers go to
    /// `answers`. Resolves with how many sockets it was sent to. Whoever asked waits for both no longer
    /// than its timeout, which has begun with this call.
    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers,
    ) -> Pin<Box<dyn Future<Output = usize> + Send>>;

    /// Puts the sockets of `target` into rooms.
    fn join(&self, target: &Target, rooms: &[Room], flags: Flags);

    /// Takes the sockets of `target` out of rooms.
    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags);

    /// Disconnects the sockets of `target` from the namespace, or closes their connections.
    fn disconnect(&self, target: &Target, close: bool, flags: Flags);

    /// The sockets of `target`.
    fn fetch(
        &self,
        target: &Target,
        flags: Flags,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<RemoteSocket>, AdapterError>> + Send>>;
}

/// Makes the adapter of each namespace, given its name and its local part.
pub type AdapterFactory = dyn Fn(&str, Local) -> Arc<dyn Adapter> + Send + Sync;
