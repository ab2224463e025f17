//! How much runs, in all and for each caller: one alone takes no capacity from the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{CallError, HttpCalls};

/// Each so many bytes of a call count as one more.
const BYTES_A_PART: usize = 16 << 10;

/// The calls that run or are being read.
#[derive(Debug)]
pub(super) struct Running {
    most: usize,
    most_of_caller: usize,
    /// Beyond a part for itself a call counts one for each [`BYTES_A_PART`].
    parts: usize,
    state: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    running: usize,
    parts: usize,
    callers: HashMap<Box<str>, Share>,
}

/// What one caller has.
#[derive(Debug, Default)]
struct Share {
    calls: usize,
    parts: usize,
}

impl Running {
    pub(super) fn new(options: &HttpCalls, max_running_handlers: usize) -> Arc<Self> {
        Arc::new(Self {
            most: options.max_running,
            most_of_caller: options.max_running_per_caller,
            parts: max_running_handlers,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What large calls of one caller may take together.
    fn parts_of_caller(&self) -> usize {
        self.parts.saturating_mul(self.most_of_caller) / self.most
    }

    /// Begins to read a call, which will have so many bytes.
    pub(super) fn begin(
        self: &Arc<Self>,
        caller: Option<Box<str>>,
        bytes: usize,
    ) -> Result<Permit, CallError> {
        let parts = 1 + bytes / BYTES_A_PART;
        if let Some(caller) = &caller {
            let mut state = self.lock();
            let share = state.callers.entry(caller.clone()).or_default();
            // One may always be made, however large.
            let fits = share.parts + parts <= self.parts_of_caller() || share.calls == 0;
            if share.calls >= self.most_of_caller || !fits {
                return Err(CallError::CallerLimit);
            }
            share.calls += 1;
            share.parts += parts;
        }
        Ok(Permit {
            running: Arc::clone(self),
            caller,
            parts,
            runs: false,
        })
    }
}

/// One of the calls that may run at a time, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    running: Arc<Running>,
    caller: Option<Box<str>>,
    parts: usize,
    /// It counts among those that run, and not only for its caller.
    runs: bool,
}

impl Permit {
    /// The call has been read, has so many bytes, and runs.
    pub(super) fn run(mut self, bytes: usize) -> Result<Self, CallError> {
        let parts = 1 + bytes / BYTES_A_PART;
        let mut state = self.running.lock();
        // Large ones leave room for the others.
        let fits = parts == 1 || state.parts == 0 || state.parts + parts <= self.running.parts / 2;
        if state.running >= self.running.most || !fits {
            drop(state);
            return Err(CallError::TooManyCalls);
        }
        state.running += 1;
        state.parts += parts;
        if let Some(share) = self
            .caller
            .as_ref()
            .and_then(|it| state.callers.get_mut(it))
        {
            share.parts = share.parts + parts - self.parts;
        }
        drop(state);
        (self.parts, self.runs) = (parts, true);
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.running.lock();
        if self.runs {
            state.running -= 1;
            state.parts -= self.parts;
        }
        let Some(caller) = &self.caller else { return };
        let Some(share) = state.callers.get_mut(caller) else {
            return;
        };
        share.calls -= 1;
        share.parts -= self.parts;
        if share.calls == 0 {
            state.callers.remove(caller);
            if state.callers.is_empty() {
                state.callers = HashMap::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(options: HttpCalls) -> Arc<Running> {
        Running::new(&options, 1_000)
    }

    fn call(running: &Arc<Running>, caller: &str, bytes: usize) -> Result<Permit, CallError> {
        running.begin(Some(caller.into()), bytes)?.run(bytes)
    }

    #[test]
    fn a_caller_leaves_room_for_others() {
        let running = running(HttpCalls::default());
        for bytes in [0, 1_000_000] {
            let mut permits = Vec::new();
            let limited = loop {
                match call(&running, "a", bytes) {
                    Ok(permit) => permits.push(permit),
                    Err(error) => break error,
                }
            };
            assert!(matches!(limited, CallError::CallerLimit));
            assert!((4..=64).contains(&permits.len()), "{}", permits.len());
            drop(call(&running, "b", bytes).unwrap());
            drop(permits);
            drop(call(&running, "a", bytes).unwrap());
        }
        assert!(running.lock().callers.is_empty());
    }

    #[test]
    fn large_calls_leave_room_for_small_ones() {
        let running = running(HttpCalls::default());
        let unknown = |bytes| running.begin(None, bytes)?.run(bytes);
        let large: Vec<_> = (0..17).filter_map(|_| unknown(1_000_000).ok()).collect();
        assert_eq!(large.len(), 8);
        assert!(matches!(unknown(1_000_000), Err(CallError::TooManyCalls)));
        assert!(unknown(100).is_ok());
    }

    #[test]
    fn one_call_may_be_larger_than_a_share() {
        let running = running(HttpCalls::default().max_running_per_caller(1));
        let first = call(&running, "a", 100_000_000).unwrap();
        assert!(matches!(
            call(&running, "a", 0),
            Err(CallError::CallerLimit)
        ));
        drop(first);
        assert!(call(&running, "a", 0).is_ok());
    }

    #[test]
    fn what_is_read_counts_for_its_caller_alone() {
        let running = running(HttpCalls::default().max_running(1));
        let _read = running.begin(Some("a".into()), 1_000_000).unwrap();
        assert!(call(&running, "b", 0).is_ok());
    }
}
