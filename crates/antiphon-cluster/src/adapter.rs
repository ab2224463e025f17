//! The adapter of one namespace in a cluster of our own wire.
//!
//! The server's namespace owns a [`Namespaced`]. What is emitted or asked for is done on this server's
//! sockets first ([`Local`]), and then said to others by the router: as a message under the topic of
//! its room, of its socket, or of the whole namespace, or as a question to all servers. Others that
//! can't be told are an [`AdapterError`]; servers that owe answers are named as missing. What others
//! say and ask doesn't come here: the router gives it to the [`Namespace`].
//!
//! With a shared log an event isn't published but appended, and delivered when it comes back from
//! there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use antiphon::{
    RemoteSocket, Room, Target,
    adapter::{
        Adapter, AdapterError, Answers, BoxFuture, Flags, Local, Membership, Outgoing, Relay as _,
        ServerAnswer, SocketAnswer, Watch,
    },
};
use antiphon_protocol::cluster::native::{Asked, Message};

use crate::{
    Topic,
    member::Member,
    message::{self, Asking},
    namespace::Namespace,
    router::Router,
    topics::{Routes, server_of},
};

/// The adapter of one namespace.
pub(crate) struct Namespaced {
    namespace: Arc<Namespace>,
    router: Arc<Router>,
    routes: Routes,
    /// What concerns single sockets of this server.
    sockets: Topic,
    /// Rooms with members here that are named like ids of other servers, counted by their topics.
    foreign: Mutex<HashMap<Topic, usize>>,
    /// The number of the last event of a parent. A thread that counts one up keeps the lock until logs
    /// and other servers have been given the event, so that they get all in their order.
    emitted: Mutex<u64>,
}

impl Namespaced {
    pub(crate) fn new(local: Local, router: Arc<Router>) -> Self {
        let name: Arc<str> = local.name().into();
        let routes = Routes::new(router.member.topics.namespace(&name));
        let sockets = router.member.topics.sockets(&name, router.tag().as_str());
        let log = router
            .log_of(&name)
            .filter(|_| local.recovery_time().is_some());
        Self {
            namespace: Arc::new(Namespace { name, local, log }),
            router,
            routes,
            sockets,
            foreign: Mutex::default(),
            emitted: Mutex::default(),
        }
    }

    /// Tells something of these sockets to the server of one, or to all that have the namespace.
    fn tell_about(
        &self,
        target: &Target,
        flags: Flags,
        message: impl FnOnce() -> Message,
    ) -> Result<(), AdapterError> {
        let room = self.routes.room(target);
        let socket = room.filter(|room| server_of(room).is_some() && !self.has_guest(room));
        match socket.filter(|_| !flags.local) {
            Some(socket) => self.publish(&self.topic_of(socket), message()),
            None => self.tell(flags, message),
        }
    }

    /// Tells the other servers that have the namespace, if that is wanted.
    fn tell(&self, flags: Flags, message: impl FnOnce() -> Message) -> Result<(), AdapterError> {
        if flags.local {
            return Ok(());
        }
        self.publish(self.routes.namespace(), message())
    }

    fn publish(&self, topic: &Topic, message: Message) -> Result<(), AdapterError> {
        self.router
            .member
            .publish(topic, &self.namespace.name, message)
    }

    /// Asks all other servers.
    fn ask(&self, asked: Asked, asking: Asking) {
        Member::ask(&self.router.member, &self.namespace.name, asked, asking);
    }

    fn topic_of(&self, room: &str) -> Topic {
        self.router.member.topics.room(&self.namespace.name, room)
    }

    /// Whether a socket with this id may be on another server than the one that it names: sockets
    /// that resume a session keep their ids.
    fn has_guest(&self, room: &Room) -> bool {
        self.namespace.local.recovery_time().is_some() && server_of(room).is_some()
    }

    /// Whether the ids of its sockets name this server. They don't if a factory of the application's
    /// own makes the adapters and has no [`Relay`](antiphon::adapter::Relay).
    fn names_its_sockets(&self) -> bool {
        self.namespace.local.tag() == Some(self.router.tag())
    }

