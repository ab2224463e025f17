//! The poll of a client that says goodbye at the same moment.
//!
//! A client that leaves has a poll under way, which ends with its session. If it makes that poll
//! just then, on a connection of its own, the POST that says goodbye may be handled first, and the
//! poll would be told that nobody knows its session: the client reports an error for having left in
//! order. So the answer to such a POST waits a moment for that poll, which gets a noop, as if it
//! had come before. What the client asks after that answer finds no session.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon_protocol::engine::Revision;
use tokio::sync::Notify;

use crate::engine::SessionId;

/// How much later than the goodbye its poll may come.
const PATIENCE: Duration = Duration::from_millis(100);

/// The POSTs that say goodbye and are being handled.
#[derive(Default)]
pub(crate) struct Goodbyes(Mutex<HashMap<SessionId, (Revision, Arc<Notify>)>>);

impl Goodbyes {
    /// A poll of a session that has ended: the revision in which it is answered, if it comes with
    /// the goodbye. It is one poll.
    pub(crate) fn take(&self, id: SessionId) -> Option<Revision> {
        let (revision, taken) = self.lock().remove(&id)?;
        taken.notify_one();
        Some(revision)
    }

    /// Before a body is handled that says goodbye, while no poll waits.
    pub(crate) fn begin(&self, session: SessionId, revision: Revision) -> Goodbye<'_> {
        let taken = Arc::new(Notify::new());
        self.lock().insert(session, (revision, Arc::clone(&taken)));
        Goodbye {
            goodbyes: self,
            session,
            taken,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (Revision, Arc<Notify>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the body of a POST says goodbye.
pub(crate) fn is_said_by(body: &[u8]) -> bool {
    // Nothing follows a close packet, in whatever form the payload is.
    body.last() == Some(&b'1')
}

/// A POST that says goodbye while no poll waits.
pub(crate) struct Goodbye<'g> {
    goodbyes: &'g Goodbyes,
    session: SessionId,
    taken: Arc<Notify>,
}

impl Goodbye<'_> {
    /// After the body was handled, if the session has ended by it: waits for the poll.
    pub(crate) async fn end(self) {
        let _ = tokio::time::timeout(PATIENCE, self.taken.notified()).await;
    }
}

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        self.goodbyes.lock().remove(&self.session);
    }
}
