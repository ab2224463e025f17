//! A socket: one client in one namespace.
//!
//! A [`Socket`] is a handle that keeps no connection alive: sending to a session that has ended is
//! an error. Its connection and the namespace's rooms own one each while it is connected. It owns
//! its inbox (events that wait), the acks that its client owes, and the user's values. How it comes
//! and goes is in `life`.

pub(crate) mod emitter;
mod id;
pub(crate) mod inbox;
mod life;
pub(crate) mod peer;
mod registering;
mod sending;
mod state;
pub(crate) mod values;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicU8},
};

use antiphon_protocol::engine::{Revision, TransportKind};
use serde::de::DeserializeOwned;

pub use id::SocketId;

use crate::engine::{Engine, Session, session::id::random_id};
use crate::server::{
    Handshake, Namespace,
    acks::Awaited,
    client::{Client, handshake::auth_as},
    handlers::listeners::{Listeners, Spent},
    handlers::permits::Permits,
    recovery::{LogError, Recoverable},
    socket::{inbox::Inbox, peer::Peer, values::Values},
};

/// One client in one namespace. A cheap handle, which keeps no connection alive.
#[derive(Clone)]
pub struct Socket {
    inner: Arc<Inner>,
}

/// A handle that doesn't keep the socket itself.
#[derive(Clone)]
pub(crate) struct WeakSocket(Weak<Inner>);

impl WeakSocket {
    pub(crate) fn upgrade(&self) -> Option<Socket> {
        self.0.upgrade().map(|inner| Socket { inner })
    }
}

struct Inner {
    /// Known from the start, unless it may be that of a session that its client resumes.
    id: OnceLock<SocketId>,
    namespace: Namespace,
    peer: Peer,
    handshake: Arc<Handshake>,
    auth: Option<Box<str>>,
    state: AtomicU8,
    inbox: Inbox,
    awaited: Awaited,
    /// Handlers of this socket alone.
    listeners: OnceLock<Box<Listeners>>,
    /// Absent if nothing is kept.
    values: Mutex<Option<Arc<Values>>>,
    /// What it has in a namespace with recovery, from when it has joined.
    recoverable: OnceLock<Box<Recoverable>>,
}

/// The event of the log behind which a socket is to resume a session.
#[derive(Clone, Copy)]
struct Place(u64);

impl Socket {
    pub(crate) fn new(
        namespace: Namespace,
        session: Arc<Session>,
        connection: &Arc<Client>,
        auth: Option<Box<str>>,
    ) -> Self {
        let tag = namespace.shared().tag;
        let id = match (session.revision().dialect().derives_ids, namespace.name()) {
            // It may resume a session.
            (false, _) if namespace.recovery().is_some() => None,
            (false, _) => Some(random_id(tag)),
            (true, "/") => Some(Arc::from(session.id().as_str())),
            (true, name) => Some(Arc::from(format!("{name}#{}", session.id().as_str()))),
        };
        let handshake = Arc::clone(connection.handshake());
        let connection = Arc::downgrade(connection);
        let peer = Peer::Client {
            session,
            connection,
        };
        Self::with_id(id, namespace, peer, handshake, auth)
    }

    /// The socket of a call by HTTP: as one whose client has gone. It never joins its namespace, so
    /// nobody finds it, it enters no rooms, and what is emitted to it is an error.
    pub(crate) fn of_call(
        namespace: Namespace,
        engine: &Arc<Engine>,
        permits: &Arc<Permits>,
        handshake: Arc<Handshake>,
        auth: Option<Box<str>>,
    ) -> Self {
        let peer = Peer::Caller {
            engine: Arc::clone(engine),
            permits: Arc::clone(permits),
        };
        let id = Some(random_id(namespace.shared().tag));
        let socket = Self::with_id(id, namespace, peer, handshake, auth);
        socket.begin();
        socket
    }

