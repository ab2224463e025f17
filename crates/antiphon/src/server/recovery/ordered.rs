//! The events of a namespace in the order of its log, on their way to its sockets.
//!
//! One lock is held from the append to the last queue: so sockets get logged events in the order of
//! their offsets, and so does each thread that emits. Volatile events carry the offset before them,
//! since stock clients take whatever text an event ends with for one. Where a log needs time to
//! store an event, this event and all behind it wait in a queue ([`Waiting`]). Volatile events
//! don't.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_protocol::socket::{Draft, EncodeError, Fanout, Outgoing};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use super::{
    log::{Appending, Log, LogError, LoggedEvent, Offset, SAID_EACH},
    options::{OpenedLog, Recovery},
    sessions::{Over, Sessions},
    waiting::{Change, Delivery, Receivers, Waiting},
    worker::Worker,
};
use crate::{
    engine::{QueuePolicy, SendError, Sending, session::turn},
    seldom::Seldom,
    server::{
        EmitError, Shared, Socket, SocketId, Target,
        adapter::Flags,
        delivery::kept,
        handlers::future::BoxFuture,
        namespace::namespaces::Namespaces,
        rooms::{Rooms, burst},
        socket::values::Values,
    },
};

/// The logged events of one namespace, and its sessions.
pub(crate) struct Ordered {
    pub(super) namespace: Box<str>,
    pub(super) options: Arc<Recovery>,
    pub(super) log: Arc<dyn Log>,
    /// Whether other servers append to the log, too.
    is_shared: bool,
    shared: Arc<Shared>,
    pub(super) rooms: Arc<Rooms>,
    namespaces: Weak<Namespaces>,
    waiting: Mutex<Waiting>,
    /// Whether something waits, as all ask before they do what must not overtake it.
    is_behind: AtomicBool,
    /// The last event that has been queued for all its sockets.
    delivered: Arc<AtomicU64>,
    sessions: Mutex<Sessions>,
    /// Events that could not be stored, and so aren't delivered.
    undelivered: Seldom,
    /// Somebody has resumed a session, or has put it back.
    pub(super) settled: Notify,
    pub(super) is_swept: AtomicBool,
}

impl Ordered {
    pub(crate) fn new(
        namespace: &str,
        namespaces: Weak<Namespaces>,
        OpenedLog { log, is_shared }: OpenedLog,
        shared: &Arc<Shared>,
        rooms: &Arc<Rooms>,
        options: &Arc<Recovery>,
    ) -> Arc<Self> {
        let delivered = Arc::new(AtomicU64::new(log.last()));
        rooms.track(Arc::clone(&delivered));
        let this = Arc::new(Self {
            namespace: namespace.into(),
            options: Arc::clone(options),
            log,
            is_shared,
            shared: Arc::clone(shared),
            rooms: Arc::clone(rooms),
            namespaces,
            waiting: Mutex::default(),
            is_behind: AtomicBool::new(false),
            delivered,
            sessions: Mutex::default(),
            undelivered: Seldom::each(SAID_EACH),
            settled: Notify::new(),
            is_swept: AtomicBool::new(false),
        });
        for saved in this.log.saved() {
            this.park_saved(saved, None);
        }
        this
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last event that has been queued for all its sockets.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    /// See [`Log::append_once`].
    pub(crate) fn append_once(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        number: (&str, u64),
    ) -> bool {
        self.log.append_once(event, target, flags, number)
    }

    /// Whether other servers append to its log, too.
    pub(crate) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether its log is in this process alone, nobody is in it or may come back, and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        !self.outlives_server() && self.sessions().is_empty() && !self.is_behind()
    }

    /// Whether its log is in a file, or shared with other servers.
    pub(crate) fn outlives_server(&self) -> bool {
        self.is_shared || self.log.is_durable()
    }

    /// How long a session may be resumed.
    pub(crate) fn duration(&self) -> Duration {
        self.options.duration
    }

    /// What the log could not store.
    pub(crate) fn failures(&self) -> u64 {
        self.log.failures()
    }

    /// Resolves when all is stored that was emitted before.
    pub(crate) fn flush(&self) -> BoxFuture<()> {
        self.log.flush()
    }

