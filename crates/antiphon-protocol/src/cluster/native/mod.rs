//! What servers of antiphon say to each other: our own wire format.
//!
//! A frame has the version of this format, the sender, the namespace and one message. Numbers,
//! texts and events are written as in [`record`](crate::record). What has been read is proven as a
//! client's packet is: whoever can publish at a broker may send anything.

mod delivery;
mod logged;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{SocketDetails, Sockets};
pub use delivery::Delivery;
pub use logged::Logged;

use crate::{
    record::{Reader, write, write_attachments, write_bytes, write_event, write_texts},
    socket::{DecodeError, Limits, Outgoing, OwnedArgs},
};

/// The version of this format: the first byte of each frame.
pub const VERSION: u8 = 4;

/// Bytes of the longest address that a server may say of itself.
pub const MAX_ADDRESS: usize = 512;

/// What a server says, and of which namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The name of the sender.
    pub from: Arc<str>,
    /// The namespace. Empty for what concerns the server.
    pub namespace: Arc<str>,
    /// What it says.
    pub message: Message,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It has come: others shall say that they are there.
    Hello(Digest),
    /// It is there.
    Heartbeat(Digest),
    /// It goes.
    Bye,
    /// An event for sockets.
    Broadcast {
        /// For which.
        to: Sockets,
        /// How it is to be delivered.
        delivery: Delivery,
        /// The event.
        event: Outgoing,
        /// Its number, among those of a sender that is no server: by that it gets into the
        /// namespace's log once, if it has one. 0 otherwise.
        number: u64,
    },
    /// Sockets shall join rooms.
    Join {
        /// Which.
        who: Sockets,
        /// The rooms.
        rooms: Vec<Arc<str>>,
    },
    /// Sockets shall leave rooms.
    Leave {
        /// Which.
        who: Sockets,
        /// The rooms.
        rooms: Vec<Arc<str>>,
    },
    /// Sockets shall leave the namespace.
    Disconnect {
        /// Which.
        who: Sockets,
        /// Whether their connections shall be closed, too.
        close: bool,
    },
    /// An event for the servers themselves.
    Emit {
        /// The event.
        event: Outgoing,
    },
    /// A question to each server.
    Ask {
        /// Its number, among those of the sender.
        question: u64,
        /// How long the sender waits, in ms.
        time: Duration,
        /// What is asked.
        what: Asked,
    },
    /// An answer, or a part of one.
    Reply {
        /// The number of the question.
        question: u64,
        /// The number of this reply, among those of the sender to this question, from 0.
        number: u32,
        /// The answer.
        reply: Reply,
    },
    /// The sender has replied so many times, and says no more.
    Total {
        /// The number of the question.
        question: u64,
        /// How many replies there were.
        replies: u32,
    },
    /// The receiver shall give up a session, since its client is at the sender.
    HandOver {
        /// Its number, among those of the sender.
        question: u64,
        /// How long ago the client has come to the sender. If it has come to the receiver since, it
        /// is gone from the sender, and the receiver gives nothing up.
        waited: Duration,
        /// The private id of the session.
        pid: Arc<str>,
    },
    /// What the sender has given up.
    HandedOver {
        /// The number of the question.
        question: u64,
        /// What has become of it.
        session: Handed,
    },
}

/// What another server is told of a session that it has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The session, in a form that servers know.
    Over(Bytes),
    /// Its client has come to the sender since, or to a third server.
    Elsewhere,
    /// The sender doesn't have it.
    Unknown,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// What must be alike on all servers, hashed.
    pub config: u64,
    /// How many sockets it has.
    pub sockets: u64,
    /// Where it takes requests of its sessions from others, as a URL of up to [`MAX_ADDRESS`]
    /// bytes. Empty: nowhere.
    pub address: Arc<str>,
}

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Acknowledgements of an event by sockets.
    Acks {
        /// Of which.
        to: Sockets,
        /// How it is to be delivered.
        delivery: Delivery,
        /// The event.
        event: Outgoing,
    },
    /// Which sockets there are.
    Fetch {
        /// Among which.
        who: Sockets,
    },
    /// What its handlers answer to an event.
    Handle {
        /// The event.
        event: Outgoing,
    },
}

