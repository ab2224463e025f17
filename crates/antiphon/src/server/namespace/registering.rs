//! How handlers are registered on a namespace, on a parent of namespaces, and on a server, which
//! stands for its main namespace.
//!
//! Handlers may be registered at any time, by any thread: what is called next sees them. Those of
//! events go to [`Listeners`](crate::server::handlers::listeners::Listeners), all others to
//! [`Lifecycle`], each changed by a copy.

use std::{
    any::TypeId,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use super::{Lifecycle, OnRoomEvent, OnUndelivered, parent::ParentNamespace};
use crate::engine::QueuePolicy;
use crate::server::{
    ConnectError, FromArgs, Handler, IntoReply, Namespace, OnConnect, OnDisconnect, OnEvent,
    RoomEvent, Server, Undelivered,
    handlers::{
        future::guarded,
        handler,
        listeners::{Place, Times},
        watch,
    },
};

impl Namespace {
    /// Calls `handler` with each socket that has connected. Events of the socket wait until it has
    /// ended, and so do its disconnect handlers, if it leaves meanwhile.
    #[doc(alias = "connection")]
    pub fn on_connect<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnConnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("connect", handler));
        self.add(|lifecycle| lifecycle.connect.push(handler))
    }

    /// Calls `handler` with each socket that is about to leave; until its first `await` the socket
    /// is still in its rooms. Events that its client sent before it left have been given to their
    /// handlers.
    #[doc(alias = "disconnecting")]
    pub fn on_disconnecting<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnDisconnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("disconnecting", handler));
        self.add(|lifecycle| lifecycle.disconnecting.push(handler))
    }

    /// Calls `handler` with each socket that has left. Its client can join the namespace again, on
    /// the same connection, when it has ended, or after
    /// [`leave_timeout`](crate::ServerBuilder::leave_timeout).
    pub fn on_disconnect<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnDisconnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("disconnect", handler));
        self.add(|lifecycle| lifecycle.disconnect.push(handler))
    }

    /// Calls `handler` with each socket whose connection has moved to another transport, mostly from
    /// polling to WebSocket: [`TransportKind`](crate::TransportKind) is an argument.
    ///
    /// ```
    /// # let io = antiphon::Server::new();
    /// use antiphon::{Socket, TransportKind};
    ///
    /// io.of("/").on_upgrade(async |socket: Socket, transport: TransportKind| {
    ///     println!("{:?} has gone on to {transport}", socket.id());
    /// });
    /// ```
    #[doc(alias = "upgrade")]
    pub fn on_upgrade<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnConnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("upgrade", handler));
        self.add(|lifecycle| lifecycle.upgrade.push(handler))
    }

    /// Calls `handler` with each change of the rooms on this server, one after the other in their order:
    /// rooms that come and go, sockets that join and leave them. It runs in the background, and may be
    /// behind. The room of a socket's own id is none here. Changes of other servers are told there.
    ///
    /// ```
    /// use antiphon::{Namespace, RoomEvent, Server};
    ///
    /// let io = Server::new();
    /// io.of("/").on_room_event(async |_: Namespace, event: RoomEvent| match event {
    ///     RoomEvent::Created { room } => println!("{room} is there"),
    ///     RoomEvent::Deleted { room } => println!("nobody is in {room} any more"),
    ///     _ => {}
    /// });
    /// ```
    #[doc(alias("create-room", "delete-room", "join-room", "leave-room"))]
    pub fn on_room_event<F, Fut>(&self, handler: F) -> Self
    where
        F: Fn(Self, RoomEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let handler = room_events(handler);
        self.add(|lifecycle| lifecycle.room_event.push(handler));
        self.observe_rooms();
        if let Some(namespaces) = self.namespaces().filter(|_| self.joins().is_parent()) {
            let children = namespaces.children_of(self.joins());
            children.iter().for_each(Self::observe_rooms);
        }
        self.clone()
    }

    /// Lets sockets in, or not: asked before a socket joins, in the order of registration. An error
    /// refuses it, and the client's `connect_error` gets its message and data, and so does
    /// [`disconnect`](crate::Socket::disconnect), with the message `disconnected`. Rooms that it
    /// [joins](crate::Socket::join) are entered when the socket has joined.
    #[doc(alias = "use")]
    pub fn middleware<A, H>(&self, middleware: H) -> Self
    where
        H: Handler<OnConnect, A, Output = Result<(), ConnectError>>,
    {
        let middleware = Arc::new(handler::middleware(middleware));
        self.add(|lifecycle| lifecycle.middlewares.push(middleware))
    }

    /// Calls `handler` for each event of this name. What it returns is the acknowledgement.
    pub fn on<A, H>(&self, event: &str, handler: H) -> Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        let handler = handler::event(event, handler);
        let listeners = &self.inner.listeners;
        listeners.on(event, handler, Times::Always, Place::Last);
        self.clone()
    }

    /// As [`on`](Self::on), before the handlers that there are here.
    #[doc(alias = "prependListener")]
    pub fn prepend<A, H>(&self, event: &str, handler: H) -> Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        let handler = handler::event(event, handler);
        let listeners = &self.inner.listeners;
        listeners.on(event, handler, Times::Always, Place::First);
        self.clone()
    }

    /// As [`on`](Self::on), for the first such event of each socket only.
    pub fn once<A, H>(&self, event: &str, handler: H) -> Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        let handler = handler::event(event, handler);
        let listeners = &self.inner.listeners;
        listeners.on(event, handler, Times::once_per_socket(), Place::Last);
        self.clone()
    }

    /// Removes all handlers of an event that were registered here. A handler that is to end by itself
    /// is one of [`once`](Self::once).
    #[doc(alias = "removeListener")]
    pub fn off(&self, event: &str) -> Self {
        self.inner.listeners.off(event);
        self.clone()
    }

    /// Removes one handler of an event that was registered here: the one that is this function, the
    /// last if it was registered several times. Others of the event stay.
    ///
    /// A function is known by its type: so this takes a function by its name, or a closure that was
    /// kept in a variable. Two closures that one line of the source has made are alike.
    ///
    /// ```
    /// # let io = antiphon::Server::new();
    /// async fn tell() {}
    ///
    /// io.on("a", tell).on("a", async || {}).off_handler("a", tell);
    /// ```
    #[doc(alias("removeListener", "off"))]
    pub fn off_handler<A, H>(&self, event: &str, _: H) -> Self
    where
        H: Handler<OnEvent, A>,
    {
        self.inner.listeners.off_handler(event, TypeId::of::<H>());
        self.clone()
    }

    /// Removes the handlers of all events that were registered here by name.
    #[doc(alias = "removeAllListeners")]
    pub fn off_all(&self) -> Self {
        self.inner.listeners.off_all();
        self.clone()
    }

    /// Handles each event of this name once, however often it comes: what comes again is acknowledged
    /// with the answer to the first, and no handler is called. It is the server's half of a client's
    /// option `retries`, with which an event comes again if its acknowledgement is lost.
    ///
    /// Its last argument is an id that the client chooses anew for each event, a text of 1 to 128
    /// bytes; one without is rejected (`no_event_id`). 16,384 events and 16 MiB of answers are
    /// remembered, for 10 min. What was rejected may come again: no handler has done it.
    ///
    /// ```
    /// # let io = antiphon::Server::new();
    /// io.of("/")
    ///     .handle_once("order")
    ///     .on("order", async |antiphon::Data((amount, _id)): antiphon::Data<(u32, String)>| amount);
    /// // The client: io(url, { retries: 3, ackTimeout: 5000 })
    /// //             socket.emit("order", 5, crypto.randomUUID(), callback)
    /// ```
    pub fn handle_once(&self, event: &str) -> Self {
        self.inner.handled.get_or_init(Arc::default).add(event);
        self.clone()
    }

    /// Calls `told` with each event that was to be delivered [at least
    /// once](crate::Emitter::at_least_once), and that its client has never acknowledged. The last that is
    /// registered counts. They are counted, too: [`Stats::undelivered`](crate::Stats).
    pub fn on_undelivered<F>(&self, told: F) -> Self
    where
        F: Fn(Undelivered) + Send + Sync + 'static,
    {
        let told: OnUndelivered = Box::new(told);
        self.inner.undelivered.store(Some(Arc::new(told)));
        self.clone()
    }

    /// Calls `handler` for every event that comes in, before those of its name.
    #[doc(alias = "onAny")]
    pub fn on_any<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let handler = handler::quiet("(any)", handler);
        self.inner.listeners.on_any(handler, Place::Last);
        self.clone()
    }

    /// As [`on_any`](Self::on_any), before the handlers that there are here.
    #[doc(alias = "prependAny")]
    pub fn prepend_any<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let handler = handler::quiet("(any)", handler);
        self.inner.listeners.on_any(handler, Place::First);
        self.clone()
    }

    /// Removes all handlers of [`on_any`](Self::on_any) that were registered here.
    #[doc(alias = "offAny")]
    pub fn off_any(&self) -> Self {
        self.inner.listeners.off_any();
        self.clone()
    }

    /// Calls `handler` for every event that goes out to a socket, acknowledgements aside: once for each
    /// socket, on the server that this is on, also if another server has emitted it. It gets what was
    /// emitted, before it is known whether the client takes it.
    #[doc(alias = "onAnyOutgoing")]
    pub fn on_any_outgoing<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let registered = &self.shared().outgoing_listeners;
        let handler = handler::quiet("(any outgoing)", handler);
        let listeners = &self.inner.listeners;
        listeners.on_any_outgoing(handler, Place::Last, registered);
        self.clone()
    }

    /// As [`on_any_outgoing`](Self::on_any_outgoing), before the handlers that there are here.
    #[doc(alias = "prependAnyOutgoing")]
    pub fn prepend_any_outgoing<A, H>(&self, handler: H) -> Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let registered = &self.shared().outgoing_listeners;
        let handler = handler::quiet("(any outgoing)", handler);
        let listeners = &self.inner.listeners;
        listeners.on_any_outgoing(handler, Place::First, registered);
        self.clone()
    }

    /// Removes all handlers of [`on_any_outgoing`](Self::on_any_outgoing) that were registered here.
    #[doc(alias = "offAnyOutgoing")]
    pub fn off_any_outgoing(&self) -> Self {
        let registered = &self.shared().outgoing_listeners;
        self.inner.listeners.off_any_outgoing(registered);
        self.clone()
    }

    /// What becomes of this namespace's events for clients that read slowly, unless an emit says
    /// otherwise. [`QueuePolicy::Close`] by default: all of them arrive, or the client is cut.
    /// Acknowledgements and the namespace's own packets always have that.
    ///
    /// ```
    /// use antiphon::QueuePolicy;
    /// # let io = antiphon::Server::new();
    /// io.of("/ticker").queue_policy(QueuePolicy::DropOldest);
    /// ```
    pub fn queue_policy(&self, policy: QueuePolicy) -> Self {
        self.inner.local.set_queue_policy(policy);
        self.clone()
    }

    /// Calls `handler` for each event of this name that another server [emits to
    /// servers](Self::server_side_emit). It gets the arguments as a `T`; what it returns is the
    /// answer. Of several handlers of one event, which run one behind the other, the first answer
    /// counts. A closure that owns what it uses is written `move |..| { let it = it.clone(); async
    /// move { .. } }`.
    ///
    /// ```
    /// # let io = antiphon::Server::new();
    /// io.of("/").on_server_side("add", async |(a, b): (u32, u32)| a + b);
    /// ```
    #[doc(alias = "serverSideEmit")]
    pub fn on_server_side<T, F, Fut>(&self, event: &str, handler: F) -> Self
    where
        T: FromArgs,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply + Send,
    {
        self.inner.local.server_side().on(event, handler);
        self.clone()
    }

    fn add(&self, add: impl FnOnce(&mut Lifecycle)) -> Self {
        let mut lifecycle = self
            .inner
            .lifecycle
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        add(Arc::make_mut(&mut lifecycle));
        drop(lifecycle);
        self.clone()
    }
}

