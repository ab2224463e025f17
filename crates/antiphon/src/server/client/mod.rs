//! One client's connection: which namespaces it is in, and what its packets mean (docs/protocol.md
//! 14 and 15).
//!
//! The engine's session owns it, as its [`engine::Connection`]; its sockets hold it weakly.
//! Messages come in order and go through the decoder under its lock; the packet is handled without.
//! CONNECT makes a [`Socket`], which is let in by `joining`; where a function decides about the
//! namespace, that is asked first (`asking`). Events and acks go to `dispatch` and `ack`. A packet that breaks a rule closes the
//! connection (`violation`, `undecodable`), and so do its two deadlines: no namespace in time,
//! attachments that don't come.
//!
//! Sockets that leave a namespace and sockets that come are one queue. A client that joins again
//! right after it has left has two sockets for a while: the old one, until its goodbye is over, and
//! the new one, whose middlewares are asked then. While the new one waits or is asked, another
//! CONNECT takes its place.

pub(crate) mod asking;
pub(crate) mod handshake;
mod incoming;
pub(crate) mod joining;
pub(crate) mod reason;

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use antiphon_protocol::{
    engine::{CloseReason, Message},
    socket::{DecodeError, Packet},
};
use http::request::Parts;
use serde::Serializer as _;

use crate::engine::{self, Application, Session, session::turn};
use crate::server::{
    ConnectError, DisconnectReason, Handshake, Shared, Socket,
    handlers::dispatch,
    handlers::permits::{Owner, Permits},
    namespace::{children::Lease, namespaces::Namespaces},
};

use asking::Asking;
use incoming::Incoming;
use joining::{refuse, refuse_unknown, start};

