//! What a server has appended to a stream, until it has come back from there.
//!
//! The log of a namespace owns one. It is driven by what happens, and says what to publish. After a
//! loss of the connection it isn't known which entries have been appended. So a mark is published
//! first: what hasn't come before that isn't in the stream, and is published again.

use std::{collections::BTreeMap, time::Instant};

use antiphon::recovery::LogError;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::broker::Refused;

/// So many entries may wait to come back, and so many bytes in them.
const ENTRIES: usize = 16_384;
const BYTES: usize = 64 * 1_024 * 1_024;

const FULL: &str = "too much waits for the broker";

/// Tells the place of an entry.
pub(super) type Place = oneshot::Sender<Result<u64, LogError>>;

/// The entries of one server that haven't come back, by their numbers.
#[derive(Debug)]
pub(super) struct Outbox {
    unheard: BTreeMap<u64, Entry>,
    bytes: usize,
    /// The number of the next entry.
    next: u64,
    /// The first that has to be published.
    unsent: u64,
    link: Link,
    /// Nothing is published before the log has begun.
    has_begun: bool,
    failures: u64,
}

#[derive(Debug)]
struct Entry {
    began: Instant,
    frame: Bytes,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// A mark is to be published.
    Asks,
    /// The mark with this number has to come back.
    Marked(u64),
    Up,
}

