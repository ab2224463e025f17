//! One client's connection: which namespaces it is in, and what its packets mean (docs/protocol.md
//! 14 and 15).
//!
//! The engine's session owns it, as its [`engine::Connection`](crate::engine::Connection); its sockets
//! hold it weakly. What comes is in `receiving`. CONNECT makes a [`Socket`], which is let in by
//! `joining`; where a function decides about the namespace, that is asked first (`asking`). A packet
//! that breaks a rule closes the connection (`violation`), and so do its two deadlines: no namespace
//! in time, attachments that don't come.
//!
//! Sockets that leave a namespace and sockets that come are one queue. A client that joins again
//! right after it has left has two sockets for a while: the old one, until its goodbye is over, and
//! the new one, whose middlewares are asked then. While the new one waits or is asked, another
//! CONNECT takes its place.

mod asked;
pub(crate) mod asking;
pub(crate) mod handshake;
mod incoming;
pub(crate) mod joining;
pub(crate) mod reason;
mod receiving;

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::engine::Session;
use crate::server::{
    ConnectError, DisconnectReason, Handshake, Shared, Socket,
    handlers::permits::{Owner, Permits},
    namespace::{lease::Lease, namespaces::Namespaces},
};

use asked::Asking;
use incoming::Incoming;

/// The Socket.IO side of one session.
pub(crate) struct Client {
    namespaces: Weak<Namespaces>,
    session: Weak<Session>,
    handshake: Arc<Handshake>,
    permits: Permits,
    /// Itself, for the sockets that it makes.
    this: Weak<Self>,
    state: Mutex<ClientState>,
}

struct ClientState {
    incoming: Incoming,
    /// For each namespace one that is connected or connecting, or one that leaves and maybe one
    /// that waits behind it. They are few: a list is smaller than a map, and as quick.
    sockets: Vec<Admitted>,
    /// Namespaces that it has asked for, of which it isn't decided yet. Mostly none.
    asking: Option<Box<Asking>>,
    /// By when a namespace must have been joined. `None` once one has.
    join_by: Option<Instant>,
    /// By when the rest of a packet must have come, of which parts are there.
    rest_by: Option<Instant>,
}

/// A socket that its connection has, which keeps its namespace from going away.
struct Admitted {
    socket: Socket,
    _lease: Lease,
}

impl Deref for Admitted {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}

/// What a CONNECT comes to.
enum Admission {
    /// The socket's middlewares are asked now.
    Begins,
    /// Behind another one that leaves.
    Waits,
    /// The client has joined this namespace already.
    Joined,
    /// The connection holds as much as it may.
    Refused(ConnectError),
}

impl ClientState {
    /// The socket of a namespace that the client has joined, as far as it knows.
    fn joined(&self, namespace: &str) -> Option<Socket> {
        let mut sockets = self.sockets.iter();
        let socket = sockets.find(|socket| socket.namespace().name() == namespace)?;
        (socket.is_connected() || socket.is_leaving()).then(|| Socket::clone(socket))
    }

    /// The socket of a namespace that waits behind another one.
    fn waiting(&self, namespace: &str) -> Option<Socket> {
        let mut sockets = self.sockets.iter().map(|it| &it.socket);
        let waits =
            |socket: &&Socket| socket.is_waiting() && socket.namespace().name() == namespace;
        sockets.find(waits).cloned()
    }

    /// Whether a packet may begin of which more is to come: its socket may want it.
    fn may_begin(&self) -> bool {
        match self.incoming.outstanding_namespace() {
            Some(name) => self.joined(name).is_some() || self.waiting(name).is_some(),
            // A parser knows of whom it is when it is whole.
            None => !self.sockets.is_empty(),
        }
    }

    /// Whether the connection may have so many more namespaces with so much auth.
    ///
    /// # Errors
    /// What its client is told if it may not.
    fn has_room(&self, more: usize, auth: usize, shared: &Shared) -> Result<(), ConnectError> {
        let asking = self.asking.as_deref();
        let asked = asking.map_or(0, Asking::len);
        if self.sockets.len() + asked + more > shared.max_namespaces {
            return Err(ConnectError::new("too many namespaces"));
        }
        let kept = self.sockets.iter().map(|socket| socket.auth_len());
        let kept = kept.sum::<usize>() + asking.map_or(0, Asking::auth_len);
        if kept + auth > shared.max_auth {
            return Err(ConnectError::new("auth too large"));
        }
        Ok(())
    }