/// What a server replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// So many sockets have got the event.
    Count(u64),
    /// The acknowledgement of a socket.
    Ack {
        /// The id of the socket.
        socket: Arc<str>,
        /// Its answer.
        args: OwnedArgs,
    },
    /// Sockets that were found.
    Found(Vec<SocketDetails>),
    /// What a handler has answered.
    Handled(OwnedArgs),
}

/// Why a frame isn't understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is of another version, or of somebody else.
    #[error("a frame of version {0}: make the versions of all servers alike")]
    Version(u8),
    /// It ends too early, goes on behind its end, or has a number that stands for nothing.
    #[error("not a frame")]
    Garbage,
    /// An event or arguments in it are none.
    #[error("{0}")]
    Contents(#[from] DecodeError),
}

/// What servers take of each other: more than clients may send, since servers emit without these
/// limits.
fn limits() -> Limits {
    let limits = Limits::new().attachments(crate::socket::MAX_ATTACHMENTS);
    limits.depth(127).values(10_000_000).event_name(65_536)
}

// The first byte of a message.
const HELLO: u8 = 0;
const HEARTBEAT: u8 = 1;
const BYE: u8 = 2;
const BROADCAST: u8 = 3;
const JOIN: u8 = 4;
const LEAVE: u8 = 5;
const DISCONNECT: u8 = 6;
const EMIT: u8 = 7;
const ASK_ACKS: u8 = 8;
const ASK_FETCH: u8 = 9;
const ASK_HANDLE: u8 = 10;
const REPLY_COUNT: u8 = 11;
const REPLY_ACK: u8 = 12;
const REPLY_FOUND: u8 = 13;
const REPLY_HANDLED: u8 = 14;
const TOTAL: u8 = 15;
const HAND_OVER: u8 = 16;
const HANDED_OVER: u8 = 17;

impl Frame {
    /// The bytes of a frame.
    ///
    /// ```
    /// use antiphon_protocol::cluster::native::{Frame, Message};
    ///
    /// let frame = Frame {
    ///     from: "server-1".into(),
    ///     namespace: "/chat".into(),
    ///     message: Message::Bye,
    /// };
    /// assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    /// ```
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Most frames fit: a short event, and where it goes.
        let mut to = Vec::with_capacity(256);
        to.push(VERSION);
        write_bytes(&mut to, self.from.as_bytes());
        write_bytes(&mut to, self.namespace.as_bytes());
        self.message.write(&mut to);
        to.into()
    }

    /// A frame from its bytes.
    ///
    /// # Errors
    /// [`Malformed`] if they are none, or what they hold isn't what a server can have sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (from, rest) = Self::open(bytes)?;
        Self::read(from, rest)
    }

    /// A frame from its bytes, unless `me` has sent it: that isn't looked at.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_of_others(bytes: &[u8], me: &str) -> Result<Option<Self>, Malformed> {
        let (from, rest) = Self::open(bytes)?;
        (from != me).then(|| Self::read(from, rest)).transpose()
    }

    fn open(bytes: &[u8]) -> Result<(&str, Reader<'_>), Malformed> {
        let mut rest = Reader::new(bytes);
        match rest.byte().ok_or(Malformed::Garbage)? {
            VERSION => {}
            version => return Err(Malformed::Version(version)),
        }
        Ok((rest.text().ok_or(Malformed::Garbage)?, rest))
    }

    fn read(from: &str, mut rest: Reader<'_>) -> Result<Self, Malformed> {
        let namespace = rest.text().ok_or(Malformed::Garbage)?;
        let message = Message::read(&mut rest)?;
        if !rest.rest().is_empty() {
            return Err(Malformed::Garbage);
        }
        Ok(Self {
            from: from.into(),
            namespace: namespace.into(),
            message,
        })
    }
}

