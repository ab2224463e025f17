//! A namespace: its handlers, its sockets and their rooms.
//!
//! A [`Namespace`] is a handle; `Namespaces` owns one of each name. What the application has made
//! stays as long as the server; what clients have caused is a child of a [`parent`] and may go away
//! ([`children`]). Handlers are registered on it at any time (`registering`): those of events in
//! `Listeners`, all others in `Lifecycle`, each changed by a copy. A child has its parent's, too,
//! before its own. Sockets are in `Rooms`; what concerns sockets of other servers goes through the
//! adapter. It counts the ids of acks, so that a broadcast needs one.

pub(crate) mod children;
pub(crate) mod emitting;
pub(crate) mod lease;
pub(crate) mod name;
pub(crate) mod namespaces;
pub(crate) mod params;
pub(crate) mod parent;
mod pattern;
mod registering;
pub(crate) mod rule;

use std::{
    cell::RefCell,
    fmt,
    sync::{Arc, Once, OnceLock, PoisonError, RwLock, Weak},
};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;

use crate::engine::{Engine, QueuePolicy};
use crate::server::{
    Room, Shared, Socket, Undelivered,
    adapter::{Adapter, Kin, Local, Watcher},
    delivery::handled::Handled,
    handlers::erased::{ConnectMiddleware, Erased},
    handlers::future::BoxFuture,
    handlers::listeners::Listeners,
    namespace::{lease::Uses, namespaces::Namespaces, parent::ParentNamespace},
    recovery::{self, Ordered},
    rooms::{
        Rooms,
        events::{Hears, RoomEvent, RoomEvents},
    },
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
    /// The hooks of new namespaces have been told of it.
    introduced: Once,
    /// What it has if clients have caused it, or could.
    child: Option<Box<Child>>,
    lifecycle: RwLock<Arc<Lifecycle>>,
    listeners: Listeners,
    /// Which events are handled once, and those of late. Absent if none are.
    handled: OnceLock<Arc<Handled>>,
    undelivered: ArcSwapOption<OnUndelivered>,
}

/// What a child has besides.
struct Child {
    parent: ParentNamespace,
    uses: Uses,
}

/// Is told of events that were to be delivered at least once, and were not.
type OnUndelivered = Box<dyn Fn(Undelivered) + Send + Sync>;

/// A handler of changes of rooms.
pub(crate) type OnRoomEvent = dyn Fn(Namespace, RoomEvent) -> BoxFuture<()> + Send + Sync;

/// Handlers of sockets that come and go.
#[derive(Default, Clone)]
pub(crate) struct Lifecycle {
    pub(crate) middlewares: Vec<Arc<ConnectMiddleware>>,
    pub(crate) connect: Vec<Arc<Erased<()>>>,
    pub(crate) upgrade: Vec<Arc<Erased<()>>>,
    pub(crate) disconnecting: Vec<Arc<Erased<()>>>,
    pub(crate) disconnect: Vec<Arc<Erased<()>>>,
    pub(crate) room_event: Vec<Arc<OnRoomEvent>>,
}

impl Lifecycle {
    /// All of one, and then all of another.
    fn merged(mut first: Arc<Self>, then: Arc<Self>) -> Arc<Self> {
        if then.is_empty() {
            return first;
        }
        if first.is_empty() {
            return then;
        }
        let all = Arc::make_mut(&mut first);
        all.middlewares.extend_from_slice(&then.middlewares);
        all.connect.extend_from_slice(&then.connect);
        all.upgrade.extend_from_slice(&then.upgrade);
        all.disconnecting.extend_from_slice(&then.disconnecting);
        all.disconnect.extend_from_slice(&then.disconnect);
        all.room_event.extend_from_slice(&then.room_event);
        first
    }

    const fn is_empty(&self) -> bool {
        let Self {
            middlewares,
            connect,
            upgrade,
            disconnecting,
            disconnect,
            room_event,
        } = self;
        middlewares.is_empty()
            && connect.is_empty()
            && upgrade.is_empty()
            && disconnecting.is_empty()
            && disconnect.is_empty()
            && room_event.is_empty()
    }
}

impl Namespace {
    /// A namespace that clients can join: a child, if it has a parent.
    pub(crate) fn new(
        name: &str,
        namespaces: Weak<Namespaces>,
        shared: &Arc<Shared>,
        parent: Option<&ParentNamespace>,
    ) -> Self {
        let kin = match parent {
            None => Kin::None,
            Some(parent) => Kin::ChildOf(parent.as_namespace().joins().clone()),
        };
        let local = Local::new(name, Weak::clone(&namespaces), shared, kin);
        let child = parent.map(|parent| Child {
            parent: parent.clone(),
            uses: Uses::default(),
        });
        Self::with_local(local, namespaces, shared, child)
    }

    /// The namespace of a parent, in which no socket is.
    fn parental(name: &str, namespaces: Weak<Namespaces>, shared: &Arc<Shared>) -> Self {
        let local = Local::new(name, Weak::clone(&namespaces), shared, Kin::Parent);
        Self::with_local(local, namespaces, shared, None)
    }

