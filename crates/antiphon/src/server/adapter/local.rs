//! The part of a namespace that is on this server: what every adapter ends at.
//!
//! The namespace owns it, and so does its adapter. An event becomes a packet here, with the id of
//! an acknowledgement that this server counts itself, and each receiver gets it in its session's
//! form.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_protocol::{
    engine::EncodedMessage,
    socket::{Draft, EncodeError, Fanout, Outgoing, OwnedArgs},
};
use arc_swap::ArcSwap;

use super::{Answers, Flags, RemoteSocket, SocketAnswer, Watcher};
use crate::{
    engine::{QueuePolicy, Sending, ServerTag, session::turn},
    server::{
        EmitError, Namespace, Room, Shared, Socket, Target,
        delivery::kept::Kept,
        handlers::{future::BoxFuture, server_side::ServerSide},
        namespace::namespaces::Namespaces,
        recovery::{LogError, Ordered, SavedSession},
        rooms::{Rooms, burst, retained::Retained},
    },
};

/// The sockets of a namespace on this server: what every adapter ends at. A cheap handle.
#[derive(Clone)]
pub struct Local {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    name: Box<str>,
    kin: Kin,
    namespaces: Weak<Namespaces>,
    shared: Arc<Shared>,
    rooms: Arc<Rooms>,
    next_ack: AtomicU64,
    server_side: ServerSide,
    recovery: Option<Arc<Ordered>>,
    /// Locked by joins and by emits that are retained.
    pub(super) retained: Mutex<Retained>,
    /// What becomes of events for slow readers, if that was ever said: each emit asks.
    queue_policy: OnceLock<ArcSwap<QueuePolicy>>,
}

/// What a namespace is to others of its server.
#[derive(Clone)]
pub(crate) enum Kin {
    None,
    /// It has no sockets of its own: what it is told is told to its children.
    Parent,
    ChildOf(Local),
}

impl Local {
    pub(crate) fn new(
        name: &str,
        namespaces: Weak<Namespaces>,
        shared: &Arc<Shared>,
        kin: Kin,
    ) -> Self {
        let rooms = Arc::default();
        let recovery = shared.recovery.as_ref().and_then(|options| {
            let parent = match &kin {
                Kin::None => None,
                Kin::ChildOf(parent) => Some(parent.name()),
                Kin::Parent => return None,
            };
            let log = options.open(name, parent, &*shared.adapter)?;
            Some(Ordered::new(
                name,
                Weak::clone(&namespaces),
                log,
                shared,
                &rooms,
                options,
            ))
        });
        Self {
            inner: Arc::new(Inner {
                name: name.into(),
                kin,
                namespaces,
                shared: Arc::clone(shared),
                rooms,
                recovery,
                retained: Mutex::default(),
                next_ack: AtomicU64::new(0),
                server_side: ServerSide::new(shared.max_running_handlers),
                queue_policy: OnceLock::new(),
            }),
        }
    }

    /// The name of the namespace, with the slash that it begins with. That of a
    /// [parent](Self::is_parent) begins with `*`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether it is the part of a [parent](crate::ParentNamespace): it has no sockets, and what is
    /// broadcast to it goes to all children on this server. So its adapter tells all other servers of
    /// a broadcast, whatever rooms it is to.
    #[must_use]
    pub fn is_parent(&self) -> bool {
        matches!(self.inner.kin, Kin::Parent)
    }

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn parent(&self) -> Option<&Self> {
        match &self.inner.kin {
            Kin::ChildOf(parent) => Some(parent),
            Kin::None | Kin::Parent => None,
        }
    }

    /// Whether nobody is in it, nobody may come back, and nothing is kept for those who come.
    pub(crate) fn is_idle(&self) -> bool {
        let is_over = |ordered: &Arc<Ordered>| ordered.is_idle();
        self.is_empty() && self.retained().is_empty() && self.recovery().is_none_or(is_over)
    }

    /// How many sockets the namespace has on this server.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms().len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has a socket in this room, which may be that of an own id, or may have one when
    /// what waits for its log has been done. A [parent](Self::is_parent) always may: in a child.
    #[must_use]
    pub fn has_room(&self, room: &str) -> bool {
        self.is_parent() || self.rooms().has_room(room) || self.may_change()
    }

    /// How long it keeps events for sockets that may come back, if it does
    /// ([`ServerBuilder::recovery`](crate::ServerBuilder::recovery)): it has to hear for so long what
    /// goes to rooms that have nobody here any more.
    #[must_use]
    pub fn recovery_time(&self) -> Option<Duration> {
        self.recovery().map(|ordered| ordered.duration())
    }