impl Message {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Hello(digest) => digest.write(HELLO, to),
            Self::Heartbeat(digest) => digest.write(HEARTBEAT, to),
            Self::Bye => to.push(BYE),
            Self::Broadcast {
                to: sockets,
                delivery,
                event,
                number,
            } => {
                to.push(BROADCAST);
                sockets.write(to);
                delivery.write(to);
                write_event(to, event);
                write(to, *number);
            }
            Self::Join { who, rooms } => {
                to.push(JOIN);
                who.write(to);
                write_texts(to, rooms);
            }
            Self::Leave { who, rooms } => {
                to.push(LEAVE);
                who.write(to);
                write_texts(to, rooms);
            }
            Self::Disconnect { who, close } => {
                to.push(DISCONNECT);
                who.write(to);
                to.push(u8::from(*close));
            }
            Self::Emit { event } => {
                to.push(EMIT);
                write_event(to, event);
            }
            Self::Ask {
                question,
                time,
                what,
            } => {
                to.push(match what {
                    Asked::Acks { .. } => ASK_ACKS,
                    Asked::Fetch { .. } => ASK_FETCH,
                    Asked::Handle { .. } => ASK_HANDLE,
                });
                write(to, *question);
                write_time(to, *time);
                what.write(to);
            }
            Self::Reply {
                question,
                number,
                reply,
            } => {
                to.push(match reply {
                    Reply::Count(_) => REPLY_COUNT,
                    Reply::Ack { .. } => REPLY_ACK,
                    Reply::Found(_) => REPLY_FOUND,
                    Reply::Handled(_) => REPLY_HANDLED,
                });
                write(to, *question);
                write(to, u64::from(*number));
                reply.write(to);
            }
            Self::Total { question, replies } => {
                to.push(TOTAL);
                write(to, *question);
                write(to, u64::from(*replies));
            }
            Self::HandOver {
                question,
                waited,
                pid,
            } => {
                to.push(HAND_OVER);
                write(to, *question);
                write_time(to, *waited);
                write_bytes(to, pid.as_bytes());
            }
            Self::HandedOver { question, session } => {
                to.push(HANDED_OVER);
                write(to, *question);
                to.push(u8::from(*session == Handed::Elsewhere));
                let session = match session {
                    Handed::Over(session) => Some(session.clone()),
                    Handed::Elsewhere | Handed::Unknown => None,
                };
                write_attachments(to, session.into_iter());
            }
        }
    }

    fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match rest.byte().ok_or(Malformed::Garbage)? {
            HELLO => Self::Hello(Digest::read(rest)?),
            HEARTBEAT => Self::Heartbeat(Digest::read(rest)?),
            BYE => Self::Bye,
            BROADCAST => Self::Broadcast {
                to: Sockets::read(rest)?,
                delivery: Delivery::read(rest)?,
                event: read_event(rest)?,
                number: rest.number().ok_or(Malformed::Garbage)?,
            },
            JOIN => Self::Join {
                who: Sockets::read(rest)?,
                rooms: rest.texts().ok_or(Malformed::Garbage)?,
            },
            LEAVE => Self::Leave {
                who: Sockets::read(rest)?,
                rooms: rest.texts().ok_or(Malformed::Garbage)?,
            },
            DISCONNECT => Self::Disconnect {
                who: Sockets::read(rest)?,
                close: match rest.byte() {
                    Some(0) => false,
                    Some(1) => true,
                    _ => return Err(Malformed::Garbage),
                },
            },
            EMIT => Self::Emit {
                event: read_event(rest)?,
            },
            kind @ (ASK_ACKS | ASK_FETCH | ASK_HANDLE) => Self::Ask {
                question: rest.number().ok_or(Malformed::Garbage)?,
                time: read_time(rest)?,
                what: Asked::read(kind, rest)?,
            },
            kind @ (REPLY_COUNT | REPLY_ACK | REPLY_FOUND | REPLY_HANDLED) => Self::Reply {
                question: rest.number().ok_or(Malformed::Garbage)?,
                number: read_small(rest)?,
                reply: Reply::read(kind, rest)?,
            },
            TOTAL => Self::Total {
                question: rest.number().ok_or(Malformed::Garbage)?,
                replies: read_small(rest)?,
            },
            HAND_OVER => Self::HandOver {
                question: rest.number().ok_or(Malformed::Garbage)?,
                waited: read_time(rest)?,
                pid: rest.text().ok_or(Malformed::Garbage)?.into(),
            },
            HANDED_OVER => Self::HandedOver {
                question: rest.number().ok_or(Malformed::Garbage)?,
                session: {
                    let is_elsewhere = rest.byte().ok_or(Malformed::Garbage)?;
                    let session = rest.attachments().ok_or(Malformed::Garbage)?;
                    match (is_elsewhere, session.as_slice()) {
                        (0, []) => Handed::Unknown,
                        (1, []) => Handed::Elsewhere,
                        (0, [session]) => Handed::Over(session.clone()),
                        _ => return Err(Malformed::Garbage),
                    }
                },
            },
            _ => return Err(Malformed::Garbage),
        })
    }
}

