//! The adapter of one namespace in a cluster with Node: what it says and hears by Node's wires.
//!
//! The namespace owns a [`Namespaced`], and the router holds its [`Inner`] weakly. As with
//! [our own wire](crate::Cluster) all is done on this server's sockets first and then said to others:
//! as a message that the namespace's [`Codec`] encodes, or as a request, whose answers [`Requests`]
//! waits for. What comes is decoded here, too; what no adapter of Node's says is counted and left out.
//! Where servers say that they are there, [`Members`] knows them.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use antiphon::{
    RemoteSocket, Room, Target,
    adapter::{
        Adapter, AdapterError, Answers, BoxFuture, Flags, Local, Membership, NodeId, Outgoing,
        ServerAnswer, SocketAnswer, Watch,
    },
};
use antiphon_protocol::cluster::{
    Sockets,
    node::{self, Answer, Content, EMITTER, Interest, Message, Mode, Received, Reply},
};
use bytes::Bytes;
use tokio::sync::watch;

use super::{
    codec::Codec,
    log::NodeLog,
    members::Members,
    requests::{Others, Requests},
    router::Router,
    wire::NodeWire,
};
use crate::{
    Topic,
    broker::entry,
    link::Ears as _,
    message::{self, Asking},
    random_id,
};

/// How long sockets have for their acknowledgements where the asking server doesn't say, as in Node.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The adapter of one namespace.
#[derive(Debug)]
pub(crate) struct Namespaced(Arc<Inner>);

pub(crate) struct Inner {
    name: Arc<str>,
    pub(super) local: Local,
    router: Arc<Router>,
    /// What carries its logged events, if the servers share it.
    log: Option<Arc<NodeLog>>,
    codec: Codec,
    requests: Mutex<Requests>,
    /// Who is there, on wires where servers say so.
    members: Option<Mutex<Members>>,
    /// When it is known who is there.
    settled: watch::Sender<Option<Instant>>,
    /// The version of what is wanted by which all topics of this namespace are.
    wanted: AtomicU64,
}

impl Namespaced {
    pub(crate) fn new(local: Local, router: Arc<Router>) -> Self {
        let name: Arc<str> = local.name().into();
        // Each namespace of a server has a name of its own, as in Node.
        let log = router.log_of(&name);
        let log = log.filter(|_| local.recovery_time().is_some());
        let me = log.as_ref().map_or_else(random_id, |log| log.me.clone());
        let codec = match &router.wire {
            // A parent has no members by which servers would know which rooms to subscribe to.
            NodeWire::Sharded { prefix, .. } if local.is_parent() => {
                let wire = NodeWire::Sharded {
                    prefix: prefix.clone(),
                    mode: Mode::Static,
                };
                Codec::new(&wire, &name, me.as_str())
            }
            wire => Codec::new(wire, &name, me.as_str()),
        };
        let has_heartbeats = router.wire.has_heartbeats();
        let members = has_heartbeats.then(|| Mutex::new(Members::new(Instant::now())));
        Self(Arc::new(Inner {
            name,
            local,
            router,
            log,
            codec,
            requests: Mutex::new(Requests::new((&me).into())),
            members,
            settled: watch::Sender::default(),
            wanted: AtomicU64::new(u64::MAX),
        }))
    }
}

impl Interest for Inner {
    fn has_room(&self, room: &str) -> bool {
        self.local.recovery_time().is_some() || self.local.has_room(room)
    }

    fn has_asked(&self, request: &str) -> bool {
        self.requests().has(request)
    }
}

