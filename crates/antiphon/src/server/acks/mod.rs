//! Acknowledgements, both ways.
//!
//! *In* (`responder`): an event that asks for one is answered once: by what its handler returns, by
//! [`Ack::send`], or, when its handlers have ended without either, by an empty acknowledgement.
//! *Out* (`awaited`): an emit that asks for one waits under its id until the answer, the timeout, or
//! the end of the socket. What became of one that asked many is in `answers`.

mod answers;
mod awaited;
mod errors;
mod responder;

pub use answers::{Acknowledged, BroadcastAnswers, ServerAnswers};
pub use errors::ErrorAcks;
pub use responder::Ack;

pub(crate) use answers::deadline;
pub(crate) use awaited::Awaited;
pub(crate) use responder::{Respond, Responder};
