//! What adapters say, as messages of the wire, and back: targets, flags, sockets, and the answers to a
//! question.
//!
//! Plain conversions, but for [`Asking`]: the router keeps one for each question, gives it the replies
//! of other servers, and it gives them on to whoever asked. A reply that doesn't fit its question
//! says nothing.

use std::{collections::HashSet, time::Duration};

use antiphon::{
    RemoteSocket, SocketId, Target,
    adapter::{Answers, BoxFuture, Flags, Local, NodeId, OwnedArgs, ServerAnswer, SocketAnswer},
};
use antiphon_protocol::cluster::{
    SocketDetails, Sockets,
    native::{Delivery, Reply},
};
use serde_json::{Map, Value};

pub(crate) fn sockets(target: &Target) -> Sockets {
    Sockets {
        rooms: target.rooms.clone(),
        except: target.except.clone(),
    }
}

pub(crate) fn target(sockets: Sockets) -> Target {
    Target {
        rooms: sockets.rooms,
        except: sockets.except,
    }
}

pub(crate) const fn delivery(flags: Flags) -> Delivery {
    Delivery {
        volatile: flags.volatile,
        retain: flags.retain,
        policy: flags.policy,
        at_least_once: flags.at_least_once,
    }
}

pub(crate) fn flags(delivery: Delivery) -> Flags {
    let mut flags = Flags::default();
    flags.volatile = delivery.volatile;
    flags.retain = delivery.retain;
    flags.policy = delivery.policy;
    flags.at_least_once = delivery.at_least_once;
    flags
}

/// Sockets as replies of about so many bytes each.
pub(crate) fn found(sockets: Vec<RemoteSocket>, bytes: usize) -> Vec<Reply> {
    let (mut replies, mut part, mut size) = (Vec::new(), Vec::new(), 0);
    for socket in sockets {
        let socket = details(socket);
        let rooms = socket.rooms.iter().map(|room| room.len() + 2);
        let objects = [&socket.handshake, &socket.data];
        let objects = objects.map(|object| object.as_args().json().len());
        size += socket.id.len() + rooms.sum::<usize>() + objects.iter().sum::<usize>() + 8;
        part.push(socket);
        if size >= bytes {
            replies.push(Reply::Found(std::mem::take(&mut part)));
            size = 0;
        }
    }
    if !part.is_empty() {
        replies.push(Reply::Found(part));
    }
    replies
}

/// A socket as others are told of it: `handshake` and `data` are one object each.
pub(crate) fn details(socket: RemoteSocket) -> SocketDetails {
    SocketDetails {
        id: socket.id.as_str().into(),
        rooms: socket.rooms,
        handshake: object(socket.handshake),
        data: object(socket.data),
    }
}

/// An object as the one argument.
pub(crate) fn object(map: Map<String, Value>) -> OwnedArgs {
    OwnedArgs::new(&(map,)).unwrap_or_default()
}

/// The object that is the one argument. What is none says nothing.
pub(crate) fn map(args: &OwnedArgs) -> Map<String, Value> {
    match args.as_args().deserialize::<(Value,)>() {
        Ok((Value::Object(map),)) => map,
        _ => Map::new(),
    }
}

/// A socket as another server tells of it. What is no object there says nothing.
pub(crate) fn remote(details: SocketDetails) -> RemoteSocket {
    let mut socket = RemoteSocket::new(SocketId::new(&*details.id), details.rooms);
    socket.handshake = map(&details.handshake);
    socket.data = map(&details.data);
    socket
}

/// Where the answers to a question go.
#[derive(Debug)]
pub(crate) enum Asking {
    Acks(Answers<SocketAnswer>),
    Sockets {
        found: Answers<RemoteSocket>,
        /// Those that have been given: one that changes its server meanwhile is found twice.
        given: HashSet<SocketId>,
    },
    Servers(Answers<ServerAnswer>),
}

impl Asking {
    /// A question for sockets, to which this server's have been given.
    pub(crate) fn sockets(local: &Local, target: &Target, found: Answers<RemoteSocket>) -> Self {
        let mut given = HashSet::new();
        for socket in local.fetch(target) {
            given.insert(socket.id.clone());
            found.give(socket);
        }
        Self::Sockets { found, given }
    }

    /// How long is left for answers.
    pub(crate) fn remaining(&self) -> Duration {
        match self {
            Self::Acks(answers) => answers.remaining(),
            Self::Sockets { found, .. } => found.remaining(),
            Self::Servers(answers) => answers.remaining(),
        }
    }

    /// How long servers have for their answers, where they have this for what sockets don't answer.
    pub(crate) fn time(&self, servers: Duration) -> Duration {
        match self {
            Self::Acks(_) => self.remaining(),
            Self::Sockets { .. } | Self::Servers(_) => self.remaining().min(servers),
        }
    }

    /// Resolves when nobody waits any more.
    pub(crate) fn closed(&self) -> BoxFuture<()> {
        match self {
            Self::Acks(answers) => answers.closed(),
            Self::Sockets { found, .. } => found.closed(),
            Self::Servers(answers) => answers.closed(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Acks(answers) => answers.is_closed(),
            Self::Sockets { found, .. } => found.is_closed(),
            Self::Servers(answers) => answers.is_closed(),
        }
    }

    /// This server owes an answer.
    pub(crate) fn missing(&self, node: NodeId) {
        match self {
            Self::Acks(answers) => answers.missing(node),
            Self::Sockets { found, .. } => found.missing(node),
            Self::Servers(answers) => answers.missing(node),
        }
    }

    /// So many servers owe an answer, whose names nobody knows.
    pub(crate) fn unnamed(&self, count: usize) {
        match self {
            Self::Acks(answers) => answers.unnamed(count),
            Self::Sockets { found, .. } => found.unnamed(count),
            Self::Servers(answers) => answers.unnamed(count),
        }
    }

    /// This server has said all that is waited for by name.
    pub(crate) fn heard(&self, node: &NodeId) {
        match self {
            Self::Acks(answers) => answers.heard(node),
            Self::Sockets { found, .. } => found.heard(node),
            Self::Servers(answers) => answers.heard(node),
        }
    }

    pub(crate) fn fail(&self, error: antiphon::adapter::AdapterError) {
        match self {
            Self::Acks(answers) => answers.fail(error),
            Self::Sockets { found, .. } => found.fail(error),
            Self::Servers(answers) => answers.fail(error),
        }
    }

    /// A server has replied. What doesn't answer this question is left out.
    pub(crate) fn take(&mut self, node: &NodeId, reply: Reply) {
        match (self, reply) {
            (Self::Acks(answers), Reply::Count(count)) => {
                answers.expect(usize::try_from(count).unwrap_or(usize::MAX));
                // From here on its sockets owe answers, and it isn't waited for itself.
                answers.heard(node);
            }
            (Self::Acks(answers), Reply::Ack { socket, args }) => {
                answers.give((SocketId::new(&*socket), args));
            }
            (Self::Sockets { found, given }, Reply::Found(sockets)) => {
                for socket in sockets.into_iter().map(remote) {
                    if given.insert(socket.id.clone()) {
                        found.give(socket);
                    }
                }
            }
            (Self::Servers(answers), Reply::Handled(args)) => answers.give((node.clone(), args)),
            _ => {}
        }
    }
}