impl Inner {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> Option<MutexGuard<'_, Members>> {
        let members = self.members.as_ref()?;
        Some(members.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection is there, and what is wanted as of this version is subscribed to. `None`: it
    /// isn't.
    pub(crate) fn connected(&self, confirmed: Option<u64>, now: Instant) {
        if let Some(log) = &self.log {
            match confirmed {
                Some(_) => log.up(),
                None => log.down(),
            }
            // Clients come and go while events wait.
            self.local.stall(confirmed.is_none());
        }
        let wanted = self.wanted.load(Ordering::Relaxed);
        let is_connected = confirmed.is_some_and(|confirmed| confirmed >= wanted);
        let says = self.members().and_then(|mut members| {
            let says = members.connected(is_connected, now);
            self.settled.send_replace(members.settled());
            says
        });
        if let Some(message) = says {
            // The next heartbeat says as much.
            let _ = self.say(&message);
        }
    }

    /// The server goes.
    pub(crate) fn leave(&self) {
        if self.members.is_some() {
            // Else it is missed some seconds later.
            let _ = self.say(&Message::Bye);
        }
    }

    pub(super) fn say(&self, message: &Message) -> Result<(), AdapterError> {
        self.publish(self.codec.encode(message)?)
    }

    /// Does what it is time for, and returns when to look again.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        if let Some(log) = &self.log {
            log.tick();
        }
        let due = self.members().map(|mut members| members.tick(now));
        let due = due.unwrap_or_default();
        for node in &due.dead {
            let namespace = &self.name;
            tracing::warn!(%node, %namespace, "a server hasn't been heard for too long: it counts as dead");
            self.requests().gone(node);
        }
        if let Some(message) = due.say {
            let _ = self.say(&message);
        }
        let heartbeat = self.members().and_then(|members| members.deadline());
        let mut requests = self.requests();
        requests.expire(now);
        let deadlines = [heartbeat, requests.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The broker has refused an entry of the server with this name.
    pub(crate) fn refused(&self, from: &str, number: u64, reason: &str) {
        if let Some(log) = &self.log
            && log.me.as_str() == from
        {
            log.refused(number, reason);
        }
    }

    /// A server of this name has said something.
    fn heard_of(&self, node: &NodeId, content: &Content) {
        let Some(mut members) = self.members() else {
            return;
        };
        let message = match content {
            Content::Message(message) => Some(message),
            Content::Answer(_) => None,
        };
        let namespace = &self.name;
        if members.heard(node, message, Instant::now()) {
            tracing::info!(%node, %namespace, "a server has joined the cluster");
        }
        if let Some(Message::Bye) = message {
            if members.left(node) {
                tracing::info!(%node, %namespace, "a server has left the cluster");
            }
            drop(members);
            self.requests().gone(node);
        } else if let Some(Message::Hello) = message {
            drop(members);
            self.router.link().wake();
        }
    }

    /// Whether an event is carried by the shared log.
    fn logs(&self, flags: Flags) -> bool {
        self.log.is_some() && !flags.volatile && flags.at_least_once.is_none()
    }

    /// A room has got its first socket.
    fn created(&self, room: &str) {
        if let Some(topic) = self.codec.room(room) {
            self.router.link().wanted.want(topic);
        }
    }

    /// A room has lost its last socket.
    fn deleted(&self, room: &str) {
        if let Some(topic) = self.codec.room(room) {
            let linger = self.local.recovery_time();
            self.router.link().give_up(&topic, linger);
        }
    }

    fn publish(&self, (topic, frame): (Topic, Bytes)) -> Result<(), AdapterError> {
        self.router.link().publish(&topic, frame)
    }

    fn tell(&self, flags: Flags, message: impl FnOnce() -> Message) -> Result<(), AdapterError> {
        match flags.local {
            true => Ok(()),
            false => self.say(&message()),
        }
    }

    /// Asks all other servers: how many they are is asked for first, as Node's adapter does.
    fn ask(
        self: &Arc<Self>,
        asking: Asking,
        message: impl FnOnce(Arc<str>) -> Message + Send + 'static,
    ) {
        let this = Arc::clone(self);
        self.router.link().runtime.spawn(async move {
            let asked = tokio::select! {
                asked = this.others() => asked,
                () = asking.closed() => return,
            };
            let others = match asked {
                Ok(others) => others,
                Err(error) => return asking.fail(error),
            };
            let deadline = Instant::now() + asking.remaining();
            let Some(name) = this.requests().ask(asking, others, deadline) else {
                return;
            };
            let frame = this.codec.encode(&message(Arc::clone(&name)));
            if let Err(error) = frame.and_then(|frame| this.publish(frame)) {
                this.requests().fail(&name, error);
            }
            this.router.link().wake();
        });
    }

    /// The other servers that are there.
    async fn others(&self) -> Result<Others, AdapterError> {
        self.router.started().await;
        if self.members.is_some() {
            return Ok(Others::Named(self.names().await));
        }
        let topics = self.codec.topics();
        // It has several.
        let Some(topic) = topics.first() else {
            return Ok(Others::Counted(0));
        };
        let count = self.router.link().broker.subscribers(topic).await?;
        let count = count.ok_or_else(|| AdapterError::Unreachable {
            reason: "the broker doesn't count the servers, as this wire needs it".to_owned(),
        })?;
        Ok(Others::Counted(count.saturating_sub(1)))
    }

    /// The names of the others, as soon as those that are there have had time to say so.
    async fn names(&self) -> Vec<NodeId> {
        let mut settled = self.settled.subscribe();
        // The sender is here.
        let at = settled.wait_for(Option::is_some).await;
        let at = at.ok().and_then(|at| *at);
        if let Some(at) = at {
            tokio::time::sleep_until(at.into()).await;
        }
        self.members()
            .map(|members| members.names())
            .unwrap_or_default()
    }

    /// Something has come for this namespace.
    pub(crate) fn heard(self: &Arc<Self>, topic: &str, bytes: &Bytes) {
        if self.router.wire.is_stream(topic) {
            match &self.log {
                Some(log) => return log.heard(self, bytes.clone()),
                // Those who keep nothing have nothing to do about it.
                None if [entry::TRIMMED, entry::ANEW].contains(&&**bytes) => return,
                None => {}
            }
        }
        let received = match self.codec.decode(topic, bytes, &**self) {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(error) => return self.router.link().malformed(topic, &error),
        };
        let Received { from, content } = received;
        let from = from.map(NodeId::new);
        if let Some(node) = &from {
            self.heard_of(node, &content);
        }
        match content {
            Content::Answer(answer) => self.requests().answer(from.as_ref(), answer),
            Content::Message(message) => {
                self.told(from.as_ref().map(NodeId::as_str), message);
            }
        }
    }

    pub(super) fn told(self: &Arc<Self>, from: Option<&str>, message: Message) {
        let local = &self.local;
        let is_mine = from.is_some_and(|from| self.requests().is_mine(from));
        match message {
            // Done already: Node waits for what it has said itself to come back.
            Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. }
                if is_mine => {}
            Message::Broadcast {
                event,
                target,
                flags,
                request: None,
            } => {
                let mut delivery = Flags::default();
                delivery.volatile = flags.volatile;
                local.broadcast(&event, &message::target(target), delivery);
            }
            Message::Broadcast {
                event,
                target,
                flags,
                request: Some(request),
            } => self.asked_for_acks(from, &event, target, flags, request),
            Message::Join { target, rooms } => local.join(&message::target(target), &rooms),
            Message::Leave { target, rooms } => local.leave(&message::target(target), &rooms),
            Message::Disconnect { target, close } => {
                local.disconnect(&message::target(target), close);
            }
            Message::Fetch { request, target } => {
                let sockets = self.local.fetch(&message::target(target)).into_iter();
                let sockets = sockets.map(message::details).collect();
                self.answer(from, request, Reply::Sockets(sockets));
            }
            Message::Ids { request, rooms } => {
                let target = Target {
                    rooms,
                    except: Vec::new(),
                };
                let sockets = self.local.fetch(&target).into_iter();
                let ids = sockets.map(|socket| socket.id.as_str().into());
                self.answer(from, request, Reply::Ids(ids.collect()));
            }
            Message::AllRooms { request } => {
                let sockets = self.local.fetch(&Target::default());
                let rooms = sockets.into_iter().flat_map(|socket| socket.rooms);
                let rooms: BTreeSet<_> = rooms.collect();
                self.answer(from, request, Reply::Rooms(rooms.into_iter().collect()));
            }
            Message::ServerSideEmit { event, request } => {
                let handled = local.server_side_emit(&event);
                let (this, from) = (Arc::clone(self), from.map(str::to_owned));
                self.router.link().runtime.spawn(async move {
                    // Without a handler nothing is answered, as in Node.
                    if let (Some(args), Some(request)) = (handled.await, request) {
                        this.answer(from.as_deref(), request, Reply::Emitted(args));
                    }
                });
            }
            Message::HandOver { private_id, waited } => {
                if let Some(log) = &self.log {
                    log.hand_over(local, &private_id, waited);
                }
            }
            // Of other wires.
            _ => {}
        }
    }

