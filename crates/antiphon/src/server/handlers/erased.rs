//! Handlers of any shape, as they are registered and called: [`handler`](super::handler) makes them
//! of the application's functions.
//!
//! An [`Erased`] is a function from a [`Context`] to a future that can't panic. [`call`] turns a panic
//! of an extractor into a [`Rejection`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::server::{
    ConnectError, Context, NewEvent, Rejection, Socket, handlers::future::BoxFuture,
};

/// A handler of any shape: gives the future of one call. What is the user's in it may panic, and
/// ends the call alone.
pub(crate) type Erased<T> =
    Box<dyn Fn(&Context<'_>) -> Result<BoxFuture<T>, Rejection> + Send + Sync>;

pub(crate) type ConnectMiddleware = Erased<Result<(), ConnectError>>;
/// Lets an event pass as it is, or as another one.
pub(crate) type EventMiddleware = Erased<Result<Option<NewEvent>, Rejection>>;

/// Calls a handler up to its future. A panic on the way, in an extractor, is a rejection.
pub(crate) fn call<T>(
    handler: &Erased<T>,
    context: &Context<'_>,
) -> Result<BoxFuture<T>, Rejection> {
    let called = catch_unwind(AssertUnwindSafe(|| handler(context)));
    called.unwrap_or_else(|_| Err(panicked(context.socket, context.event)))
}

/// Counts and logs a panic in a handler (its type names the place in the source).
pub(super) fn panicked(socket: &Socket, handler: &str) -> Rejection {
    socket.peer().engine().counters().handler_panics.add(1);
    let id = socket.id();
    match socket.is_connected() {
        true => tracing::error!(socket = ?id, handler, "a handler panicked; its socket lives on"),
        // It is being let in, or has left, or belongs to a call.
        false => tracing::error!(socket = ?id, handler, "a handler panicked"),
    }
    Rejection::panicked()
}
