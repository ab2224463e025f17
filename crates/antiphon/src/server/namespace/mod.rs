//! A namespace: its handlers, its sockets and their rooms.
//!
//! A [`Namespace`] is a handle; `Namespaces` owns one of each name and never drops it before the
//! server. Handlers are registered on it at any time: those of events in `Listeners`, all others in
//! `Lifecycle`, each changed by a copy. Sockets are in `Rooms`; what concerns sockets of other
//! servers goes through the adapter. It counts the ids of acks, so that a broadcast needs one.

pub(crate) mod namespaces;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Once, OnceLock, PoisonError, RwLock, Weak},
};

use antiphon_protocol::socket::{Draft, EncodeError, Outgoing};
use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, time::timeout};

use crate::engine::{Engine, QueuePolicy};
use crate::server::{
    Acknowledged, Broadcast, BroadcastAnswers, ConnectError, EmitError, Emitted, FromArgs, Handler,
    IntoArgs, IntoReply, IntoRooms, OnConnect, OnDisconnect, OnEvent, Room, ServerAnswers, Shared,
    Socket, Undelivered, acks,
    adapter::{Adapter, AdapterError, Answers, Local, Watcher},
    delivery::handled::Handled,
    handlers::handler::{self, ConnectMiddleware, Erased},
    handlers::listeners::Listeners,
    namespace::namespaces::Namespaces,
    recovery::{self, Ordered},
    rooms::Rooms,
};

/// One namespace of a server. A cheap handle.
///
/// Handlers that are registered here are shared by all its sockets and cost a connection nothing.
#[derive(Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

struct Inner {
    namespaces: Weak<Namespaces>,
    shared: Arc<Shared>,
    local: Local,
    adapter: Arc<dyn Adapter>,
    started: Once,
    lifecycle: RwLock<Arc<Lifecycle>>,
    listeners: Listeners,
    /// Which events are handled once, and those of late. Absent if none are.
    handled: OnceLock<Arc<Handled>>,
    undelivered: ArcSwapOption<OnUndelivered>,
}

/// Is told of events that were to be delivered at least once, and were not.
type OnUndelivered = Box<dyn Fn(Undelivered) + Send + Sync>;

/// Handlers of sockets that come and go.
#[derive(Default, Clone)]
pub(crate) struct Lifecycle {
    pub(crate) middlewares: Vec<Arc<ConnectMiddleware>>,
    pub(crate) connect: Vec<Arc<Erased<()>>>,
    pub(crate) disconnecting: Vec<Arc<Erased<()>>>,
    pub(crate) disconnect: Vec<Arc<Erased<()>>>,
}

impl Namespace {
    pub(crate) fn new(name: &str, namespaces: Weak<Namespaces>, shared: &Arc<Shared>) -> Self {
        let local = Local::new(name, Weak::clone(&namespaces), shared);
        let adapter = shared.adapter.make(name, local.clone());
        local.watch(Watcher::new(Arc::downgrade(&adapter), adapter.watch()));
        Self {
            inner: Arc::new(Inner {
                namespaces,
                shared: Arc::clone(shared),
                local,
                adapter,
                started: Once::new(),
                lifecycle: RwLock::default(),
                listeners: Listeners::default(),
                handled: OnceLock::new(),
                undelivered: ArcSwapOption::empty(),
            }),
        }
    }

