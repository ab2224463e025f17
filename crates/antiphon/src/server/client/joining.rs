//! How a socket is let into its namespace, or refused.
//!
//! `client` gives a socket whose turn it is to [`start`]. Its session is looked for if the namespace
//! has recovery, its middlewares are asked, the client is told, and it enters its rooms; then come
//! the connect handlers and the events that have waited. An error of a middleware goes to the client,
//! unless the socket has been replaced or its connection has ended.

use std::sync::Arc;

use antiphon_protocol::socket::{self as codec, Fanout};
use serde_json::Value;

use super::Client;
use crate::{
    engine::{Sending, Session},
    server::{
        ConnectError, Context, DisconnectReason, Shared, Socket,
        handlers::{dispatch, erased},
        recovery::Resumption,
    },
};

/// Asks whether a socket may join, and lets it in. Its auth is kept meanwhile, whoever replaces it.
pub(super) fn start(connection: Arc<Client>, socket: Socket) {
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