    /// The newest events to a room, or to everyone, of those behind `since`.
    pub(crate) async fn history(
        &self,
        room: Option<&str>,
        since: Option<Offset>,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, LogError> {
        let after = match since {
            Some(since) if since.epoch != self.log.epoch() => return Err(LogError::Gap),
            Some(since) => since.sequence,
            None => 0,
        };
        Ok(self.log.newest(room, after, limit).await?.events)
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something while no event is delivered, as part of a turn: what is queued leaves when
    /// the lock has been let go.
    pub(crate) fn in_order<R>(self: &Arc<Self>, work: impl FnOnce(&mut Waiting) -> R) -> R {
        turn::scope(|| {
            let mut waiting = self.waiting();
            let done = work(&mut waiting);
            if !waiting.is_empty() && !waiting.has_worker {
                waiting.has_worker = true;
                self.is_behind.store(true, Ordering::Release);
                drop(waiting);
                Worker::start(self);
            }
            done
        })
    }

    /// Whether something waits for the log: what must not overtake it is put behind it. Costs one
    /// look at an atomic.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    /// All has been done that waited. Called in order.
    pub(super) fn nothing_waits(&self) {
        self.is_behind.store(false, Ordering::Release);
    }

    /// Does something behind what waits. It keeps about so many bytes meanwhile.
    pub(crate) fn behind(self: &Arc<Self>, bytes: usize, work: impl FnOnce() + Send + 'static) {
        self.in_order(|waiting| waiting.push_work(bytes, Box::new(work)));
    }

    /// Changes memberships behind what waits.
    pub(crate) fn change(self: &Arc<Self>, change: Change) {
        self.in_order(|waiting| waiting.push_change(change));
    }

    /// The log is away, or there again.
    pub(crate) fn stall(self: &Arc<Self>, is_stalled: bool) {
        self.in_order(|waiting| waiting.stall(is_stalled));
    }

    /// Resolves when all has been delivered and done that was emitted or asked for before.
    pub(crate) async fn caught_up(self: &Arc<Self>) {
        if self.is_behind() {
            let (told, done) = oneshot::channel();
            self.behind(0, move || {
                let _ = told.send(());
            });
            let _ = done.await;
        }
    }

    /// Where its work is done.
    pub(super) fn runtime(&self) -> Option<Handle> {
        let current = Handle::try_current().ok();
        current.or_else(|| self.namespaces.upgrade()?.engine()?.runtime())
    }

    /// Emits an event to the sockets of `target`.
    pub(crate) fn broadcast(
        self: &Arc<Self>,
        event: &Outgoing,
        target: &Target,
        sending: Sending,
        flags: Flags,
    ) {
        self.in_order(|waiting| self.broadcast_in(waiting, event, target, sending, flags));
    }

    /// An event that another server has appended to the log that both share. Returns whether there
    /// was room for it.
    pub(crate) fn heard(
        self: &Arc<Self>,
        event: &Outgoing,
        target: &Target,
        sequence: u64,
        policy: QueuePolicy,
    ) -> bool {
        self.in_order(|waiting| self.heard_in(waiting, event, target, sequence, policy))
    }

    /// As [`heard`](Self::heard), by whoever has the lock.
    pub(crate) fn heard_in(
        &self,
        waiting: &mut Waiting,
        event: &Outgoing,
        target: &Target,
        sequence: u64,
        policy: QueuePolicy,
    ) -> bool {
        if waiting.is_empty() {
            self.deliver_to_many(event, target, sequence, policy);
            return true;
        }
        let delivery = Delivery {
            event: event.clone(),
            receivers: Receivers::Many(target.clone()),
            policy,
        };
        waiting.push_of_others(delivery, sequence)
    }

    /// As [`broadcast`](Self::broadcast), by whoever has the lock.
    pub(crate) fn broadcast_in(
        self: &Arc<Self>,
        waiting: &mut Waiting,
        event: &Outgoing,
        target: &Target,
        sending: Sending,
        flags: Flags,
    ) {
        if sending.volatile {
            return self.send_unlogged(event, target, sending);
        }
        match self.log.append(event, target, flags) {
            Appending::Unlogged => self.unlogged_in(waiting, event, target, sending),
            Appending::Done(Ok(sequence)) if waiting.is_empty() => {
                self.deliver_to_many(event, target, sequence, sending.policy);
            }
            appending => {
                let delivery = Delivery {
                    event: event.clone(),
                    receivers: Receivers::Many(target.clone()),
                    policy: sending.policy,
                };
                self.wait(waiting, delivery, appending);
            }
        }
    }

    /// Emits an event that isn't logged to the sockets of `target`.
    pub(crate) fn broadcast_unlogged(
        self: &Arc<Self>,
        event: &Outgoing,
        target: &Target,
        sending: Sending,
    ) {
        self.in_order(|waiting| match sending.volatile {
            true => self.send_unlogged(event, target, sending),
            false => self.unlogged_in(waiting, event, target, sending),
        });
    }

    /// As [`broadcast_unlogged`](Self::broadcast_unlogged), by whoever has the lock, behind what waits.
    fn unlogged_in(
        self: &Arc<Self>,
        waiting: &mut Waiting,
        event: &Outgoing,
        target: &Target,
        sending: Sending,
    ) {
        if waiting.is_empty() {
            return self.send_unlogged(event, target, sending);
        }
        let (this, event, target) = (Arc::clone(self), event.clone(), target.clone());
        let bytes = event.len_bytes();
        let send = move || this.in_order(|_| this.send_unlogged(&event, &target, sending));
        waiting.push_work(bytes, Box::new(send));
    }

    /// Sends an event that isn't logged, with the place of the one before it. Called in order.
    fn send_unlogged(&self, event: &Outgoing, target: &Target, sending: Sending) {
        let mut draft = self.shared.draft();
        if self.encode(&mut draft, event, self.delivered()).is_ok() {
            burst::send(
                &self.rooms,
                target,
                &mut Fanout::new(&mut draft, &self.shared.parser),
                sending,
            );
        }
    }

    /// There is nothing to deliver up to this event. If something waits, that says how far it is.
    pub(crate) fn passed(self: &Arc<Self>, sequence: u64) {
        self.in_order(|waiting| {
            if waiting.is_empty() {
                self.delivered.fetch_max(sequence, Ordering::AcqRel);
            }
        });
    }

    /// Emits an event to one socket. What is emitted to one whose connection has gone waits for its
    /// client, if that may come back.
    pub(crate) fn emit(
        self: &Arc<Self>,
        socket: &Socket,
        event: &Outgoing,
        sending: Sending,
    ) -> Result<(), EmitError> {
        let is_kept = self.is_kept(socket);
        // Asked behind that: one that begins to leave meanwhile isn't sent to before what waits.
        if socket.is_leaving() {
            return Err(EmitError::Disconnected);
        }
        if sending.volatile || !is_kept {
            return self.in_order(|_| self.send_to(socket, event, self.place(socket), sending));
        }
        self.in_order(|waiting| self.emit_in(waiting, socket, event, sending))
    }

    /// Emits an event to one socket that is logged, by whoever has the lock.
    pub(crate) fn emit_in(
        self: &Arc<Self>,
        waiting: &mut Waiting,
        socket: &Socket,
        event: &Outgoing,
        sending: Sending,
    ) -> Result<(), EmitError> {
        let mut rooms = vec![socket.id().as_shared().clone()];
        if let Some(recoverable) = socket.recoverable() {
            rooms.extend(recoverable.own_room());
        }
        let target = Target {
            rooms,
            except: Vec::new(),
        };
        let flags = Flags {
            policy: Some(sending.policy),
            ..Flags::default()
        };
        match self.log.append(event, &target, flags) {
            Appending::Unlogged => self.send_to(socket, event, self.place(socket), sending),
            Appending::Done(Ok(sequence)) if waiting.is_empty() => {
                self.deliver_to_one(socket, event, &target, sequence, sending)
            }
            appending => {
                let delivery = Delivery {
                    event: event.clone(),
                    receivers: Receivers::One(socket.clone(), target),
                    policy: sending.policy,
                };
                self.wait(waiting, delivery, appending);
                Ok(())
            }
        }
    }

    /// The sessions of `target` whose clients are away, and their values.
    pub(crate) fn parked(&self, target: &Target) -> Vec<(SocketId, Arc<Values>)> {
        self.sessions().parked(target)
    }

    /// Sessions are over, which had these values.
    pub(super) fn forget(&self, sessions: Vec<Over>) {
        for (pid, values) in sessions {
            self.log.forget(&pid);
            if let Some(values) = values {
                kept::session_over(&values);
            }
        }
    }

    /// The place of an event to a socket that isn't logged: that of the event before it. Called in
    /// order.
    fn place(&self, socket: &Socket) -> u64 {
        let behind = match socket.recoverable() {
            Some(recoverable) => recoverable.replayed(),
            None => socket.place(),
        };
        behind.unwrap_or_else(|| self.delivered())
    }

    /// Whether what a socket has missed is kept for it: it has joined, and its session has not been
    /// ended.
    fn is_kept(&self, socket: &Socket) -> bool {
        let recoverable = socket.recoverable();
        recoverable.is_some_and(|it| socket.is_connected() || it.is_kept())
    }

    /// An event waits until it is stored. One that can't be is not delivered, whatever waits.
    fn wait(&self, waiting: &mut Waiting, delivery: Delivery, appending: Appending) {
        match appending {
            Appending::Done(Err(error)) => self.deliver(&delivery, Err(error)),
            Appending::Done(stored) => {
                waiting.push_event(delivery, Box::pin(std::future::ready(stored)));
            }
            Appending::Waiting(stored) => waiting.push_event(delivery, stored),
            // It has been sent.
            Appending::Unlogged => {}
        }
    }

    /// Delivers an event whose turn it is. Called in order.
    pub(super) fn deliver(&self, delivery: &Delivery, stored: Result<u64, LogError>) {
        let Delivery {
            event,
            receivers,
            policy,
        } = delivery;
        let sequence = match stored {
            Ok(sequence) => sequence,
            Err(error) => {
                if let Some(times) = self.undelivered.happened(1) {
                    tracing::error!(namespace = &*self.namespace, event = &*event.name(), %error, times, "events aren't delivered: the log can't store them");
                }
                return;
            }
        };
        match receivers {
            Receivers::Many(target) => self.deliver_to_many(event, target, sequence, *policy),
            Receivers::One(socket, target) => {
                // Its session has it in the log.
                let sending = Sending::with(*policy);
                let _ = self.deliver_to_one(socket, event, target, sequence, sending);
            }
        }
    }

    /// Sends a logged event to one socket, or to the one that has resumed its session.
    fn deliver_to_one(
        &self,
        socket: &Socket,
        event: &Outgoing,
        target: &Target,
        sequence: u64,
        sending: Sending,
    ) -> Result<(), EmitError> {
        let is_replayed_to = || socket.recoverable()?.replayed();
        let is_there = socket.is_connected() || socket.is_leaving();
        if !is_there || is_replayed_to().is_some() {
            // Another socket may have resumed its session; or this one gets it behind what it has
            // missed. Known under the lock alone: nobody resumes it meanwhile.
            self.deliver_to_many(event, target, sequence, sending.policy);
            return Ok(());
        }
        let sent = self.send_to(socket, event, sequence, sending);
        self.delivered.store(sequence, Ordering::Release);
        match sent {
            Err(EmitError::Send(SendError::Dropped)) => sent,
            // It gets that from the log.
            Err(EmitError::Disconnected | EmitError::Send(_)) => Ok(()),
            sent => sent,
        }
    }

    fn deliver_to_many(
        &self,
        event: &Outgoing,
        target: &Target,
        sequence: u64,
        policy: QueuePolicy,
    ) {
        let mut draft = self.shared.draft();
        if self.encode(&mut draft, event, sequence).is_ok() {
            let sending = Sending::with(policy);
            burst::send(
                &self.rooms,
                target,
                &mut Fanout::new(&mut draft, &self.shared.parser),
                sending,
            );
        }
        self.delivered.store(sequence, Ordering::Release);
    }
}

impl Ordered {
    /// Sends a logged event, or one behind it, to one socket.
    pub(super) fn send_to(
        &self,
        socket: &Socket,
        event: &Outgoing,
        sequence: u64,
        sending: Sending,
    ) -> Result<(), EmitError> {
        let mut draft = self.shared.draft();
        self.encode(&mut draft, event, sequence)?;
        socket.send_packet(&mut Fanout::new(&mut draft, &self.shared.parser), sending)?;
        Ok(())
    }

    fn encode(
        &self,
        draft: &mut Draft,
        event: &Outgoing,
        sequence: u64,
    ) -> Result<(), EncodeError> {
        draft.logged(&self.namespace, event, &self.log.offset(sequence))
    }
}

impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
