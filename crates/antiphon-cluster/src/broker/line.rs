//! The connection of a broker that has just one: whether it is there, and what waits to be sent by it.
//!
//! The broker owns a [`Line`]. Its task says `up` and `down`, its builder waits for the first of
//! either, and threads that emit put frames into its [`Queue`].

use std::fmt;

use tokio::sync::watch;

use super::{Inbox, Queue};

/// The connection of a [`Broker`](super::Broker) that has one, for its tasks and its builder.
///
/// The broker connects and says here how that goes. The queue, the router and those that wait for
/// the first connection learn it in this order, so that nobody finds the queue closed who has heard
/// that the connection is there.
#[derive(Debug)]
pub struct Line<E> {
    queue: Queue,
    /// `None` while it is being connected and nothing has gone wrong.
    state: watch::Sender<Option<Result<(), E>>>,
}

impl<E: Clone + fmt::Display> Line<E> {
    /// One that isn't connected yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            queue: Queue::new(),
            state: watch::Sender::new(None),
        }
    }

    /// What waits to be sent.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Resolves when the first attempt to connect has succeeded.
    ///
    /// # Errors
    /// If it has failed.
    pub async fn connected(&self) -> Result<(), E> {
        let mut state = self.state.subscribe();
        // The sender is here.
        let state = state.wait_for(Option::is_some).await;
        let outcome = state.ok().and_then(|state| state.clone());
        outcome.unwrap_or(Ok(()))
    }

    /// Whether it is connected.
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), Some(Ok(())))
    }

    /// It is connected, and all that is wanted is subscribed to. Nothing happens if that is known.
    pub fn up(&self, inbox: &Inbox) {
        if self.is_up() {
            return;
        }
        self.queue.up();
        inbox.up();
        self.state.send_replace(Some(Ok(())));
    }

    /// The connection is lost, or couldn't be made. What waits is lost and counted.
    pub fn down(&self, error: E, inbox: &Inbox) {
        let lost = self.queue.down(error.to_string());
        if lost > 0 {
            inbox.lost(lost as u64);
            tracing::warn!(lost, "lost frames that were to be published: {error}");
        }
        inbox.down(error.to_string());
        self.state.send_replace(Some(Err(error)));
    }
}

impl<E: Clone + fmt::Display> Default for Line<E> {
    fn default() -> Self {
        Self::new()
    }
}