    /// Puts a socket behind those that there are, and gives the one that it takes the place of.
    fn admit(
        &mut self,
        socket: &Socket,
        lease: Lease,
        shared: &Shared,
    ) -> (Admission, Option<Admitted>) {
        let name = socket.namespace().name();
        let in_namespace = |one: &Admitted| one.namespace().name() == name;
        let mut replaced = None;
        if let Some(newest) = self.sockets.iter().rposition(in_namespace) {
            let newest_one = &self.sockets[newest];
            if newest_one.replaced() {
                replaced = Some(self.sockets.remove(newest));
            } else if newest_one.is_connected() {
                return (Admission::Joined, None);
            }
        }
        if let Err(error) = self.has_room(1, socket.auth_len(), shared) {
            return (Admission::Refused(error), replaced);
        }
        let waits = self.sockets.iter().any(in_namespace);
        // Most clients join one namespace.
        self.sockets.reserve_exact(1);
        self.sockets.push(Admitted {
            socket: socket.clone(),
            _lease: lease,
        });
        if waits {
            return (Admission::Waits, replaced);
        }
        socket.begin();
        (Admission::Begins, replaced)
    }
}

impl Client {
    pub(crate) fn new(
        namespaces: Weak<Namespaces>,
        shared: &Shared,
        handshake: Handshake,
        session: &Arc<Session>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            state: Mutex::new(ClientState {
                incoming: Incoming::new(session.revision(), shared),
                sockets: Vec::new(),
                asking: None,
                join_by: Some(crate::clock::now() + shared.connect_timeout),
                rest_by: None,
            }),
            session: Arc::downgrade(session),
            handshake: Arc::new(handshake),
            permits: Permits::new(shared.max_running_handlers),
            namespaces,
        })
    }

    pub(crate) const fn handshake(&self) -> &Arc<Handshake> {
        &self.handshake
    }

    fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket that had joined has been disconnected: the client must join another namespace in
    /// time, if it is in none now. At the end of the connection, which has let go of all, nothing
    /// is due.
    pub(crate) fn left(&self, socket: &Socket) {
        let mut state = self.lock();
        if state.join_by.is_none()
            && state.sockets.iter().any(|one| one.socket == *socket)
            && !state.sockets.iter().any(|one| one.is_connected())
        {
            let timeout = self.connect_timeout();
            state.join_by = timeout.map(|timeout| crate::clock::now() + timeout);
            drop(state);
            if let Some(session) = self.session.upgrade() {
                session.wake_driver();
            }
        }
    }

    fn connect_timeout(&self) -> Option<Duration> {
        let namespaces = self.namespaces.upgrade()?;
        Some(namespaces.shared.connect_timeout)
    }

    /// The client has broken a rule: the connection is closed.
    fn violation(&self, session: &Arc<Session>, what: &str) {
        tracing::debug!(session = ?session.id(), "closing connection: the client sent {what}");
        self.lock().incoming.discard();
        self.close_sockets(DisconnectReason::ForcedServerClose);
        session.close();
    }

    /// The server disconnects the client from everything.
    pub(crate) fn disconnect_all(&self, session: &Arc<Session>) {
        let sockets: Vec<_> = {
            let mut state = self.lock();
            state.asking = None;
            state.sockets.iter().map(|it| it.socket.clone()).collect()
        };
        for socket in sockets {
            socket.close(DisconnectReason::ServerNamespaceDisconnect);
        }
        session.close();
    }

    pub(crate) fn close_sockets(&self, reason: DisconnectReason) {
        let sockets = {
            let mut state = self.lock();
            state.asking = None;
            std::mem::take(&mut state.sockets)
        };
        for socket in sockets {
            socket.close(reason);
        }
    }
}

impl Owner for Client {
    fn permits(&self) -> &Permits {
        &self.permits
    }

    fn freed(&self) {
        if let Some(session) = self.session.upgrade() {
            session.resume();
        }
    }
}
