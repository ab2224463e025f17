//! What may happen often, in a log that people read: it is said once in a while, and how often it
//! has happened.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// One thing that is said seldom.
#[derive(Debug)]
pub(crate) struct Seldom {
    /// How long it isn't said again.
    pause: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// Said no more often than each `pause`.
    pub(crate) const fn each(pause: Duration) -> Self {
        Self {
            pause,
            state: Mutex::new((None, 0)),
        }
    }

    /// It has happened so many times. Returns how often since it was said last, if it is to be said
    /// now.
    pub(crate) fn happened(&self, count: u64) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += count;
        let is_due = state.0.is_none_or(|said| said.elapsed() >= self.pause);
        is_due.then(|| {
            state.0 = Some(Instant::now());
            std::mem::take(&mut state.1)
        })
    }
}

/// How long a warning isn't repeated for the same cause.
pub(crate) const A_MINUTE: Duration = Duration::from_secs(60);

/// Warnings about clients, each cause once a minute: a flood of one hides none of the others.
///
/// Causes are names in the program, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<BTreeMap<&'static str, Seldom>>);

impl Warnings {
    /// It has happened for this cause. Returns how often since the last warning, if one is due.
    pub(crate) fn due(&self, cause: &'static str) -> Option<u64> {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seldom = causes.entry(cause);
        seldom.or_insert_with(|| Seldom::each(A_MINUTE)).happened(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_said_once_a_minute() {
        let warnings = Warnings::default();
        assert_eq!(warnings.due("one"), Some(1));
        assert_eq!(warnings.due("one"), None);
        assert_eq!(warnings.due("two"), Some(1));
    }

    #[test]
    fn what_was_not_said_is_counted() {
        let seldom = Seldom::each(Duration::ZERO);
        assert_eq!(seldom.happened(2), Some(2));
        let seldom = Seldom::each(Duration::from_secs(3_600));
        assert_eq!(seldom.happened(1), Some(1));
        assert_eq!(seldom.happened(3), None);
        seldom.state.lock().expect("nobody panicked").0 = None; // an hour later
        assert_eq!(seldom.happened(1), Some(4));
    }
}
