//! Handlers: async functions whose arguments say what they need.
//!
//! A handler is called inside the task that read the event, up to its first suspension; so the
//! handlers of one socket start in the order in which events arrive. A panic ends that call alone.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use serde::Serialize;

use super::{ConnectError, Context, FromContext, Rejection};

/// Marks a handler of events.
#[derive(Debug, Clone, Copy)]
pub enum OnEvent {}

/// Marks a handler of new sockets, or a middleware that lets them in.
#[derive(Debug, Clone, Copy)]
pub enum OnConnect {}

/// Marks a handler of sockets that leave.
#[derive(Debug, Clone, Copy)]
pub enum OnDisconnect {}

/// An async function whose arguments are [extractors](FromContext), up to eight, in any order.
///
/// `K` says what it handles ([`OnEvent`], [`OnConnect`], [`OnDisconnect`]); `A` is for the
/// compiler. Implemented for every fitting function and closure; a closure that owns what it uses
/// is written `move |..| { let it = it.clone(); async move { .. } }`, or takes it as
/// [`State`](crate::State).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler here",
    label = "not a fitting async function",
    note = "a handler is an async function or closure, `async |socket: Socket, Data(text): Data<String>| {{ .. }}`",
    note = "each argument's type must be an extractor for this kind of handler (`{K}`): see `antiphon::FromContext`",
    note = "its future must be `Send`, and an async closure must not own what it captures: take that as `State<T>`, or write `move |..| {{ let it = it.clone(); async move {{ .. }} }}`"
)]
pub trait Handler<K, A>: Send + Sync + 'static {
    /// What it returns.
    type Output;

    /// Its future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Extracts the arguments and calls it.
    ///
    /// # Errors
    /// The [`Rejection`] of the first extractor that doesn't find what it needs.
    fn call(&self, context: &Context<'_>) -> Result<Self::Future, Rejection>;
}

macro_rules! handlers {
    ($($argument:ident)*) => {
        impl<K, F, Fut, $($argument,)*> Handler<K, ($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            $($argument: FromContext<K>,)*
        {
            type Output = Fut::Output;
            type Future = Fut;

            fn call(&self, context: &Context<'_>) -> Result<Fut, Rejection> {
                let _ = context;
                Ok(self($($argument::from_context(context)?),*))
            }
        }
    };
}

handlers!();
handlers!(T1);
handlers!(T1 T2);
handlers!(T1 T2 T3);
handlers!(T1 T2 T3 T4);
handlers!(T1 T2 T3 T4 T5);
handlers!(T1 T2 T3 T4 T5 T6);
handlers!(T1 T2 T3 T4 T5 T6 T7);
handlers!(T1 T2 T3 T4 T5 T6 T7 T8);

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A handler of any shape: gives the future of one call.
pub(crate) type Erased<T> =
    Box<dyn Fn(&Context<'_>) -> Result<BoxFuture<T>, Rejection> + Send + Sync>;

/// A handler of events: what it returns is the acknowledgement.
pub(crate) fn event<H, A>(handler: H) -> Erased<()>
where
    H: Handler<OnEvent, A>,
    H::Output: Serialize + Send,
{
    Box::new(move |context| {
        let future = handler.call(context)?;
        let answer = context.answer.cloned();
        Ok(Box::pin(async move {
            let reply = future.await;
            if let Some(answer) = answer {
                answer.reply(&reply);
            }
        }))
    })
}

/// A handler that returns nothing.
pub(crate) fn quiet<K, H, A>(handler: H) -> Erased<()>
where
    K: 'static,
    H: Handler<K, A, Output = ()>,
{
    Box::new(move |context| Ok(Box::pin(handler.call(context)?)))
}

/// A middleware: lets pass, or says why not.
pub(crate) fn middleware<K, H, A, E>(handler: H) -> Erased<Result<(), E>>
where
    K: 'static,
    H: Handler<K, A, Output = Result<(), E>>,
    E: Send + 'static,
{
    Box::new(move |context| Ok(Box::pin(handler.call(context)?)))
}

pub(crate) type ConnectMiddleware = Erased<Result<(), ConnectError>>;
pub(crate) type EventMiddleware = Erased<Result<(), Rejection>>;

/// Calls a handler; a panic on the way to its future is `None`.
pub(crate) fn call<T>(
    handler: &Erased<T>,
    context: &Context<'_>,
) -> Option<Result<BoxFuture<T>, Rejection>> {
    catch_unwind(AssertUnwindSafe(|| handler(context))).ok()
}

/// A future whose panic is its end: then it gives `None`.
pub(crate) struct CatchPanic<T>(pub(crate) BoxFuture<T>);

impl<T> Future for CatchPanic<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<T>> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}
