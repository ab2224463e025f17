//! How sessions go from one server to another, where both share a log.
//!
//! Fetching: a session that a client claims here and that isn't here is taken from the log, which asks
//! its owner. Handing over: this server is that owner, claims the session itself, ends its socket, and
//! gives what it is. Where a session was taken without this server's word
//! ([`Ordered::has_lost`]), its socket is closed and nothing of it is kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    admit::Claim,
    log::{LogError, SavedSession},
    ordered::Ordered,
    sessions::{self, Parked},
};
use crate::server::{Room, delivery::kept};

impl Ordered {
    /// Takes a session from wherever it is, if it isn't here, for a client that has come at this time.
    /// Returns whether it was here.
    pub(super) async fn fetch(&self, pid: &str, asked: Instant) -> Result<bool, LogError> {
        let (is_here, is_lent) = {
            let sessions = self.sessions();
            let is_lent = self.log.lends() && sessions.is_parked(pid);
            (sessions.contains(pid), is_lent)
        };
        if is_here && !is_lent {
            return Ok(true);
        }
        match self.log.take(pid).await? {
            Some(saved) => self.park_saved(saved, Some(asked)),
            // Another server has taken it.
            None if is_lent => {
                let values = self.sessions().remove_parked(&pid.into());
                values
                    .into_iter()
                    .for_each(|values| kept::session_over(&values));
            }
            None => {}
        }
        Ok(false)
    }

    /// A session that this server has taken, or that was there when the log was opened, waits for
    /// its client. If it has waited here its values are still there.
    pub(super) fn park_saved(&self, saved: SavedSession, asked: Option<Instant>) {
        let SavedSession {
            pid,
            id,
            stays,
            data,
        } = saved;
        let mut sessions = self.sessions();
        let parked = Parked {
            id,
            stays,
            data: sessions.remove_parked(&pid),
            stored: data,
            until: sessions::until(self.options.duration),
        };
        let dropped = sessions.park(&pid, parked, self.options.max_sessions);
        if let Some(asked) = asked {
            sessions.fetched(&pid, asked);
        }
        drop(sessions);
        self.forget(dropped);
    }

    /// Another server takes a session, which ends here, for a client that has come to it so long ago.
    pub(crate) async fn hand_over(
        self: &Arc<Self>,
        pid: &Room,
        waited: Duration,
    ) -> Option<SavedSession> {
        if self.log.lends() && self.sessions().is_parked(pid) {
            // It isn't this server's.
            return None;
        }
        let asked = crate::clock::now().checked_sub(waited)?;
        let number = self.sessions().claim(pid, asked)?.claim;
        self.settled.notify_waiters();
        let claim = Claim {
            ordered: Arc::clone(self),
            pid: pid.clone(),
            number,
        };
        let mut taken = claim.take().await.ok()?;
        let parked = taken.parked.take()?;
        let saved = parked.saved(pid);
        self.sessions().remove(pid);
        self.settled.notify_waiters();
        if let Some(values) = parked.data {
            kept::session_over(&values);
        }
        Some(saved)
    }

    /// Another server has taken a session, and this one wasn't asked.
    pub(crate) fn has_lost(&self, pid: &str) {
        let pid = Room::from(pid);
        let (live, values) = {
            let mut sessions = self.sessions();
            (sessions.live(&pid).cloned(), sessions.remove(&pid))
        };
        self.settled.notify_waiters();
        // If its client is at this server after all, it comes again, and gets the one that there is.
        if let Some(session) = live.as_ref().and_then(|socket| socket.peer().session()) {
            session.close();
        }
        if let Some(values) = values {
            kept::session_over(&values);
        }
    }

    /// Saves all sessions as they are now.
    pub(crate) fn save_all(&self) {
        let (live, parked) = self.sessions().all();
        for socket in live {
            if let Some(recoverable) = socket.recoverable() {
                recoverable.save(socket.id());
            }
        }
        for session in parked {
            self.log.save(session);
        }
    }
}
