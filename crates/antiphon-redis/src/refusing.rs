//! Frames that Redis refuses one by one while its connection holds: it has no memory left, or a right was
//! taken away.
//!
//! The broker's `Shared` owns a [`Refusing`]. It knows under which topics something was refused, until
//! something under each of them is taken. By that the router is told, each second at most, that it is so,
//! and that it is over: it is a part of the health.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// So often the router is told, at most.
const EACH: Duration = Duration::from_secs(1);

/// So many topics are known. If there are more it may be over too early, and is told again.
const TOPICS: usize = 256;

/// What is refused.
#[derive(Default)]
pub(crate) struct Refusing {
    is_so: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    topics: HashSet<Box<str>>,
    said: Option<Instant>,
}

impl Refusing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is.
    pub(crate) fn is_so(&self) -> bool {
        self.is_so.load(Ordering::Relaxed)
    }

    /// Something under this topic was refused. Returns whether that is to be told.
    pub(crate) fn refused(&self, topic: &str, now: Instant) -> bool {
        let mut state = self.state();
        self.is_so.store(true, Ordering::Relaxed);
        if state.topics.len() < TOPICS {
            state.topics.insert(topic.into());
        }
        let was_said = state
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < EACH);
        if !was_said {
            state.said = Some(now);
        }
        !was_said
    }

    /// Something under this topic was taken. Returns whether by that it is over.
    pub(crate) fn took(&self, topic: &str) -> bool {
        let mut state = self.state();
        state.topics.remove(topic);
        let is_over = state.topics.is_empty() && state.said.take().is_some();
        if is_over {
            self.is_so.store(false, Ordering::Relaxed);
        }
        is_over
    }

    /// The connection is lost: what the next one does is known by that.
    pub(crate) fn forget(&self) {
        *self.state() = State::default();
        self.is_so.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_all_that_was_refused_is_taken() {
        let refusing = Refusing::default();
        let start = Instant::now();
        assert!(refusing.refused("a", start));
        assert!(!refusing.refused("b", start), "it is told once");
        assert!(refusing.refused("b", start + EACH), "and again");
        assert!(!refusing.took("c"));
        assert!(!refusing.took("a"));
        assert!(refusing.is_so());
        assert!(refusing.took("b"));
        assert!(!refusing.is_so());
        assert!(refusing.refused("a", start + EACH));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let refusing = Refusing::default();
        let now = Instant::now();
        for topic in 0..3 * TOPICS {
            refusing.refused(&topic.to_string(), now);
        }
        assert_eq!(refusing.state().topics.len(), TOPICS);
        refusing.forget();
        assert!(!refusing.is_so());
    }
}
