//! Recovery with servers of Node that have its adapter for Redis streams: the stream is the log of
//! each namespace that is told in it, and the id of an entry the offset of its event.
//!
//! ```text
//! emit -> NodeLog::append -> the stream -> router -> NodeLog::heard
//!                                                     |  replica: what recovery reads
//!                                                     v
//!                          Local::deliver, or the promise of whoever emitted it
//! ```
//!
//! The namespace's order owns it, and so does its adapter, which begins it. All servers deliver in
//! the order of the stream, their own events when they come back. What was there before this server
//! is read once, by a task that also gives what there was no room for.
//!
//! What this server appends waits until it has come back ([`Outbox`]). The mark after a loss of the
//! connection is a heartbeat, which means nothing to others on this wire.

use std::{
    collections::VecDeque,
    fmt,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

use antiphon::{
    Target,
    adapter::{BoxFuture, Flags, Local, NodeId, Outgoing},
    recovery::{Appending, Bounds, Log, LogError, MemoryLog, Missed, Page, SavedSession},
};
use antiphon_protocol::cluster::node::{Content, Interest, Message};
use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{
    codec::{Codec, Logged, wire_flags},
    outbox::{Due, Outbox},
    place::{id_of, millis_of, place_of},
    sessions::Sessions,
    wire::NodeWire,
};
use crate::{
    broker::{Refused, Store, entry},
    link::Link,
    log::{Asking, Owed, Waiting, Waits},
    message, random_id,
};

/// So many entries may wait to be delivered, and so many bytes in them.
const EARLY: usize = 16_384;
const EARLY_BYTES: usize = 64 * 1_024 * 1_024;

/// So many entries are read at once.
const PAGE: usize = 200;

/// So long is waited before something is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Ids of entries aren't given twice, so that all logs have one epoch.
const EPOCH: u32 = 0;

/// The namespace whose log it is.
pub(crate) trait Hears: Interest + Send + Sync + 'static {
    /// Its sockets on this server.
    fn local(&self) -> &Local;

    /// Another server has said something by the stream that is no event of the log.
    fn told(self: &Arc<Self>, from: Option<&str>, message: Message);
}

/// The log of one namespace.
pub(crate) struct NodeLog {
    name: Arc<str>,
    /// The name of this server in the namespace.
    pub(crate) me: NodeId,
    codec: Arc<Codec>,
    link: Arc<Link>,
    store: Arc<dyn Store>,
    owed: Arc<Owed>,
    bounds: Bounds,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// The sockets, once the adapter has begun.
    local: OnceLock<Local>,
    /// The last entry that has been given to the sockets. `None`: what was there before isn't known yet.
    reached: watch::Sender<Option<u64>>,
    /// The task has something to do.
    wake: Arc<Notify>,
    tasks: Mutex<Vec<AbortHandle>>,
}

struct State {
    replica: Arc<MemoryLog>,
    /// Entries that have come and wait: for what was there before, or for room.
    early: VecDeque<Bytes>,
    early_bytes: usize,
    /// Whether what comes has to wait.
    is_behind: bool,
    /// Entries were lost before the next.
    is_broken: bool,
    outbox: Outbox,
    /// Why what was there before can't be read, if the Redis says so.
    denied: Option<String>,
}