impl Digest {
    fn write(&self, kind: u8, to: &mut Vec<u8>) {
        to.push(kind);
        write(to, self.config);
        write(to, self.sockets);
        write_bytes(to, self.address.as_bytes());
    }

    fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            config: rest.number().ok_or(Malformed::Garbage)?,
            sockets: rest.number().ok_or(Malformed::Garbage)?,
            address: {
                let address = rest.text().filter(|text| text.len() <= MAX_ADDRESS);
                address.ok_or(Malformed::Garbage)?.into()
            },
        })
    }
}

impl Asked {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Acks {
                to: sockets,
                delivery,
                event,
            } => {
                sockets.write(to);
                delivery.write(to);
                write_event(to, event);
            }
            Self::Fetch { who } => who.write(to),
            Self::Handle { event } => write_event(to, event),
        }
    }

    fn read(kind: u8, rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            ASK_ACKS => Self::Acks {
                to: Sockets::read(rest)?,
                delivery: Delivery::read(rest)?,
                event: read_event(rest)?,
            },
            ASK_FETCH => Self::Fetch {
                who: Sockets::read(rest)?,
            },
            _ => Self::Handle {
                event: read_event(rest)?,
            },
        })
    }
}

impl Reply {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Count(count) => write(to, *count),
            Self::Ack { socket, args } => {
                write_bytes(to, socket.as_bytes());
                write_args(to, args);
            }
            Self::Found(sockets) => {
                write(to, sockets.len() as u64);
                for socket in sockets {
                    write_bytes(to, socket.id.as_bytes());
                    write_texts(to, &socket.rooms);
                    write_args(to, &socket.handshake);
                    write_args(to, &socket.data);
                }
            }
            Self::Handled(args) => write_args(to, args),
        }
    }

    fn read(kind: u8, rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            REPLY_COUNT => Self::Count(rest.number().ok_or(Malformed::Garbage)?),
            REPLY_ACK => Self::Ack {
                socket: rest.text().ok_or(Malformed::Garbage)?.into(),
                args: read_args(rest)?,
            },
            REPLY_FOUND => {
                let count = rest.count().ok_or(Malformed::Garbage)?;
                let sockets = (0..count).map(|_| read_socket(rest));
                Self::Found(sockets.collect::<Result<_, _>>()?)
            }
            _ => Self::Handled(read_args(rest)?),
        })
    }
}

fn read_event(rest: &mut Reader<'_>) -> Result<Outgoing, Malformed> {
    let event = rest.event().ok_or(Malformed::Garbage)?;
    Ok(event.proven(&limits())?)
}

fn read_socket(rest: &mut Reader<'_>) -> Result<SocketDetails, Malformed> {
    Ok(SocketDetails {
        id: rest.text().ok_or(Malformed::Garbage)?.into(),
        rooms: rest.texts().ok_or(Malformed::Garbage)?,
        handshake: read_args(rest)?,
        data: read_args(rest)?,
    })
}

fn write_args(to: &mut Vec<u8>, args: &OwnedArgs) {
    let args = args.as_args();
    write_bytes(to, args.json().as_bytes());
    write_attachments(to, args.attachments().iter().cloned());
}

fn read_args(rest: &mut Reader<'_>) -> Result<OwnedArgs, Malformed> {
    let json = rest.text().ok_or(Malformed::Garbage)?;
    let attachments = rest.attachments().ok_or(Malformed::Garbage)?;
    Ok(OwnedArgs::from_parts(json, attachments, &limits())?)
}

fn write_time(to: &mut Vec<u8>, time: Duration) {
    write(to, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
}

fn read_time(rest: &mut Reader<'_>) -> Result<Duration, Malformed> {
    let time = rest.number().ok_or(Malformed::Garbage)?;
    Ok(Duration::from_millis(time))
}

/// A number that 32 bits hold.
fn read_small(rest: &mut Reader<'_>) -> Result<u32, Malformed> {
    let number = rest.number().and_then(|number| number.try_into().ok());
    number.ok_or(Malformed::Garbage)
}

#[cfg(test)]
mod tests;
