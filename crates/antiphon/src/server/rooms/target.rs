//! Which sockets something goes to: by rooms, and rooms that are left out.
//!
//! A [`Target`] is a value, which broadcasts make, adapters carry and [`Rooms`](super::Rooms) look up.

use std::{fmt, sync::Arc};

use crate::engine::session::id::RoomName;

/// The name of a room.
pub type Room = Arc<str>;

/// Which sockets: those in any of the rooms (in all if there are none), less those in any of
/// the excepted. Each counts once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Rooms, among them the ids of sockets.
    pub rooms: Vec<Room>,
    /// Rooms whose sockets are left out.
    pub except: Vec<Room>,
}

impl Target {
    /// Whether this is every socket of the namespace.
    #[must_use]
    pub const fn is_everyone(&self) -> bool {
        self.rooms.is_empty() && self.except.is_empty()
    }

    /// Whether a socket that is in these rooms is one of those.
    pub(crate) fn selects(&self, joined: &[Room]) -> bool {
        let is_in = |rooms: &[Room]| joined.iter().any(|room| rooms.contains(room));
        (self.rooms.is_empty() || is_in(&self.rooms)) && !is_in(&self.except)
    }
}

impl fmt::Debug for Target {
    /// Names of rooms that are ids are shortened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("rooms", &RoomNames(&self.rooms))
            .field("except", &RoomNames(&self.except))
            .finish()
    }
}

/// Names of rooms as logs may show them.
pub(crate) struct RoomNames<'r>(pub(crate) &'r [Room]);

impl fmt::Debug for RoomNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|name| RoomName(name));
        f.debug_list().entries(names).finish()
    }
}
