//! What servers know of each other: their names, and their sockets as others see them.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::server::{Room, SocketId, rooms::RoomNames};

/// The name of a server among those that an adapter connects. The adapter chooses it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A server of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&NodeId> for Arc<str> {
    /// The name, without a copy of it.
    fn from(id: &NodeId) -> Self {
        Self::clone(&id.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for NodeId {
    /// As its name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is told of a socket, on this server or another: what adapters give, and what a
/// [`FetchedSocket`](crate::FetchedSocket) is made of.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteSocket {
    /// Its id.
    pub id: SocketId,
    /// Its rooms, that of its own id among them.
    pub rooms: Vec<Room>,
    /// What its server tells of its handshake: `address`, `time` and `issued` (ms since the epoch
    /// of UNIX), `url`, `query`, and the `headers` that are
    /// [kept](crate::ServerBuilder::handshake_headers). Servers of Node tell what Node has.
    pub handshake: Map<String, Value>,
    /// Its values that are [shared](crate::ServerBuilder::share_data), by their names. Of a server
    /// of Node, its `socket.data`.
    pub data: Map<String, Value>,
}

impl RemoteSocket {
    /// A socket with this id, in these rooms, of which nothing else is known.
    #[must_use]
    pub fn new(id: SocketId, rooms: Vec<Room>) -> Self {
        Self {
            id,
            rooms,
            handshake: Map::new(),
            data: Map::new(),
        }
    }

    /// The value of this name that its server shares. Returns `None` if there is none, or one of
    /// another type.
    #[must_use]
    pub fn data<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.data.get(name)?).ok()
    }
}

impl fmt::Debug for RemoteSocket {
    /// Ids are shortened, as names of rooms too. What else is known is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSocket")
            .field("id", &self.id)
            .field("rooms", &RoomNames(&self.rooms))
            .finish_non_exhaustive()
    }
}
