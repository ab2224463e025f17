//! The sessions of a namespace whose log is shared: saved in the journal, and taken from wherever they
//! are.
//!
//! A session belongs to one server. It saves each change, some of them at a time, and all it has from
//! time to time, since what isn't saved for long is forgotten. Whoever wants a session of another
//! server asks that one, if it is there; else it takes what was saved. The journal sees to it that one
//! gets it. Where a takeover is so slow that its client has gone on to a third server, that one keeps the
//! session: it is told how long ago the client came to the slow one, and knows when it came to itself. A server that was passed over learns it when it saves the session the next time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use antiphon::{
    Room,
    adapter::{BoxFuture, Local, NodeId},
    recovery::{LogError, SavedSession},
};
use antiphon_protocol::cluster::native::Handed;
use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{Change, HandingOver, Journal};
use crate::{Topic, broker::Refused, member::Member};

/// So many sessions are saved at a time.
const BATCH: usize = 256;

/// All sessions are saved so often, and kept for so long beyond the time that they may be resumed.
const EVERY: Duration = Duration::from_secs(300);
const MARGIN: Duration = Duration::from_secs(600);

/// After a failure it is tried again so much later.
const PAUSE: Duration = Duration::from_secs(1);

/// The sessions of one namespace. Its log owns them.
pub(super) struct Sessions {
    namespace: Arc<str>,
    /// That of the log.
    topic: Topic,
    journal: Arc<dyn Journal>,
    member: Arc<Member>,
    handing: Arc<HandingOver>,
    /// For how long they may be resumed.
    time: Duration,
    saver: Arc<Saver>,
    /// The sockets, once the adapter has begun.
    local: OnceLock<Local>,
    task: OnceLock<AbortHandle>,
}

/// What has to be saved.
#[derive(Debug, Default)]
struct Saver {
    changes: Mutex<HashMap<Room, Option<SavedSession>>>,
    filled: Notify,
    /// What failed may be tried again.
    retry: Notify,
    /// Whether nothing is to be saved, or is being saved.
    is_idle: watch::Sender<Idle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Idle(bool);

impl Default for Idle {
    fn default() -> Self {
        Self(true)
    }
}

impl Saver {
    fn changes(&self) -> MutexGuard<'_, HashMap<Room, Option<SavedSession>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session has changed, or is over. The last of its changes is saved.
    fn change(&self, pid: Room, session: Option<SavedSession>) {
        let mut changes = self.changes();
        changes.insert(pid, session);
        self.is_idle
            .send_if_modified(|idle| std::mem::replace(&mut idle.0, false));
        drop(changes);
        self.filled.notify_one();
    }

    fn take(&self) -> Vec<(Room, Option<SavedSession>)> {
        let mut changes = self.changes();
        if changes.is_empty() {
            self.is_idle
                .send_if_modified(|idle| !std::mem::replace(&mut idle.0, true));
            return Vec::new();
        }
        let some: Vec<_> = changes.keys().take(BATCH).cloned().collect();
        let taken = some
            .into_iter()
            .filter_map(|pid| changes.remove_entry(&pid));
        let taken = taken.collect();
        if changes.capacity() > 8 * BATCH && changes.is_empty() {
            *changes = HashMap::new();
        }
        taken
    }

