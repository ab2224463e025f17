//! Acknowledgements, both ways.
//!
//! *In*: an event that asks for one is answered once: by what its handler returns, by
//! [`Ack::send`], or, when its handlers have ended without either, by an empty acknowledgement.
//! *Out*: an emit that asks for one waits under its id until the answer, the timeout, or the end of
//! the socket.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use antiphon_protocol::socket::{self as codec, Args as RawArgs, Draft, EncodeError, OwnedArgs};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    engine::{LONGEST, Sending},
    server::{
        AckError, FromArgs, IntoReply, Rejection, Socket, SocketId,
        adapter::{AdapterError, Answered, Answers, NodeId, ServerAnswer, SocketAnswer},
        delivery::kept::Acknowledge,
    },
};

/// Which errors of the server itself are acknowledged: see
/// [`ServerBuilder::error_acks`](crate::ServerBuilder::error_acks).
///
/// For a stock client each acknowledgement is one, an error's too: `emitWithAck` resolves with it,
/// and with the option `retries` the event counts as delivered. An event that isn't acknowledged is
/// sent again by a client with `retries`, and others run into their `ackTimeout`, if they have one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorAcks {
    /// All: a client that waits learns at once what is wrong. An event that fails is not sent
    /// again.
    #[default]
    All,
    /// Those that would come again: arguments that don't fit, and rejections of the application's
    /// own. An event that no handler takes yet, as during a deploy, or whose handler panicked
    /// (`unknown_event`, `internal_error`) isn't acknowledged.
    Lasting,
    /// None, as with Node's server.
    None,
}

impl ErrorAcks {
    fn include(self, rejection: &Rejection) -> bool {
        match self {
            Self::All => true,
            Self::Lasting => !matches!(rejection.code(), "unknown_event" | "internal_error"),
            Self::None => false,
        }
    }
}

/// The answer that an event of the client waits for.
#[derive(Clone)]
pub(crate) struct Responder(Arc<Pending>);

struct Pending {
    asker: Asker,
    answered: AtomicBool,
    /// A handler has taken the matter into its own hands.
    taken: AtomicBool,
}

/// Who is told of an answer in a client's stead: the caller of a call by HTTP, or the memory of what
/// was handled.
pub(crate) trait Respond: Send + Sync {
    /// Gives the acknowledgement, or the error of the server itself that stands for it.
    fn answer(&self, acknowledged: Result<OwnedArgs, Rejection>);
}

/// The receiver of the answer.
enum Asker {
    Client {
        socket: Socket,
        id: u64,
    },
    /// An event that came in another way than by a session.
    Caller(Box<dyn Respond>),
}

impl Responder {
    pub(crate) fn new(socket: Socket, id: u64) -> Self {
        Self::to(Asker::Client { socket, id })
    }

    pub(crate) fn to_caller(caller: impl Respond + 'static) -> Self {
        Self::to(Asker::Caller(Box::new(caller)))
    }

    fn to(asker: Asker) -> Self {
        Self(Arc::new(Pending {
            asker,
            answered: AtomicBool::new(false),
            taken: AtomicBool::new(false),
        }))
    }

    /// What a handler returned.
    pub(crate) fn reply<T: IntoReply>(&self, reply: &T) {
        if reply.is_answer() {
            let pending = &self.0;
            pending.send::<T>(|draft, namespace, id| reply.encode_ack(draft, namespace, id));
        }
    }

    /// Whether a handler has taken the answer into its own hands.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// An error of the server itself.
    pub(crate) fn reject(&self, rejection: &Rejection) {
        self.0.reject(rejection);
    }
}

impl Pending {
    /// Sends what `encode` writes: a value of the type `R`.
    fn send<R>(&self, encode: impl FnOnce(&mut Draft, &str, u64) -> Result<(), EncodeError>) {
        if self.answered.load(Ordering::Relaxed) {
            return;
        }
        let (mut draft, namespace, id) = match &self.asker {
            Asker::Client { socket, id } => {
                let namespace = socket.namespace();
                (namespace.shared().draft(), namespace.name(), *id)
            }
            // Its answer is a list of arguments alone: one with any binary value is refused there.
            Asker::Caller(_) => (Draft::new(usize::MAX), "/", 0),
        };
        if let Err(error) = encode(&mut draft, namespace, id) {
            let reply = std::any::type_name::<R>();
            tracing::error!(reply, %error, "an acknowledgement can't be encoded");
            return self.reject(&Rejection::unencodable());
        }
        // Only now: if a reply panics while it is encoded, something else may answer.
        if self.answered.swap(true, Ordering::Relaxed) {
            return;
        }
        match &self.asker {
            // A socket that has left has no use for it.
            Asker::Client { socket, .. } => {
                drop(socket.send_in_order(&mut draft, Sending::SURE));
            }
            Asker::Caller(caller) => caller.answer(Ok(draft.finish_args())),
        }
    }

