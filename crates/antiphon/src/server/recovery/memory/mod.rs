//! The log in memory: what recovery uses if nothing else is said.
//!
//! A namespace owns one; a durable log has one in front of its file. Its lock is held for the copy
//! of an event, or for the search of what one socket has missed.

pub(super) mod events;
pub(super) mod segment;

use std::{
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use antiphon_protocol::socket::Outgoing;

use super::log::{Appending, Bounds, Log, LogError, Missed, Page};
use crate::server::{Target, adapter::Flags, handlers::future::BoxFuture};
use events::{Events, Past};

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: u32,
    events: Mutex<Events>,
}

impl MemoryLog {
    /// An empty log within these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let epoch = new_epoch();
        Self {
            epoch,
            events: Mutex::new(Events::new(epoch, bounds)),
        }
    }

    /// What this server has heard of a log that is elsewhere, and has this epoch: nothing yet, and
    /// nothing is known of events up to `after`. Events come by [`insert`](Self::insert).
    #[must_use]
    pub fn replica(epoch: u32, after: u64, bounds: Bounds) -> Self {
        let mut events = Events::new(epoch, bounds);
        let past = Past {
            everyone: after,
            forgotten: after,
        };
        events.remember(past, []);
        events.skip_to(after.saturating_add(1));
        Self {
            epoch,
            events: Mutex::new(events),
        }
    }

    /// Keeps an event that has its sequence and its time already. One that isn't behind the last is
    /// left out.
    pub fn insert(&self, sequence: u64, at: SystemTime, event: &Outgoing, target: &Target) {
        let mut events = self.lock();
        if sequence > events.last() {
            events.skip_to(sequence);
            events.append(segment::millis(at), event, target);
        }
    }

    /// The first event that is still here; the next one, if there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.lock().first()
    }

    /// Whether there is an event of this sequence, or may have been one that was dropped since. A
    /// client that says that it has had another one makes it up, or takes it from elsewhere.
    #[must_use]
    pub fn may_have(&self, sequence: u64) -> bool {
        self.lock().may_have(sequence)
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The epoch of a log that begins.
pub(super) fn new_epoch() -> u32 {
    let mut epoch = [0; 4];
    // Without random numbers no session could have been opened.
    let _ = getrandom::fill(&mut epoch);
    u32::from_le_bytes(epoch)
}

impl Log for MemoryLog {
    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn last(&self) -> u64 {
        self.lock().last()
    }

    fn append(&self, event: &Outgoing, target: &Target, _: Flags) -> Appending {
        Appending::Done(Ok(self.lock().append(segment::now(), event, target)))
    }

    fn read(&self, missed: Missed) -> BoxFuture<Result<Page, LogError>> {
        Box::pin(ready(self.lock().missed(&missed)))
    }

    fn newest(
        &self,
        room: Option<&str>,
        after: u64,
        limit: usize,
    ) -> BoxFuture<Result<Page, LogError>> {
        Box::pin(ready(Ok(self.lock().newest(room, after, limit))))
    }

    fn sweep(&self) {
        self.lock().drop_old(segment::now());
    }
}
