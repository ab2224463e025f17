//! The id of a socket: what adapters, logs and clients know of it.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::Serialize;

use crate::engine::session::id;

/// The id of a socket: random, and its own for each namespace, so that it can be shown to others.
///
/// Clients of Socket.IO 1.x and 2.x (Engine.IO 3) derive it from the id of their session instead,
/// as their protocol says (docs/protocol.md 18.5). That is the credential of the session: anyone
/// who is shown the id of such a socket can speak as its client. See
/// [`allow_eio3`](crate::ServerBuilder::allow_eio3).
///
/// [`as_str`](Self::as_str) gives it whole, and so does serde. It has no `Display`, so that no log
/// line shows it by accident; `Debug` shows its beginning:
///
/// ```
/// # use antiphon::Socket;
/// # async fn example(socket: Socket) {
/// println!("{:?} says hello", socket.id()); // 3cmtcV… says hello
/// socket.emit("your id", socket.id()); // whole
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(Arc<str>);

impl SocketId {
    /// The id of a socket, as [`as_str`](Self::as_str) gave it: for adapters, which know sockets of
    /// other servers.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) const fn as_shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl Borrow<str> for SocketId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for SocketId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for SocketId {
    /// Shows the first characters only, since logs are read by many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        id::Shortened(&self.0).fmt(f)
    }
}
