//! The shared log of one namespace, as recovery sees it.
//!
//! The namespace's order owns it, and so does its adapter, which begins it. The link gives it the
//! frames of its topic. A task of its own, the reader, reads what was missed: at the beginning, after
//! a loss of the connection, and when an entry lacks. Nothing is lost by that but what the journal
//! itself has dropped.
//!
//! What this server appends waits here until it has come back, and is sent again after a loss of the
//! connection. So it is delivered once, or its sender's log says that it can't be stored.

mod reader;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use antiphon::{
    Target,
    adapter::{BoxFuture, Flags, Local, Outgoing},
    recovery::{Appending, Bounds, Log, LogError, MemoryLog, Missed, Page, SavedSession},
};
use antiphon_protocol::cluster::native::Logged;
use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{
    Append, Asking, HandingOver, Journal, Owed, Placed, Waiting, Waits,
    sessions::Sessions,
    tail::{Heard, Pass, Tail},
    unheard::Unheard,
};
use crate::{Topic, broker::Refused, member::Member, message};

/// The shared log of one namespace.
pub(crate) struct Shared {
    name: Arc<str>,
    topic: Topic,
    member: Arc<Member>,
    journal: Arc<dyn Journal>,
    owed: Arc<Owed>,
    bounds: Bounds,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// The version of what is wanted by which the broker has subscribed to the topic; 0 once it has.
    subscribing: AtomicU64,
    /// The sockets, once the adapter has begun.
    local: OnceLock<Local>,
    reached: watch::Sender<Reached>,
    /// The reader has to look again.
    missed: Arc<Notify>,
    reader: OnceLock<AbortHandle>,
}

/// How far this server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reached {
    /// The last entry that has been given to the sockets. `None`: it has never been known how far the
    /// log goes.
    last: Option<u64>,
    /// Whether nothing can be read now.
    is_cut: bool,
}

struct State {
    tail: Tail,
    replica: Arc<MemoryLog>,
    unheard: Unheard,
    /// What was there before this server, which is kept for those that come back, and delivered to
    /// nobody. `None` until it is known how far that goes.
    history: Option<u64>,
}

