//! The wakers of those that wait for something of a session: for its queue to drain, for its handlers
//! to end, or for another request to take their place. How they wait is in `waiting`.

use std::{collections::BTreeMap, task::Waker};

/// The wakers of those that wait. Mostly nobody does: then it owns nothing.
#[derive(Default)]
pub(crate) struct Waiters(BTreeMap<u64, Waker>);

impl Waiters {
    /// Wakes all, which ask again and are noted again.
    pub(crate) fn wake(&mut self) {
        // Each flush comes here.
        if !self.0.is_empty() {
            let woken = std::mem::take(&mut self.0);
            woken.into_values().for_each(Waker::wake);
        }
    }

    pub(super) fn note(&mut self, ticket: u64, waker: &Waker) {
        match self.0.get_mut(&ticket) {
            Some(noted) => noted.clone_from(waker),
            None => drop(self.0.insert(ticket, waker.clone())),
        }
    }

    pub(super) fn forget(&mut self, ticket: u64) -> Option<Waker> {
        self.0.remove(&ticket)
    }
}
