//! How a client comes to a socket in a namespace, and the socket is let in, or refused.
//!
//! CONNECT makes a socket. One whose turn it is begins with [`start`]; others wait behind one that
//! leaves, until it has [departed](Client::departed). Its session is looked for if the namespace
//! has recovery, its middlewares are asked, the client is told, and it enters its rooms; then come
//! the connect handlers and the events that have waited. An error of a middleware goes to the client,
//! unless the socket has been replaced or its connection has ended.

use std::sync::Arc;

use antiphon_protocol::socket::{self as codec, Fanout};
use serde_json::Value;

use super::{Admission, Client};
use crate::{
    engine::{Sending, Session, session::turn},
    server::{
        ConnectError, Context, DisconnectReason, Shared, Socket,
        handlers::{dispatch, erased},
        namespace::lease::Lease,
        recovery::Resumption,
    },
};

impl Client {
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
    pub(super) fn enter(
        self: &Arc<Self>,
        session: &Arc<Session>,
        lease: Lease,
        auth: Option<Box<str>>,
    ) {
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
}

/// Asks whether a socket may join, and lets it in. Its auth is kept meanwhile, whoever replaces it.
fn start(connection: Arc<Client>, socket: Socket) {
    let auth = socket.auth_len();
    let asked = socket.clone();
    asked.peer().run(Box::pin(join(connection, socket)), auth);
}

/// Lets a socket into its namespace: middlewares, CONNECT, connect handlers, then its events.
async fn join(connection: Arc<Client>, socket: Socket) {
    let resumption = match socket.namespace().recovery() {
        Some(ordered) if socket.revision().dialect().recovers => {
            Some(Resumption::of(ordered, &socket).await)
        }
        _ => None,
    };
    let mut asked = match &resumption {
        Some(resumption) if resumption.skips_middlewares() => Ok(()),
        _ => ask_middlewares(&socket).await,
    };
    let session = connection.session.upgrade();
    let Some(session) = session.filter(|session| session.is_open()) else {
        // It has been disconnected, or will be in a moment.
        socket.close(DisconnectReason::TransportClose);
        return;
    };
    if asked.is_ok() {
        // Disconnected by a middleware: the client would wait for it otherwise.
        asked = admit(&session, &socket, resumption).await;
    }
    if let Err(error) = asked {
        // If it has been replaced, the client waits for another answer.
        if socket.refused() {
            socket.forget();
            refuse(
                &session,
                socket.namespace().shared(),
                socket.namespace().name(),
                &error,
            );
            connection.departed(&socket);
        }
        return;
    }
    {
        let mut state = connection.lock();
        if socket.is_connected() {
            state.join_by = None;
        }
    }
    socket.namespace().joined();
    let namespace = socket.namespace().name();
    tracing::debug!(socket = ?socket.id(), namespace, "socket connected");
    // Also if it has been disconnected meanwhile: its goodbye comes when this is over.
    dispatch::connected(&socket).await;
    dispatch::work(socket).await;
}

/// Lets a socket into its namespace: its client is told, and it enters its rooms.
async fn admit(
    session: &Arc<Session>,
    socket: &Socket,
    resumption: Option<Resumption>,
) -> Result<(), ConnectError> {
    if let Some(resumption) = resumption {
        resumption.admit(session, socket).await?;
        socket.join_as_wished();
        return Ok(());
    }
    let entered = {
        let (session, socket) = (Arc::clone(session), socket.clone());
        move || connected(&session, &socket)
    };
    if !socket.namespace().joins().let_in(socket, entered).await {
        return Err(ConnectError::new("disconnected"));
    }
    socket.join_as_wished();
    Ok(())
}

/// The socket is connected, and its client is told. Returns `false` if it has been disconnected.
fn connected(session: &Arc<Session>, socket: &Socket) -> bool {
    let is_connected = socket.connected();
    if is_connected {
        session.admit();
        // The client learns of it before anything that its rooms bring: what is sent in this batch
        // of work leaves at its end, when the socket is in its rooms.
        let knows_id = socket.revision().dialect().derives_ids;
        let sid = (!knows_id).then(|| socket.id().as_str());
        let connect = codec::connect(socket.namespace().name(), sid);
        let _ = socket.send_message(connect, Sending::SURE);
    }
    is_connected
}

/// Asks whether a socket may join its namespace.
pub(crate) async fn ask_middlewares(socket: &Socket) -> Result<(), ConnectError> {
    let lifecycle = socket.namespace().lifecycle();
    for middleware in &lifecycle.middlewares {
        let called = erased::call(middleware, &Context::connect(socket));
        let called = called.inspect_err(|it| dispatch::warn_of_rejection(socket, "connect", it));
        called?.await?;
        if !socket.is_undecided() {
            // Its client has asked anew, or has gone.
            break;
        }
    }
    Ok(())
}

/// There is no such namespace.
pub(super) fn refuse_unknown(session: &Arc<Session>, shared: &Shared, name: &str) {
    session.engine().counters().connects_refused.add(1);
    tracing::debug!(namespace = name, "an unknown namespace was asked for");
    let packet = codec::invalid_namespace(name);
    // A session that has ended has no use for it.
    let _ = session.send(&mut Fanout::of(packet, &shared.parser), Sending::SURE);
}

pub(super) fn refuse(session: &Arc<Session>, shared: &Shared, name: &str, error: &ConnectError) {
    session.engine().counters().connects_refused.add(1);
    tracing::debug!(namespace = name, message = error.message, "connect refused");
    let (message, data) = (&error.message, error.data.as_ref());
    match codec::connect_error::<Value>(name, session.revision(), message, data) {
        // A session that has ended has no use for it.
        Ok(packet) => {
            let _ = session.send(&mut Fanout::of(packet, &shared.parser), Sending::SURE);
        }
        Err(error) => tracing::error!(%error, "a connect error can't be encoded"),
    }
}
