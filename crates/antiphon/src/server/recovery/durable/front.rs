//! One namespace of a file: its events in memory, and what is known of those on the disk.
//!
//! The namespace's log and the writer share a [`Front`]. Events come in when they are appended, or, if
//! they are stored before delivery, when they have been committed; recovery reads them here and never
//! from the disk. What was delivered and could not be stored is a hole: nobody recovers from before
//! it. Opened again, it goes on behind whatever a client may have had.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    entry::Entry,
    store::{Change, Found, State},
};
use crate::server::recovery::{
    log::{Bounds, SavedSession},
    memory::{self, events::Events},
};

/// What the log of a namespace and the writer share.
pub(super) struct Front {
    pub(super) name: Box<str>,
    /// Its place among those of the file.
    pub(super) index: usize,
    pub(super) epoch: u32,
    pub(super) slot: u64,
    events: Mutex<Events>,
    /// As it is on the disk. The writer alone changes it.
    state: Mutex<State>,
    /// The sessions that were there.
    pub(super) saved: Vec<SavedSession>,
    /// Events and changes of sessions that could not be stored.
    pub(super) failures: AtomicU64,
}

impl Front {
    /// A namespace that the file has.
    ///
    /// `given` is the last event that a client may have had, where that is known. What was given
    /// and isn't here is lost: nobody can say for whom it was, and so nobody who may have missed
    /// it can be told that nothing is missing.
    pub(super) fn resume(
        name: &str,
        index: usize,
        bounds: Bounds,
        given: Option<u64>,
        found: Found,
    ) -> Self {
        let Found {
            mut state,
            events: entries,
            rooms,
            sessions: saved,
        } = found;
        let first = entries.first().map_or(state.last + 1, |(first, _)| *first);
        let mut lost = state.lost;
        match given {
            Some(given) if given <= state.last => {}
            Some(given) => {
                lost = given;
                state.last = given;
            }
            None => {
                // Offsets behind the last are no places of this log any more.
                state.epoch = memory::new_epoch();
                state.last += 1;
                lost = state.last;
            }
        }
        let mut events = Events::new(state.epoch, bounds);
        events.remember(state.past(), rooms);
        events.skip_to(first);
        for (sequence, entry) in entries {
            match entry {
                Some(Entry { at, target, event }) => {
                    if sequence > events.last() + 1 {
                        lost = lost.max(sequence - 1);
                    }
                    events.skip_to(sequence);
                    events.append(at, &event, &target);
                }
                None => lost = lost.max(sequence),
            }
        }
        events.skip_to(state.last + 1);
        events.lose(lost);
        events.drop_old(memory::segment::now());
        state.lost = lost;
        Self {
            name: name.into(),
            index,
            epoch: state.epoch,
            slot: state.slot,
            events: Mutex::new(events),
            state: Mutex::new(state),
            saved,
            failures: AtomicU64::new(0),
        }
    }

    /// A namespace that the file doesn't have.
    pub(super) fn begin(name: &str, index: usize, bounds: Bounds, slot: u64) -> Self {
        let found = Found {
            state: State {
                epoch: memory::new_epoch(),
                last: 0,
                lost: 0,
                is_exact: true,
                slot,
                everyone: 0,
                forgotten: 0,
            },
            events: Vec::new(),
            rooms: Vec::new(),
            sessions: Vec::new(),
        };
        Self::resume(name, index, bounds, Some(0), found)
    }

    pub(super) fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change that has nothing yet.
    pub(super) fn change(&self) -> Change<'_> {
        Change {
            namespace: &self.name,
            state: self.state().clone(),
            events: Vec::new(),
            sessions: Vec::new(),
            first: self.events().first(),
        }
    }

    /// An event that was delivered is not on the disk.
    pub(super) fn hole(&self, sequence: u64) {
        let mut state = self.state();
        state.last = state.last.max(sequence);
        state.lost = state.lost.max(sequence);
    }

    pub(super) fn failed(&self, count: u64) {
        self.failures.fetch_add(count, Ordering::Relaxed);
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("name", &self.name)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