impl Shared {
    pub(crate) fn new(
        name: &str,
        bounds: Bounds,
        handing: &Arc<HandingOver>,
        journal: Arc<dyn Journal>,
    ) -> Arc<Self> {
        let name: Arc<str> = name.into();
        let member = handing.member();
        let topic = member.topics.log(&name);
        let owed = Arc::<Owed>::default();
        let journal: Arc<dyn Journal> = Asking::new(journal, &owed);
        let sessions = Sessions::new(&name, &topic, &journal, handing, bounds.duration);
        Arc::new(Self {
            name,
            topic,
            member: Arc::clone(member),
            journal,
            owed,
            bounds,
            sessions,
            state: Mutex::new(State {
                tail: Tail::new(),
                replica: Arc::new(MemoryLog::replica(EPOCH, 0, bounds)),
                unheard: Unheard::new(),
                history: None,
            }),
            subscribing: AtomicU64::new(0),
            local: OnceLock::new(),
            reached: watch::Sender::default(),
            missed: Arc::default(),
            reader: OnceLock::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replica(&self) -> Arc<MemoryLog> {
        Arc::clone(&self.state().replica)
    }

    fn local(&self) -> Option<&Local> {
        self.local.get()
    }

    /// The adapter begins: from now on entries are given to its sockets.
    pub(crate) fn start(self: &Arc<Self>, local: &Local) {
        if self.local.set(local.clone()).is_err() {
            return;
        }
        let link = &self.member.link;
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
        // It is the first.
        let _ = self.reader.set(reads.abort_handle());
        self.sessions.start(local);
        // Until it is known how far the log goes.
        self.cut(true);
        self.up();
    }

    // The way out.

    /// Appends an event, and tells when it has come back.
    fn push(&self, event: &Outgoing, target: &Target, flags: Flags) -> Appending {
        let mut state = self.state();
        let pushed = state.unheard.push(Instant::now(), |number| {
            let logged = Self::logged(self.member.me().into(), number, event, target, flags);
            logged.encode()
        });
        let promise = match pushed {
            Ok(promise) => promise,
            Err(error) => return Appending::Done(Err(error)),
        };
        self.send(&mut state);
        drop(state);
        Appending::Waiting(Box::pin(async move {
            let closed = || Err(LogError::Failed("closed".to_owned()));
            promise.await.unwrap_or_else(|_| closed())
        }))
    }

    fn logged(
        from: Arc<str>,
        number: u64,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Logged {
        Logged {
            from,
            number,
            at: now(),
            is_local: flags.local,
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
        }
    }

    /// Sends what has not been sent.
    fn send(&self, state: &mut State) {
        let State {
            unheard, replica, ..
        } = state;
        let me = self.member.me().as_str();
        if unheard.send(|number, entry| self.append(me, number, entry, replica)) {
            self.member.retries();
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

    /// Resolves when its events are given to the sockets here, if there are any.
    pub(crate) async fn begun(&self) {
        if self.local().is_some() {
            let mut reached = self.reached.subscribe();
            // The sender is here.
            let _ = reached.wait_for(|reached| reached.last.is_some()).await;
        }
    }

    /// The broker has refused an entry, or that of a program that is no server.
    pub(crate) fn refused(&self, from: &str, number: u64, reason: &str) {
        let mut state = self.state();
        if from == self.member.me().as_str() {
            state.unheard.fail(number, reason);
        }
        self.send(&mut state);
    }

    /// Several servers have heard this, of a program that is no server or of a parent. All append it,
    /// and the journal takes the first.
    pub(crate) fn emitted(
        &self,
        from: &str,
        number: u64,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) {
        let logged = Self::logged(from.into(), number, event, target, flags);
        let replica = self.replica();
        if let Err(error) = self.append(from, number, logged.encode().into(), &replica) {
            self.state().unheard.failed();
            tracing::warn!(namespace = &*self.name, %error, from, "an event isn't logged");
        }
    }

    // The way in.

    /// The connection is there, or something has been dropped.
    pub(crate) fn up(&self) {
        self.state().tail.read();
        self.missed.notify_one();
        self.sessions.retry();
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
        self.cut(true);
        let mut state = self.state();
        state.tail.cut();
        state.unheard.cut();
    }

    /// Nothing can be read or stored, or it can again. Returns whether that was so before.
    fn cut(&self, is_cut: bool) -> bool {
        let mut was_cut = false;
        self.reached
            .send_modify(|reached| was_cut = std::mem::replace(&mut reached.is_cut, is_cut));
        if was_cut != is_cut
            && let Some(local) = self.local()
        {
            local.stall(is_cut);
        }
        was_cut
    }

    /// Something is tried again that there was no room for.
    pub(crate) fn tick(&self) {
        self.send(&mut self.state());
    }

    /// A frame of the log's topic has come.
    pub(crate) fn heard(&self, bytes: Bytes) {
        let Some(placed) = Placed::decode(bytes) else {
            let error = "this is no entry of a log";
            return self.member.link.malformed(self.topic.name(), &error);
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
        } else if placed.entry == Placed::NOTHING {
            self.passed(place);
        } else {
            match Logged::decode(&placed.entry) {
                Ok(logged) => {
                    if !self.give(place, logged, is_delivered) {
                        return false;
                    }
                }
                Err(error) => {
                    self.member.link.malformed(self.topic.name(), &error);
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
            reached.last = before.last.map(|last| last.max(place));
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
        let is_mine = *logged.from == *self.member.me().as_str();
        if logged.is_local && !is_mine {
            self.passed(place);
            return true;
        }
        let target = message::target(logged.to);
        let at = UNIX_EPOCH + Duration::from_millis(logged.at.min(LATEST));
        let replica = self.replica();
        replica.insert(place, at, &logged.event, &target);
        if is_mine && self.state().unheard.heard(logged.number, place) {
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
}

impl Waits for Shared {
    fn namespace(&self) -> &Arc<str> {
        &self.name
    }

    fn waiting(&self) -> Waiting {
        let unheard = &self.state().unheard;
        Waiting {
            events: unheard.len(),
            since: unheard.since().into_iter().chain(self.owed.since()).min(),
            refusal: unheard.denied().cloned(),
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

    fn append_once(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        (from, number): (&str, u64),
    ) -> bool {
        self.emitted(from, number, event, target, flags);
        true
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
        let bounds = self.bounds;
        Box::pin(async move {
            let is_there = |reached: &Reached| reached.last.is_some_and(|last| last >= sequence);
            if is_there(&reached.borrow()) {
                return Ok(());
            }
            let failed = |error: &dyn fmt::Display| LogError::Failed(error.to_string());
            let extent = journal.open(&topic, bounds, 0).await;
            if extent.map_err(|error| failed(&error))?.last < sequence {
                return Err(LogError::Gap);
            }
            let waited = reached.wait_for(|reached| is_there(reached) || reached.is_cut);
            match waited.await {
                Ok(reached) if is_there(&reached) => Ok(()),
                _ => Err(failed(&"the broker is away")),
            }
        })
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn save(&self, session: SavedSession) {
        self.sessions.change(session.pid.clone(), Some(session));
    }

    fn forget(&self, pid: &str) {
        self.sessions.change(pid.into(), None);
    }

    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedSession>, LogError>> {
        self.sessions.take(pid)
    }

    fn sweep(&self) {
        self.replica().sweep();
    }

    fn failures(&self) -> u64 {
        self.state().unheard.failures()
    }

    fn flush(&self) -> BoxFuture<()> {
        self.sessions.flushed()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
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

fn now() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(0, |passed| passed.as_millis() as u64)
}