    fn with_id(
        id: Option<Arc<str>>,
        namespace: Namespace,
        peer: Peer,
        handshake: Arc<Handshake>,
        auth: Option<Box<str>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                id: id
                    .map(SocketId::new)
                    .map_or_else(OnceLock::new, OnceLock::from),
                namespace,
                peer,
                handshake,
                auth,
                state: AtomicU8::new(state::WAITING),
                inbox: Inbox::default(),
                awaited: Awaited::default(),
                listeners: OnceLock::new(),
                values: Mutex::default(),
                recoverable: OnceLock::new(),
            }),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakSocket {
        WeakSocket(Arc::downgrade(&self.inner))
    }

    /// Its id, which is also the name of a room that it is in from the start.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        let random = || SocketId::new(random_id(self.inner.namespace.shared().tag));
        self.inner.id.get_or_init(random)
    }

    /// It has the id of the session that it resumes, unless its own is known already.
    pub(crate) fn set_id(&self, id: SocketId) {
        let _ = self.inner.id.set(id);
    }

    /// It is to resume a session behind this event of the log. Kept among its values until that is
    /// decided, since few sockets do.
    pub(crate) fn resumes_behind(&self, sequence: u64) {
        self.own_values().insert(Place(sequence));
    }

    /// The event of the log behind which it is to resume a session.
    pub(crate) fn place(&self) -> Option<u64> {
        self.values()?.get().map(|Place(sequence)| sequence)
    }

    pub(crate) fn forget_place(&self) {
        self.take_value::<Place>();
    }

    /// What it has in a namespace with recovery, from when it has joined.
    pub(crate) fn recoverable(&self) -> Option<&Recoverable> {
        self.inner.recoverable.get().map(|it| &**it)
    }

    pub(crate) fn set_recoverable(&self, recoverable: Recoverable) {
        let _ = self.inner.recoverable.set(Box::new(recoverable));
    }

    /// Whether it is the socket that its client had before the connection was lost, with its id,
    /// rooms and values, and what was missed has been sent: see
    /// [`ServerBuilder::recovery`](crate::ServerBuilder::recovery). Known when its middlewares have
    /// been asked.
    #[must_use]
    pub fn recovered(&self) -> bool {
        let outcome = self.recoverable().and_then(Recoverable::outcome);
        matches!(outcome, Some(Ok(())))
    }

    /// Why its client's session was not recovered. `None` if it was, or if its client has not asked
    /// for that.
    #[must_use]
    pub fn not_recovered(&self) -> Option<&LogError> {
        self.recoverable()?.outcome()?.as_ref().err()
    }

    /// The namespace that it is in.
    #[doc(alias = "nsp")]
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// What is known from the request that opened its connection.
    #[must_use]
    pub fn handshake(&self) -> &Arc<Handshake> {
        &self.inner.handshake
    }

    /// The revision of Engine.IO that its client speaks. That of a call by HTTP is the current one.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let session = self.peer().session();
        session.map_or(Revision::V4, |session| session.revision())
    }

    /// The transport that carries it now. A call by HTTP comes as a poll does.
    #[must_use]
    pub fn transport(&self) -> TransportKind {
        let session = self.peer().session();
        session.map_or(TransportKind::Polling, |session| session.transport())
    }

    /// What the client sent as its `auth`, as a `T`. See [`Auth`](crate::Auth). Half an emoji in it
    /// is U+FFFD, as in arguments.
    ///
    /// # Errors
    /// If it doesn't fit.
    pub fn auth<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        auth_as(self.inner.auth.as_deref())
    }

    /// Bytes of its auth.
    pub(crate) fn auth_len(&self) -> usize {
        self.inner.auth.as_deref().map_or(0, str::len)
    }

    /// Keeps a value with the socket, one of each type, and gives back the one that it replaces.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<T> {
        let replaced = self.own_values().insert(value);
        self.values_changed();
        replaced
    }

    /// Takes the value of this type that is kept with the socket.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<T> {
        let removed = self.take_value();
        self.values_changed();
        removed
    }

    /// Changes the value of this type that is kept with the socket, and gives what `change` returns.
    /// Returns `None` if there is none. `change` must not ask for values of the same socket: they wait
    /// for it.
    ///
    /// ```
    /// # async fn example(socket: antiphon::Socket) {
    /// #[derive(Clone)]
    /// struct Score(u32);
    ///
    /// let score = socket.update(|score: &mut Score| {
    ///     score.0 += 1;
    ///     score.0
    /// });
    /// # }
    /// ```
    pub fn update<T: Send + Sync + 'static, R>(
        &self,
        change: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let returned = self.values()?.update(change);
        self.values_changed();
        returned
    }

    /// What is stored of its values may be another.
    pub(crate) fn values_changed(&self) {
        if let Some(recoverable) = self.recoverable() {
            recoverable.inserted(self);
        }
    }

    /// A clone of the value of this type that is kept with the socket.
    #[doc(alias = "data")]
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.values()?.get()
    }

    fn lock_values(&self) -> MutexGuard<'_, Option<Arc<Values>>> {
        let values = self.inner.values.lock();
        values.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of its values out.
    fn take_value<T: 'static>(&self) -> Option<T> {
        let mut values = self.lock_values();
        let value = values.as_ref().and_then(|values| values.remove());
        drop(values.take_if(|values| values.is_empty()));
        value
    }

    /// The values that are kept with it, if there are any.
    pub(crate) fn values(&self) -> Option<Arc<Values>> {
        self.lock_values().clone()
    }

    /// The values that are kept with it, which are none if there were none.
    pub(crate) fn own_values(&self) -> Arc<Values> {
        Arc::clone(self.lock_values().get_or_insert_default())
    }

    /// Whether its client is there, or may come back to its session.
    pub(crate) fn may_come_back(&self) -> bool {
        let is_kept = || self.recoverable().is_some_and(Recoverable::is_kept);
        self.is_connected() || is_kept()
    }

    /// It has the values of the session that it resumes. Its own count.
    pub(crate) fn adopt(&self, values: &Arc<Values>) {
        let mut own = self.lock_values();
        if let Some(own) = &*own {
            values.take_over(own);
        }
        *own = Some(Arc::clone(values));
    }

    /// Resolves when all that was emitted to its connection so far has been handed to the network,
    /// or the connection has ended: what Node tells the callback of `conn.send` and the event `drain`.
    /// A handler that emits much awaits [`ready`](Self::ready) instead, which lets some wait.
    #[doc(alias = "drain")]
    pub async fn flushed(&self) {
        if let Some(ordered) = self.namespace().recovery() {
            ordered.caught_up().await;
        }
        if let Some(session) = self.peer().session() {
            session.flushed().await;
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    pub(crate) fn awaited(&self) -> &Awaited {
        &self.inner.awaited
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inner.inbox
    }

    /// Notes that it has had a handler that is for one call. Returns `false` if it has had it before.
    pub(crate) fn spends(&self, number: u64) -> bool {
        let is_new = self
            .own_values()
            .with(true, |spent: &mut Spent| spent.0.insert(number));
        is_new.unwrap_or_default()
    }

    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        self.inner.listeners.get().map(|listeners| &**listeners)
    }

    fn own_listeners(&self) -> &Listeners {
        self.inner.listeners.get_or_init(Box::default)
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", self.id())
            .field("namespace", &self.namespace().name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Socket {
    /// Another socket, as of a client of Engine.IO 3 that has come again.
    pub(crate) fn with_the_same_id(&self) -> Self {
        let Inner {
            id,
            namespace,
            peer,
            handshake,
            ..
        } = &*self.inner;
        Self::with_id(
            id.get().map(|id| Arc::clone(id.as_shared())),
            namespace.clone(),
            peer.clone(),
            Arc::clone(handshake),
            None,
        )
    }
}
