//! What does the work that waits for a log.
//!
//! A task of its own, as long as something waits: woken by whoever stores, it does what may be done
//! and gives way to others after each slice of time. So neither an emitter nor the log's own thread
//! delivers for others. Where no runtime is left it is a thread.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::{Ordered, waiting::Due};
use crate::engine::session::turn;

/// How long it works at a stretch.
const SLICE: Duration = Duration::from_micros(500);

/// Works until nothing waits.
pub(super) struct Worker {
    ordered: Arc<Ordered>,
    is_done: bool,
}

impl Worker {
    pub(super) fn start(ordered: &Arc<Ordered>) {
        let worker = Self {
            ordered: Arc::clone(ordered),
            is_done: false,
        };
        match ordered.runtime() {
            // It gives way by itself. What it polls says "not yet" only if that is so, and not when
            // tokio wants others to run: events of others would overtake one that is there.
            Some(runtime) => drop(runtime.spawn(tokio::task::unconstrained(worker))),
            // Its end is the beginning of a thread.
            None => drop(worker),
        }
    }

    fn work(&self, context: &mut Context<'_>) -> Poll<()> {
        let began = Instant::now();
        let ordered = &self.ordered;
        loop {
            let work = {
                let mut waiting = ordered.waiting();
                match waiting.next(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => {
                        ordered.nothing_waits();
                        return Poll::Ready(());
                    }
                    Poll::Ready(Some(Due::Event(delivery, stored))) => {
                        ordered.deliver(&delivery, stored);
                        None
                    }
                    Poll::Ready(Some(Due::Change(change))) => {
                        change.make(&ordered.rooms);
                        None
                    }
                    Poll::Ready(Some(Due::Work(work))) => Some(work),
                }
            };
            if let Some(work) = work
                && catch_unwind(AssertUnwindSafe(work)).is_err()
            {
                tracing::error!(
                    namespace = &*ordered.namespace,
                    "something that waited for the log panicked"
                );
            }
            if began.elapsed() >= SLICE {
                turn::wake_behind_io(context.waker());
                return Poll::Pending;
            }
        }
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = turn::scope(|| self.work(context));
        self.is_done = polled.is_ready();
        polled
    }
}

impl Drop for Worker {
    /// Its runtime has ended, or there was none: what waits is still to be done.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let ordered = Arc::clone(&self.ordered);
        let thread = thread::Builder::new().name("antiphon-waiting".to_owned());
        let started = thread.spawn(move || {
            wait_for(Self {
                ordered,
                is_done: false,
            });
        });
        if let Err(error) = started {
            tracing::error!(%error, "what waits for the log waits on: there is no thread to do it");
            self.ordered.waiting().has_worker = false;
        }
    }
}

/// Waits for a future without a runtime.
fn wait_for(future: impl Future<Output = ()>) {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    while future.as_mut().poll(&mut context).is_pending() {
        thread::park();
    }
}