    /// It could not be saved. What has changed again counts.
    fn put_back(&self, failed: Vec<(Room, Option<SavedSession>)>) {
        let mut changes = self.changes();
        for (pid, session) in failed {
            changes.entry(pid).or_insert(session);
        }
    }
}

impl Sessions {
    pub(super) fn new(
        namespace: &Arc<str>,
        topic: &Topic,
        journal: &Arc<dyn Journal>,
        handing: &Arc<HandingOver>,
        time: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            namespace: Arc::clone(namespace),
            topic: topic.clone(),
            journal: Arc::clone(journal),
            member: Arc::clone(handing.member()),
            handing: Arc::clone(handing),
            time,
            saver: Arc::default(),
            local: OnceLock::new(),
            task: OnceLock::new(),
        })
    }

    /// The adapter begins: from now on changes are saved, and these sockets are told what is lost.
    pub(super) fn start(self: &Arc<Self>, local: &Local) {
        if self.local.set(local.clone()).is_ok() {
            let saves = save(Arc::downgrade(self), Arc::clone(&self.saver));
            let saves = self.member.link.runtime.spawn(saves);
            // It is the first.
            let _ = self.task.set(saves.abort_handle());
        }
    }

    /// A session has changed, or is over.
    pub(super) fn change(&self, pid: Room, session: Option<SavedSession>) {
        self.saver.change(pid, session);
    }

    /// Something that failed may be tried again.
    pub(super) fn retry(&self) {
        self.saver.retry.notify_one();
    }

    /// Resolves when all has been saved.
    pub(super) fn flushed(&self) -> BoxFuture<()> {
        let mut idle = self.saver.is_idle.subscribe();
        Box::pin(async move {
            let _ = idle.wait_for(|idle| idle.0).await;
        })
    }

    async fn save(&self, changes: &[(Room, Option<SavedSession>)]) -> Result<(), Refused> {
        let encoded = changes.iter().map(|(pid, session)| -> Change {
            let session = session.as_ref();
            let session = session.map(|session| Bytes::from(session.to_json()));
            (Box::from(&**pid), session)
        });
        let owner = self.member.me().as_str();
        let time = self.time + MARGIN;
        let saved = self
            .journal
            .save(&self.topic, owner, encoded.collect(), time);
        for ((pid, session), is_mine) in changes.iter().zip(saved.await?) {
            if !is_mine
                && session.is_some()
                && let Some(local) = self.local.get()
            {
                local.has_lost(pid);
            }
        }
        Ok(())
    }

    /// Takes a session of another server.
    pub(super) fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedSession>, LogError>> {
        /// Others may take it at the same moment: then it is looked again who has it. Where a server doesn't
        /// have it that should, another one takes it from there, or it has just been ended.
        const PAUSES: [Duration; 6] = [
            Duration::from_millis(10),
            Duration::from_millis(20),
            Duration::from_millis(40),
            Duration::from_millis(80),
            Duration::from_millis(160),
            Duration::ZERO,
        ];

        let came = std::time::Instant::now();
        let (journal, topic) = (Arc::clone(&self.journal), self.topic.clone());
        let (handing, name) = (Arc::clone(&self.handing), Arc::clone(&self.namespace));
        let pid: Arc<str> = pid.into();
        Box::pin(async move {
            let failed = |error: Refused| LogError::Failed(error.to_string());
            let member = handing.member();
            let me = member.me().as_str();
            let mut taken = Ok(None);
            for pause in PAUSES {
                let Some(kept) = journal.session(&topic, &pid).await.map_err(failed)? else {
                    return Ok(None);
                };
                if *kept.owner == *me {
                    return Ok(None);
                }
                let owner = NodeId::new(&*kept.owner);
                let given = match member.servers().contains(&owner) {
                    true => handing.hand_over(&owner, &name, &pid, came).await,
                    false => None,
                };
                taken = Ok(None);
                let session = match given {
                    Some(Handed::Unknown) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    Some(Handed::Elsewhere) => return Err(LogError::Elsewhere),
                    Some(Handed::Over(session)) => session,
                    // It is dead, or says nothing. If it lives after all, and the client has gone on to it while
                    // this server was slow, it learns that when it saves the session; its client comes again.
                    None => kept.session,
                };
                if journal
                    .claim(&topic, &pid, &kept.owner, me)
                    .await
                    .map_err(failed)?
                {
                    return Ok(SavedSession::from_json(&pid, &session));
                }
                taken = Err(LogError::Elsewhere);
            }
            taken
        })
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Saves what changes, as long as anyone has the sessions.
async fn save(sessions: Weak<Sessions>, saver: Arc<Saver>) {
    let mut all = Instant::now() + EVERY;
    loop {
        let changes = saver.take();
        if changes.is_empty() {
            tokio::select! {
                () = saver.filled.notified() => continue,
                () = tokio::time::sleep_until(all) => all = Instant::now() + EVERY,
            }
            let Some(this) = sessions.upgrade() else {
                return;
            };
            if let Some(local) = this.local.get() {
                local.save_sessions();
            }
            continue;
        }
        let Some(this) = sessions.upgrade() else {
            return;
        };
        if let Err(error) = this.save(&changes).await {
            if !matches!(error, Refused::Down { .. } | Refused::Closed) {
                tracing::warn!(namespace = &*this.namespace, %error, "sessions aren't saved: they are tried again");
            }
            saver.put_back(changes);
            drop(this);
            // It is tried at once when the connection is there again.
            let _ = tokio::time::timeout(PAUSE, saver.retry.notified()).await;
        }
    }
}