    fn with_local(
        local: Local,
        namespaces: Weak<Namespaces>,
        shared: &Arc<Shared>,
        child: Option<Child>,
    ) -> Self {
        let adapter = shared.adapter.make(local.name(), local.clone());
        local.watch(Watcher::new(Arc::downgrade(&adapter), adapter.watch()));
        Self {
            inner: Arc::new(Inner {
                namespaces,
                shared: Arc::clone(shared),
                local,
                adapter,
                started: Once::new(),
                introduced: Once::new(),
                child: child.map(Box::new),
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

    /// Starts the adapter and introduces the namespace, once each: others who ask for it wait, but for
    /// who asks while it introduces it.
    fn begin(&self, introduce: impl FnOnce(&Self)) {
        thread_local! {
            /// What this thread introduces, from the outermost on.
            static INTRODUCES: RefCell<Vec<*const Inner>> = const { RefCell::new(Vec::new()) };
        }

        /// Ends with the introduction, also if that panics.
        struct Introducing;

        impl Drop for Introducing {
            fn drop(&mut self) {
                INTRODUCES.with_borrow_mut(Vec::pop);
            }
        }

        let inner = &self.inner;
        inner.started.call_once_force(|_| {
            // Handlers that its parent gets from now on are its own business.
            if !self.lifecycle().room_event.is_empty() {
                self.observe_rooms();
            }
            inner.adapter.start();
        });
        let this = Arc::as_ptr(inner);
        if INTRODUCES.with_borrow(|all| all.contains(&this)) {
            return;
        }
        // Where that panics the next one tries again: nobody joins one that isn't whole.
        inner.introduced.call_once_force(|_| {
            INTRODUCES.with_borrow_mut(|all| all.push(this));
            let _introducing = Introducing;
            introduce(self);
        });
    }

    /// The parent whose child it is: see [`Server::of_pattern`](crate::Server::of_pattern). Returns
    /// `None` if it is none.
    #[must_use]
    pub fn parent(&self) -> Option<&ParentNamespace> {
        self.inner.child.as_ref().map(|child| &child.parent)
    }

    /// Who uses it, if it is a child.
    fn uses(&self) -> Option<&Uses> {
        self.inner.child.as_ref().map(|child| &child.uses)
    }

    /// Whether a handler takes this event, maybe one for all.
    pub(crate) fn handles(&self, event: &str) -> bool {
        let mut all = self
            .all_listeners()
            .into_iter()
            .flatten()
            .map(Listeners::lists);
        all.any(|lists| !lists.named(event).is_empty() || !lists.any.is_empty())
    }

    /// What becomes of its events for slow readers.
    pub(crate) fn policy(&self) -> QueuePolicy {
        self.inner.local.queue_policy()
    }

    /// Its sockets on this server.
    pub(crate) fn local(&self) -> &Rooms {
        self.inner.local.rooms()
    }

    /// What remembers the events of this name, if they are handled once. A child has a memory of its
    /// own.
    pub(crate) fn handled_once(&self, event: &str) -> Option<&Arc<Handled>> {
        let handled = &self.inner.handled;
        let says = |of: &Self| {
            of.inner
                .handled
                .get()
                .is_some_and(|handled| handled.has(event))
        };
        if says(self) {
            return handled.get();
        }
        let parent = self.parent().filter(|parent| says(parent.as_namespace()));
        parent.map(|_| handled.get_or_init(Arc::default))
    }

    /// An event is given up.
    pub(crate) fn undelivered(&self, event: Undelivered) {
        let name = event.event.name();
        tracing::debug!(socket = ?event.socket, event = &*name, reason = ?event.reason, "an event was never acknowledged");
        drop(name);
        if let Some(engine) = self.engine() {
            engine.counters().undelivered.add(1);
        }
        let parents = self.parent().map(ParentNamespace::as_namespace);
        let told = [Some(self), parents].into_iter().flatten();
        let told = told.map(|of| of.inner.undelivered.load_full());
        if let Some(told) = told.flatten().next() {
            told(event);
        }
    }

    /// Notes changes of its rooms from now on, for the handlers that are told of them.
    fn observe_rooms(&self) {
        let hears: Arc<dyn Hears> = Arc::clone(&self.inner) as _;
        self.local()
            .observe(|| RoomEvents::new(Arc::downgrade(&hears)));
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

    /// The listeners of its parent, if it has one, and then its own.
    pub(crate) fn all_listeners(&self) -> [Option<&Listeners>; 2] {
        let parent = self
            .parent()
            .map(|parent| &parent.as_namespace().inner.listeners);
        [parent, Some(&self.inner.listeners)]
    }

    /// The other handlers: those of its parent, and then its own.
    pub(crate) fn lifecycle(&self) -> Arc<Lifecycle> {
        let own = self.own_lifecycle();
        match self.parent() {
            None => own,
            Some(parent) => Lifecycle::merged(parent.as_namespace().own_lifecycle(), own),
        }
    }

    fn own_lifecycle(&self) -> Arc<Lifecycle> {
        let lifecycle = self.inner.lifecycle.read();
        Arc::clone(&lifecycle.unwrap_or_else(PoisonError::into_inner))
    }

    /// The id of an acknowledgement that a socket of this namespace is asked for.
    pub(crate) fn next_ack_id(&self) -> u64 {
        self.inner.local.next_ack_id()
    }
}

impl Hears for Inner {
    fn runtime(&self) -> Option<Handle> {
        self.namespaces.upgrade()?.engine()?.runtime()
    }

    fn tell(self: Arc<Self>, event: RoomEvent) -> BoxFuture<()> {
        let namespace = Namespace { inner: self };
        Box::pin(async move {
            for handler in &namespace.lifecycle().room_event {
                handler(namespace.clone(), event.clone()).await;
            }
        })
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Namespace {}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name())
            .field("sockets", &self.sockets_count())
            .finish_non_exhaustive()
    }
}
