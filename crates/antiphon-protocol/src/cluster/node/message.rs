//! What servers tell each other by the adapters of Node, whatever carries it.

use std::{sync::Arc, time::Duration};

use crate::cluster::{SocketDetails, Sockets};
use crate::socket::{Outgoing, OwnedArgs};

/// How a broadcast travels, as far as other servers must know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flags {
    /// Receivers that can't take it at once don't get it.
    pub volatile: bool,
    /// Whether it may be compressed. If it is `None` the receiver decides.
    pub compress: Option<bool>,
    /// How long the sender waits for acknowledgements.
    pub timeout: Option<Duration>,
}

impl Flags {
    /// No flag is set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            volatile: false,
            compress: None,
            timeout: None,
        }
    }

    /// Whether receivers that can't take it at once don't get it.
    #[must_use]
    pub const fn volatile(mut self, volatile: bool) -> Self {
        self.volatile = volatile;
        self
    }

    /// Whether it may be compressed.
    #[must_use]
    pub const fn compress(mut self, compress: Option<bool>) -> Self {
        self.compress = compress;
        self
    }

    /// How long the sender waits for acknowledgements.
    #[must_use]
    pub const fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }
}

/// What a server tells all others of a namespace.
///
/// A `request` is a name that the sender has chosen for its question, and that answers repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// An event for clients.
    Broadcast {
        /// The event.
        event: Outgoing,
        /// Its receivers.
        target: Sockets,
        /// How it travels.
        flags: Flags,
        /// Asks receivers for acknowledgements. Each server answers with one [`Reply::Clients`] and
        /// as many [`Reply::Acknowledged`] as that says.
        request: Option<Arc<str>>,
    },
    /// Puts sockets into rooms.
    Join {
        /// The sockets.
        target: Sockets,
        /// The rooms.
        rooms: Vec<Arc<str>>,
    },
    /// Takes sockets out of rooms.
    Leave {
        /// The sockets.
        target: Sockets,
        /// The rooms.
        rooms: Vec<Arc<str>>,
    },
    /// Disconnects sockets from the namespace.
    Disconnect {
        /// The sockets.
        target: Sockets,
        /// Whether their connections are closed, too.
        close: bool,
    },
    /// Asks for sockets. Each server answers with [`Reply::Sockets`].
    Fetch {
        /// The name of the request.
        request: Arc<str>,
        /// The sockets.
        target: Sockets,
    },
    /// An event for the other servers' own handlers.
    ServerSideEmit {
        /// The event.
        event: Outgoing,
        /// Asks each server for one [`Reply::Emitted`].
        request: Option<Arc<str>>,
    },
    /// Asks for the ids of the sockets in one of these rooms. Each server answers with
    /// [`Reply::Ids`]. Of the classic adapter alone.
    Ids {
        /// The name of the request.
        request: Arc<str>,
        /// The rooms. None: all sockets.
        rooms: Vec<Arc<str>>,
    },
    /// Asks for the names of all rooms. Each server answers with [`Reply::Rooms`]. Of the classic
    /// adapter alone.
    AllRooms {
        /// The name of the request.
        request: Arc<str>,
    },
    /// A server has come. The others answer with a heartbeat at once. Not of the classic adapter,
    /// as the next two.
    Hello,
    /// A server is still there.
    Heartbeat,
    /// A server has left.
    Bye,
    /// Asks the server that has the socket of this session to end it, and to keep the session for
    /// the one that asks. Of servers of ours alone, with streams: Node's leave it alone.
    HandOver {
        /// The private id.
        private_id: Arc<str>,
        /// How long ago its client has come to the server that asks. One to which it has come since
        /// keeps it.
        waited: Duration,
    },
}

impl Message {
    /// Whether it carries binary values, which JSON has no form for.
    #[must_use]
    pub fn has_binary(&self) -> bool {
        match self {
            Self::Broadcast { event, .. } | Self::ServerSideEmit { event, .. } => {
                event.attachments().next().is_some()
            }
            _ => false,
        }
    }
}

/// What a server tells the one that has asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The name of the request that this answers.
    pub request: Arc<str>,
    /// What is answered.
    pub reply: Reply,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// So many clients of this server have got the event that asks for acknowledgements.
    Clients(u64),
    /// What one of these clients has answered. On Node's wires it is the first argument or none.
    Acknowledged(OwnedArgs),
    /// The sockets that were asked for.
    Sockets(Vec<SocketDetails>),
    /// What the handlers of this server have answered. On Node's wires it is the first argument or
    /// none.
    Emitted(OwnedArgs),
    /// The ids of the sockets that were asked for. If there are none, the classic wire can't be
    /// told from [`Sockets`](Self::Sockets), and that is what is read.
    Ids(Vec<Arc<str>>),
    /// The names of the rooms of this server.
    Rooms(Vec<Arc<str>>),
}

impl Reply {
    /// Whether it carries binary values, which JSON has no form for.
    #[must_use]
    pub fn has_binary(&self) -> bool {
        let binary = |args: &OwnedArgs| !args.as_args().attachments().is_empty();
        match self {
            Self::Acknowledged(args) | Self::Emitted(args) => binary(args),
            Self::Sockets(sockets) => sockets
                .iter()
                .any(|socket| binary(&socket.handshake) || binary(&socket.data)),
            Self::Clients(_) | Self::Ids(_) | Self::Rooms(_) => false,
        }
    }
}

/// What came, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The name of the sender. `None` if it hasn't said: in answers of the classic adapter,
    /// and in requests of emitters.
    pub from: Option<Arc<str>>,
    /// What it says.
    pub content: Content,
}

/// A message or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Something for all servers.
    Message(Message),
    /// Something for the one that has asked.
    Answer(Answer),
}

/// What a server wants to know of, so that everything else is dropped before it is read.
///
/// A closure that is asked for rooms is an interest in all answers.
pub trait Interest {
    /// Whether this server has members of the room.
    fn has_room(&self, room: &str) -> bool;

    /// Whether this server waits for answers to the request of this name.
    fn has_asked(&self, request: &str) -> bool;
}

impl<F: Fn(&str) -> bool> Interest for F {
    fn has_room(&self, room: &str) -> bool {
        self(room)
    }

    fn has_asked(&self, _: &str) -> bool {
        true
    }
}

/// Bytes, and the channel on which they are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The name of the channel.
    pub channel: String,
    /// What is published there.
    pub payload: Vec<u8>,
}
