//! The acknowledgements that the client of a socket owes: who gets which, by its id.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use antiphon_protocol::socket::{Args as RawArgs, OwnedArgs};
use tokio::sync::oneshot;

use crate::server::{
    SocketId,
    adapter::{Answers, SocketAnswer},
    delivery::kept::Acknowledge,
};

/// The receivers of the answers of a client.
enum AckReceiver {
    /// For that of one socket.
    One(oneshot::Sender<OwnedArgs>),
    /// For an event that is kept until then.
    Kept(Acknowledge),
    /// For those of all sockets of a broadcast. It is told no more when the last of these is gone.
    Many(Answers<SocketAnswer>),
}

impl AckReceiver {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::One(waiting) => waiting.is_closed(),
            Self::Kept(_) => false,
            Self::Many(waiting) => waiting.is_closed(),
        }
    }
}

/// The acknowledgements that a socket's client still owes. Empty, it owns nothing.
#[derive(Default)]
pub(crate) struct Awaited(Mutex<Option<ById>>);

/// Boxed, since most sockets have none: a pointer instead of a map.
type ById = Box<HashMap<u64, AckReceiver>>;

impl Awaited {
    fn insert(&self, id: u64, waiting: AckReceiver) {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited = awaited.get_or_insert_default();
        // Broadcasts whose time was up leave the silent ones behind.
        if awaited.len() % 64 == 63 {
            awaited.retain(|_, waiting| !waiting.is_abandoned());
        }
        awaited.insert(id, waiting);
    }

    fn remove(&self, id: u64) -> Option<AckReceiver> {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = awaited.as_mut()?.remove(&id);
        if awaited.as_ref().is_some_and(|awaited| awaited.is_empty()) {
            *awaited = None;
        }
        waiting
    }

    /// The answer to an emit of one socket.
    pub(crate) fn one(&self, id: u64) -> oneshot::Receiver<OwnedArgs> {
        let (sender, receiver) = oneshot::channel();
        self.insert(id, AckReceiver::One(sender));
        receiver
    }

    /// The answer to an event that is kept until then.
    pub(crate) fn kept(&self, id: u64, acknowledge: Acknowledge) {
        self.insert(id, AckReceiver::Kept(acknowledge));
    }

    /// One of the answers to a broadcast.
    pub(crate) fn one_of_many(&self, id: u64, answers: Answers<SocketAnswer>) {
        self.insert(id, AckReceiver::Many(answers));
    }

    /// Nobody waits for this any more.
    pub(crate) fn forget(&self, id: u64) {
        self.remove(id);
    }

    /// An answer has come. One that nobody waits for is ignored.
    pub(crate) fn resolve(&self, socket: &SocketId, id: u64, args: RawArgs<'_>) {
        match self.remove(id) {
            // A receiver that has stopped waiting doesn't miss it.
            Some(AckReceiver::One(waiting)) => drop(waiting.send(args.to_owned())),
            Some(AckReceiver::Kept(kept)) => kept.acknowledged(),
            Some(AckReceiver::Many(waiting)) => waiting.give((socket.clone(), args.to_owned())),
            None => {}
        }
    }

    /// The socket is gone: all receivers are told.
    pub(crate) fn fail(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaited").finish_non_exhaustive()
    }
}
