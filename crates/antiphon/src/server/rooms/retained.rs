//! The last event of a room, for those who join it later.
//!
//! A namespace owns one, under the lock that its joins take (`adapter/joins.rs`).

use std::collections::{HashMap, VecDeque};

use antiphon_protocol::socket::Outgoing;

use crate::server::{Room, Target};

/// How many rooms have a retained event.
const MOST_ROOMS: usize = 65_536;

/// Bytes of all retained events.
const MOST_BYTES: usize = 64 << 20;

/// The retained events of a namespace by their rooms; `None` is everyone. Beyond a bound the oldest is
/// dropped.
#[derive(Default)]
pub(crate) struct Retained {
    by_room: HashMap<Option<Room>, (u64, Outgoing)>,
    /// In the order in which they were emitted; those that have been replaced are passed over.
    order: VecDeque<(Option<Room>, u64)>,
    next: u64,
    bytes: usize,
}

impl Retained {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_room.is_empty()
    }

    /// Retains an event for the rooms of `target`.
    pub(crate) fn retain(&mut self, event: &Outgoing, target: &Target) {
        if target.rooms.is_empty() {
            self.insert(None, event);
        }
        for room in &target.rooms {
            self.insert(Some(room.clone()), event);
        }
    }

    /// Forgets what is retained for the rooms of `target`.
    pub(crate) fn forget(&mut self, target: &Target) {
        if target.rooms.is_empty() {
            self.remove(&None);
        }
        for room in &target.rooms {
            self.remove(&Some(room.clone()));
        }
    }

    /// The event of a room, or that of everyone.
    pub(crate) fn of(&self, room: Option<&Room>) -> Option<Outgoing> {
        let (_, event) = self.by_room.get(&room.cloned())?;
        Some(event.clone())
    }

    fn insert(&mut self, room: Option<Room>, event: &Outgoing) {
        self.remove(&room);
        let number = self.next;
        self.next += 1;
        self.bytes += event.len_bytes();
        self.by_room.insert(room.clone(), (number, event.clone()));
        self.order.push_back((room, number));
        while self.by_room.len() > MOST_ROOMS || self.bytes > MOST_BYTES {
            self.drop_oldest();
        }
        if self.order.len() > 2 * self.by_room.len() + 64 {
            let by_room = &self.by_room;
            self.order.retain(|(room, number)| {
                let newest = by_room.get(room);
                newest.is_some_and(|(newest, _)| newest == number)
            });
        }
    }

    fn drop_oldest(&mut self) {
        let Some((room, number)) = self.order.pop_front() else {
            return;
        };
        if self
            .by_room
            .get(&room)
            .is_some_and(|(newest, _)| *newest == number)
        {
            self.remove(&room);
        }
    }

    fn remove(&mut self, room: &Option<Room>) {
        if let Some((_, event)) = self.by_room.remove(room) {
            self.bytes -= event.len_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Outgoing {
        Outgoing::event("state", &("x".repeat(bytes),)).expect("an event")
    }

    fn room(number: usize) -> Target {
        Target {
            rooms: vec![format!("room {number}").into()],
            ..Target::default()
        }
    }

    #[test]
    fn the_newest_is_retained_and_the_oldest_is_dropped_beyond_the_bounds() {
        let mut retained = Retained::default();
        for round in 0..3 {
            for number in 0..100 {
                retained.retain(&event(1_000_000 + round), &room(number));
                assert!(retained.bytes <= MOST_BYTES && retained.order.len() < 300);
                let newest = retained.of(Some(&room(number).rooms[0]));
                assert_eq!(newest, Some(event(1_000_000 + round)));
            }
        }
        assert_eq!(retained.of(Some(&room(1).rooms[0])), None);
        assert_eq!(retained.by_room.len(), MOST_BYTES / 1_000_020);
    }

    #[test]
    fn what_was_replaced_leaves_nothing_behind() {
        let mut retained = Retained::default();
        for _ in 0..10_000 {
            retained.retain(&event(10), &Target::default());
        }
        assert!(retained.order.len() <= 66);
        retained.forget(&Target::default());
        assert_eq!((retained.bytes, retained.of(None)), (0, None));
        assert!(retained.is_empty());
    }
}
