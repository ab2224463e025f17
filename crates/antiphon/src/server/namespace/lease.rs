//! What keeps a child from going away: leases of it, and sockets in it.
//!
//! A client has a [`Lease`] of each namespace that it is in or is about to join. Leases are taken under
//! the lock of all namespaces. When the last is dropped the child may go: see
//! [`children`](super::children).

use std::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crate::server::Namespace;

/// Who uses a child.
#[derive(Default)]
pub(super) struct Uses {
    /// How many leases of it are held.
    pub(super) held: AtomicUsize,
    /// How many there ever were.
    pub(super) ever: AtomicU64,
    /// The application has asked for it by its name: it stays.
    pub(super) is_pinned: AtomicBool,
    /// A socket has been let in.
    pub(super) is_joined: AtomicBool,
    /// A task waits until nobody can come back.
    pub(super) is_awaited: AtomicBool,
}

/// Keeps a child from going away.
pub(crate) struct Lease(Namespace);

impl Deref for Lease {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(uses) = self.0.uses()
            && uses.held.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.0.left();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.0).finish()
    }
}

impl Namespace {
    /// Keeps it from going away. Called with the lock of all.
    pub(super) fn hold(&self) -> Lease {
        if let Some(uses) = self.uses() {
            uses.ever.fetch_add(1, Ordering::Relaxed);
            uses.held.fetch_add(1, Ordering::AcqRel);
        }
        Lease(self.clone())
    }

    /// The application has made it.
    pub(super) fn set_pinned(&self) {
        if let Some(uses) = self.uses() {
            uses.is_pinned.store(true, Ordering::Release);
        }
    }

    /// Whether clients have caused it, and the application has not asked for it by its name.
    pub(crate) fn is_caused(&self) -> bool {
        self.uses()
            .is_some_and(|uses| !uses.is_pinned.load(Ordering::Acquire))
    }

    /// Whether nobody is in it or about to come.
    pub(super) fn is_deserted(&self) -> bool {
        let uses = self
            .uses()
            .filter(|uses| !uses.is_pinned.load(Ordering::Acquire));
        uses.is_some_and(|uses| uses.held.load(Ordering::Acquire) == 0) && self.local().len() == 0
    }

    /// Whether nothing would be lost with it. A log that outlives the server stays, and its namespace.
    pub(super) fn is_unused(&self) -> bool {
        self.is_deserted() && self.joins().is_idle()
    }

    /// A socket has been let in.
    pub(crate) fn joined(&self) {
        if let Some(uses) = self.uses() {
            uses.is_joined.store(true, Ordering::Relaxed);
        }
    }
}