impl NodeLog {
    /// `None` if this wire, or this broker, keeps nothing.
    pub(crate) fn new(
        name: &str,
        bounds: Bounds,
        wire: &NodeWire,
        link: &Arc<Link>,
    ) -> Option<Arc<Self>> {
        let NodeWire::Streams { sessions, .. } = wire else {
            return None;
        };
        let owed = Arc::<Owed>::default();
        let store = Arc::clone(&link.broker).store()?;
        let store: Arc<dyn Store> = Asking::new(store, &owed);
        let me = random_id();
        Some(Arc::new(Self {
            name: name.into(),
            codec: Arc::new(Codec::new(wire, name, me.as_str())),
            me,
            link: Arc::clone(link),
            sessions: Arc::new(Sessions::new(Arc::clone(&store), sessions, bounds.duration)),
            store,
            owed,
            bounds,
            state: Mutex::new(State {
                replica: Arc::new(MemoryLog::replica(EPOCH, 0, bounds)),
                early: VecDeque::new(),
                early_bytes: 0,
                is_behind: true,
                is_broken: false,
                outbox: Outbox::new(),
                denied: None,
            }),
            local: OnceLock::new(),
            reached: watch::Sender::new(None),
            wake: Arc::default(),
            tasks: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replica(&self) -> Arc<MemoryLog> {
        Arc::clone(&self.state().replica)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The adapter begins: from now on entries are given to its sockets.
    pub(crate) fn start<N: Hears>(self: &Arc<Self>, namespace: &Arc<N>) {
        if self.local.set(namespace.local().clone()).is_err() {
            return;
        }
        let (weak, wake) = (Arc::downgrade(self), Arc::clone(&self.wake));
        let namespace = Arc::downgrade(namespace);
        let runtime = &self.link.runtime;
        let works = runtime.spawn(async move {
            loop {
                wake.notified().await;
                let (Some(this), Some(namespace)) = (weak.upgrade(), namespace.upgrade()) else {
                    return;
                };
                this.work(&namespace).await;
            }
        });
        let sessions = Arc::clone(&self.sessions);
        let saves = runtime.spawn(async move { sessions.run().await });
        self.tasks()
            .extend([works.abort_handle(), saves.abort_handle()]);
    }

    // The way out.

    fn push(&self, event: &Outgoing, target: &Target, flags: Flags) -> Appending {
        let message = Message::Broadcast {
            event: event.clone(),
            target: message::sockets(target),
            flags: wire_flags(flags, None),
            request: None,
        };
        let frame = |number| match self.codec.encode_numbered(&message, number) {
            Ok((_, frame)) => Ok(frame),
            Err(error) => Err(LogError::Failed(error.to_string())),
        };
        let mut state = self.state();
        let stored = match state.outbox.push(Instant::now(), frame) {
            Ok(stored) => stored,
            Err(error) => return Appending::Done(Err(error)),
        };
        self.send(&mut state);
        drop(state);
        Appending::Waiting(Box::pin(async move {
            stored
                .await
                .unwrap_or_else(|_| Err(LogError::Failed("closed".to_owned())))
        }))
    }

    /// Publishes what is due.
    fn send(&self, state: &mut State) {
        let Some(stream) = self.codec.stream() else {
            return;
        };
        let broker = &self.link.broker;
        state.outbox.send(|due| match due {
            Due::Entry(frame) => broker.publish(stream, frame.clone()),
            Due::Mark(number) => {
                let mark = self.codec.encode_numbered(&Message::Heartbeat, number);
                mark.map_or(Ok(()), |(_, frame)| broker.publish(stream, frame))
            }
        });
    }

    /// The Redis has refused an entry of this server.
    pub(crate) fn refused(&self, number: u64, reason: &str) {
        self.state().outbox.refused(number, reason);
    }

    /// The connection is there.
    pub(crate) fn up(&self) {
        let mut state = self.state();
        state.outbox.up();
        self.send(&mut state);
        drop(state);
        self.wake.notify_one();
    }

    /// The connection is lost.
    pub(crate) fn down(&self) {
        self.state().outbox.down();
    }

    /// Something is tried again that there was no room for.
    pub(crate) fn tick(&self) {
        self.send(&mut self.state());
    }

    // The way in.

    /// An entry of the stream has come. Called by one task.
    pub(crate) fn heard<N: Hears>(&self, namespace: &Arc<N>, frame: Bytes) {
        let mut state = self.state();
        if !state.is_behind {
            drop(state);
            if self.take(namespace, &frame) {
                return;
            }
            state = self.state();
            state.is_behind = true;
        }
        let is_full = state.early.len() >= EARLY;
        if is_full || state.early_bytes + frame.len() > EARLY_BYTES {
            state.outbox.failed();
            state.is_broken = true;
            return;
        }
        state.early_bytes += frame.len();
        state.early.push_back(frame);
        drop(state);
        self.wake.notify_one();
    }

    /// Takes an entry. Returns `false` if there is no room for it now.
    fn take<N: Hears>(&self, namespace: &Arc<N>, frame: &Bytes) -> bool {
        let is_trimmed = **frame == *entry::TRIMMED;
        if is_trimmed || **frame == *entry::ANEW {
            let mut state = self.state();
            state.is_broken = true;
            if is_trimmed {
                state.outbox.trimmed();
            }
            return true;
        }
        let Some(Logged {
            place,
            number,
            received,
        }) = self.read(&**namespace, frame)
        else {
            return true;
        };
        let is_mine = received.from.as_deref() == Some(self.me.as_str());
        match received.content {
            Content::Message(Message::Broadcast {
                event,
                target,
                flags,
                request: None,
            }) if !flags.volatile => {
                let promised = number.filter(|_| is_mine);
                let promised = promised.and_then(|number| self.state().outbox.heard(number));
                if is_mine && promised.is_none() {
                    // It went to the sockets of this server another way.
                    return true;
                }
                let target = message::target(target);
                self.insert(place, &event, &target);
                let flags = Flags::default();
                match promised {
                    Some(waits) => {
                        // Whoever waited has gone with its namespace.
                        let _ = waits.send(Ok(place));
                    }
                    None if !namespace.local().deliver(&event, &target, flags, place) => {
                        return false;
                    }
                    None => {}
                }
                self.reached.send_modify(|reached| {
                    *reached = reached.map(|before| before.max(place));
                });
            }
            Content::Message(Message::Heartbeat) if is_mine => {
                let mut state = self.state();
                state.outbox.marked(number.unwrap_or(0));
                self.send(&mut state);
            }
            Content::Message(message) if !is_mine => {
                namespace.told(received.from.as_deref(), message);
            }
            Content::Message(_) | Content::Answer(_) => {}
        }
        true
    }

    fn read(&self, interest: &dyn Interest, frame: &[u8]) -> Option<Logged> {
        match self.codec.decode_logged(frame, interest) {
            Ok(logged) => logged,
            Err(error) => {
                self.link.malformed(&self.name, &error);
                None
            }
        }
    }

    fn insert(&self, place: u64, event: &Outgoing, target: &Target) {
        let mut state = self.state();
        if std::mem::take(&mut state.is_broken) {
            let before = place.saturating_sub(1);
            state.replica = Arc::new(MemoryLog::replica(EPOCH, before, self.bounds));
        }
        let replica = Arc::clone(&state.replica);
        drop(state);
        let at = UNIX_EPOCH + Duration::from_millis(millis_of(place));
        replica.insert(place, at, event, target);
    }

    /// Another server asks for a session, whose socket is here or isn't.
    pub(crate) fn hand_over(&self, local: &Local, pid: &str, waited: Duration) {
        let given = local.hand_over(pid, waited);
        let sessions = Arc::clone(&self.sessions);
        self.link.runtime.spawn(async move {
            if let Ok(session) = given.await {
                sessions.park(session);
            }
        });
    }

    /// Reads what was there before, and gives what waits.
    async fn work<N: Hears>(&self, namespace: &Arc<N>) {
        while self.reached.borrow().is_none() {
            match self.begin(&**namespace).await {
                Ok(()) => {
                    {
                        let mut state = self.state();
                        state.denied = None;
                        state.outbox.begin();
                    }
                    self.tick();
                }
                // It is tried again when the connection is there.
                Err(Refused::Down { .. } | Refused::Closed) => return,
                Err(error) => {
                    let reason = Some(error.to_string());
                    // It is said once.
                    if self.state().denied != reason {
                        tracing::error!(namespace = &*self.name, %error, "the stream can't be read: events of this namespace aren't delivered");
                        self.state().denied = reason;
                    }
                    tokio::time::sleep(50 * PAUSE).await;
                }
            }
        }
        loop {
            let frame = {
                let mut state = self.state();
                let frame = state.early.front().cloned();
                state.is_behind = frame.is_some();
                frame
            };
            let Some(frame) = frame else {
                return;
            };
            if self.take(namespace, &frame) {
                let mut state = self.state();
                state.early.pop_front();
                state.early_bytes -= frame.len();
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Reads what was there before this server: for those that come back, and for nobody else.
    async fn begin<N: Hears>(&self, namespace: &N) -> Result<(), Refused> {
        let stream = self.codec.stream().map(|stream| stream.name().to_owned());
        let stream = stream.unwrap_or_default();
        let (mut last, mut is_first) = (0, true);
        loop {
            let page = self.store.read(&stream, &id_of(last + 1), PAGE).await?;
            if page.is_empty() {
                break;
            }
            for frame in page {
                let place = self.codec.place(&frame);
                last = place.unwrap_or(last + 1).max(last);
                if std::mem::take(&mut is_first) {
                    // Nothing is known of what was trimmed.
                    self.state().is_broken = true;
                }
                if let Some(Logged {
                    place, received, ..
                }) = self.read(namespace, &frame)
                    && let Content::Message(Message::Broadcast {
                        event,
                        target,
                        flags,
                        request: None,
                    }) = received.content
                    && !flags.volatile
                {
                    self.insert(place, &event, &message::target(target));
                }
            }
            // Others want to run.
            tokio::task::yield_now().await;
        }
        namespace.local().passed(last);
        self.reached.send_replace(Some(last));
        Ok(())
    }
}

impl Waits for NodeLog {
    fn namespace(&self) -> &Arc<str> {
        &self.name
    }

    fn waiting(&self) -> Waiting {
        let state = self.state();
        Waiting {
            events: state.outbox.len(),
            since: state
                .outbox
                .since()
                .into_iter()
                .chain(self.owed.since())
                .min(),
            refusal: state.denied.clone(),
        }
    }
}

impl Log for NodeLog {
    fn epoch(&self) -> u32 {
        EPOCH
    }

    fn last(&self) -> u64 {
        0
    }

    fn offset(&self, sequence: u64) -> String {
        id_of(sequence)
    }

    fn sequence(&self, offset: &str) -> Result<u64, LogError> {
        place_of(offset).ok_or(LogError::Gap)
    }

    fn append(&self, event: &Outgoing, target: &Target, flags: Flags) -> Appending {
        match flags.local {
            // As in Node: nobody else is to hear of it.
            true => Appending::Unlogged,
            false => self.push(event, target, flags),
        }
    }

    fn read(&self, missed: Missed) -> BoxFuture<Result<Page, LogError>> {
        let replica = self.replica();
        // A session of Node's doesn't say when it began. Its client says up to where it has come, and
        // must not get what was before by saying anything.
        if missed.after > missed.stays.came && !replica.may_have(missed.after) {
            return Box::pin(ready(Err(LogError::Gap)));
        }
        replica.read(missed)
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
        /// An event that a client has had is in the stream, and comes from there within this.
        const PATIENCE: Duration = Duration::from_secs(2);

        let mut reached = self.reached.subscribe();
        Box::pin(async move {
            let is_there = |reached: &Option<u64>| reached.is_some_and(|last| last >= sequence);
            let waits = tokio::time::timeout(PATIENCE, reached.wait_for(is_there));
            match waits.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(LogError::Failed("closed".to_owned())),
                Err(_) => Err(LogError::Gap),
            }
        })
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn park(&self, session: SavedSession) {
        self.sessions.park(session);
    }

    fn lends(&self) -> bool {
        true
    }

    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedSession>, LogError>> {
        let (sessions, pid) = (Arc::clone(&self.sessions), pid.to_owned());
        let (codec, link) = (Arc::clone(&self.codec), Arc::clone(&self.link));
        let (has_begun, came) = (self.local.get().is_some(), Instant::now());
        Box::pin(async move {
            let say = |message| {
                let (topic, frame) = codec.encode(&message)?;
                link.publish(&topic, frame)
            };
            let ask = || {
                let (private_id, waited) = (pid.as_str().into(), came.elapsed());
                has_begun && say(Message::HandOver { private_id, waited }).is_ok()
            };
            sessions.take_or_ask(&pid, ask).await
        })
    }

    fn sweep(&self) {
        self.replica().sweep();
    }

    fn failures(&self) -> u64 {
        self.state().outbox.failures()
    }

    fn flush(&self) -> BoxFuture<()> {
        let sessions = Arc::clone(&self.sessions);
        Box::pin(async move { sessions.flushed().await })
    }
}

impl Drop for NodeLog {
    fn drop(&mut self) {
        self.tasks().drain(..).for_each(|task| task.abort());
    }
}

impl fmt::Debug for NodeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeLog")
            .field("namespace", &self.name)
            .finish_non_exhaustive()
    }
}