    /// What names this server in the ids of its sockets: that of the
    /// [relay](super::AdapterFactory::relay), if there is one. A socket that has resumed a session
    /// may have the id that another server gave it.
    #[must_use]
    pub fn tag(&self) -> Option<ServerTag> {
        self.inner.shared.tag
    }

    pub(crate) fn rooms(&self) -> &Arc<Rooms> {
        &self.inner.rooms
    }

    /// What keeps its events and sessions, if it has recovery.
    pub(crate) fn recovery(&self) -> Option<&Arc<Ordered>> {
        self.inner.recovery.as_ref()
    }

    /// What becomes of events for slow readers, unless they say otherwise.
    pub(crate) fn queue_policy(&self) -> QueuePolicy {
        match (self.inner.queue_policy.get(), self.parent()) {
            (Some(policy), _) => **policy.load(),
            (None, Some(parent)) => parent.queue_policy(),
            (None, None) => QueuePolicy::Close,
        }
    }

    pub(crate) fn set_queue_policy(&self, policy: QueuePolicy) {
        let said = self.inner.queue_policy.get_or_init(ArcSwap::default);
        said.store(Arc::new(policy));
    }

    fn sending(&self, flags: Flags) -> Sending {
        Sending {
            volatile: flags.volatile,
            policy: flags.policy.unwrap_or_else(|| self.queue_policy()),
        }
    }

    /// The adapter hears of changes of memberships from now on.
    pub(crate) fn watch(&self, watcher: Option<Watcher>) {
        self.rooms().watch(watcher);
    }

    /// Handlers of what other servers emit to this one.
    pub(crate) fn server_side(&self) -> &ServerSide {
        &self.inner.server_side
    }

    /// Tells the catch-all listeners of each recipient on this server.
    fn note_outgoing(&self, target: &Target, event: &Outgoing) {
        if self.inner.shared.has_outgoing_listeners() {
            for socket in self.sockets(target) {
                socket.note_outgoing(event);
            }
        }
    }

    /// Ids of acknowledgements are counted for the namespace, so that a broadcast needs one.
    pub(crate) fn next_ack_id(&self) -> u64 {
        self.inner.next_ack.fetch_add(1, Ordering::Relaxed)
    }

    fn packet(&self, event: &Outgoing, id: Option<u64>) -> Result<Draft, EncodeError> {
        let mut draft = self.inner.shared.draft();
        draft.outgoing(&self.inner.name, id, event)?;
        Ok(draft)
    }

    /// See [`Adapter::broadcast`](super::Adapter::broadcast).
    pub fn broadcast(&self, event: &Outgoing, target: &Target, flags: Flags) {
        if self.is_parent() {
            return self.broadcast_to_children(event, target, flags);
        }
        self.note_outgoing(target, event);
        let sending = self.sending(flags);
        if flags.retain {
            return self.retain(event, target, sending.policy, flags);
        }
        if let Some(pause) = flags.at_least_once {
            return self.keep(event, target, pause);
        }
        if let Some(ordered) = self.recovery() {
            return ordered.broadcast(event, target, sending, flags);
        }
        self.spread(event, target, sending);
    }

    /// Gives an event of a [parent](Self::is_parent) to the logs that its children share with other
    /// servers, which all do that: logs know by its number among what `from` emits that it is the
    /// same. Numbers of a sender must come in their order. Nobody's code runs meanwhile.
    ///
    /// Returns `false` if no log has taken it: then it is to be [broadcast](Self::broadcast), otherwise
    /// [to those without](Self::broadcast_beside_logs) such a log.
    #[must_use = "what no log has taken is to be broadcast"]
    pub fn append_once(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        number: (&str, u64),
    ) -> bool {
        if flags.volatile || flags.at_least_once.is_some() {
            return false;
        }
        let mut is_logged = false;
        for child in self.children() {
            if let Some(ordered) = child.joins().shares_log() {
                let flags = flags.within(child.name());
                is_logged |= ordered.append_once(event, target, flags, number);
            }
        }
        is_logged
    }

    /// As [`broadcast`](Self::broadcast), without the children of a [parent](Self::is_parent) whose
    /// logs are shared.
    pub fn broadcast_beside_logs(&self, event: &Outgoing, target: &Target, flags: Flags) {
        turn::scope(|| {
            for child in self.children() {
                if child.joins().shares_log().is_none() {
                    let flags = flags.within(child.name());
                    child.joins().broadcast(event, target, flags);
                }
            }
        });
    }

    /// Each server does this for its own children, unless it is for those of this server alone. So a
    /// log that several share doesn't get the event: it would have it several times.
    fn broadcast_to_children(&self, event: &Outgoing, target: &Target, flags: Flags) {
        turn::scope(|| {
            for child in self.children() {
                let child = child.joins();
                let flags = flags.within(child.name());
                match child.shares_log().filter(|_| !flags.local) {
                    None => child.broadcast(event, target, flags),
                    Some(ordered) => {
                        child.note_outgoing(target, event);
                        ordered.broadcast_unlogged(event, target, child.sending(flags));
                    }
                }
            }
        });
    }

