//! How much may wait for the handlers of one connection: what a client can grow by sending.
//!
//! A connection owns [`Permits`]; calls by HTTP share others. A handler that was suspended holds a
//! [`Permit`], and so does an event that waits in an inbox. While all are taken nothing more is
//! read from the client: the engine asks before it reads, and is woken when one is free again.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use antiphon_protocol::socket::Args;

use super::future::BoxFuture;
use crate::engine::{Engine, session::turn};

/// What waits for a handler counts as one more running handler for each so many bytes of it: at the
/// default bound, 16 MiB of events may wait in one connection.
const BYTES_A_PERMIT: usize = 16 << 10;

/// How many handlers may run at a time, and how many do.
#[derive(Debug)]
pub(crate) struct Permits {
    taken: AtomicUsize,
    most: usize,
}

impl Permits {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
        }
    }

    /// Whether so many are taken that nothing more should be read for now.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.most
    }
}

/// What owns permits.
pub(crate) trait Owner: Send + Sync {
    fn permits(&self) -> &Permits;

    /// All were taken, and one is free again.
    fn freed(&self) {}
}

impl Owner for Permits {
    fn permits(&self) -> &Permits {
        self
    }
}

/// Counts as running handlers until it is dropped: what is large counts as several.
pub(crate) struct Permit {
    owner: Option<Arc<dyn Owner>>,
    weight: usize,
}

impl Permit {
    /// Takes one, even if all are taken: the bound is for what is read next.
    pub(crate) fn of(owner: Option<Arc<impl Owner + 'static>>, bytes: usize) -> Self {
        let weight = 1 + bytes / BYTES_A_PERMIT;
        if let Some(owner) = &owner {
            owner.permits().taken.fetch_add(weight, Ordering::Relaxed);
        }
        Self {
            owner: owner.map(|owner| owner as _),
            weight,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(owner) = &self.owner else { return };
        let permits = owner.permits();
        let before = permits.taken.fetch_sub(self.weight, Ordering::Relaxed);
        if before >= permits.most && before - self.weight < permits.most {
            owner.freed();
        }
    }
}

/// Runs a handler inside the caller until it suspends; what is left of it then goes on by itself, to
/// its end even if the connection ends first, with a permit that is taken then.
pub(crate) fn run(
    engine: &Arc<Engine>,
    mut handler: BoxFuture<()>,
    permit: impl FnOnce() -> Permit,
) {
    // The task that goes on with it polls it again at once, with a waker of its own.
    let mut context = Context::from_waker(Waker::noop());
    if handler.as_mut().poll(&mut context).is_pending() {
        spawn(engine, handler, permit());
    }
}

/// Goes on with a handler in a task of its own, which holds a permit.
pub(crate) fn spawn(engine: &Arc<Engine>, handler: BoxFuture<()>, permit: Permit) {
    engine.spawn(Suspended {
        handler,
        _permit: permit,
    });
}

/// What is kept in memory of an event's arguments, in bytes: what permits are counted by.
pub(crate) fn size(args: &Args<'_>) -> usize {
    let attachments = args.attachments().iter().map(bytes::Bytes::len);
    args.json().len() + attachments.sum::<usize>()
}

/// A handler that was suspended.
struct Suspended {
    handler: BoxFuture<()>,
    _permit: Permit,
}

impl Future for Suspended {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        turn::scope(|| self.handler.as_mut().poll(context))
    }
}
