//! What every driver of a session does: watch its deadline, and see that it has ended.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use antiphon_protocol::engine::{CloseReason, Input};
use tokio::time::Sleep;

use super::Session;

/// A timer that fires at the session's deadline. It is set again only when it has fired or the
/// deadline has moved closer: a heartbeat that moves it further costs nothing.
pub(super) fn sleep(session: &Session) -> Sleep {
    let deadline = session.deadline().unwrap_or_else(Instant::now);
    tokio::time::sleep_until(deadline.into())
}

/// Handles every deadline that has come; ready with the reason when the session is closed.
pub(super) fn poll_deadlines(
    session: &Arc<Session>,
    mut sleep: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<CloseReason> {
    loop {
        let Some(deadline) = session.deadline() else {
            let closed = session.lock().machine.closed();
            return Poll::Ready(closed.unwrap_or(CloseReason::TransportError));
        };
        if deadline <= Instant::now() {
            session.timeout();
            continue;
        }
        if sleep.deadline() > deadline.into() || sleep.is_elapsed() {
            sleep.as_mut().reset(deadline.into());
        }
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
    }
}

/// Sees that a session ends with its driver, also where that panics or its runtime shuts down: a
/// session without a driver would stay for ever.
pub(super) struct Ended<'s> {
    session: &'s Arc<Session>,
}

impl<'s> Ended<'s> {
    pub(super) const fn new(session: &'s Arc<Session>) -> Self {
        Self { session }
    }

    /// The session is closed.
    pub(super) fn finish(self, reason: CloseReason) {
        self.session.finish(reason);
        std::mem::forget(self);
    }

    /// Another driver has taken over.
    pub(super) const fn handed_over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.session.input(Input::Abort);
        self.session.finish(CloseReason::ForcedClose);
    }
}
