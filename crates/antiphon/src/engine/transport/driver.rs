//! What every driver of a session does: watch its deadline, and see that the session has ended.
//!
//! A session has one driver, a task in `polling::drive` or `websocket::drive`, which owns a
//! [`Driven`]. `poll_deadlines` tells the session each deadline that has come, until the session is
//! closed, and then gives the reason. A driver ends by `finish` or `handed_over`: if a `Driven` is
//! dropped otherwise (a panic, a runtime that ends), the session is ended, since no task would
//! watch it any more.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use antiphon_protocol::engine::{CloseReason, session::server::Input};
use tokio::time::Sleep;

use crate::engine::Session;

/// A timer that fires at the session's deadline. It is set again only when it has fired or the
/// deadline has moved closer: a heartbeat that moves it further costs nothing.
pub(crate) fn sleep(session: &Session) -> Sleep {
    let deadline = session.deadline().unwrap_or_else(crate::clock::now);
    tokio::time::sleep_until(deadline.into())
}

/// Handles every deadline that has come; ready with the reason when the session is closed.
pub(crate) fn poll_deadlines(
    session: &Arc<Session>,
    mut sleep: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<CloseReason> {
    loop {
        let Some(deadline) = session.deadline() else {
            let closed = session.lock().machine.closed();
            return Poll::Ready(closed.unwrap_or(CloseReason::TransportError));
        };
        if sleep.deadline() > deadline.into() {
            sleep.as_mut().reset(deadline.into());
        }
        // It never is set for later than the deadline: no clock is looked at until it has fired.
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if deadline <= crate::clock::now() {
            session.timeout();
        } else {
            sleep.as_mut().reset(deadline.into());
        }
    }
}

/// A session and the duty to drive it. Where it is dropped unfulfilled, since something panicked or
/// the runtime shuts down, the session ends: without a driver it would stay for ever.
pub(crate) struct Driven {
    session: Arc<Session>,
    done: bool,
}

impl Driven {
    pub(crate) const fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            done: false,
        }
    }

    pub(crate) const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session is closed.
    pub(crate) fn finish(mut self, reason: CloseReason) {
        self.done = true;
        self.session.finish(reason);
    }

    /// Another driver has taken over.
    pub(crate) fn handed_over(mut self) {
        self.done = true;
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if !self.done {
            self.session.input(Input::Abort);
            self.session.finish(CloseReason::ForcedClose);
        }
    }
}
