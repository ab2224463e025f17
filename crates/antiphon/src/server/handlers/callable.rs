//! Functions as handlers: what is told apart before their arguments are looked at.
//!
//! A function of up to eight arguments is [`Callable`]: an async one, which returns a future, with
//! the tuple of its arguments as the trait's parameter, and one that returns its reply at once with
//! [`Immediate`] of that tuple. Nothing is both, since a future is no reply. The compiler finds the
//! parameter by the closure alone; the arguments and the reply are bounds of their own
//! ([`Handler`](crate::Handler), `on`), so that an error names the type that doesn't fit, instead
//! of saying that of all forms of a handler this is none.
//!
//! A tuple of extractors is an extractor; that is how a handler's arguments are taken.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{self, Poll},
};

use crate::server::{Context, FromContext, IntoReply, Rejection};

/// A function that may be a [`Handler`](crate::Handler), if its arguments are extractors.
///
/// `A` is for the compiler: the arguments, and whether the function is async.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be called as a handler",
    label = "not a fitting function"
)]
pub trait Callable<A>: Send + Sync + 'static {
    /// The tuple of its arguments.
    type Arguments;

    /// What it returns in the end.
    type Output;

    /// Its future.
    type Future: Future<Output = Self::Output>;

    /// Calls it.
    fn call_with(&self, arguments: Self::Arguments) -> Self::Future;
}

/// Marks a function that isn't async, of these arguments.
#[derive(Debug)]
pub struct Immediate<A>(PhantomData<A>, Infallible);

/// What a function that isn't async has returned, as a future. If it has panicked, that is the
/// future's panic, as it is of an async function.
#[derive(Debug)]
pub struct Returned<R>(Option<Result<R, Box<dyn Any + Send>>>);

impl<R> Returned<R> {
    fn of(function: impl FnOnce() -> R) -> Self {
        Self(Some(catch_unwind(AssertUnwindSafe(function))))
    }
}

/// It holds nothing that has been pinned.
impl<R> Unpin for Returned<R> {}

impl<R> Future for Returned<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<R> {
        match self.0.take() {
            Some(Ok(returned)) => Poll::Ready(returned),
            Some(Err(panic)) => resume_unwind(panic),
            None => Poll::Pending,
        }
    }
}

macro_rules! functions {
    ($($argument:ident)*) => {
        impl<F, Fut, $($argument,)*> Callable<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future,
        {
            type Arguments = ($($argument,)*);
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, reason = "each is called as its type")]
            fn call_with(&self, ($($argument,)*): Self::Arguments) -> Fut {
                self($($argument),*)
            }
        }

        impl<F, R, $($argument,)*> Callable<Immediate<($($argument,)*)>> for F
        where
            F: Fn($($argument),*) -> R + Send + Sync + 'static,
            R: IntoReply,
        {
            type Arguments = ($($argument,)*);
            type Output = R;
            type Future = Returned<R>;

            #[allow(non_snake_case, reason = "each is called as its type")]
            fn call_with(&self, ($($argument,)*): Self::Arguments) -> Returned<R> {
                Returned::of(|| self($($argument),*))
            }
        }

        /// All of them, in this order.
        impl<K, $($argument: FromContext<K>,)*> FromContext<K> for ($($argument,)*) {
            const TAKES_ARGUMENTS: bool = false $(|| $argument::TAKES_ARGUMENTS)*;

            fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
                const {
                    assert!(
                        0 $(+ <$argument as FromContext<K>>::TAKES_ARGUMENTS as usize)* <= 1,
                        "a handler has one `Data`: several arguments of an event are a tuple, `Data((a, b))`"
                    );
                }
                let _ = context;
                Ok(($($argument::from_context(context)?,)*))
            }
        }
    };
}

functions!();
functions!(T1);
functions!(T1 T2);
functions!(T1 T2 T3);
functions!(T1 T2 T3 T4);
functions!(T1 T2 T3 T4 T5);
functions!(T1 T2 T3 T4 T5 T6);
functions!(T1 T2 T3 T4 T5 T6 T7);
functions!(T1 T2 T3 T4 T5 T6 T7 T8);
