//! What an adapter hears of sockets that come, join, leave and go: by its wish, and asked once.
//!
//! [`Rooms`](crate::server::rooms::Rooms) reports each change under its lock, so that changes of
//! one room come in the order in which they happened. An adapter that watches nothing costs one
//! comparison a change.

use crate::server::{Room, SocketId};

/// Which changes of its namespace an adapter is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watch {
    /// None.
    #[default]
    Nothing,
    /// Rooms that get their first socket of this server, and lose their last.
    Rooms,
    /// Each socket, too, and each of its rooms.
    Sockets,
}

/// A change among the sockets of a namespace on this server. Rooms of own ids are no rooms here:
/// they come and go with their socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Membership<'m> {
    /// A socket has joined the namespace.
    Came {
        /// The socket.
        socket: &'m SocketId,
    },
    /// A room has got its first socket, who joins it next.
    Created {
        /// The room.
        room: &'m Room,
    },
    /// A socket has joined a room.
    Joined {
        /// The room.
        room: &'m Room,
        /// The socket.
        socket: &'m SocketId,
    },
    /// A socket has left a room.
    Left {
        /// The room.
        room: &'m Room,
        /// The socket.
        socket: &'m SocketId,
    },
    /// A room has lost its last socket.
    Deleted {
        /// The room.
        room: &'m Room,
    },
    /// A socket has left the namespace, and all its rooms before.
    Gone {
        /// The socket.
        socket: &'m SocketId,
    },
}

impl Membership<'_> {
    pub(super) const fn needs(&self) -> Watch {
        match self {
            Self::Created { .. } | Self::Deleted { .. } => Watch::Rooms,
            _ => Watch::Sockets,
        }
    }
}
