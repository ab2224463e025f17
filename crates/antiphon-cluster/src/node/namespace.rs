//! One namespace in a cluster with Node: what it says to other servers and hears of them.
//!
//! Its adapter owns a [`Namespace`], and the router holds it weakly. It says a message as its [`Codec`]
//! encodes it, and asks by a request, whose answers [`Requests`] waits for. What comes is decoded here,
//! too, and done on [`Local`]; what no adapter of Node's says is counted and left out. Where servers say
//! that they are there, [`Members`] knows them. It knows neither the router nor the adapter.

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
    Target,
    adapter::{AdapterError, Answers, Flags, Local, NodeId, Outgoing},
};
use antiphon_protocol::cluster::{
    Sockets,
    node::{self, Answer, Content, EMITTER, Interest, Message, Mode, Received, Reply},
};
use bytes::Bytes;
use tokio::sync::watch;

use super::{
    codec::Codec,
    log::{Hears, NodeLog},
    members::Members,
    requests::{Others, Requests},
    wire::NodeWire,
};
use crate::{
    Health, Topic,
    broker::entry,
    link::Link,
    message::{self, Asking},
    random_id,
};

/// How long sockets have for their acknowledgements where the asking server doesn't say, as in Node.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One namespace on this server.
pub(super) struct Namespace {
    pub(super) name: Arc<str>,
    pub(super) local: Local,
    link: Arc<Link>,
    /// By which it knows that the broker has been reached.
    health: watch::Receiver<Health>,
    /// What carries its logged events, if the servers share it.
    pub(super) log: Option<Arc<NodeLog>>,
    pub(super) codec: Codec,
    requests: Mutex<Requests>,
    /// How long other servers have for their answers.
    requests_timeout: Duration,
    /// Who is there, on wires where servers say so.
    members: Option<Mutex<Members>>,
    /// When it is known who is there.
    settled: watch::Sender<Option<Instant>>,
    /// The version of what is wanted by which all topics of this namespace are.
    wanted: AtomicU64,
}

impl Interest for Namespace {
    fn has_room(&self, room: &str) -> bool {
        self.local.recovery_time().is_some() || self.local.has_room(room)
    }

    fn has_asked(&self, request: &str) -> bool {
        self.requests().has(request)
    }
}

impl Namespace {
    pub(super) fn new(
        local: Local,
        log: Option<Arc<NodeLog>>,
        wire: &NodeWire,
        link: &Arc<Link>,
        health: watch::Receiver<Health>,
        requests_timeout: Duration,
    ) -> Self {
        let name: Arc<str> = local.name().into();
        // Each namespace of a server has a name of its own, as in Node.
        let me = log.as_ref().map_or_else(random_id, |log| log.me.clone());
        let codec = match wire {
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
        let has_heartbeats = wire.has_heartbeats();
        let members = has_heartbeats.then(|| Mutex::new(Members::new(Instant::now())));
        Self {
            name,
            local,
            link: Arc::clone(link),
            health,
            log,
            codec,
            requests: Mutex::new(Requests::new((&me).into())),
            requests_timeout,
            members,
            settled: watch::Sender::default(),
            wanted: AtomicU64::new(u64::MAX),
        }
    }

    /// All its topics are wanted as of this version.
    pub(super) fn wants(&self, version: u64) {
        self.wanted.store(version, Ordering::Relaxed);
    }

    /// Resolves when the broker has been reached.
    async fn started(&self) {
        let mut health = self.health.clone();
        // Without the sender there is nobody to be reached.
        let _ = health.wait_for(|health| *health != Health::Starting).await;
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> Option<MutexGuard<'_, Members>> {
        let members = self.members.as_ref()?;
        Some(members.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection is there, and what is wanted as of this version is subscribed to. `None`: it
    /// isn't.
    pub(super) fn connected(&self, confirmed: Option<u64>, now: Instant) {
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
    pub(super) fn leave(&self) {
        if self.members.is_some() {
            // Else it is missed some seconds later.
            let _ = self.say(&Message::Bye);
        }
    }

    fn say(&self, message: &Message) -> Result<(), AdapterError> {
        self.publish(self.codec.encode(message)?)
    }

    /// Does what it is time for, and returns when to look again.
    pub(super) fn tick(&self, now: Instant) -> Option<Instant> {
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
    pub(super) fn refused(&self, from: &str, number: u64, reason: &str) {
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
            self.link.wake();
        }
    }

    /// Whether an event is carried by the shared log.
    pub(super) fn logs(&self, flags: Flags) -> bool {
        self.log.is_some() && !flags.volatile && flags.at_least_once.is_none()
    }

    fn publish(&self, (topic, frame): (Topic, Bytes)) -> Result<(), AdapterError> {
        self.link.publish(&topic, frame)
    }

    pub(super) fn tell(
        &self,
        flags: Flags,
        message: impl FnOnce() -> Message,
    ) -> Result<(), AdapterError> {
        match flags.local {
            true => Ok(()),
            false => self.say(&message()),
        }
    }

    /// Asks all other servers: how many they are is asked for first, as Node's adapter does.
    pub(super) fn ask(
        self: &Arc<Self>,
        asking: Asking,
        message: impl FnOnce(Arc<str>) -> Message + Send + 'static,
    ) {
        let this = Arc::clone(self);
        self.link.runtime.spawn(async move {
            let asked = tokio::select! {
                asked = this.others() => asked,
                () = asking.closed() => return,
            };
            let others = match asked {
                Ok(others) => others,
                Err(error) => return asking.fail(error),
            };
            let deadline = Instant::now() + asking.time(this.requests_timeout);
            let Some(name) = this.requests().ask(asking, others, deadline) else {
                return;
            };
            let frame = this.codec.encode(&message(Arc::clone(&name)));
            if let Err(error) = frame.and_then(|frame| this.publish(frame)) {
                this.requests().fail(&name, error);
            }
            this.link.wake();
        });
    }

    /// The other servers that are there.
    pub(super) async fn others(&self) -> Result<Others, AdapterError> {
        self.started().await;
        if self.members.is_some() {
            return Ok(Others::Named(self.names().await));
        }
        let topics = self.codec.topics();
        // It has several.
        let Some(topic) = topics.first() else {
            return Ok(Others::Counted(0));
        };
        let count = self.link.broker.subscribers(topic).await?;
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
    pub(super) fn heard(self: &Arc<Self>, topic: &str, bytes: &Bytes) {
        if self.codec.is_stream(topic) {
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
            Err(error) => return self.link.malformed(topic, &error),
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
        self.link.runtime.spawn(async move {
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

impl Hears for Namespace {
    fn local(&self) -> &Local {
        &self.local
    }

    fn told(self: &Arc<Self>, from: Option<&str>, message: Message) {
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
                self.link.runtime.spawn(async move {
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
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
