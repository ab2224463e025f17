//! The answer that an event of a client waits for.
//!
//! Whoever handles the event shares a [`Responder`]; the first answer counts, and the last one to let
//! go of it without any sends an empty one. It goes to the client by its socket, or to whoever stands
//! for it ([`Respond`]).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use antiphon_protocol::socket::{self as codec, Draft, EncodeError, OwnedArgs};

use crate::{
    engine::Sending,
    server::{IntoReply, Rejection, Socket},
};

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
