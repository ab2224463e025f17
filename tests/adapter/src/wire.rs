//! What servers say to each other, as bytes: JSON, and nothing of it is believed.
//!
//! A frame is made of the parts of an event or of arguments, and these are proven when they are put
//! together again.

use std::time::Duration;

use antiphon::{
    Bytes, Limits, RemoteSocket, Room, SocketId, Target,
    adapter::{DecodeError, Outgoing, OwnedArgs},
};
use serde::{Deserialize, Serialize};

/// What servers take of each other: more than clients may send, since servers emit without these
/// limits.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.attachments = 1_000;
    limits.values = 10_000_000;
    limits
}

/// A message of one server to others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Frame {
    /// The name of the sender.
    pub from: String,
    /// What it says.
    pub says: Says,
}

/// What a server says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Says {
    Broadcast {
        event: Event,
        to: Whom,
        volatile: bool,
    },
    Ask {
        question: u64,
        event: Event,
        to: Whom,
        volatile: bool,
        time: Duration,
    },
    /// So many sockets have been asked.
    Count {
        question: u64,
        count: usize,
    },
    /// A socket has answered.
    Answer {
        question: u64,
        socket: String,
        args: Arguments,
    },
    /// No more answers will come.
    Over {
        question: u64,
    },
    Join {
        to: Whom,
        rooms: Vec<Room>,
    },
    Leave {
        to: Whom,
        rooms: Vec<Room>,
    },
    Disconnect {
        to: Whom,
        close: bool,
    },
    Fetch {
        question: u64,
        to: Whom,
    },
    Found {
        question: u64,
        sockets: Vec<(String, Vec<Room>)>,
    },
    Emit {
        event: Event,
        /// If an answer is asked for.
        question: Option<u64>,
    },
    Reply {
        question: u64,
        args: Option<Arguments>,
    },
}

/// A [`Target`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Whom {
    rooms: Vec<Room>,
    except: Vec<Room>,
}

impl From<&Target> for Whom {
    fn from(target: &Target) -> Self {
        Self {
            rooms: target.rooms.clone(),
            except: target.except.clone(),
        }
    }
}

impl From<Whom> for Target {
    fn from(whom: Whom) -> Self {
        Self {
            rooms: whom.rooms,
            except: whom.except,
        }
    }
}

/// The parts of an event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    name: String,
    args: Arguments,
}

impl From<&Outgoing> for Event {
    fn from(event: &Outgoing) -> Self {
        Self {
            name: event.name().into_owned(),
            args: Arguments {
                json: event.json().to_owned(),
                attachments: event.attachments().collect(),
            },
        }
    }
}

impl TryFrom<Event> for Outgoing {
    type Error = DecodeError;

    fn try_from(event: Event) -> Result<Self, DecodeError> {
        let Arguments { json, attachments } = event.args;
        Self::from_parts(&event.name, &json, attachments, &limits())
    }
}

/// The parts of arguments.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arguments {
    json: String,
    attachments: Vec<Bytes>,
}

impl From<&OwnedArgs> for Arguments {
    fn from(args: &OwnedArgs) -> Self {
        let args = args.as_args();
        Self {
            json: args.json().to_owned(),
            attachments: args.attachments().to_vec(),
        }
    }
}

impl TryFrom<Arguments> for OwnedArgs {
    type Error = DecodeError;

    fn try_from(args: Arguments) -> Result<Self, DecodeError> {
        Self::from_parts(&args.json, args.attachments, &limits())
    }
}

/// A socket as it is told to others.
pub fn told(socket: RemoteSocket) -> (String, Vec<Room>) {
    (socket.id.as_str().to_owned(), socket.rooms)
}

/// A socket as others have told it.
pub fn heard((id, rooms): (String, Vec<Room>)) -> RemoteSocket {
    RemoteSocket::new(SocketId::new(id), rooms)
}
