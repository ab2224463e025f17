//! What a socket has been in since when, as it changes.
//!
//! A socket of a namespace with recovery owns one. The rooms tell it of joins and leaves, under
//! their lock and with the place in the log up to which events had been delivered. So a socket that
//! comes back gets what it would have got: nothing of a room from before it joined that, and what
//! was sent to a room that it has left since.

use std::collections::HashMap;

use super::log::{Stay, Stays};
use crate::server::Room;

/// Rooms that were left are remembered: so many.
const LEFT_REMEMBERED: usize = 64;

/// The stays of one socket.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    came: Option<u64>,
    rooms: HashMap<Room, u64>,
    left: Vec<Stay>,
    known_from: u64,
}

impl Tracked {
    /// Those of a session that comes back.
    pub(super) fn of(stays: Stays) -> Self {
        let mut tracked = Self {
            came: Some(stays.came),
            known_from: stays.known_from,
            ..Self::default()
        };
        for stay in stays.stays {
            if stay.upto.is_some() {
                tracked.left.push(stay);
            } else {
                tracked.rooms.insert(stay.room, stay.after);
            }
        }
        tracked
    }

    /// It has joined its namespace.
    pub(super) fn came(&mut self, delivered: u64) {
        self.came.get_or_insert(delivered);
    }

    pub(super) fn joined(&mut self, room: &Room, delivered: u64) {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.clone(), delivered);
        }
    }

    pub(super) fn left(&mut self, room: &Room, delivered: u64) {
        let Some(after) = self.rooms.remove(room) else {
            return;
        };
        if after == delivered {
            // Nothing was sent meanwhile.
            return;
        }
        if self.left.len() == LEFT_REMEMBERED {
            let forgotten = self.left.remove(0);
            self.known_from = self.known_from.max(forgotten.upto.unwrap_or_default());
        }
        self.left.push(Stay {
            room: room.clone(),
            after,
            upto: Some(delivered),
        });
    }

    /// As they are now.
    pub(super) fn now(&self) -> Stays {
        let rooms = self.rooms.iter().map(|(room, after)| Stay {
            room: room.clone(),
            after: *after,
            upto: None,
        });
        Stays {
            came: self.came.unwrap_or_default(),
            stays: rooms.chain(self.left.iter().cloned()).collect(),
            known_from: self.known_from,
        }
    }
}

impl Stays {
    /// The latest event that it is known by.
    pub(super) fn latest(&self) -> u64 {
        let stays = self.stays.iter();
        let places = stays.map(|stay| stay.upto.unwrap_or(stay.after));
        places.fold(self.came.max(self.known_from), u64::max)
    }

    /// The rooms that it is in. Its private id isn't one.
    pub(super) fn rooms(&self, pid: &Room) -> Vec<Room> {
        let stays = self.stays.iter();
        let stays = stays.filter(|stay| stay.upto.is_none() && stay.room != *pid);
        stays.map(|stay| stay.room.clone()).collect()
    }
}
