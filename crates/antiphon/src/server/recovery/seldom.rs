//! Something that is said once in a while, however often it happens.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long it isn't said again.
const PAUSE: Duration = Duration::from_secs(10);

/// What happens often, in a log that people read.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// It has happened so many times. Gives how often since it was said last, if it is to be said
    /// now.
    pub(super) fn happened(&self, count: u64) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += count;
        let is_due = state.0.is_none_or(|said| said.elapsed() >= PAUSE);
        is_due.then(|| {
            state.0 = Some(Instant::now());
            std::mem::take(&mut state.1)
        })
    }
}
