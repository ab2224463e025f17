//! The shared log of one namespace, as recovery sees it.
//!
//! The namespace's order owns it, and so does its adapter, which begins it. The link gives it the
//! frames of its topic. A task of its own, the reader, reads what was missed: at the beginning, after
//! a loss of the connection, and when an entry lacks. Nothing is lost by that but what the journal
//! itself has dropped.
//!
//! What this server appends waits here until it has come back, and is sent again after a loss of the
//! connection. So it is delivered once, or its sender's log says that it can't be stored.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use antiphon::{
    Target,
    adapter::{BoxFuture, Flags, Local, Outgoing},
    recovery::{Appending, Bounds, Log, LogError, MemoryLog, Missed, Page, SavedSession},
};
use antiphon_protocol::cluster::native::Logged;
use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::AbortHandle,
};

use super::{
    Append, Journal, Placed,
    sessions::{self, Saver},
    tail::{Heard, Tail},
};
use crate::{Topic, broker::Refused, link::Ears as _, message, router::Router};

/// What was missed is read in portions of so many bytes.
const PORTION: usize = 256 * 1_024;

/// So many entries of this server may wait to come back, and so many bytes in them.
const UNHEARD: usize = 16_384;
const UNHEARD_BYTES: usize = 64 * 1_024 * 1_024;

/// So long is waited before something is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// The shared log of one namespace.
pub(crate) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) topic: Topic,
    pub(super) router: Arc<Router>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) bounds: Bounds,
    pub(super) saver: Arc<Saver>,
    state: Mutex<State>,
    /// The version of what is wanted by which the broker has subscribed to the topic; 0 once it has.
    subscribing: AtomicU64,
    /// The sockets, once the adapter has begun.
    local: OnceLock<Local>,
    /// The last entry that has been given to the sockets. `None`: it isn't known how far the log goes.
    reached: watch::Sender<Option<u64>>,
    /// The reader has to look again.
    missed: Arc<Notify>,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct State {
    tail: Tail,
    replica: Arc<MemoryLog>,
    /// Entries of this server that haven't come back, by their numbers.
    unheard: BTreeMap<u64, Unheard>,
    bytes: usize,
    next: u64,
    /// The first that has to be sent.
    unsent: u64,
    /// Whether it is known, by this connection, how far the log goes: before, nothing is sent.
    is_open: bool,
    /// Why nothing can be stored, if the broker says so.
    denied: Option<String>,
    failures: u64,
}

struct Unheard {
    entry: Bytes,
    done: oneshot::Sender<Result<u64, LogError>>,
}