/// What is to be published.
#[derive(Debug)]
pub(super) enum Due<'a> {
    /// An entry.
    Entry(&'a Bytes),
    /// A mark with this number.
    Mark(u64),
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self {
            unheard: BTreeMap::new(),
            bytes: 0,
            next: 1,
            unsent: 1,
            link: Link::Down,
            has_begun: false,
            failures: 0,
        }
    }

    /// How many entries haven't come back.
    pub(super) fn len(&self) -> usize {
        self.unheard.len()
    }

    /// Since when the oldest of them waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.unheard.values().next().map(|entry| entry.began)
    }

    /// Adds an entry, which is made of its number.
    pub(super) fn push(
        &mut self,
        now: Instant,
        frame: impl FnOnce(u64) -> Result<Bytes, LogError>,
    ) -> Result<oneshot::Receiver<Result<u64, LogError>>, LogError> {
        let frame = frame(self.next)?;
        if self.unheard.len() >= ENTRIES || self.bytes + frame.len() > BYTES {
            self.failures += 1;
            return Err(LogError::Failed(FULL.to_owned()));
        }
        let (place, stored) = oneshot::channel();
        self.bytes += frame.len();
        let entry = Entry {
            began: now,
            frame,
            place,
        };
        self.unheard.insert(self.next, entry);
        self.next += 1;
        Ok(stored)
    }

    /// Entries may be published from now on.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// The connection is there.
    pub(super) fn up(&mut self) {
        if self.link == Link::Down {
            self.link = Link::Asks;
        }
    }

    /// The connection is lost, and what was sent by it may be.
    pub(super) fn down(&mut self) {
        self.link = Link::Down;
    }

    /// Publishes what is due, in its order, as far as the broker takes it.
    pub(super) fn send(&mut self, mut publish: impl FnMut(Due<'_>) -> Result<(), Refused>) {
        if !self.has_begun {
            return;
        }
        if self.link == Link::Asks {
            let mark = self.next;
            if !self.has_sent() {
                self.link = Link::Up;
            } else if publish(Due::Mark(mark)).is_ok() {
                self.next += 1;
                self.link = Link::Marked(mark);
            }
        }
        if self.link != Link::Up {
            return;
        }
        let mut refused = Vec::new();
        for (number, entry) in self.unheard.range(self.unsent..) {
            match publish(Due::Entry(&entry.frame)) {
                Ok(()) => {}
                // It is sent when the connection is there again, or there is room.
                Err(Refused::Down { .. } | Refused::Full) => break,
                Err(error) => refused.push((*number, error)),
            }
            self.unsent = number + 1;
        }
        for (number, error) in refused {
            self.refused(number, &error.to_string());
        }
    }

    /// Whether entries that were published haven't come back.
    fn has_sent(&self) -> bool {
        let first = self.unheard.keys().next();
        first.is_some_and(|first| *first < self.unsent)
    }

    /// A mark has come back: what was published before and hasn't come isn't in the stream.
    pub(super) fn marked(&mut self, number: u64) {
        if self.link == Link::Marked(number) {
            self.unsent = self.unheard.keys().next().copied().unwrap_or(self.next);
            self.link = Link::Up;
        }
    }

    /// An entry has come back. Returns who waits for that, if it is the first time.
    pub(super) fn heard(&mut self, number: u64) -> Option<Place> {
        let entry = self.unheard.remove(&number)?;
        self.bytes -= entry.frame.len();
        Some(entry.place)
    }

    /// An entry is not stored, or a mark isn't.
    pub(super) fn refused(&mut self, number: u64, reason: &str) {
        if self.link == Link::Marked(number) {
            self.link = Link::Asks;
        }
        if let Some(place) = self.heard(number) {
            self.failures += 1;
            let _ = place.send(Err(LogError::Failed(reason.to_owned())));
        }
    }

    /// Entries of the stream were trimmed before they were read, those that were published perhaps
    /// among them.
    pub(super) fn trimmed(&mut self) {
        let sent: Vec<_> = self.unheard.range(..self.unsent).map(|it| *it.0).collect();
        for number in sent {
            self.refused(number, "it was trimmed before it could be read");
        }
    }

    /// Something could not be stored or read.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
    }

    /// How often that has happened.
    pub(super) const fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A stream, and what is on its way there and back.
    struct World {
        outbox: Outbox,
        stored: Vec<oneshot::Receiver<Result<u64, LogError>>>,
        /// What the broker has taken and not appended.
        queue: Vec<Appended>,
        stream: Vec<Appended>,
        /// So many of the stream have come back.
        heard: usize,
        is_up: bool,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Appended {
        Entry(u64),
        Mark(u64),
    }

    impl World {
        fn new() -> Self {
            let mut outbox = Outbox::new();
            outbox.begin();
            Self {
                outbox,
                stored: Vec::new(),
                queue: Vec::new(),
                stream: Vec::new(),
                heard: 0,
                is_up: false,
            }
        }

        fn emit(&mut self) {
            let frame = |number: u64| Ok(Bytes::from(number.to_string()));
            self.stored
                .push(self.outbox.push(Instant::now(), frame).unwrap());
            self.send();
        }

        fn send(&mut self) {
            let (queue, is_up) = (&mut self.queue, self.is_up);
            self.outbox.send(|due| {
                if !is_up {
                    let reason = "cut".to_owned();
                    return Err(Refused::Down { reason });
                }
                queue.push(match due {
                    Due::Entry(frame) => {
                        let number = std::str::from_utf8(frame).unwrap();
                        Appended::Entry(number.parse().unwrap())
                    }
                    Due::Mark(number) => Appended::Mark(number),
                });
                Ok(())
            });
        }

        fn connect(&mut self, is_up: bool) {
            self.is_up = is_up;
            match is_up {
                true => self.outbox.up(),
                false => {
                    self.queue.clear();
                    self.outbox.down();
                }
            }
            self.send();
        }

        fn append(&mut self, count: usize) {
            let count = count.min(self.queue.len());
            self.stream.extend(self.queue.drain(..count));
        }

        fn hear(&mut self, count: usize) {
            let end = self.heard.saturating_add(count).min(self.stream.len());
            for place in self.heard..end {
                match self.stream[place] {
                    Appended::Mark(number) => self.outbox.marked(number),
                    Appended::Entry(number) => {
                        let waits = self.outbox.heard(number).unwrap();
                        waits.send(Ok(place as u64)).unwrap();
                    }
                }
            }
            self.heard = end;
            self.send();
        }
    }

    proptest! {
        /// Whenever the connection is lost: each entry is appended once, and in order.
        #[test]
        fn each_entry_is_in_the_stream_once_and_in_its_order(
            steps in prop::collection::vec((0..5_u8, 0..4_usize), 1..150),
        ) {
            let mut world = World::new();
            for (step, count) in steps {
                match step {
                    0 => world.emit(),
                    1 => world.append(count),
                    2 => world.hear(count),
                    3 => world.connect(true),
                    _ => world.connect(false),
                }
            }
            world.connect(true);
            for _ in 0..4 {
                world.append(usize::MAX);
                world.hear(usize::MAX);
            }
            let entries = world.stream.iter().filter(|it| matches!(it, Appended::Entry(_)));
            prop_assert_eq!(entries.count(), world.stored.len());
            let places: Vec<_> =
                world.stored.iter_mut().map(|stored| stored.try_recv().unwrap().unwrap()).collect();
            prop_assert!(places.is_sorted_by(|one, other| one < other), "{places:?}");
        }
    }

    #[test]
    fn what_was_trimmed_unread_fails_and_what_was_not_sent_goes_on() {
        let mut world = World::new();
        world.connect(true);
        world.emit();
        world.connect(false);
        world.emit();
        world.outbox.trimmed();
        assert!(world.stored[0].try_recv().unwrap().is_err());
        assert_eq!(world.outbox.failures(), 1);
        world.connect(true);
        assert_eq!(world.queue, [Appended::Entry(2)]);
    }

    #[test]
    fn more_than_the_bound_is_refused() {
        let mut outbox = Outbox::new();
        let frame = |_| Ok(Bytes::new());
        for _ in 0..ENTRIES {
            drop(outbox.push(Instant::now(), frame).unwrap());
        }
        assert!(outbox.push(Instant::now(), frame).is_err());
        let mut outbox = Outbox::new();
        let large = |_| Ok(Bytes::from(vec![0; BYTES / 2 + 1]));
        drop(outbox.push(Instant::now(), large).unwrap());
        assert!(outbox.push(Instant::now(), large).is_err());
    }
}