    fn asked_for_acks(
        self: &Arc<Self>,
        from: Option<&str>,
        event: &Outgoing,
        target: Sockets,
        flags: node::Flags,
        request: Arc<str>,
    ) {
        let time = flags.timeout.unwrap_or(TIMEOUT);
        let (answers, mut answered) = Answers::channel(time);
        let mut delivery = Flags::default();
        delivery.volatile = flags.volatile;
        let target = message::target(target);
        let count = self
            .local
            .broadcast_with_ack(event, &target, delivery, &answers);
        drop(answers);
        self.answer(from, Arc::clone(&request), Reply::Clients(count as u64));
        let (this, from) = (Arc::clone(self), from.map(str::to_owned));
        self.router.link().runtime.spawn(async move {
            while let Some((_, args)) = answered.next().await {
                let request = Arc::clone(&request);
                this.answer(from.as_deref(), request, Reply::Acknowledged(args));
            }
        });
    }

    /// Answers another server. It does without if it can't be told.
    fn answer(&self, asker: Option<&str>, request: Arc<str>, reply: Reply) {
        let asker = asker.unwrap_or(EMITTER);
        let answer = Answer { request, reply };
        let frame = self.codec.encode_answer(asker, &answer);
        let _ = frame.and_then(|frame| self.publish(frame));
    }
}

