//! The adapter of one namespace in a cluster of our own wire.
//!
//! The namespace owns a [`Namespaced`], and the router holds its [`Inner`] weakly. What is emitted or
//! asked for is done on this server's sockets first ([`Local`]), and then said to others by the
//! router: as a message under the topic of its room, of its socket, or of the whole namespace, or as a
//! question to all servers. What others say comes by [`Inner::heard`], and what they ask by
//! [`Inner::asked`]; both are done on `Local` alone. Others that can't be told are an
//! [`AdapterError`]; servers that owe answers are named as missing.
//!
//! With a shared log an event isn't published but appended, and delivered when it comes back from
//! there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use antiphon::{
    RemoteSocket, Room, Target,
    adapter::{
        Adapter, AdapterError, Answers, BoxFuture, Flags, Local, Membership, Outgoing, OwnedArgs,
        Relay as _, ServerAnswer, SocketAnswer, Watch,
    },
};
use antiphon_protocol::cluster::native::{Asked, Message, Reply};
use tokio::sync::mpsc;

use crate::{
    Topic,
    link::Ears as _,
    log::Shared,
    message::{self, Asking},
    router::Router,
    topics::{Routes, server_of},
};

/// About so many bytes of sockets are told in one frame.
const FOUND: usize = 64 * 1_024;

/// The adapter of one namespace.
#[derive(Debug)]
pub(crate) struct Namespaced(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    name: Arc<str>,
    local: Local,
    router: Arc<Router>,
    routes: Routes,
    /// What concerns single sockets of this server.
    sockets: Topic,
    /// Rooms with members here that are named like ids of other servers, counted by their topics.
    foreign: Mutex<HashMap<Topic, usize>>,
    /// What carries its logged events, if it is shared.
    log: Option<Arc<Shared>>,
    /// The number of the last event of a parent. A thread that counts one up keeps the lock until logs
    /// and other servers have been given the event, so that they get all in their order.
    emitted: Mutex<u64>,
}

impl Namespaced {
    pub(crate) fn new(local: Local, router: Arc<Router>) -> Self {
        let name: Arc<str> = local.name().into();
        let routes = Routes::new(router.topics.namespace(&name));
        let sockets = router.topics.sockets(&name, router.tag().as_str());
        let log = router
            .log_of(&name)
            .filter(|_| local.recovery_time().is_some());
        Self(Arc::new(Inner {
            name,
            local,
            router,
            routes,
            sockets,
            foreign: Mutex::default(),
            log,
            emitted: Mutex::default(),
        }))
    }

    /// Tells something of these sockets to the server of one, or to all that have the namespace.
    fn tell_about(
        &self,
        target: &Target,
        flags: Flags,
        message: impl FnOnce() -> Message,
    ) -> Result<(), AdapterError> {
        let this = &self.0;
        let room = this.routes.room(target);
        let socket = room.filter(|room| server_of(room).is_some() && !this.has_guest(room));
        match socket.filter(|_| !flags.local) {
            Some(socket) => {
                let topic = this.router.topics.room(&this.name, socket);
                this.router.publish(&topic, &this.name, message())
            }
            None => self.tell(flags, message),
        }
    }

    /// Tells the other servers that have the namespace, if that is wanted.
    fn tell(&self, flags: Flags, message: impl FnOnce() -> Message) -> Result<(), AdapterError> {
        if flags.local {
            return Ok(());
        }
        let this = &self.0;
        this.router
            .publish(this.routes.namespace(), &this.name, message())
    }
}

impl Inner {
    /// Whether a socket with this id may be on another server than the one that it names: sockets
    /// that resume a session keep their ids.
    fn has_guest(&self, room: &Room) -> bool {
        self.local.recovery_time().is_some() && server_of(room).is_some()
    }

    /// Whether the ids of its sockets name this server. They don't if a factory of the application's
    /// own makes the adapters and has no [`Relay`](antiphon::adapter::Relay).
    fn names_its_sockets(&self) -> bool {
        self.local.tag() == Some(self.router.tag())
    }

