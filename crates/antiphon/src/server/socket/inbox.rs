//! The events of a socket that wait for their turn.
//!
//! An event waits while the socket's connect handler or a middleware runs, and so does all that
//! comes after it. The task that has closed the inbox works on it, one event after the other, until
//! none waits. What waits when the client leaves is still handled: the socket's goodbye comes
//! behind it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use antiphon_protocol::socket::OwnedArgs;
use tokio::sync::oneshot;

use crate::server::{acks::Responder, handlers::permits::Permit};

/// The events of a socket that wait, for its connect handler or for a middleware.
#[derive(Default)]
pub(crate) struct Inbox {
    /// What may be asked without the lock, and is changed under it: [`IDLE`], [`ENDED`] or both.
    state: AtomicU8,
    /// Boxed, since in most sockets nothing waits.
    queue: Mutex<Option<Box<Queue>>>,
}

/// Nobody works on the inbox: nothing waits.
const IDLE: u8 = 1;
/// No event is handled any more.
const ENDED: u8 = 2;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<QueuedEvent>,
    /// Told when nothing waits any more: the socket's goodbye comes then.
    goodbye: Option<oneshot::Sender<()>>,
}

/// An event that waits. It counts as a running handler, so that reading stops at the bound.
pub(crate) struct QueuedEvent {
    pub(crate) event: String,
    pub(crate) args: OwnedArgs,
    pub(crate) answer: Option<Responder>,
    pub(crate) _permit: Permit,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Queue>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether events pass the inbox by.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == IDLE
    }

    /// Whether no event is handled any more: the server has disconnected the socket, or its goodbye
    /// has begun.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) & ENDED != 0
    }

    /// Puts an event behind those that wait. Returns `true` if nobody works on them yet.
    pub(crate) fn push(&self, event: QueuedEvent) -> bool {
        let mut queue = self.lock();
        if self.has_ended() {
            // Its acknowledgement runs on drop: not under the lock.
            drop(queue);
            drop(event);
            return false;
        }
        let waiting = &mut queue.get_or_insert_default().waiting;
        waiting.push_back(event);
        self.state.swap(0, Ordering::Relaxed) == IDLE
    }

    /// The next event that waits. Returns `None` if nothing waits; the inbox is open from now on,
    /// unless its socket leaves.
    pub(crate) fn next_or_open(&self) -> Option<QueuedEvent> {
        let mut queue = self.lock();
        let next = queue.as_mut().and_then(|queue| queue.waiting.pop_front());
        if next.is_none() {
            let goodbye = queue.take().and_then(|queue| queue.goodbye);
            let ended = self.state.load(Ordering::Relaxed) & ENDED;
            let ended = if goodbye.is_some() { ENDED } else { ended };
            self.state.store(IDLE | ended, Ordering::Release);
            // Nobody is left to be told if the runtime has ended.
            goodbye.map(|goodbye| goodbye.send(()));
        }
        next
    }

    /// The socket leaves. Resolves when what waits has had its turn, and the connect handler;
    /// `None` if nobody works on the inbox: it has ended.
    pub(crate) fn leave(&self) -> Option<oneshot::Receiver<()>> {
        let mut queue = self.lock();
        if self.state.load(Ordering::Relaxed) & IDLE != 0 {
            self.state.store(IDLE | ENDED, Ordering::Release);
            return None;
        }
        let (goodbye, settled) = oneshot::channel();
        queue.get_or_insert_default().goodbye = Some(goodbye);
        Some(settled)
    }

    /// Nothing more is handled, whatever waits: how many events are dropped.
    pub(crate) fn end(&self) -> usize {
        let dropped = {
            let mut queue = self.lock();
            self.state.fetch_or(ENDED, Ordering::Release);
            let queue = queue.as_mut();
            queue.map_or_else(VecDeque::new, |queue| std::mem::take(&mut queue.waiting))
        };
        // Their acknowledgements run on drop: not under the lock.
        dropped.len()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}
