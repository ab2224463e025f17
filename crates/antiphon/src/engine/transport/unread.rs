//! The rest of a large response, which its client hasn't read yet.
//!
//! A response is handed to the HTTP server in small parts, as its client reads them. What is left
//! is not the response's alone: the code that has made it can forget it, if the next one takes its
//! place, if its session ends, or if nothing is read of it for too long. So a session holds one
//! answer at the most, and what the HTTP server holds of others is small.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::task::AbortHandle;

/// What is handed on at a time. Less leaves at once, and needs no watching.
pub(crate) const PART: usize = 16 << 10;

/// The rest of a response.
pub(crate) struct Unread(Mutex<Rest>);

struct Rest {
    bytes: Bytes,
    /// When a part was taken.
    moved: Instant,
    forgotten: bool,
}

/// What comes next of a response.
pub(crate) enum Next {
    Part(Bytes),
    /// All of it was read.
    End,
    /// The rest won't come.
    Forgotten,
}

impl Unread {
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next part: a copy, since a slice would keep the whole.
    pub(crate) fn next(&self) -> Next {
        let mut rest = self.lock();
        if rest.forgotten {
            return Next::Forgotten;
        }
        let length = PART.min(rest.bytes.len());
        let part = rest.bytes.split_to(length);
        rest.moved = crate::clock::now();
        if rest.bytes.is_empty() {
            // An empty rest still shares the memory.
            rest.bytes = Bytes::new();
        }
        match part.is_empty() {
            true => Next::End,
            false => Next::Part(Bytes::copy_from_slice(&part)),
        }
    }

    /// Bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Whether nothing is left to be read.
    pub(crate) fn is_over(&self) -> bool {
        self.len() == 0
    }

    /// When a part was taken, if there are more.
    pub(crate) fn last_read(&self) -> Option<Instant> {
        let rest = self.lock();
        (!rest.bytes.is_empty()).then_some(rest.moved)
    }

    /// Gives the rest up.
    pub(crate) fn forget(&self) {
        let mut rest = self.lock();
        rest.forgotten |= !rest.bytes.is_empty();
        rest.bytes = Bytes::new();
    }
}

/// What a response itself has: the rest, and an eye on it for as long as the response lives.
pub(crate) struct Reading {
    unread: Arc<Unread>,
    watch: AbortHandle,
}

impl Reading {
    /// Begins to hand bytes on. Where none is taken for so long, they are forgotten and `given_up`
    /// is called.
    pub(crate) fn new(
        bytes: Bytes,
        patience: Duration,
        given_up: impl FnOnce() + Send + 'static,
    ) -> Self {
        let unread = Arc::new(Unread(Mutex::new(Rest {
            bytes,
            moved: crate::clock::now(),
            forgotten: false,
        })));
        let watched = Arc::downgrade(&unread);
        let watch = async move {
            if was_left(watched, patience).await {
                given_up();
            }
        };
        Self {
            unread,
            watch: tokio::spawn(watch).abort_handle(),
        }
    }

    pub(crate) const fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Resolves when nothing was read for so long: true, and the rest is forgotten. `false` if all was
/// read.
async fn was_left(unread: Weak<Unread>, patience: Duration) -> bool {
    loop {
        let Some(moved) = unread.upgrade().map(|unread| unread.lock().moved) else {
            return false;
        };
        tokio::time::sleep_until((moved + patience).into()).await;
        let Some(unread) = unread.upgrade().filter(|unread| !unread.is_over()) else {
            return false;
        };
        if unread.lock().moved == moved {
            unread.forget();
            return true;
        }
    }
}
