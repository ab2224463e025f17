//! Sockets as servers speak of them.

use std::sync::Arc;

use crate::socket::OwnedArgs;

/// Which sockets: those in any of the rooms (in all if there are none), less those in any of the
/// excepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Rooms, among them the ids of sockets.
    pub rooms: Vec<Arc<str>>,
    /// Rooms whose sockets are left out.
    pub except: Vec<Arc<str>>,
}

/// A socket as other servers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketDetails {
    /// Its id.
    pub id: Arc<str>,
    /// What its first request said: one value, an object, or none if it isn't known.
    pub handshake: OwnedArgs,
    /// Its rooms, that of its own id among them.
    pub rooms: Vec<Arc<str>>,
    /// What the application has put there: one value, or none.
    pub data: OwnedArgs,
}
