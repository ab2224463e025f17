//! The logs that a server shares with others, by name. Its router owns this, and the logs' namespaces
//! own them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Instant,
};

use super::Waiting;

/// A log of one namespace.
pub(crate) trait Waits {
    /// The namespace.
    fn namespace(&self) -> &Arc<str>;

    /// What it waits for.
    fn waiting(&self) -> Waiting;
}

/// A log that doesn't do what it is to do, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) namespace: Arc<str>,
    /// Since when something has waited for it.
    pub(crate) since: Instant,
    /// Why the broker refuses what it is asked, if it does.
    pub(crate) refusal: Option<String>,
}

/// The logs by name, as long as somebody has them.
pub(crate) struct Logs<L>(RwLock<HashMap<Box<str>, Weak<L>>>);

impl<L> Default for Logs<L> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<L> Logs<L> {
    /// The log of this name, which is made if there is none. The same for each who asks.
    pub(crate) fn get_or(
        &self,
        name: &str,
        make: impl FnOnce() -> Option<Arc<L>>,
    ) -> Option<Arc<L>> {
        let mut logs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(name).and_then(Weak::upgrade) {
            return Some(log);
        }
        let log = make()?;
        logs.retain(|_, log| log.strong_count() > 0);
        logs.insert(name.into(), Arc::downgrade(&log));
        Some(log)
    }

    /// The log of this name, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<L>> {
        let logs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        logs.get(name)?.upgrade()
    }

    pub(crate) fn all(&self) -> Vec<Arc<L>> {
        let logs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        logs.values().filter_map(Weak::upgrade).collect()
    }
}

impl<L: Waits> Logs<L> {
    /// How many events of this server wait to come back.
    pub(crate) fn events(&self) -> usize {
        self.all().iter().map(|log| log.waiting().events).sum()
    }

    /// The log that refuses, or else the one that something has waited for the longest.
    pub(crate) fn slowest(&self) -> Option<Slow> {
        let slow = self.all().into_iter().filter_map(|log| {
            let waiting = log.waiting();
            let since = match waiting.refusal {
                Some(_) => waiting.since.unwrap_or_else(Instant::now),
                None => waiting.since?,
            };
            Some(Slow {
                namespace: Arc::clone(log.namespace()),
                since,
                refusal: waiting.refusal,
            })
        });
        slow.min_by_key(|slow| (slow.refusal.is_none(), slow.since))
    }
}