/// Gives a type that stands for a namespace what is registered on that. It has a method
/// `registers_on`.
macro_rules! stands_for_namespace {
    ($type:ty, $whose:literal) => {
        impl $type {
            stands_for_namespace!(@methods $whose:
                on_connect<OnConnect>(handler) -> ();
                on_disconnecting<OnDisconnect>(handler) -> ();
                on_disconnect<OnDisconnect>(handler) -> ();
                middleware<OnConnect>(handler) -> Result<(), ConnectError>;
                on_upgrade<OnConnect>(handler) -> ();
                on_any<OnEvent>(handler) -> ();
                prepend_any<OnEvent>(handler) -> ();
                on_any_outgoing<OnEvent>(handler) -> ();
                prepend_any_outgoing<OnEvent>(handler) -> ();
            );
            stands_for_namespace!(@events $whose: on once prepend);
            stands_for_namespace!(@names $whose: off handle_once);

            #[doc = concat!("For ", $whose, ": see [`Namespace::off_handler`].")]
            pub fn off_handler<A, H>(&self, event: &str, handler: H) -> Self
            where
                H: Handler<OnEvent, A>,
            {
                self.registers_on().off_handler(event, handler);
                self.clone()
            }

            stands_for_namespace!(@bare $whose: off_all off_any off_any_outgoing);

            #[doc = concat!("For ", $whose, ": see [`Namespace::on_undelivered`].")]
            pub fn on_undelivered<F>(&self, told: F) -> Self
            where
                F: Fn(Undelivered) + Send + Sync + 'static,
            {
                self.registers_on().on_undelivered(told);
                self.clone()
            }

            #[doc = concat!("For ", $whose, ": see [`Namespace::on_room_event`].")]
            pub fn on_room_event<F, Fut>(&self, handler: F) -> Self
            where
                F: Fn(Namespace, RoomEvent) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = ()> + Send + 'static,
            {
                self.registers_on().on_room_event(handler);
                self.clone()
            }

            #[doc = concat!("For ", $whose, ": see [`Namespace::queue_policy`].")]
            pub fn queue_policy(&self, policy: QueuePolicy) -> Self {
                self.registers_on().queue_policy(policy);
                self.clone()
            }

            #[doc = concat!("For ", $whose, ": see [`Namespace::on_server_side`].")]
            pub fn on_server_side<T, F, Fut>(&self, event: &str, handler: F) -> Self
            where
                T: FromArgs,
                F: Fn(T) -> Fut + Send + Sync + 'static,
                Fut: Future + Send + 'static,
                Fut::Output: IntoReply + Send,
            {
                self.registers_on().on_server_side(event, handler);
                self.clone()
            }
        }
    };
    (@methods $whose:literal: $($name:ident<$kind:ident>(handler) -> $output:ty;)*) => {$(
        #[doc = concat!("For ", $whose, ": see [`Namespace::", stringify!($name), "`].")]
        pub fn $name<A, H>(&self, handler: H) -> Self
        where
            H: Handler<$kind, A, Output = $output>,
        {
            self.registers_on().$name(handler);
            self.clone()
        }
    )*};
    (@events $whose:literal: $($name:ident)*) => {$(
        #[doc = concat!("For ", $whose, ": see [`Namespace::", stringify!($name), "`].")]
        pub fn $name<A, H>(&self, event: &str, handler: H) -> Self
        where
            H: Handler<OnEvent, A>,
            H::Output: IntoReply + Send,
        {
            self.registers_on().$name(event, handler);
            self.clone()
        }
    )*};
    (@bare $whose:literal: $($name:ident)*) => {$(
        #[doc = concat!("For ", $whose, ": see [`Namespace::", stringify!($name), "`].")]
        pub fn $name(&self) -> Self {
            self.registers_on().$name();
            self.clone()
        }
    )*};
    (@names $whose:literal: $($name:ident)*) => {$(
        #[doc = concat!("For ", $whose, ": see [`Namespace::", stringify!($name), "`].")]
        pub fn $name(&self, event: &str) -> Self {
            self.registers_on().$name(event);
            self.clone()
        }
    )*};
}

stands_for_namespace!(ParentNamespace, "all children");
stands_for_namespace!(Server, "the main namespace, `/`");

impl ParentNamespace {
    const fn registers_on(&self) -> &Namespace {
        self.as_namespace()
    }
}

impl Server {
    fn registers_on(&self) -> Namespace {
        self.of("/")
    }
}

/// A handler of changes of rooms. A panic ends that call alone.
fn room_events<F, Fut>(handler: F) -> Arc<OnRoomEvent>
where
    F: Fn(Namespace, RoomEvent) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let name = watch::name::<F>("room event");
    let panicked = || {
        let handler = std::any::type_name::<F>();
        tracing::error!(handler, "a handler of room events panicked");
    };
    Arc::new(move |namespace, event| {
        match catch_unwind(AssertUnwindSafe(|| handler(namespace, event))) {
            Ok(future) => Box::pin(guarded(name, future, move |returned| {
                returned.unwrap_or_else(panicked);
            })),
            Err(_) => {
                panicked();
                Box::pin(std::future::ready(()))
            }
        }
    })
}