impl Shared {
    pub(crate) fn new(
        name: &str,
        bounds: Bounds,
        router: &Arc<Router>,
        journal: Arc<dyn Journal>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            topic: router.topics.log(name),
            router: Arc::clone(router),
            journal,
            bounds,
            saver: Arc::default(),
            state: Mutex::new(State {
                tail: Tail::new(),
                replica: Arc::new(MemoryLog::replica(EPOCH, 0, bounds)),
                unheard: BTreeMap::new(),
                bytes: 0,
                next: 1,
                unsent: 1,
                is_open: false,
                denied: None,
                failures: 0,
            }),
            subscribing: AtomicU64::new(0),
            local: OnceLock::new(),
            reached: watch::Sender::new(None),
            missed: Arc::default(),
            tasks: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replica(&self) -> Arc<MemoryLog> {
        Arc::clone(&self.state().replica)
    }

    pub(super) fn local(&self) -> Option<&Local> {
        self.local.get()
    }

    /// The adapter begins: from now on entries are given to its sockets.
    pub(crate) fn start(self: &Arc<Self>, local: &Local) {
        if self.local.set(local.clone()).is_err() {
            return;
        }
        let link = self.router.link();
        link.wanted.want(self.topic.clone());
        self.subscribing
            .store(link.wanted.version(), Ordering::Release);
        let weak = Arc::downgrade(self);
        let missed = Arc::clone(&self.missed);
        let reads = link.runtime.spawn(async move {
            loop {
                missed.notified().await;
                let Some(this) = weak.upgrade() else {
                    return;
                };
                this.read().await;
            }
        });
        let saves = link.runtime.spawn(sessions::save(
            Arc::downgrade(self),
            Arc::clone(&self.saver),
        ));
        self.tasks()
            .extend([reads.abort_handle(), saves.abort_handle()]);
        self.up();
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The way out.

    /// Appends an event, and tells when it has come back.
    fn push(&self, event: &Outgoing, target: &Target, flags: Flags) -> Appending {
        let mut state = self.state();
        let number = state.next;
        let logged = Logged {
            from: self.router.me().into(),
            number,
            at: now(),
            is_local: flags.local,
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
        };
        let entry = Bytes::from(logged.encode());
        if let Some(reason) = &state.denied {
            let error = LogError::Failed(reason.clone());
            state.failures += 1;
            return Appending::Done(Err(error));
        }
        if state.unheard.len() >= UNHEARD || state.bytes + entry.len() > UNHEARD_BYTES {
            state.failures += 1;
            return Appending::Done(Err(LogError::Failed(FULL.to_owned())));
        }
        let (done, stored) = oneshot::channel();
        state.next += 1;
        state.bytes += entry.len();
        state.unheard.insert(number, Unheard { entry, done });
        self.pump(&mut state);
        drop(state);
        Appending::Waiting(Box::pin(async move {
            stored
                .await
                .unwrap_or_else(|_| Err(LogError::Failed("closed".to_owned())))
        }))
    }

    /// Sends what has not been sent, in its order, as far as the broker takes it.
    fn pump(&self, state: &mut State) {
        if !state.is_open {
            return;
        }
        let mut refused = Vec::new();
        for (number, unheard) in state.unheard.range(state.unsent..) {
            let sent = self.append(
                self.router.me().as_str(),
                *number,
                unheard.entry.clone(),
                &state.replica,
            );
            match sent {
                Ok(()) => {}
                // It is sent when the connection is there again, or there is room.
                Err(Refused::Down { .. } | Refused::Full) => break,
                Err(error) => refused.push((*number, error)),
            }
            state.unsent = number + 1;
        }
        for (number, error) in refused {
            state.fail(number, &error.to_string());
        }
    }

    fn append(
        &self,
        from: &str,
        number: u64,
        entry: Bytes,
        replica: &MemoryLog,
    ) -> Result<(), Refused> {
        let kept = (replica.last() + 1).saturating_sub(replica.first());
        let append = Append {
            from,
            number,
            entry,
            // Those that are on their way are more.
            keep: kept.min(self.bounds.events as u64) + 1_000,
            time: self.bounds.duration,
        };
        self.journal.append(&self.topic, append)
    }

    /// The broker has refused an entry, or that of a program that is no server.
    pub(crate) fn refused(&self, from: &str, number: u64, reason: &str) {
        let mut state = self.state();
        if from == self.router.me().as_str() {
            state.fail(number, reason);
        }
        self.pump(&mut state);
    }

    /// A program that is no server has emitted this. All servers that hear it append it, and the
    /// journal takes the first.
    pub(crate) fn emitted(
        &self,
        from: &str,
        number: u64,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) {
        let logged = Logged {
            from: from.into(),
            number,
            at: now(),
            is_local: false,
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
        };
        let replica = self.replica();
        if let Err(error) = self.append(from, number, logged.encode().into(), &replica) {
            self.state().failures += 1;
            tracing::warn!(namespace = &*self.name, %error, "an event of an emitter isn't logged");
        }
    }

    // The way in.

    /// The connection is there, or something has been dropped.
    pub(crate) fn up(&self) {
        self.state().tail.read();
        self.missed.notify_one();
        self.saver.wake();
    }

    /// What is wanted as of this version has been subscribed to: what was appended before that may
    /// have been missed.
    pub(crate) fn subscribed(&self, version: u64) {
        let waits = self.subscribing.load(Ordering::Acquire);
        if waits > 0 && waits <= version {
            self.subscribing.store(0, Ordering::Release);
            self.up();
        }
    }

    /// The connection is lost, and what was sent by it may be.
    pub(crate) fn down(&self) {
        let mut state = self.state();
        state.tail.cut();
        state.is_open = false;
        state.unsent = state.unheard.keys().next().copied().unwrap_or(state.next);
    }

    /// Something is tried again that there was no room for.
    pub(crate) fn tick(&self) {
        let mut state = self.state();
        if state.unsent < state.next {
            self.pump(&mut state);
        }
    }

    /// A frame of the log's topic has come.
    pub(crate) fn heard(&self, bytes: Bytes) {
        let Some(placed) = Placed::decode(bytes) else {
            let error = "this is no entry of a log";
            return self.router.link().malformed(self.topic.name(), &error);
        };
        let heard = self.state().tail.heard(&placed);
        match heard {
            Heard::Next if !self.take(&placed, true) => {
                self.state().tail.read();
                self.missed.notify_one();
            }
            Heard::Next | Heard::Leave => {}
            Heard::Read => self.missed.notify_one(),
        }
    }

    /// Takes the next entry. Returns `false` if there is no room for it now.
    fn take(&self, placed: &Placed, is_delivered: bool) -> bool {
        let place = placed.place;
        if placed.entry.is_empty() {
            self.begin_behind(place);
            self.passed(place);
        } else {
            match Logged::decode(&placed.entry) {
                Ok(logged) => {
                    if !self.give(place, logged, is_delivered) {
                        return false;
                    }
                }
                Err(error) => {
                    self.router.link().malformed(self.topic.name(), &error);
                    self.passed(place);
                }
            }
        }
        self.took(place);
        true
    }

    fn took(&self, place: u64) {
        self.state().tail.took(place);
        self.reached.send_if_modified(|reached| {
            let before = *reached;
            *reached = before.map(|before| before.max(place));
            *reached != before
        });
    }

    /// There is nothing for the sockets of this server up to this place.
    fn passed(&self, place: u64) {
        if let Some(local) = self.local() {
            local.passed(place);
        }
    }

    /// Gives an event to the sockets of this server, or to whoever waits for it.
    fn give(&self, place: u64, logged: Logged, is_delivered: bool) -> bool {
        let is_mine = *logged.from == *self.router.me().as_str();
        if logged.is_local && !is_mine {
            self.passed(place);
            return true;
        }
        let target = message::target(logged.to);
        let at = UNIX_EPOCH + Duration::from_millis(logged.at.min(LATEST));
        let (promised, replica) = {
            let mut state = self.state();
            let number = logged.number;
            (
                is_mine.then(|| state.unheard(number)).flatten(),
                Arc::clone(&state.replica),
            )
        };
        replica.insert(place, at, &logged.event, &target);
        if let Some(unheard) = promised {
            // Whoever waited has gone with its namespace.
            let _ = unheard.done.send(Ok(place));
            return true;
        }
        let flags = message::flags(logged.delivery);
        let local = self.local().filter(|_| is_delivered);
        local.is_none_or(|local| local.deliver(&logged.event, &target, flags, place))
    }

    /// What was before this place can't be recovered.
    fn begin_behind(&self, place: u64) {
        self.state().replica = Arc::new(MemoryLog::replica(EPOCH, place, self.bounds));
    }

    /// Reads what was missed, until nothing lacks.
    async fn read(&self) {
        while self.state().tail.is_reading() {
            let Err(error) = self.read_all().await else {
                continue;
            };
            self.state().tail.cut();
            if matches!(error, Refused::Down { .. } | Refused::Closed) {
                return;
            }
            tracing::error!(namespace = &*self.name, %error, "the shared log can't be read: events of this namespace aren't delivered");
            self.state().deny(error.to_string());
            tokio::time::sleep(DENIED).await;
            self.state().tail.read();
        }
    }

    async fn read_all(&self) -> Result<(), Refused> {
        let last = self.state().tail.last();
        let extent = self.journal.open(&self.topic, last).await?;
        self.state().opened();
        let has_begun = self.reached.borrow().is_some();
        // What was before this server is kept for those that come back, and delivered to nobody.
        let history = if has_begun { 0 } else { extent.last };
        if extent.base > last {
            if has_begun {
                tracing::warn!(
                    namespace = &*self.name,
                    "the end of the shared log was lost: clients that come back begin anew"
                );
                // Those may be lost, too.
                if let Some(local) = self.local() {
                    local.save_sessions();
                }
            }
            self.begin_behind(extent.base);
            self.took(if has_begun { extent.base } else { 0 });
        }
        loop {
            let after = self.state().tail.last();
            let page = self.journal.read(&self.topic, after, PORTION).await?;
            for placed in &page {
                self.follows(placed, has_begun);
                while !self.take(placed, placed.place > history) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if page.is_empty() {
                break;
            }
            // Others want to run.
            tokio::task::yield_now().await;
        }
        if !has_begun {
            self.passed(extent.last);
            self.reached.send_replace(Some(extent.last));
        }
        self.took(extent.last);
        let is_whole = {
            let mut state = self.state();
            self.pump(&mut state);
            state.tail.has_read_all()
        };
        if !is_whole {
            // What was heard of isn't there yet.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// An entry that is read comes behind the last one. What lacks between them has been dropped by
    /// the journal before it was read.
    fn follows(&self, placed: &Placed, has_begun: bool) {
        let last = self.state().tail.last();
        if placed.before <= last {
            return;
        }
        if has_begun {
            tracing::error!(
                namespace = &*self.name,
                from = last,
                to = placed.before,
                "events were dropped from the shared log before this server had read them: its sockets have missed them"
            );
        }
        self.begin_behind(placed.before);
    }
}

impl State {
    /// It is known how far the log goes.
    fn opened(&mut self) {
        self.is_open = true;
        self.denied = None;
    }

    /// The broker says no: what waits won't be stored.
    fn deny(&mut self, reason: String) {
        let waiting: Vec<_> = self.unheard.keys().copied().collect();
        waiting
            .into_iter()
            .for_each(|number| self.fail(number, &reason));
        self.denied = Some(reason);
    }

    /// An entry of this server has come back.
    fn unheard(&mut self, number: u64) -> Option<Unheard> {
        let unheard = self.unheard.remove(&number)?;
        self.bytes -= unheard.entry.len();
        Some(unheard)
    }

    /// An entry of this server is not stored.
    fn fail(&mut self, number: u64, reason: &str) {
        if let Some(unheard) = self.unheard(number) {
            self.failures += 1;
            let _ = unheard.done.send(Err(LogError::Failed(reason.to_owned())));
        }
    }
}

impl Log for Shared {
    fn epoch(&self) -> u32 {
        EPOCH
    }

    fn last(&self) -> u64 {
        0
    }

    fn append(&self, event: &Outgoing, target: &Target, flags: Flags) -> Appending {
        self.push(event, target, flags)
    }

    fn read(&self, missed: Missed) -> BoxFuture<Result<Page, LogError>> {
        self.replica().read(missed)
    }

    fn newest(
        &self,
        room: Option<&str>,
        after: u64,
        limit: usize,
    ) -> BoxFuture<Result<Page, LogError>> {
        self.replica().newest(room, after, limit)
    }

    fn reached(&self, sequence: u64) -> BoxFuture<Result<(), LogError>> {
        let mut reached = self.reached.subscribe();
        let (journal, topic) = (Arc::clone(&self.journal), self.topic.clone());
        Box::pin(async move {
            let is_there = |reached: &Option<u64>| reached.is_some_and(|last| last >= sequence);
            if is_there(&reached.borrow()) {
                return Ok(());
            }
            let failed = |error: Refused| LogError::Failed(error.to_string());
            if journal.open(&topic, 0).await.map_err(failed)?.last < sequence {
                return Err(LogError::Gap);
            }
            let waited = reached.wait_for(is_there).await;
            waited
                .map(drop)
                .map_err(|_| LogError::Failed("closed".to_owned()))
        })
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn save(&self, session: SavedSession) {
        self.saver.change(session.pid.clone(), Some(session));
    }

    fn forget(&self, pid: &str) {
        self.saver.change(pid.into(), None);
    }

    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedSession>, LogError>> {
        sessions::take(self, pid)
    }

    fn sweep(&self) {
        self.replica().sweep();
    }

    fn failures(&self) -> u64 {
        self.state().failures
    }

    fn flush(&self) -> BoxFuture<()> {
        self.saver.flushed()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks().drain(..).for_each(|task| task.abort());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("namespace", &self.name)
            .finish_non_exhaustive()
    }
}

/// Places of a shared log are never given twice, so that all logs of a cluster have one epoch.
const EPOCH: u32 = 0;

/// The latest time that a clock knows, in ms.
const LATEST: u64 = u32::MAX as u64 * 1_000;

/// A log that the broker denies is tried again so much later.
const DENIED: Duration = Duration::from_secs(5);

const FULL: &str = "too much waits for the broker";

fn now() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(0, |passed| passed.as_millis() as u64)
}