    fn children(&self) -> Vec<Namespace> {
        let namespaces = self.inner.namespaces.upgrade();
        namespaces.map_or_else(Vec::new, |all| all.children_of(self))
    }

    /// What keeps its events, if other servers append to it, too.
    fn shares_log(&self) -> Option<&Arc<Ordered>> {
        self.recovery().filter(|ordered| ordered.is_shared())
    }

    /// Delivers an event that another server has appended to the [log](crate::recovery::Log) that both share, as one
    /// with this sequence. They come in the order of the log. Returns `false` if there is no room
    /// for it now: it is to be tried again, before those behind it.
    #[must_use = "an event for which there is no room is tried again"]
    pub fn deliver(&self, event: &Outgoing, target: &Target, flags: Flags, sequence: u64) -> bool {
        let Some(ordered) = self.recovery() else {
            return true;
        };
        let policy = self.sending(flags).policy;
        let is_delivered = match flags.retain {
            true => self.deliver_retained(event, target, policy, sequence),
            false => ordered.heard(event, target, sequence, policy),
        };
        if is_delivered {
            self.note_outgoing(target, event);
        }
        is_delivered
    }

    /// There is nothing for sockets of this server up to this place of the shared log, or it has been
    /// [delivered](Self::deliver).
    pub fn passed(&self, sequence: u64) {
        if let Some(ordered) = self.recovery() {
            ordered.passed(sequence);
        }
    }

    /// The shared log is away, or there again. While it is away events wait, and nothing else does: sockets
    /// join and leave before events that were emitted earlier.
    pub fn stall(&self, is_stalled: bool) {
        if let Some(ordered) = self.recovery() {
            ordered.stall(is_stalled);
        }
    }

    /// Gives a session to another server that [takes](crate::recovery::Log::take) it, and forgets
    /// it. If its socket is connected it is ended first. For 5 s it is given again to who asks for a
    /// client that has come later.
    ///
    /// `waited` is how long ago the client has come to that server. If it has come to this one since,
    /// that server is late: its client has gone on, and nothing is given. The time that the question
    /// takes on its way isn't known, and the client counts as having come to that server so much later.
    /// So the wrong one gets the session only if the question is held up for longer than a client needs
    /// to go from one server to the next; a stock one waits for 500 ms at least.
    ///
    /// # Errors
    /// [`LogError::Unknown`] if there is none of this private id, and [`LogError::Elsewhere`] if that
    /// server is late.
    pub fn hand_over(
        &self,
        pid: &str,
        waited: Duration,
    ) -> BoxFuture<Result<SavedSession, LogError>> {
        let ordered = self.recovery().cloned();
        let pid = Room::from(pid);
        Box::pin(async move {
            let ordered = ordered.ok_or(LogError::Unknown)?;
            ordered.hand_over(&pid, waited).await
        })
    }

    /// Another server has this session: it is over here.
    pub fn has_lost(&self, pid: &str) {
        if let Some(ordered) = self.recovery() {
            ordered.has_lost(pid);
        }
    }

    /// [Saves](crate::recovery::Log::save) all sessions that this server has.
    pub fn save_sessions(&self) {
        if let Some(ordered) = self.recovery() {
            ordered.save_all();
        }
    }

    /// Sends an event to the sockets of `target`, without a log.
    pub(super) fn spread(&self, event: &Outgoing, target: &Target, sending: Sending) {
        // In a cluster many are for rooms that are elsewhere: these cost no packet, and no turn. A server
        // alone needn't look twice.
        if self.tag().is_some() && !self.rooms().may_have(target) {
            return;
        }
        let Ok(mut draft) = self.packet(event, None).inspect_err(too_large) else {
            return;
        };
        let mut message = Fanout::new(&mut draft, &self.inner.shared.parser);
        turn::scope(|| burst::send(self.rooms(), target, &mut message, sending));
    }

    /// Keeps an event for each socket of `target` until its client acknowledges it, also for those
    /// that may come back.
    fn keep(&self, event: &Outgoing, target: &Target, pause: Duration) {
        let keep = |kept: Result<(), EmitError>| {
            if let Err(error) = kept {
                let event = event.name();
                tracing::warn!(event = &*event, %error, "an event isn't kept for a client");
            }
        };
        for socket in self.sockets(target) {
            keep(Kept::emit(&socket, event, pause));
        }
        let namespace = self.inner.namespaces.upgrade();
        if let Some(namespace) = namespace.and_then(|all| all.get(self.name()))
            && let Some(ordered) = self.recovery()
        {
            for (id, values) in ordered.parked(target) {
                keep(Kept::emit_later(&namespace, &id, &values, event, pause));
            }
        }
    }