pub(super) const fn wire_flags(flags: Flags, timeout: Option<Duration>) -> node::Flags {
    node::Flags::new().volatile(flags.volatile).timeout(timeout)
}

impl Adapter for Namespaced {
    fn start(&self) {
        let this = &self.0;
        this.router.enter(&this.name, this);
        if let Some(log) = &this.log {
            log.start(this);
        }
        for topic in this.codec.topics() {
            this.router.link().wanted.want(topic);
        }
        let version = this.router.link().wanted.version();
        this.wanted.store(version, Ordering::Relaxed);
        this.router.connect(this, Instant::now());
    }

    fn removed(&self) {
        let this = &self.0;
        this.leave();
        this.router.leave(&this.name, this);
        // Streams carry other namespaces, too.
        let topics = this.codec.topics().into_iter();
        for topic in topics.filter(|topic| !topic.is_stream()) {
            this.router.link().give_up(&topic, None);
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let router = Arc::clone(&self.0.router);
        Box::pin(async move { router.close().await })
    }

    fn watch(&self) -> Watch {
        match self.0.router.wire {
            NodeWire::Sharded {
                mode: Mode::DynamicPrivate,
                ..
            } => Watch::Sockets,
            _ => Watch::Rooms,
        }
    }

    fn changed(&self, change: Membership<'_>) {
        match change {
            Membership::Created { room } => self.0.created(room),
            Membership::Deleted { room } => self.0.deleted(room),
            // Where each room has a channel, that of a socket's own id has one.
            Membership::Came { socket } => self.0.created(socket.as_str()),
            Membership::Gone { socket } => self.0.deleted(socket.as_str()),
            _ => {}
        }
    }

    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError> {
        self.0.local.broadcast(event, target, flags);
        if self.0.logs(flags) {
            return Ok(());
        }
        self.0.tell(flags, || Message::Broadcast {
            event: event.clone(),
            target: message::sockets(target),
            flags: wire_flags(flags, None),
            request: None,
        })
    }

    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers<SocketAnswer>,
    ) {
        let this = &self.0;
        let local = &this.local;
        answers.expect(local.broadcast_with_ack(event, target, flags, &answers));
        if flags.local {
            return;
        }
        let (event, target) = (event.clone(), message::sockets(target));
        let flags = wire_flags(flags, Some(answers.remaining()));
        this.ask(Asking::Acks(answers), move |request| Message::Broadcast {
            event,
            target,
            flags,
            request: Some(request),
        });
    }

    fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.0.local.join(target, rooms);
        self.0.tell(flags, || Message::Join {
            target: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.0.local.leave(target, rooms);
        self.0.tell(flags, || Message::Leave {
            target: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError> {
        self.0.local.disconnect(target, close);
        self.0.tell(flags, || Message::Disconnect {
            target: message::sockets(target),
            close,
        })
    }

    fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>) {
        let this = &self.0;
        let asking = Asking::sockets(&this.local, target, found);
        if !flags.local {
            let target = message::sockets(target);
            this.ask(asking, move |request| Message::Fetch { request, target });
        }
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        let this = Arc::clone(&self.0);
        Box::pin(async move { Ok(this.others().await?.len() + 1) })
    }

    fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError> {
        self.0.tell(Flags::default(), || Message::ServerSideEmit {
            event: event.clone(),
            request: None,
        })
    }

    fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>) {
        let event = event.clone();
        self.0.ask(Asking::Servers(answers), move |request| {
            Message::ServerSideEmit {
                event,
                request: Some(request),
            }
        });
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("namespace", &self.name)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