/// The violation of a packet for a namespace that the client isn't in.
const NOT_JOINED: &str = "a packet for a namespace that it hasn't joined";

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

    /// Forgets a socket: its goodbye is over, or it hasn't joined. The one that waits behind it is
    /// next.
    pub(crate) fn departed(&self, socket: &Socket) {
        // Its lease ends without the lock.
        let _departed;
        let next = {
            let mut state = self.lock();
            let mut sockets = state.sockets.iter();
            let place = sockets.position(|one| one.socket == *socket);
            _departed = place.map(|place| state.sockets.remove(place));
            let mut sockets = state.sockets.iter().map(|it| &it.socket);
            let namespace = socket.namespace().name();
            let next = sockets.find(|one| one.namespace().name() == namespace);
            next.filter(|next| next.begin()).cloned()
        };
        if let (Some(next), Some(this)) = (next, self.this.upgrade()) {
            turn::scope(|| start(this, next));
        }
    }

    /// A packet has come.
    fn take(
        &self,
        state: MutexGuard<'_, ClientState>,
        session: &Arc<Session>,
        packet: &Packet<'_>,
    ) {
        let socket = state.joined(packet.namespace());
        drop(state);
        self.receive(session, packet, socket);
    }

    /// A part of a packet has come: the rest has to, in time.
    fn await_rest(&self, mut state: MutexGuard<'_, ClientState>, session: &Arc<Session>) {
        if state.rest_by.is_some() {
            return;
        }
        if !state.may_begin() {
            // Nothing is kept for clients that nobody knows.
            drop(state);
            return self.violation(session, NOT_JOINED);
        }
        let patience = session.engine().config().longest_silence();
        state.rest_by = Some(crate::clock::now() + patience);
    }

    /// A packet has come, from the client's socket in its namespace, if it is in that.
    fn receive(&self, session: &Arc<Session>, packet: &Packet<'_>, socket: Option<Socket>) {
        match (packet, socket) {
            (
                Packet::Connect {
                    namespace,
                    query,
                    auth,
                },
                _,
            ) => {
                let auth = match query {
                    Some(query) => Some(query_as_json(query)),
                    None => auth.map(Box::from),
                };
                self.connect(session, namespace, auth);
            }
            (Packet::ConnectError { .. }, _) => {
                self.violation(session, "a connect error, which only servers send");
            }
            (Packet::Event { id, name, args, .. }, Some(socket)) => {
                dispatch::receive(&socket, *id, name, args);
            }
            (Packet::Ack { id, args, .. }, Some(socket)) => {
                socket.awaited().resolve(socket.id(), *id, *args);
            }
            (Packet::Disconnect { .. }, Some(socket)) => socket.leave_namespace(),
            (_, None) => self.receive_unjoined(session, packet),
        }
    }

    /// A packet has come for a namespace that the client isn't in. It may belong to a socket that
    /// waits behind another one, which its client can't know.
    fn receive_unjoined(&self, session: &Arc<Session>, packet: &Packet<'_>) {
        let waiting = self.lock().waiting(packet.namespace());
        match (packet, waiting) {
            (Packet::Event { id, name, args, .. }, Some(socket)) => {
                dispatch::receive(&socket, *id, name, args);
            }
            (Packet::Disconnect { .. }, Some(socket)) => socket.leave_namespace(),
            // It has asked for nothing.
            (Packet::Ack { .. }, Some(_)) => {}
            _ => self.violation(session, NOT_JOINED),
        }
    }

    /// The client asks to join a namespace.
    pub(crate) fn connect(&self, session: &Arc<Session>, name: &str, auth: Option<Box<str>>) {
        if session.is_unread() {
            return self.violation(session, "connects whose answers it doesn't read");
        }
        let (Some(namespaces), Some(this)) = (self.namespaces.upgrade(), self.this.upgrade())
        else {
            return;
        };
        match namespaces.lease(name) {
            Some(lease) => this.enter(session, lease, auth),
            None if namespaces.has_parents() => this.ask(session, &namespaces, name, auth),
            None => refuse_unknown(session, &namespaces.shared, name),
        }
    }

    /// The client is to have a socket in a namespace.
    fn enter(self: &Arc<Self>, session: &Arc<Session>, lease: Lease, auth: Option<Box<str>>) {
        let shared = Arc::clone(lease.shared());
        let socket = Socket::new(lease.clone(), Arc::clone(session), self, auth);
        let (admission, replaced) = self.lock().admit(&socket, lease, &shared);
        if let Some(replaced) = replaced {
            replaced.forget();
        }
        match admission {
            Admission::Begins => start(Arc::clone(self), socket),
            Admission::Waits => {}
            Admission::Joined => self.violation(session, "a second connect to the same namespace"),
            Admission::Refused(error) => {
                refuse(session, &shared, socket.namespace().name(), &error);
            }
        }
    }

    /// The client has broken a rule: the connection is closed.
    fn violation(&self, session: &Arc<Session>, what: &str) {
        tracing::debug!(session = ?session.id(), "closing connection: the client sent {what}");
        self.lock().incoming.discard();
        self.close_sockets(DisconnectReason::ForcedServerClose);
        session.close();
    }

    fn undecodable(&self, session: &Arc<Session>, error: &DecodeError) {
        session.engine().counters().undecodable.add(1);
        tracing::debug!(session = ?session.id(), %error, "closing connection: invalid packet");
        self.close_sockets(DisconnectReason::ForcedClose);
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

/// Each new session of the engine gets a [`Client`].
impl Application for Namespaces {
    fn connect(&self, session: &Arc<Session>, request: &Parts) -> Arc<dyn engine::Connection> {
        let handshake = Handshake::new(request, &self.shared.kept);
        let connection = Client::new(Weak::clone(&self.this), &self.shared, handshake, session);
        if session.revision().dialect().joins_by_itself {
            // Clients of this revision are in the main namespace without asking.
            connection.connect(session, "/", None);
        }
        connection
    }
}

impl engine::Connection for Client {
    fn message(&self, session: &Arc<Session>, message: Message<'_>) {
        let mut state = self.lock();
        let assembled = match (&mut state.incoming, message) {
            // Nearly all that comes: the packet is lent from the text.
            (Incoming::Standard(decoder), Message::Text(text)) => match decoder.text(text) {
                Ok(Some(packet)) => return self.take(state, session, &packet),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            (Incoming::Standard(decoder), Message::Binary(data)) => decoder.binary(data.into()),
            (Incoming::Parser(decoder), message) => decoder.decode(message),
        };
        match assembled {
            Ok(Some(assembled)) => {
                state.rest_by = None;
                self.take(state, session, &assembled.packet());
            }
            Ok(None) => self.await_rest(state, session),
            Err(error) => {
                drop(state);
                self.undecodable(session, &error);
            }
        }
    }

    fn closed(&self, _: &Arc<Session>, reason: CloseReason) {
        self.close_sockets(reason.into());
    }

    fn upgraded(&self, _: &Arc<Session>) {
        let sockets: Vec<Socket> = {
            let state = self.lock();
            let sockets = state.sockets.iter().map(|it| &it.socket);
            sockets
                .filter(|socket| socket.is_connected())
                .cloned()
                .collect()
        };
        turn::scope(|| sockets.iter().for_each(dispatch::upgraded));
    }

    fn is_saturated(&self) -> bool {
        self.permits.are_exhausted()
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        [state.join_by, state.rest_by].into_iter().flatten().min()
    }

    fn timeout(&self, session: &Arc<Session>, now: Instant) {
        let (unjoined, incomplete) = {
            let mut state = self.lock();
            let passed =
                |deadline: &mut Option<Instant>| deadline.take_if(|by| *by <= now).is_some();
            (passed(&mut state.join_by), passed(&mut state.rest_by))
        };
        if unjoined {
            self.violation(session, "no connect to a namespace in time");
        } else if incomplete {
            self.violation(session, "attachments too late");
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

/// The query that clients of Socket.IO 2.x put behind a namespace's name, as an auth payload.
fn query_as_json(query: &str) -> Box<str> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    // Texts in a map, written to memory: nothing that could fail.
    let _ = serializer.collect_map(form_urlencoded::parse(query.as_bytes()));
    String::from_utf8(json).unwrap_or_default().into()
}
