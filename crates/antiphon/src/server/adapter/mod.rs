//! The adapter: the line between a namespace and what carries its broadcasts to other servers.
//!
//! Everything that may concern sockets of other servers goes through it, told by rooms and
//! exceptions and with a packet that is encoded once. The default, [`InMemory`], knows this server
//! alone. A cluster's adapter does the same on its [`Local`] part and tells the others.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use antiphon_protocol::{
    engine::Revision,
    socket::{EncodedMessage, OwnedArgs},
};
use tokio::sync::mpsc;

use crate::engine::session::turn;
use crate::server::{
    Room, Socket, SocketId, Target,
    rooms::burst::Burst,
    rooms::{RoomNames, Rooms},
};

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
    /// Sends a packet to the sockets of `target`.
    fn broadcast(&self, packet: &EncodedMessage, target: &Target, flags: Flags);

    /// Sends a packet with the acknowledgement id `id` to the sockets of `target`, whose answers go
    /// to `answers`. Resolves with how many sockets it was sent to.
    fn broadcast_with_ack(
        &self,
        packet: &EncodedMessage,
        id: u64,
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

/// The sockets of a namespace on this server: what every adapter ends at.
#[derive(Clone)]
pub struct Local {
    rooms: Arc<Rooms>,
}

impl Local {
    pub(crate) const fn new(rooms: Arc<Rooms>) -> Self {
        Self { rooms }
    }

    /// See [`Adapter::broadcast`].
    pub fn broadcast(&self, packet: &EncodedMessage, target: &Target, flags: Flags) {
        let mut packets = PerRevision::new(packet);
        let mut send = |socket: &Socket| {
            if socket.is_connected() {
                // A socket that can't take it has been counted and logged.
                let packet = packets.for_revision(socket.revision());
                let _ = socket.send_shared(packet, flags.volatile);
            }
        };
        turn::scope(|| {
            if flags.volatile {
                self.rooms.for_each(target, send);
                return;
            }
            let burst = Burst::resume(&self.rooms, target);
            let mut burst = burst.unwrap_or_else(|| Burst::begin(&self.rooms, target));
            if !burst.send(packet, &mut send) {
                self.rooms.for_each(target, send);
            }
            burst.keep();
        });
    }

    /// See [`Adapter::broadcast_with_ack`].
    #[must_use]
    pub fn broadcast_with_ack(
        &self,
        packet: &EncodedMessage,
        id: u64,
        target: &Target,
        flags: Flags,
        answers: &Answers,
    ) -> usize {
        let mut packets = PerRevision::new(packet);
        let mut count = 0;
        turn::scope(|| {
            self.rooms.for_each(target, |socket| {
                if !socket.is_connected() {
                    return;
                }
                socket.awaited().one_of_many(id, answers.clone());
                let packet = packets.for_revision(socket.revision());
                if socket.send_shared(packet, flags.volatile).is_ok() {
                    count += 1;
                } else {
                    socket.awaited().forget(id);
                }
            });
        });
        count
    }

    /// See [`Adapter::join`].
    pub fn join(&self, target: &Target, rooms: &[Room]) {
        self.rooms.join(target, rooms);
    }

    /// See [`Adapter::leave`].
    pub fn leave(&self, target: &Target, rooms: &[Room]) {
        self.rooms.leave(target, rooms);
    }

    /// See [`Adapter::disconnect`].
    pub fn disconnect(&self, target: &Target, close: bool) {
        let mut sockets = Vec::new();
        self.rooms
            .for_each(target, |socket| sockets.push(socket.clone()));
        for socket in sockets {
            if close {
                socket.close_connection();
            } else {
                socket.disconnect();
            }
        }
    }

    /// See [`Adapter::fetch`].
    #[must_use]
    pub fn fetch(&self, target: &Target) -> Vec<RemoteSocket> {
        let fetched = self.rooms.with_rooms(target).into_iter();
        fetched
            .map(|(id, rooms)| RemoteSocket { id, rooms })
            .collect()
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("sockets", &self.rooms.len())
            .finish_non_exhaustive()
    }
}

/// A packet in the revisions that are in use: each is encoded once, when the first socket needs it.
struct PerRevision<'p> {
    v4: &'p EncodedMessage,
    v3: Option<EncodedMessage>,
}

impl<'p> PerRevision<'p> {
    const fn new(v4: &'p EncodedMessage) -> Self {
        Self { v4, v3: None }
    }

    fn for_revision(&mut self, revision: Revision) -> &EncodedMessage {
        match revision {
            Revision::V4 => self.v4,
            Revision::V3 => {
                let v4 = self.v4;
                self.v3
                    .get_or_insert_with(|| v4.clone().into_revision(Revision::V3))
            }
        }
    }
}

/// The adapter of a server that stands alone.
#[derive(Debug, Clone)]
pub struct InMemory {
    local: Local,
}

impl InMemory {
    /// The adapter of a namespace.
    #[must_use]
    pub const fn new(local: Local) -> Self {
        Self { local }
    }
}

impl Adapter for InMemory {
    fn broadcast(&self, packet: &EncodedMessage, target: &Target, flags: Flags) {
        self.local.broadcast(packet, target, flags);
    }

    fn broadcast_with_ack(
        &self,
        packet: &EncodedMessage,
        id: u64,
        target: &Target,
        flags: Flags,
        answers: Answers,
    ) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        let count = self
            .local
            .broadcast_with_ack(packet, id, target, flags, &answers);
        Box::pin(std::future::ready(count))
    }

    fn join(&self, target: &Target, rooms: &[Room], _: Flags) {
        self.local.join(target, rooms);
    }

    fn leave(&self, target: &Target, rooms: &[Room], _: Flags) {
        self.local.leave(target, rooms);
    }

    fn disconnect(&self, target: &Target, close: bool, _: Flags) {
        self.local.disconnect(target, close);
    }

    fn fetch(
        &self,
        target: &Target,
        _: Flags,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<RemoteSocket>, AdapterError>> + Send>> {
        Box::pin(std::future::ready(Ok(self.local.fetch(target))))
    }
}
