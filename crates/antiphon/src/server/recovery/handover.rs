//! How sessions go from one server to another, where both share a log.
//!
//! Fetching: a session that a client claims here and that isn't here is taken from the log, which asks
//! its owner. Of connections that come for it at once one does that, and the others wait; who then finds
//! it gone is closed, and its client comes again. Handing over: this server is that owner, claims the
//! session itself, ends its socket, and gives what it is; for a moment it gives it again to who asks for a
//! client that has come later still, since the log decides who has it. Where a session was taken without
//! this server's word ([`Ordered::has_lost`]), its socket is closed and nothing of it is kept.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    admit::{Claim, NotAdmitted},
    log::{LogError, SavedSession},
    ordered::Ordered,
    sessions::{self, Parked, Sessions},
};
use crate::server::{Room, delivery::kept};

/// A session that was looked for, here and elsewhere.
pub(super) struct Fetched {
    /// Whether it was here, and nobody was waited for.
    pub(super) was_here: bool,
    /// Others wait until this is dropped: when it is claimed.
    _fetching: Option<Fetching>,
}

/// A connection asks for a session elsewhere. Others wait until this is dropped.
struct Fetching {
    ordered: Arc<Ordered>,
    pid: Room,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.ordered.sessions().fetch_over(&self.pid);
        self.ordered.settled.notify_waiters();
    }
}

impl Ordered {
    /// Takes a session from wherever it is, if it isn't here, for a client that has come at this time.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        pid: &str,
        asked: Instant,
    ) -> Result<Fetched, LogError> {
        let is_lent = |sessions: &Sessions| self.log.lends() && sessions.waits(pid);
        let mut has_waited = false;
        let (fetching, is_lent) = loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            {
                let mut sessions = self.sessions();
                let is_lent = is_lent(&sessions);
                if sessions.contains(pid) && !is_lent {
                    return Ok(Fetched {
                        was_here: !has_waited,
                        _fetching: None,
                    });
                }
                if !self.is_shared() {
                    break (None, is_lent);
                }
                if !sessions.is_fetched(pid) {
                    if has_waited {
                        // Whoever has fetched it doesn't have it: its client may have gone on.
                        return Err(LogError::Elsewhere);
                    }
                    sessions.fetch(pid);
                    let fetching = Fetching {
                        ordered: Arc::clone(self),
                        pid: pid.into(),
                    };
                    break (Some(fetching), is_lent);
                }
            }
            has_waited = true;
            settled.await;
        };
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
        Ok(Fetched {
            was_here: false,
            _fetching: fetching,
        })
    }

    /// Resolves when no connection of this server asks for a session elsewhere.
    async fn fetched(&self, pid: &str) {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if !self.sessions().is_fetched(pid) {
                return;
            }
            settled.await;
        }
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
    ) -> Result<SavedSession, LogError> {
        let asked = crate::clock::now().checked_sub(waited);
        let asked = asked.ok_or(LogError::Elsewhere)?;
        // It may be this server's since a moment ago.
        self.fetched(pid).await;
        let number = {
            let mut sessions = self.sessions();
            if self.log.lends() && sessions.waits(pid) {
                // It isn't this server's.
                return Err(LogError::Unknown);
            }
            match sessions.claim(pid, asked) {
                Ok(found) => found.claim,
                Err(LogError::Unknown) => {
                    return sessions.give_again(pid, asked, crate::clock::now());
                }
                Err(error) => return Err(error),
            }
        };
        self.settled.notify_waiters();
        let claim = Claim {
            ordered: Arc::clone(self),
            pid: pid.clone(),
            number,
        };
        let taken = claim.take().await;
        let mut taken = taken.map_err(|why| match why {
            NotAdmitted::Superseded => LogError::Elsewhere,
            NotAdmitted::Disconnected | NotAdmitted::Gone => LogError::Unknown,
        })?;
        let parked = taken.parked.take().ok_or(LogError::Unknown)?;
        let saved = parked.saved(pid);
        {
            let mut sessions = self.sessions();
            sessions.remove(pid);
            if !self.log.lends() {
                sessions.give(saved.clone(), asked, crate::clock::now());
            }
        }
        self.settled.notify_waiters();
        if let Some(values) = parked.data {
            kept::session_over(&values);
        }
        Ok(saved)
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