    /// Sends an event that asks for an acknowledgement to the sockets of `target`, and returns to
    /// how many. Their answers go to `answers`. Each of these sockets keeps a clone of that until
    /// it has answered or left, or the time is up. See
    /// [`Adapter::broadcast_with_ack`](super::Adapter::broadcast_with_ack).
    #[must_use]
    pub fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: &Answers<SocketAnswer>,
    ) -> usize {
        self.note_outgoing(target, event);
        let id = self.next_ack_id();
        let Ok(mut draft) = self.packet(event, Some(id)).inspect_err(too_large) else {
            return 0;
        };
        let sending = self.sending(flags);
        if !sending.volatile
            && let Some(ordered) = self.behind()
        {
            return self.ask_behind(ordered, (draft.finish(), id), target, sending, answers);
        }
        let mut message = Fanout::new(&mut draft, &self.inner.shared.parser);
        let mut count = 0;
        turn::scope(|| {
            self.rooms().for_each(target, |socket| {
                count += usize::from(ask(socket, (&mut message, id), sending, answers));
            });
        });
        count
    }

    /// As [`broadcast_with_ack`](Self::broadcast_with_ack), behind what waits for the log.
    fn ask_behind(
        &self,
        ordered: &Arc<Ordered>,
        (message, id): (EncodedMessage, u64),
        target: &Target,
        sending: Sending,
        answers: &Answers<SocketAnswer>,
    ) -> usize {
        let mut sockets = self.sockets(target);
        sockets.retain(Socket::is_connected);
        let (count, answers) = (sockets.len(), answers.clone());
        let shared = Arc::clone(&self.inner.shared);
        let bytes = message.len_bytes() + count * size_of::<Socket>();
        ordered.behind(bytes, move || {
            let mut message = Fanout::of(message, &shared.parser);
            for socket in sockets {
                ask(&socket, (&mut message, id), sending, &answers);
            }
        });
        count
    }

    /// See [`Adapter::disconnect`](super::Adapter::disconnect).
    pub fn disconnect(&self, target: &Target, close: bool) {
        for socket in self.sockets(target) {
            if close {
                socket.close_connection();
            } else {
                socket.disconnect();
            }
        }
    }

    /// See [`Adapter::fetch`](super::Adapter::fetch).
    #[must_use]
    pub fn fetch(&self, target: &Target) -> Vec<RemoteSocket> {
        let fetched = match self.behind() {
            None => self.rooms().with_rooms(target),
            Some(_) => {
                let sockets = self.sockets(target).into_iter();
                sockets.map(|it| (it.clone(), self.rooms_of(&it))).collect()
            }
        };
        let shared = &self.inner.shared.shared_data;
        let told = fetched.into_iter().map(|(socket, rooms)| {
            let mut told = RemoteSocket::new(socket.id().clone(), rooms);
            told.handshake = socket.handshake().told();
            if let Some(values) = socket.values() {
                let named = shared
                    .iter()
                    .filter_map(|(name, read)| Some((String::from(&**name), read(&values)?)));
                told.data = named.collect();
            }
            told
        });
        told.collect()
    }

    /// Calls the [handlers](crate::Namespace::on_server_side) of an event that another server has
    /// emitted to this one. They run while the future is polled, one behind the other.
    ///
    /// Resolves with the answer, or with `None` if there is no handler. As many events as
    /// [`max_running_handlers`](crate::ServerBuilder::max_running_handlers) are handled at a time;
    /// one beyond that is dropped and logged, and resolves with `None`, too.
    #[must_use = "nothing is handled until it is awaited"]
    pub fn server_side_emit(&self, event: &Outgoing) -> BoxFuture<Option<OwnedArgs>> {
        let parent = self.parent().map(Self::server_side);
        ServerSide::handle(parent.into_iter().chain([self.server_side()]), event)
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("name", &self.name())
            .field("sockets", &self.rooms().len())
            .finish_non_exhaustive()
    }
}

/// Asks one socket. Returns `false` if it has gone.
fn ask(
    socket: &Socket,
    (message, id): (&mut Fanout<'_>, u64),
    sending: Sending,
    answers: &Answers<SocketAnswer>,
) -> bool {
    if !socket.is_connected() && !socket.is_leaving() {
        return false;
    }
    socket.awaited().one_of_many(id, answers.clone());
    let is_asked = socket.send_packet(message, sending).is_ok();
    if !is_asked {
        socket.awaited().forget(id);
    }
    is_asked
}

/// Servers of a cluster may be configured differently.
fn too_large(error: &EncodeError) {
    tracing::warn!(%error, "an event of another server can't be sent to clients of this one");
}
