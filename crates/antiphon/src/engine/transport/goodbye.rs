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

use crate::engine::{Session, SessionId};

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

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (Revision, Arc<Notify>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A POST that says goodbye while no poll waits.
pub(crate) struct Goodbye<'s> {
    session: &'s Session,
    taken: Arc<Notify>,
}

impl<'s> Goodbye<'s> {
    /// Before this body is handled. Returns `None` if it doesn't say goodbye, or a poll waits
    /// already.
    pub(crate) fn begin(session: &'s Session, body: &[u8]) -> Option<Self> {
        // Nothing follows a close packet, in whatever form the payload is.
        if body.last() != Some(&b'1') || session.is_writable() {
            return None;
        }
        let taken = Arc::new(Notify::new());
        let entry = (session.revision(), Arc::clone(&taken));
        session.engine().goodbyes.lock().insert(session.id(), entry);
        Some(Self { session, taken })
    }

    /// After the body was handled: waits for the poll, if the session has ended by it.
    pub(crate) async fn end(self) {
        if !self.session.is_open() {
            let _ = tokio::time::timeout(PATIENCE, self.taken.notified()).await;
        }
    }
}

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        let goodbyes = &self.session.engine().goodbyes;
        goodbyes.lock().remove(&self.session.id());
    }
}