    fn foreign(&self) -> MutexGuard<'_, HashMap<Topic, usize>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A room has its first member here.
    fn created(&self, room: &str) {
        let topic = self.topic_of(room);
        if topic == self.sockets {
            return;
        }
        if server_of(room).is_some() {
            *self.foreign().entry(topic.clone()).or_default() += 1;
        }
        self.router.member.link.wanted.want(topic);
    }

    /// A room has lost its last member here.
    fn deleted(&self, room: &str) {
        let topic = self.topic_of(room);
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
        let here = &self.namespace;
        let linger = here.local.recovery_time().filter(|_| here.log.is_none());
        self.router.member.link.give_up(&topic, linger);
    }
}

impl Adapter for Namespaced {
    fn start(&self) {
        self.router.enter(&self.namespace);
        for topic in [self.routes.namespace(), &self.sockets] {
            self.router.member.link.wanted.want(topic.clone());
        }
        if let Some(log) = &self.namespace.log {
            log.start(&self.namespace.local);
        }
    }

    fn removed(&self) {
        self.router.leave(&self.namespace);
        for topic in [self.routes.namespace(), &self.sockets] {
            self.router.member.link.give_up(topic, None);
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let router = Arc::clone(&self.router);
        Box::pin(async move { router.close().await })
    }

    fn watch(&self) -> Watch {
        match self.names_its_sockets() {
            true => Watch::Rooms,
            // Each has the topic of its id.
            false => Watch::Sockets,
        }
    }

    fn changed(&self, change: Membership<'_>) {
        match change {
            Membership::Created { room } => self.created(room),
            Membership::Deleted { room } => self.deleted(room),
            Membership::Came { socket } if !self.names_its_sockets() => {
                self.created(socket.as_str());
            }
            Membership::Gone { socket } if !self.names_its_sockets() => {
                self.deleted(socket.as_str());
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
        let message = |number| Message::Broadcast {
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
            number,
        };
        let here = &self.namespace;
        if here.local.is_parent() && !flags.local {
            let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
            *emitted += 1;
            let me = self.router.member.me().as_str();
            let is_logged = here.append_once(me, *emitted, event, target, flags);
            let told = self.tell(flags, || message(*emitted));
            drop(emitted);
            here.broadcast_to_children(event, target, flags, is_logged);
            return told;
        }
        here.local.broadcast(event, target, flags);
        if flags.local || here.logs(flags).is_some() {
            return Ok(());
        }
        // What is kept concerns servers that have nobody in the room now.
        let is_logged_by_each = here.log.is_none() && here.local.recovery_time().is_some();
        let is_kept = flags.retain || flags.at_least_once.is_some() || is_logged_by_each;
        let room = self.routes.room(target);
        match room.filter(|room| !is_kept && !self.has_guest(room)) {
            Some(room) => self.publish(&self.topic_of(room), message(0)),
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
        let local = &self.namespace.local;
        answers.expect(local.broadcast_with_ack(event, target, flags, &answers));
        if flags.local {
            return;
        }
        let asked = Asked::Acks {
            to: message::sockets(target),
            delivery: message::delivery(flags),
            event: event.clone(),
        };
        self.ask(asked, Asking::Acks(answers));
    }

    fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.namespace.local.join(target, rooms);
        if !flags.local {
            self.routes.moves(rooms, Instant::now());
        }
        self.tell_about(target, flags, || Message::Join {
            who: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.namespace.local.leave(target, rooms);
        self.tell_about(target, flags, || Message::Leave {
            who: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError> {
        self.namespace.local.disconnect(target, close);
        self.tell_about(target, flags, || Message::Disconnect {
            who: message::sockets(target),
            close,
        })
    }

    fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>) {
        let asking = Asking::sockets(&self.namespace.local, target, found);
        if !flags.local {
            let who = message::sockets(target);
            self.ask(Asked::Fetch { who }, asking);
        }
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        let member = Arc::clone(&self.router.member);
        Box::pin(async move {
            member.started().await;
            Ok(member.servers().len())
        })
    }

    fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError> {
        let event = event.clone();
        self.tell(Flags::default(), || Message::Emit { event })
    }

    fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>) {
        let event = event.clone();
        self.ask(Asked::Handle { event }, Asking::Servers(answers));
    }
}

impl fmt::Debug for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespaced")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
