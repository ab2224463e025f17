//! An adapter, as the rooms know it that tell it of changes.

use std::{fmt, sync::Weak};

use super::{Adapter, Membership, Watch};

/// The adapter, as the rooms know it: it has them, so they don't keep it.
pub(crate) struct Watcher {
    adapter: Weak<dyn Adapter>,
    watch: Watch,
}

impl Watcher {
    /// Returns `None` if the adapter watches nothing.
    pub(crate) fn new(adapter: Weak<dyn Adapter>, watch: Watch) -> Option<Self> {
        (watch > Watch::Nothing).then_some(Self { adapter, watch })
    }

    pub(crate) fn note(&self, change: Membership<'_>) {
        if self.watch >= change.needs()
            && let Some(adapter) = self.adapter.upgrade()
        {
            adapter.changed(change);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}
