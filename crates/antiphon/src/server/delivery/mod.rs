//! More than at most once: events that are kept until their client acknowledges them
//! ([`kept`]), and events of clients that are handled once however often they come
//! ([`handled`]).

pub(crate) mod handled;
pub(crate) mod kept;
