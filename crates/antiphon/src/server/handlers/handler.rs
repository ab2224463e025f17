//! Handlers: functions, async mostly, whose arguments say what they need.
//!
//! A handler is called inside the task that read the event, up to its first suspension; so the
//! handlers of one socket start in the order in which events arrive. A panic ends that call alone.
//!
//! Which functions can be handlers is in [`callable`](super::callable).
//!
//! Registration erases a handler's type: `event`, `quiet` and `middleware` give an [`Erased`]. What the
//! handler returned, or that it panicked, is dealt with inside its future.

use std::{
    any::TypeId,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::server::{
    ConnectError, Context, FromContext, IntoReply, NewEvent, Rejection,
    handlers::{
        callable::Callable,
        erased::{ConnectMiddleware, Erased, EventMiddleware, panicked},
        future::guarded,
        kinds::{OnConnect, OnEvent},
        watch::{self, Name, Watched},
    },
};

/// A function whose arguments are [extractors](FromContext), up to eight, in any order: an async
/// one, or one that returns at once what can be a [reply](IntoReply).
///
/// `K` says what it handles ([`OnEvent`], [`OnConnect`], [`OnDisconnect`](crate::OnDisconnect)); `A` is for the
/// compiler. Implemented for every fitting function and closure. An async closure must not own what
/// it captures: write `move |..| { let it = it.clone(); async move { .. } }`, or take it as
/// [`State`](crate::State). Both kinds:
///
/// ```
/// use antiphon::{Data, Server, Socket};
///
/// let io = Server::new();
/// let greeting = "hello".to_owned();
/// io.on("add", |Data((a, b)): Data<(i64, i64)>| a + b)
///     .on("greet", move || greeting.clone())
///     .on("tell", async |socket: Socket| {
///         socket.flushed().await;
///         socket.emit("told", ());
///     });
/// ```
///
/// One that isn't async must not block either. The middleware of
/// [`map_events`](crate::Socket::map_events) is always async.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler here",
    label = "not a fitting function",
    note = "a handler is a function or closure, mostly an async one: `async |socket: Socket, Data(text): Data<String>| {{ .. }}`, of up to eight arguments",
    note = "one that isn't async returns what can be a reply: see `antiphon::IntoReply`",
    note = "an async closure must not own what it captures: take that as `State<T>`, or write `move |..| {{ let it = it.clone(); async move {{ .. }} }}`"
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

impl<K, A, F> Handler<K, A> for F
where
    F: Callable<A>,
    F::Arguments: FromContext<K>,
    F::Future: Send + 'static,
{
    type Output = F::Output;
    type Future = F::Future;

    fn call(&self, context: &Context<'_>) -> Result<F::Future, Rejection> {
        Ok(self.call_with(F::Arguments::from_context(context)?))
    }
}

/// A handler of events: what it returns is the acknowledgement.
pub(crate) fn event<H, A>(event: &str, handler: H) -> (Erased<()>, TypeId)
where
    H: Handler<OnEvent, A>,
    H::Output: IntoReply + Send,
{
    let name = watch::name::<H>(event);
    let erased: Erased<()> = Box::new(move |context| {
        // Allocated first, so that the call is written into it and not moved.
        let slot = Box::new_uninit();
        let socket = context.socket.clone();
        let answer = context.answer.cloned();
        let future = begin(&handler, name, context)?;
        let call = guarded(name, future, move |returned| {
            let replied = returned.is_some_and(|reply| match &answer {
                Some(answer) => catch_unwind(AssertUnwindSafe(|| answer.reply(&reply))).is_ok(),
                None => true,
            });
            if !replied {
                let rejection = panicked(&socket, std::any::type_name::<H>());
                answer.inspect(|answer| answer.reject(&rejection));
            }
        });
        let call = Box::write(slot, call);
        Ok(Box::into_pin(call))
    });
    (erased, TypeId::of::<H>())
}

/// A handler that returns nothing.
pub(crate) fn quiet<K, H, A>(event: &str, handler: H) -> Erased<()>
where
    K: 'static,
    H: Handler<K, A, Output = ()>,
{
    let name = watch::name::<H>(event);
    Box::new(move |context| {
        let future = begin(&handler, name, context)?;
        let socket = context.socket.clone();
        Ok(Box::pin(guarded(name, future, move |returned| {
            if returned.is_none() {
                panicked(&socket, std::any::type_name::<H>());
            }
        })))
    })
}

/// A middleware of connects.
pub(crate) fn middleware<H, A>(handler: H) -> ConnectMiddleware
where
    H: Handler<OnConnect, A, Output = Result<(), ConnectError>>,
{
    decides(handler, std::convert::identity)
}

/// A middleware of events that lets them pass as they are.
pub(crate) fn passing<H, A>(handler: H) -> EventMiddleware
where
    H: Handler<OnEvent, A, Output = Result<(), Rejection>>,
{
    decides(handler, |passed: Result<(), Rejection>| {
        passed.map(|()| None)
    })
}

/// A middleware of events that may change them.
pub(crate) fn mapping<H, A>(handler: H) -> EventMiddleware
where
    H: Handler<OnEvent, A, Output = Result<NewEvent, Rejection>>,
{
    decides(handler, |passed: Result<NewEvent, Rejection>| {
        passed.map(Some)
    })
}

/// A middleware: lets pass, or says why not. One that panics doesn't let pass.
fn decides<K, H, A, T, E>(handler: H, read: fn(H::Output) -> Result<T, E>) -> Erased<Result<T, E>>
where
    K: 'static,
    H: Handler<K, A>,
    H::Output: 'static,
    T: Send + 'static,
    E: From<Rejection> + Send + 'static,
{
    let name = watch::name::<H>("middleware");
    Box::new(move |context| {
        let future = begin(&handler, name, context)?;
        let socket = context.socket.clone();
        Ok(Box::pin(guarded(name, future, move |passed| {
            let panicked = || Err(panicked(&socket, std::any::type_name::<H>()).into());
            passed.map_or_else(panicked, read)
        })))
    })
}

/// Calls a handler of a known type up to its future.
fn begin<K, A, H: Handler<K, A>>(
    handler: &H,
    name: Name,
    context: &Context<'_>,
) -> Result<H::Future, Rejection> {
    let _watched = Watched::begin(name);
    handler.call(context)
}