    fn foreign(&self) -> MutexGuard<'_, HashMap<Topic, usize>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A room has its first member here.
    fn created(&self, room: &str) {
        let topic = self.router.topics.room(&self.name, room);
        if topic == self.sockets {
            return;
        }
        if server_of(room).is_some() {
            *self.foreign().entry(topic.clone()).or_default() += 1;
        }
        self.router.link().wanted.want(topic);
    }

    /// A room has lost its last member here.
    fn deleted(&self, room: &str) {
        let topic = self.router.topics.room(&self.name, room);
        if topic == self.sockets {
            return;
        }
        if server_of(room).is_some() {
            let mut foreign = self.foreign();
            if let Some(count) = foreign.get_mut(&topic) {
                *count -= 1;
                if *count > 0 {
                    return;
                }
                foreign.remove(&topic);
            }
        }
        // What a shared log carries needs no topic.
        let linger = self.local.recovery_time().filter(|_| self.log.is_none());
        self.router.link().give_up(&topic, linger);
    }

    pub(crate) const fn local(&self) -> &Local {
        &self.local
    }

    /// Whether an event is carried by the shared log.
    fn logs(&self, flags: Flags) -> Option<&Arc<Shared>> {
        let log = self.log.as_ref();
        log.filter(|_| !flags.volatile && flags.at_least_once.is_none())
    }

    /// Gives what a server has emitted to this parent to the logs that its children share. Returns
    /// whether there are any.
    fn append_once(
        &self,
        from: &str,
        number: u64,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> bool {
        // What the server emits to a child itself has other numbers.
        let sender = format!("{from}{}", self.name);
        self.local
            .append_once(event, target, flags, (&sender, number))
    }

    /// Delivers what is emitted to this parent, but for what the logs of its children deliver.
    fn broadcast_to_children(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        is_logged: bool,
    ) {
        match is_logged {
            true => self.local.broadcast_beside_logs(event, target, flags),
            false => self.local.broadcast(event, target, flags),
        }
    }

    /// Another server has said something about this namespace.
    pub(crate) fn heard(self: &Arc<Self>, from: &str, message: Message) {
        let local = &self.local;
        match message {
            Message::Broadcast {
                to,
                delivery,
                event,
                number,
            } => {
                let (target, mut flags) = (message::target(to), message::flags(delivery));
                if local.is_parent() {
                    let is_logged = self.append_once(from, number, &event, &target, flags);
                    return self.broadcast_to_children(&event, &target, flags, is_logged);
                }
                match self.logs(flags) {
                    None => local.broadcast(&event, &target, flags),
                    Some(log) if number > 0 => log.emitted(from, number, &event, &target, flags),
                    Some(_) => {
                        // Its sender doesn't share the log, and others get it, too: it can't be in it.
                        flags.volatile = true;
                        local.broadcast(&event, &target, flags);
                    }
                }
            }
            Message::Join { who, rooms } => local.join(&message::target(who), &rooms),
            Message::Leave { who, rooms } => local.leave(&message::target(who), &rooms),
            Message::Disconnect { who, close } => local.disconnect(&message::target(who), close),
            Message::Emit { event } => {
                tokio::spawn(local.server_side_emit(&event));
            }
            // What concerns the server itself is the router's.
            _ => {}
        }
    }

    /// Another server asks something. Its replies are numbered, in the order of the channel.
    pub(crate) fn asked(
        self: &Arc<Self>,
        what: Asked,
        time: Duration,
        replies: mpsc::UnboundedSender<Reply>,
    ) {
        let reply = move |reply| {
            // The task that sends them reads until this end is dropped.
            let _ = replies.send(reply);
        };
        match what {
            Asked::Acks {
                to,
                delivery,
                event,
            } => {
                let (answers, mut answered) = Answers::channel(time);
                let (to, flags) = (message::target(to), message::flags(delivery));
                let count = self.local.broadcast_with_ack(&event, &to, flags, &answers);
                drop(answers);
                reply(Reply::Count(count as u64));
                tokio::spawn(async move {
                    while let Some((socket, args)) = answered.next().await {
                        let socket = socket.as_str().into();
                        reply(Reply::Ack { socket, args });
                    }
                });
            }
            Asked::Fetch { who } => {
                let found = self.local.fetch(&message::target(who));
                message::found(found, FOUND).into_iter().for_each(reply);
            }
            Asked::Handle { event } => {
                let handled = self.local.server_side_emit(&event);
                tokio::spawn(async move {
                    let answer: Option<OwnedArgs> = handled.await;
                    answer.into_iter().map(Reply::Handled).for_each(reply);
                });
            }
        }
    }
}

impl Adapter for Namespaced {
    fn start(&self) {
        let this = &self.0;
        this.router.enter(&this.name, this);
        for topic in [this.routes.namespace(), &this.sockets] {
            this.router.link().wanted.want(topic.clone());
        }
        if let Some(log) = &this.log {
            log.start(&this.local);
        }
    }