    fn reject(&self, rejection: &Rejection) {
        if self.answered.swap(true, Ordering::Relaxed) {
            return;
        }
        match &self.asker {
            Asker::Client { socket, id } => {
                if !socket.namespace().shared().error_acks.include(rejection) {
                    return;
                }
                let refused = codec::ack_error(socket.namespace().name(), *id, rejection);
                if let Ok(message) = refused {
                    // A socket that has left has no use for it.
                    let _ = match socket.namespace().joins().behind() {
                        Some(ordered) => socket.send_behind(ordered, message, Sending::SURE),
                        None => socket.send_message(message, Sending::SURE),
                    };
                }
            }
            Asker::Caller(caller) => caller.answer(Err(rejection.clone())),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !*self.taken.get_mut() && !*self.answered.get_mut() {
            self.send::<()>(|draft, namespace, id| draft.ack(namespace, id, &()));
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

/// Answers an event by hand, also later or elsewhere.
///
/// A handler that takes it decides alone: what isn't sent is never answered, and the client runs
/// into its own timeout. Most handlers just return their answer instead.
#[derive(Debug)]
pub struct Ack(Option<Responder>);

impl Ack {
    pub(crate) fn take(answer: Option<&Responder>) -> Self {
        if let Some(answer) = answer {
            answer.0.taken.store(true, Ordering::Relaxed);
        }
        Self(answer.cloned())
    }

    /// Whether the client asked for an acknowledgement.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Sends the acknowledgement, as if the handler had returned this; `()` is one without
    /// arguments. Only the first of an event counts.
    pub fn send<T: IntoReply>(self, reply: T) {
        if let Some(answer) = self.0 {
            answer
                .0
                .send::<T>(|draft, namespace, id| reply.encode_ack(draft, namespace, id));
        }
    }
}

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

/// An emit that waits for its acknowledgement; dropped, nobody waits.
pub type Acknowledged<T> = Pin<Box<dyn Future<Output = Result<T, AckError>> + Send>>;

/// When a time is up that begins now, with the emit, and not when its future is awaited.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(LONGEST)
}

/// Waits for one answer; when it is dropped, nobody does.
pub(crate) struct OneAnswer {
    pub(crate) socket: Socket,
    pub(crate) id: u64,
    pub(crate) answer: oneshot::Receiver<OwnedArgs>,
}

impl OneAnswer {
    pub(crate) async fn until<R: FromArgs>(mut self, deadline: Instant) -> Result<R, AckError> {
        match timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(args)) => Ok(R::from_args(args)?),
            Ok(Err(_)) => Err(AckError::Disconnected),
            Err(_) => Err(AckError::Timeout),
        }
    }
}

impl Drop for OneAnswer {
    fn drop(&mut self) {
        self.socket.awaited().forget(self.id);
    }
}

/// What became of a broadcast that asked for acknowledgements.
#[derive(Debug)]
#[non_exhaustive]
pub struct BroadcastAnswers<R> {
    /// The sockets that have answered, and their answers; an answer that doesn't fit `R` is an
    /// error.
    pub answers: Vec<(SocketId, Result<R, AckError>)>,
    /// How many sockets the event was sent to, as far as servers have said so. `None` if the
    /// adapter hasn't in time.
    pub expected: Option<usize>,
    /// The servers that haven't said in time how many sockets they have asked, or died with answers
    /// owed.
    pub missing: Vec<NodeId>,
    /// Why the adapter has failed, if it has: nothing is known of other servers then.
    pub error: Option<AdapterError>,
}

impl<R> BroadcastAnswers<R> {
    /// Whether every socket of every server has answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let all_have = matches!(self.expected, Some(expected) if self.answers.len() == expected);
        all_have && self.missing.is_empty() && self.error.is_none()
    }
}

impl<R: FromArgs> BroadcastAnswers<R> {
    /// Waits until all have answered or are gone, or the time is up. What has come counts, also if
    /// nobody has looked at it yet.
    pub(crate) async fn collect(mut answered: Answered<SocketAnswer>) -> Self {
        let mut answers = Vec::new();
        while let Some((socket, args)) = answered.next().await {
            answers.push((socket, R::from_args(args).map_err(AckError::from)));
        }
        Self {
            answers,
            expected: answered.expected(),
            missing: answered.missing(),
            error: answered.take_error(),
        }
    }
}

/// What became of an event to other servers that asked for answers.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerAnswers<R> {
    /// The servers whose handlers have answered, and their answers; an answer that doesn't fit `R`
    /// is an error.
    pub answers: Vec<(NodeId, Result<R, AckError>)>,
    /// The servers that have not answered in time. One that has no handler for the event is neither
    /// here nor there.
    pub missing: Vec<NodeId>,
    /// How many are missing where the adapter doesn't know their names
    /// ([`AdapterError::Missing`]), if any are.
    pub error: Option<AdapterError>,
}

impl<R> ServerAnswers<R> {
    /// Whether every server that has a handler has answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.error.is_none()
    }
}

impl<R: FromArgs> ServerAnswers<R> {
    pub(crate) async fn collect(answered: Answered<ServerAnswer>) -> Result<Self, AckError> {
        let (answers, missing, error) = answered.collect().await;
        // What has come counts all the same.
        let error = match error {
            Some(error) if !matches!(error, AdapterError::Missing { .. }) => {
                return Err(error.into());
            }
            error => error,
        };
        let answers = answers.into_iter();
        let answers = answers
            .map(|(node, args)| (node, R::from_args(args).map_err(AckError::from)))
            .collect();
        Ok(Self {
            answers,
            missing,
            error,
        })
    }
}
