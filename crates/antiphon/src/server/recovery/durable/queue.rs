//! What waits for the writer.
//!
//! Threads that emit push; the writer takes all that there is. Pushing never waits: events beyond
//! the bounds are refused. Of a session only its newest state waits.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{entry::Entry, front::Front};
use crate::server::{
    Room,
    recovery::log::{LogError, SavedSession},
};

/// Events and bytes that wait at the most.
const MOST_EVENTS: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;

/// Sessions whose changes wait at the most.
const MOST_SESSIONS: usize = 1_000_000;

/// How long events that have been delivered wait for others, so that they share a commit.
const GATHERING: Duration = Duration::from_millis(5);

/// An event that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) front: Arc<Front>,
    pub(super) entry: Entry,
    pub(super) promise: Promise,
}

/// What was promised to whoever emitted an event.
#[derive(Debug)]
pub(super) enum Promise {
    /// It has been delivered with this sequence.
    Given(u64),
    /// It is delivered when this is told.
    Awaited(Arc<Told>),
}

/// Tells how storing an event went.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Telling>);

#[derive(Debug, Default)]
struct Telling {
    result: Option<Result<u64, LogError>>,
    waker: Option<Waker>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Telling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(&self, waker: &Waker) -> Poll<Result<u64, LogError>> {
        let mut telling = self.lock();
        if let Some(result) = telling.result.take() {
            return Poll::Ready(result);
        }
        telling.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Gives who is to be woken.
    #[must_use]
    pub(super) fn tell(&self, result: Result<u64, LogError>) -> Option<Waker> {
        let mut telling = self.lock();
        telling.result = Some(result);
        telling.waker.take()
    }
}

/// What the writer does at a time.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) events: Vec<Waiting>,
    pub(super) sessions: Sessions,
    /// Namespaces that are looked at for what is too old.
    pub(super) swept: Vec<Arc<Front>>,
    pub(super) flushed: Vec<oneshot::Sender<()>>,
    bytes: usize,
    is_urgent: bool,
}

/// By the place of the namespace and the private id; `None` is over.
pub(super) type Sessions = HashMap<(usize, Room), Option<SavedSession>>;

impl Group {
    fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.sessions.is_empty()
            && self.swept.is_empty()
            && self.flushed.is_empty()
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    group: Group,
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Group) -> R) -> R {
        let mut state = self.lock();
        let changed = change(&mut state.group);
        drop(state);
        self.changed.notify_one();
        changed
    }

    /// Returns `false` if the queue is full.
    pub(super) fn push(&self, event: Waiting) -> bool {
        let bytes = event.entry.size();
        self.change(|group| {
            if group.events.len() >= MOST_EVENTS || group.bytes + bytes > MOST_BYTES {
                return false;
            }
            group.bytes += bytes;
            group.is_urgent |= matches!(event.promise, Promise::Awaited(_));
            group.events.push(event);
            true
        })
    }

    /// Returns `false` if the queue is full.
    pub(super) fn session(&self, front: usize, pid: Room, session: Option<SavedSession>) -> bool {
        self.change(|group| {
            let key = (front, pid);
            let has_place =
                group.sessions.len() < MOST_SESSIONS || group.sessions.contains_key(&key);
            if has_place {
                group.sessions.insert(key, session);
            }
            has_place
        })
    }

    pub(super) fn sweep(&self, front: &Arc<Front>) {
        self.change(|group| {
            if !group.swept.iter().any(|it| Arc::ptr_eq(it, front)) {
                group.swept.push(Arc::clone(front));
            }
        });
    }

    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (sender, flushed) = oneshot::channel();
        self.change(|group| {
            group.is_urgent = true;
            group.flushed.push(sender);
        });
        flushed
    }

    /// What could not be stored is tried again, unless it has changed meanwhile.
    pub(super) fn put_back(&self, sessions: Sessions) {
        self.change(|group| {
            for (key, session) in sessions {
                group.sessions.entry(key).or_insert(session);
            }
        });
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// All that there is, when there is something. `None` when the queue has been closed.
    pub(super) fn next(&self) -> Option<Group> {
        let mut state = self.lock();
        while state.group.is_empty() {
            if state.is_closed {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + GATHERING;
        while !state.group.is_urgent && !state.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut state.group))
    }

    /// Waits, unless the queue is closed. Returns whether it is.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.is_closed || left.is_zero() {
                return state.is_closed;
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
