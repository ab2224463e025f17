//! Sessions whose clients are away, in the format of Node's adapter for Redis streams.
//!
//! Such a session belongs to nobody: it is kept under a key of its private id for as long as it may
//! be resumed, and whichever server its client comes to takes it from there, once. While the Redis
//! is away it waits here.
//!
//! A client may come back before its server knows that it has gone. Servers of ours are asked for it
//! then, and put it there; Node has nothing like that, and lets the client begin anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use antiphon::{
    Room, SocketId,
    recovery::{LogError, SavedSession, Stay, Stays},
};
use antiphon_protocol::cluster::node::{Limits, Session};
use tokio::sync::watch;

use crate::{
    broker::{Refused, Store},
    message,
};

/// After a failure it is tried again so much later.
const PAUSE: Duration = Duration::from_millis(200);

/// So long is waited for another server that has been asked for a session.
const HAND_OVER: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
];

/// Sessions on their way to the Redis.
pub(crate) struct Sessions {
    store: Arc<dyn Store>,
    /// What their keys begin with.
    prefix: String,
    /// For so long they may be resumed.
    time: Duration,
    waiting: Mutex<HashMap<Room, Waiting>>,
    /// How many wait.
    count: watch::Sender<usize>,
}

struct Waiting {
    session: SavedSession,
    until: Instant,
    is_sent: bool,
}

impl Sessions {
    pub(crate) fn new(store: Arc<dyn Store>, prefix: &str, time: Duration) -> Self {
        Self {
            store,
            prefix: prefix.to_owned(),
            time,
            waiting: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut HashMap<Room, Waiting>) -> R) -> R {
        let mut waiting: MutexGuard<'_, _> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut waiting);
        self.count.send_replace(waiting.len());
        changed
    }

    /// The client of this session is away.
    pub(crate) fn park(&self, session: SavedSession) {
        let waiting = Waiting {
            until: Instant::now() + self.time,
            is_sent: false,
            session,
        };
        self.change(|all| all.insert(waiting.session.pid.clone(), waiting));
    }

    /// Resolves when none waits.
    pub(crate) async fn flushed(&self) {
        let mut count = self.count.subscribe();
        // The sender is here.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// Sends what waits, for ever.
    pub(crate) async fn run(&self) {
        let mut count = self.count.subscribe();
        loop {
            let _ = count.wait_for(|count| *count > 0).await;
            let now = Instant::now();
            let next = self.change(|all| {
                all.retain(|_, waiting| waiting.until > now);
                let waiting = all.values_mut().next()?;
                waiting.is_sent = true;
                Some((waiting.session.clone(), waiting.until))
            });
            let Some((session, until)) = next else {
                continue;
            };
            let kept = self.keep(&session, until - now).await;
            self.change(|all| {
                let Some(waiting) = all.get_mut(&session.pid) else {
                    return;
                };
                // It may have come back and gone again meanwhile.
                let is_same = waiting.until == until;
                waiting.is_sent = false;
                if kept.is_ok() && is_same {
                    all.remove(&session.pid);
                }
            });
            if let Err(error) = kept {
                if !matches!(error, Refused::Down { .. } | Refused::Closed) {
                    tracing::warn!(%error, "a session isn't saved: it is tried again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn keep(&self, session: &SavedSession, time: Duration) -> Result<(), Refused> {
        let value = match written(session).encode() {
            Ok(value) => value,
            Err(error) => {
                tracing::warn!(%error, "a session can't be saved: its client begins anew");
                return Ok(());
            }
        };
        self.store.keep(&self.key(&session.pid), value, time).await
    }

    fn key(&self, pid: &str) -> String {
        format!("{}{pid}", self.prefix)
    }

    /// Takes the session of a client that has come back. If it isn't there it may be with another
    /// server yet, which `ask` asks for it.
    pub(crate) async fn take_or_ask(
        &self,
        pid: &str,
        ask: impl FnOnce() -> bool,
    ) -> Result<Option<SavedSession>, LogError> {
        let taken = self.take(pid).await?;
        if taken.is_some() || !ask() {
            return Ok(taken);
        }
        for pause in HAND_OVER {
            tokio::time::sleep(pause).await;
            let taken = self.take(pid).await?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    async fn take(&self, pid: &str) -> Result<Option<SavedSession>, LogError> {
        let mut count = self.count.subscribe();
        loop {
            count.borrow_and_update();
            let (waits, session) = self.take_waiting(pid);
            match session {
                Some(session) => return Ok(Some(session)),
                None if waits => {
                    // It is on its way.
                    let _ = count.changed().await;
                }
                None => break,
            }
        }
        let value = self.store.take(&self.key(pid)).await;
        let value = value.map_err(|error| LogError::Failed(error.to_string()))?;
        let Some(value) = value else {
            return Ok(None);
        };
        match Session::decode(&value, &limits()) {
            Ok(session) if *session.private_id == *pid => Ok(Some(read(&session))),
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "a saved session isn't understood");
                Ok(None)
            }
        }
    }

    /// Whether a session waits, and the session if it isn't on its way: it is the caller's then.
    fn take_waiting(&self, pid: &str) -> (bool, Option<SavedSession>) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(pid) {
            None => (false, None),
            Some(waiting) if waiting.is_sent => (true, None),
            Some(_) => {
                let taken = all.remove(pid);
                self.count.send_replace(all.len());
                (true, taken.map(|waiting| waiting.session))
            }
        }
    }
}

/// A session as Node's adapter has it: the rooms that it is in now.
fn written(session: &SavedSession) -> Session {
    let stays = session.stays.stays.iter();
    let rooms = stays.filter(|stay| stay.upto.is_none() && *stay.room != *session.pid);
    Session {
        id: session.id.as_str().into(),
        private_id: Arc::clone(&session.pid),
        rooms: rooms.map(|stay| Arc::clone(&stay.room)).collect(),
        data: message::object(session.data.clone()),
    }
}

/// A session that Node's adapter may have written. It doesn't say since when it has been in its
/// rooms; its client says what it has had, or else nothing is known.
fn read(session: &Session) -> SavedSession {
    let rooms = session.rooms.iter();
    let stays = rooms.map(|room| Stay {
        room: Arc::clone(room),
        after: 0,
        upto: None,
    });
    SavedSession {
        pid: Arc::clone(&session.private_id),
        id: SocketId::new(&*session.id),
        stays: Stays {
            came: 0,
            stays: stays.collect(),
            known_from: 1,
        },
        data: message::map(&session.data),
    }
}

/// Node's sessions have whatever their application puts there.
fn limits() -> Limits {
    Limits::new().depth(127).values(1_000_000)
}