    /// Its name, with the slash that it begins with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.local.name()
    }

    /// Calls `handler` with each socket that has connected. Events of the socket wait until it has
    /// ended, and so do its disconnect handlers, if it leaves meanwhile.
    pub fn on_connect<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnConnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("connect", handler));
        self.add(|lifecycle| lifecycle.connect.push(handler))
    }

    /// Calls `handler` with each socket that is about to leave; until its first `await` the socket
    /// is still in its rooms. Events that its client sent before it left have been given to their
    /// handlers.
    pub fn on_disconnecting<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnDisconnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("disconnecting", handler));
        self.add(|lifecycle| lifecycle.disconnecting.push(handler))
    }

    /// Calls `handler` with each socket that has left. Its client can join the namespace again, on
    /// the same connection, when it has ended, or after
    /// [`leave_timeout`](crate::ServerBuilder::leave_timeout).
    pub fn on_disconnect<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnDisconnect, A, Output = ()>,
    {
        let handler = Arc::new(handler::quiet("disconnect", handler));
        self.add(|lifecycle| lifecycle.disconnect.push(handler))
    }

    /// Lets sockets in, or not: asked before a socket joins, in the order of registration. An error
    /// refuses it, and the client's `connect_error` gets its message and data. Rooms that it
    /// [joins](Socket::join) are entered when the socket has joined.
    pub fn middleware<A, H>(&self, middleware: H) -> &Self
    where
        H: Handler<OnConnect, A, Output = Result<(), ConnectError>>,
    {
        let middleware = Arc::new(handler::middleware(middleware));
        self.add(|lifecycle| lifecycle.middlewares.push(middleware))
    }

    /// Calls `handler` for each event of this name. What it returns is the acknowledgement.
    pub fn on<A, H>(&self, event: &str, handler: H) -> &Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        self.inner
            .listeners
            .on(event, handler::event(event, handler), false);
        self
    }

    /// Removes all handlers of an event that were registered here.
    pub fn off(&self, event: &str) -> &Self {
        self.inner.listeners.off(event);
        self
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
    pub fn handle_once(&self, event: &str) -> &Self {
        self.inner.handled.get_or_init(Arc::default).add(event);
        self
    }

    /// Calls `told` with each event that was to be delivered [at least
    /// once](crate::Emitter::at_least_once), and that its client has never acknowledged. The last that is
    /// registered counts. They are counted, too: [`Stats::undelivered`](crate::Stats).
    pub fn on_undelivered<F>(&self, told: F) -> &Self
    where
        F: Fn(Undelivered) + Send + Sync + 'static,
    {
        let told: OnUndelivered = Box::new(told);
        self.inner.undelivered.store(Some(Arc::new(told)));
        self
    }

    /// Calls `handler` for every event that comes in, before those of its name.
    pub fn on_any<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        self.inner
            .listeners
            .on_any(handler::quiet("(any)", handler));
        self
    }

    /// Calls `handler` for every event that goes out to a socket, acknowledgements aside.
    pub fn on_any_outgoing<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let registered = &self.shared().outgoing_listeners;
        self.inner
            .listeners
            .on_any_outgoing(handler::quiet("(any outgoing)", handler), registered);
        self
    }

    /// Emits an event to every socket.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.broadcast().emit(event, args)
    }

    /// Emits an event to every socket and waits for their acknowledgements: see
    /// [`Broadcast::emit_with_ack`].
    ///
    /// # Errors
    /// [`AckError::Emit`](crate::AckError::Emit) if the event can't be encoded.
    pub fn emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<BroadcastAnswers<R>> {
        self.broadcast().emit_with_ack(event, args)
    }

    /// The sockets of these rooms.
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().to(rooms)
    }

    /// All sockets but those of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().except(rooms)
    }

    /// All sockets.
    pub fn broadcast(&self) -> Broadcast {
        Broadcast::new(self.clone())
    }

    /// Emits an event to the other servers that the adapter connects: to the
    /// [handlers](Self::on_server_side) of this namespace there. No socket gets it, and this server
    /// doesn't hear itself. Without an adapter nothing happens.
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        let emitted = server_side(event, &args).map_err(Into::into);
        let told = emitted.and_then(|event| Ok(self.adapter().server_side_emit(&event)?));
        Emitted::log(told, event)
    }

    /// Emits an event to the other servers and waits for what their handlers return, as long as
    /// [`ack_timeout`](crate::ServerBuilder::ack_timeout) says. The result tells which servers are
    /// missing.
    ///
    /// # Errors
    /// [`AckError`](crate::AckError) if the event can't be encoded, or the adapter fails.
    pub fn server_side_emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<ServerAnswers<R>> {
        let deadline = acks::deadline(self.shared().ack_timeout);
        let (answers, answered) = Answers::channel_until(deadline);
        let sent = server_side(event, &args).map(|event| {
            let adapter = self.adapter();
            adapter.server_side_emit_with_ack(&event, answers);
        });
        Box::pin(async move {
            sent.map_err(EmitError::from)?;
            ServerAnswers::collect(answered).await
        })
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
    pub fn queue_policy(&self, policy: QueuePolicy) -> &Self {
        self.inner.local.set_queue_policy(policy);
        self
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
    pub fn on_server_side<T, F, Fut>(&self, event: &str, handler: F) -> &Self
    where
        T: FromArgs,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply + Send,
    {
        self.inner.local.server_side().on(event, handler);
        self
    }

    /// How many servers the adapter connects, this one among them: 1 without an adapter.
    ///
    /// # Errors
    /// [`AdapterError`] if the adapter fails, or doesn't say so within
    /// [`ack_timeout`](crate::ServerBuilder::ack_timeout).
    pub async fn server_count(&self) -> Result<usize, AdapterError> {
        let counted = timeout(self.shared().ack_timeout, self.adapter().server_count()).await;
        counted.unwrap_or(Err(AdapterError::NoAnswer))
    }

    /// The sockets on this server.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        self.local().all()
    }

    /// How many sockets there are on this server.
    #[must_use]
    pub fn sockets_count(&self) -> usize {
        self.local().len()
    }

    /// The socket with this id, if it is on this server.
    #[must_use]
    pub fn socket(&self, id: &str) -> Option<Socket> {
        self.local().get(id)
    }

    /// The rooms that sockets of this server are in, with how many; the rooms of own ids aside.
    #[must_use]
    pub fn rooms(&self) -> Vec<(Room, usize)> {
        self.local().occupied()
    }

    /// The newest events to a room (to everyone, if there is none) that the log still has, oldest
    /// first: `limit` of those behind `since`, an [offset](recovery::LoggedEvent::offset) that was
    /// given before. So "the last 50 messages" need no second store. How far back it goes is up to
    /// the bounds of [`Recovery`](crate::Recovery); events that are volatile or ask for an
    /// acknowledgement aren't logged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), antiphon::recovery::LogError> {
    /// use antiphon::{Recovery, Server};
    ///
    /// let io = Server::builder().recovery(Recovery::new()).build();
    /// for text in ["one", "two", "three"] {
    ///     io.to("lobby").emit("message", text);
    /// }
    /// let last = io.of("/").history(Some("lobby"), None, 2).await?;
    /// let texts: Vec<_> = last
    ///     .iter()
    ///     .map(|logged| logged.event.with_args(|args| args.deserialize::<String>()))
    ///     .collect();
    /// assert_eq!(texts, [Ok("two".to_owned()), Ok("three".to_owned())]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LogError::NoLog`](recovery::LogError) if the namespace has no recovery, `Gap` if `since` is
    /// no place of its log, `Failed` if that can't be read.
    pub async fn history(
        &self,
        room: Option<&str>,
        since: Option<recovery::Offset>,
        limit: usize,
    ) -> Result<Vec<recovery::LoggedEvent>, recovery::LogError> {
        let ordered = self.recovery().ok_or(recovery::LogError::NoLog)?;
        ordered.history(room, since, limit).await
    }

    /// All namespaces of the server: alive as long as its engine.
    pub(crate) fn namespaces(&self) -> Option<Arc<Namespaces>> {
        self.inner.namespaces.upgrade()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn adapter(&self) -> &Arc<dyn Adapter> {
        &self.inner.adapter
    }

    /// Starts the adapter, once: nobody is given this namespace before.
    pub(crate) fn started(self) -> Self {
        self.inner
            .started
            .call_once_force(|_| self.inner.adapter.start());
        self
    }

    /// Its sockets on this server.
    /// What becomes of its events for slow readers.
    pub(crate) fn policy(&self) -> QueuePolicy {
        self.inner.local.queue_policy()
    }

    pub(crate) fn local(&self) -> &Rooms {
        self.inner.local.rooms()
    }

    /// What remembers the events of this name, if they are handled once.
    pub(crate) fn handled_once(&self, event: &str) -> Option<&Arc<Handled>> {
        self.inner
            .handled
            .get()
            .filter(|handled| handled.has(event))
    }

    /// An event is given up.
    pub(crate) fn undelivered(&self, event: Undelivered) {
        let name = event.event.name();
        tracing::debug!(socket = ?event.socket, event = &*name, reason = ?event.reason, "an event was never acknowledged");
        drop(name);
        if let Some(engine) = self.engine() {
            engine.counters().undelivered.add(1);
        }
        if let Some(told) = &*self.inner.undelivered.load() {
            told(event);
        }
    }

    /// A runtime for what its sockets have to wait for.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.engine()?.runtime()
    }

    fn engine(&self) -> Option<Arc<Engine>> {
        self.namespaces()?.engine()
    }

    /// What keeps its events and sessions, if it has recovery.
    pub(crate) fn recovery(&self) -> Option<&Arc<Ordered>> {
        self.inner.local.recovery()
    }

    /// How its sockets on this server join rooms.
    pub(crate) fn joins(&self) -> &Local {
        &self.inner.local
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.inner.listeners
    }

    pub(crate) fn lifecycle(&self) -> Arc<Lifecycle> {
        let lifecycle = self.inner.lifecycle.read();
        Arc::clone(&lifecycle.unwrap_or_else(PoisonError::into_inner))
    }

    /// The id of an acknowledgement that a socket of this namespace is asked for.
    pub(crate) fn next_ack_id(&self) -> u64 {
        self.inner.local.next_ack_id()
    }

    fn add(&self, add: impl FnOnce(&mut Lifecycle)) -> &Self {
        let mut lifecycle = self
            .inner
            .lifecycle
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        add(Arc::make_mut(&mut lifecycle));
        drop(lifecycle);
        self
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name())
            .field("sockets", &self.sockets_count())
            .finish_non_exhaustive()
    }
}

/// An event to other servers. Bounds of what clients take don't apply.
fn server_side(event: &str, args: &impl IntoArgs) -> Result<Outgoing, EncodeError> {
    let mut draft = Draft::new(usize::MAX);
    args.encode_event(&mut draft, "", None, event)?;
    Ok(draft.finish_event())
}

/// The name of a namespace with its slash: `chat` and `/chat` are one.
pub(crate) fn with_slash(name: &str) -> String {
    match name {
        "" => "/".to_owned(),
        name if name.starts_with('/') => name.to_owned(),
        name => format!("/{name}"),
    }
}
