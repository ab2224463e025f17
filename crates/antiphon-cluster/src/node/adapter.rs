//! The adapter of one namespace in a cluster with Node.
//!
//! The server's namespace owns a [`Namespaced`]. As with [our own wire](crate::Cluster) all is done on
//! this server's sockets first and then said to others, by the [`Namespace`], to which the router gives
//! what others say.

use std::{fmt, sync::Arc, time::Instant};

use antiphon::{
    RemoteSocket, Room, Target,
    adapter::{
        Adapter, AdapterError, Answers, BoxFuture, Flags, Local, Membership, Outgoing,
        ServerAnswer, SocketAnswer, Watch,
    },
};
use antiphon_protocol::cluster::node::{Message, Mode};

use super::{codec::wire_flags, namespace::Namespace, router::Router, wire::NodeWire};
use crate::message::{self, Asking};

/// The adapter of one namespace.
pub(super) struct Namespaced {
    namespace: Arc<Namespace>,
    router: Arc<Router>,
}

impl Namespaced {
    pub(super) fn new(local: Local, router: Arc<Router>) -> Self {
        let log = router.log_of(local.name());
        let log = log.filter(|_| local.recovery_time().is_some());
        let (wire, link) = (&router.wire, &router.link);
        let time = router.requests_timeout();
        let namespace = Namespace::new(local, log, wire, link, router.health(), time);
        Self {
            namespace: Arc::new(namespace),
            router,
        }
    }

    /// A room has got its first socket.
    fn created(&self, room: &str) {
        if let Some(topic) = self.namespace.codec.room(room) {
            self.router.link.wanted.want(topic);
        }
    }

    /// A room has lost its last socket.
    fn deleted(&self, room: &str) {
        if let Some(topic) = self.namespace.codec.room(room) {
            let linger = self.namespace.local.recovery_time();
            self.router.link.give_up(&topic, linger);
        }
    }
}

impl Adapter for Namespaced {
    fn start(&self) {
        let here = &self.namespace;
        self.router.enter(here);
        if let Some(log) = &here.log {
            log.start(here);
        }
        let wanted = &self.router.link.wanted;
        for topic in here.codec.topics() {
            wanted.want(topic);
        }
        here.wants(wanted.version());
        self.router.connect(here, Instant::now());
    }

    fn removed(&self) {
        let here = &self.namespace;
        here.leave();
        self.router.leave(here);
        // Streams carry other namespaces, too.
        let topics = here.codec.topics().into_iter();
        for topic in topics.filter(|topic| !topic.is_stream()) {
            self.router.link.give_up(&topic, None);
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let router = Arc::clone(&self.router);
        Box::pin(async move { router.close().await })
    }

    fn watch(&self) -> Watch {
        match self.router.wire {
            NodeWire::Sharded {
                mode: Mode::DynamicPrivate,
                ..
            } => Watch::Sockets,
            _ => Watch::Rooms,
        }
    }

    fn changed(&self, change: Membership<'_>) {
        match change {
            Membership::Created { room } => self.created(room),
            Membership::Deleted { room } => self.deleted(room),
            // Where each room has a channel, that of a socket's own id has one.
            Membership::Came { socket } => self.created(socket.as_str()),
            Membership::Gone { socket } => self.deleted(socket.as_str()),
            _ => {}
        }
    }

    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError> {
        self.namespace.local.broadcast(event, target, flags);
        if self.namespace.logs(flags) {
            return Ok(());
        }
        self.namespace.tell(flags, || Message::Broadcast {
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
        let local = &self.namespace.local;
        answers.expect(local.broadcast_with_ack(event, target, flags, &answers));
        if flags.local {
            return;
        }
        let (event, target) = (event.clone(), message::sockets(target));
        let flags = wire_flags(flags, Some(answers.remaining()));
        self.namespace
            .ask(Asking::Acks(answers), move |request| Message::Broadcast {
                event,
                target,
                flags,
                request: Some(request),
            });
    }

    fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.namespace.local.join(target, rooms);
        self.namespace.tell(flags, || Message::Join {
            target: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.namespace.local.leave(target, rooms);
        self.namespace.tell(flags, || Message::Leave {
            target: message::sockets(target),
            rooms: rooms.to_vec(),
        })
    }

    fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError> {
        self.namespace.local.disconnect(target, close);
        self.namespace.tell(flags, || Message::Disconnect {
            target: message::sockets(target),
            close,
        })
    }

    fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>) {
        let asking = Asking::sockets(&self.namespace.local, target, found);
        if !flags.local {
            let target = message::sockets(target);
            self.namespace
                .ask(asking, move |request| Message::Fetch { request, target });
        }
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        let this = Arc::clone(&self.namespace);
        Box::pin(async move { Ok(this.others().await?.len() + 1) })
    }

    fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError> {
        self.namespace
            .tell(Flags::default(), || Message::ServerSideEmit {
                event: event.clone(),
                request: None,
            })
    }

    fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>) {
        let event = event.clone();
        self.namespace
            .ask(Asking::Servers(answers), move |request| {
                Message::ServerSideEmit {
                    event,
                    request: Some(request),
                }
            });
    }
}

impl fmt::Debug for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespaced").field(&self.namespace).finish()
    }
}
