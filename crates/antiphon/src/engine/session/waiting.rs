//! Tasks that wait for something of a session.
//!
//! One that stops waiting is forgotten at once: a client can make requests and go away from them
//! as often as it likes.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use crate::engine::{Session, session::SessionState};

/// One that waits; when it is dropped, nobody wakes it any more.
struct Wait<'s> {
    session: &'s Session,
    /// Differs from all others, so that a late one forgets nobody else.
    ticket: u64,
    noted: bool,
}

impl<'s> Wait<'s> {
    fn new(session: &'s Session) -> Self {
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        Self {
            session,
            ticket: TICKETS.fetch_add(1, Ordering::Relaxed),
            noted: false,
        }
    }

    fn note(&mut self, state: &mut SessionState, context: &Context<'_>) {
        self.noted = true;
        state.waiting.note(self.ticket, context.waker());
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.noted {
            let forgotten = self.session.lock().waiting.forget(self.ticket);
            // May be the last of its task: not under the lock.
            drop(forgotten);
        }
    }
}

impl Session {
    /// Resolves when `holds` says so of the state, which is asked whenever that has changed.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&mut SessionState) -> bool) {
        let mut wait = Wait::new(self);
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if holds(&mut state) {
                return Poll::Ready(());
            }
            wait.note(&mut state, context);
            Poll::Pending
        })
        .await;
    }

    /// The outcome of `work`, or nothing once `holds` says so of the state.
    pub(crate) async fn unless<T>(
        &self,
        holds: impl FnMut(&mut SessionState) -> bool,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut given_up = std::pin::pin!(self.until(holds));
        std::future::poll_fn(|context| {
            if given_up.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }
}