    fn removed(&self) {
        let this = &self.0;
        this.router.leave(&this.name, this);
        for topic in [this.routes.namespace(), &this.sockets] {
            this.router.link().give_up(topic, None);
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let router = Arc::clone(&self.0.router);
        Box::pin(async move { router.close().await })
    }

    fn watch(&self) -> Watch {
        match self.0.names_its_sockets() {
            true => Watch::Rooms,
            // Each has the topic of its id.
            false => Watch::Sockets,
        }
    }

    fn changed(&self, change: Membership<'_>) {
        match change {
            Membership::Created { room } => self.0.created(room),
            Membership::Deleted { room } => self.0.deleted(room),
            Membership::Came { socket } if !self.0.names_its_sockets() => {
                self.0.created(socket.as_str());
            }
            Membership::Gone { socket } if !self.0.names_its_sockets() => {
                self.0.deleted(socket.as_str());
            }
            _ => {}
        }
    }

    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError> {
        let this = &self.0;
        let message = |number| Message::Broadcast {
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
            number,
        };
        if this.local.is_parent() && !flags.local {
            let mut emitted = this.emitted.lock().unwrap_or_else(PoisonError::into_inner);
            *emitted += 1;
            let me = this.router.me().as_str();
            let is_logged = this.append_once(me, *emitted, event, target, flags);
            let told = self.tell(flags, || message(*emitted));
            drop(emitted);
            this.broadcast_to_children(event, target, flags, is_logged);
            return told;
        }
        this.local.broadcast(event, target, flags);
        if flags.local || this.logs(flags).is_some() {
            return Ok(());
        }
        // What is kept concerns servers that have nobody in the room now.
        let is_logged_by_each = this.log.is_none() && this.local.recovery_time().is_some();
        let is_kept = flags.retain || flags.at_least_once.is_some() || is_logged_by_each;
        match this
            .routes
            .room(target)
            .filter(|room| !is_kept && !this.has_guest(room))
        {
            Some(room) => {
                let topic = this.router.topics.room(&this.name, room);
                this.router.publish(&topic, &this.name, message(0))
            }
            None => self.tell(flags, || message(0)),
        }
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
        let asked = Asked::Acks {
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
        };
        Router::ask(&this.router, &this.name, asked, Asking::Acks(answers));
    }

    fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        let this = &self.0;
        this.local.join(target, rooms);
        if !flags.local {
            this.routes.moves(rooms, Instant::now());
        }
        self.tell_about(target, flags, || Message::Join {
            who: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.0.local.leave(target, rooms);
        self.tell_about(target, flags, || Message::Leave {
            who: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError> {
        self.0.local.disconnect(target, close);
        self.tell_about(target, flags, || Message::Disconnect {
            who: message::sockets(target),
            close,
        })
    }

    fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>) {
        let this = &self.0;
        let asking = Asking::sockets(&this.local, target, found);
        if !flags.local {
            let who = message::sockets(target);
            Router::ask(&this.router, &this.name, Asked::Fetch { who }, asking);
        }
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        let router = Arc::clone(&self.0.router);
        Box::pin(async move {
            router.started().await;
            Ok(router.servers().len())
        })
    }

    fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError> {
        let event = event.clone();
        self.tell(Flags::default(), || Message::Emit { event })
    }

    fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>) {
        let this = &self.0;
        let event = event.clone();
        let (asked, asking) = (Asked::Handle { event }, Asking::Servers(answers));
        Router::ask(&this.router, &this.name, asked, asking);
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("namespace", &self.name)
            .finish_non_exhaustive()
    }
}
