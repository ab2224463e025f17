//! Futures of the application's: what a handler of any kind is once it has been called.
//!
//! They are boxed, and [`guarded`]: a panic is the end of the one that panics, and is told to whoever
//! has called it.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll},
};

use pin_project_lite::pin_project;

use super::watch::{Name, Watched};

/// A future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pin_project! {
    /// See [`guarded`]. An async block would have room for the future twice.
    struct Guarded<F, T> {
        name: Name,
        #[pin]
        future: Option<F>,
        then: Option<T>,
    }
}

/// Runs a future whose panic is its end, and then what is to follow: with `None` if it panicked.
pub(crate) fn guarded<F: Future, R>(
    name: Name,
    future: F,
    then: impl FnOnce(Option<F::Output>) -> R,
) -> impl Future<Output = R> {
    Guarded {
        name,
        future: Some(future),
        then: Some(then),
    }
}

impl<F, T, R> Future for Guarded<F, T>
where
    F: Future,
    T: FnOnce(Option<F::Output>) -> R,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<R> {
        let mut this = self.project();
        let watched = Watched::begin(*this.name);
        let future = this.future.as_mut().as_pin_mut();
        let polled = future.map(|it| catch_unwind(AssertUnwindSafe(|| it.poll(context))));
        let returned = match polled {
            None | Some(Ok(Poll::Pending)) => return Poll::Pending,
            Some(Ok(Poll::Ready(returned))) => Some(returned),
            Some(Err(_)) => None,
        };
        // What it holds is let go of before anything follows.
        this.future.set(None);
        drop(watched);
        match this.then.take() {
            Some(then) => Poll::Ready(then(returned)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::Waker,
    };

    use super::*;
    use crate::server::handlers::watch;

    /// Ready at once, but not gone.
    struct Holding(Arc<AtomicBool>);

    impl Future for Holding {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    impl Drop for Holding {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_a_future_holds_is_let_go_of_before_anything_follows() {
        let gone = Arc::new(AtomicBool::new(false));
        let future = Holding(Arc::clone(&gone));
        let name = watch::name::<Holding>("test");
        let guarded = guarded(name, future, |returned| {
            assert_eq!(returned, Some(()));
            gone.load(Ordering::Relaxed)
        });
        let mut context = task::Context::from_waker(Waker::noop());
        let polled = std::pin::pin!(guarded).poll(&mut context);
        assert_eq!(polled, Poll::Ready(true));
    }
}
