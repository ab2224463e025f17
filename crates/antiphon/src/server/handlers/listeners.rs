//! Which handlers take an event: those of a namespace, and those of one socket.
//!
//! There is one [`Listeners`] for each namespace, and one for a socket that has handlers of its
//! own. Readers take the lists as they are, without a lock; a change copies them, so a handler that
//! registers another affects the next event. Handlers of `once` are marked as spent by the event
//! that takes them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use crate::server::handlers::handler::{Erased, EventMiddleware};

/// The handlers of events that were registered in one place.
///
/// Changing them copies the lists. Calling them takes no lock and writes to nothing that threads
/// share: each event of a namespace comes here, on whatever thread.
#[derive(Default)]
pub(crate) struct Listeners(ArcSwap<Lists>);

#[derive(Default, Clone)]
pub(crate) struct Lists {
    by_name: BTreeMap<Box<str>, Vec<Listener>>,
    pub(crate) any: Vec<Arc<Erased<()>>>,
    pub(crate) any_outgoing: Vec<Arc<Erased<()>>>,
    pub(crate) middlewares: Vec<Arc<EventMiddleware>>,
}

/// A handler of one event.
#[derive(Clone)]
pub(crate) struct Listener {
    handler: Arc<Erased<()>>,
    /// Registered by `once`: whether it has been called.
    spent: Option<Arc<AtomicBool>>,
}

impl Listener {
    /// The handler, unless it was for one call and has had it.
    pub(crate) fn take(&self) -> Option<&Erased<()>> {
        let spent = self.spent.as_ref();
        let spent = spent.is_some_and(|spent| spent.swap(true, Ordering::Relaxed));
        (!spent).then_some(&*self.handler)
    }
}

impl Lists {
    /// The handlers of an event, in the order of their registration.
    pub(crate) fn named(&self, event: &str) -> &[Listener] {
        self.by_name.get(event).map_or(&[], Vec::as_slice)
    }

    /// The events that have handlers of their own.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

impl Listeners {
    /// The lists as they are now; not to be held across an await, for which there is
    /// [`shared`](Self::shared).
    pub(crate) fn lists(&self) -> Guard<Arc<Lists>> {
        self.0.load()
    }

    /// As [`lists`](Self::lists), for longer.
    pub(crate) fn shared(&self) -> Arc<Lists> {
        self.0.load_full()
    }

    pub(crate) fn on(&self, event: &str, handler: Erased<()>, once: bool) {
        let listener = Listener {
            handler: Arc::new(handler),
            spent: once.then(Arc::default),
        };
        self.change(|lists| {
            let named = lists.by_name.entry(event.into()).or_default();
            // Those that have had their one call are of no use any more.
            named.retain(|one| {
                !one.spent
                    .as_ref()
                    .is_some_and(|spent| spent.load(Ordering::Relaxed))
            });
            named.push(listener.clone());
        });
    }

    pub(crate) fn off(&self, event: &str) {
        self.change(|lists| {
            lists.by_name.remove(event);
        });
    }

    pub(crate) fn on_any(&self, handler: Erased<()>) {
        let handler = Arc::new(handler);
        self.change(|lists| lists.any.push(Arc::clone(&handler)));
    }

    pub(crate) fn on_any_outgoing(&self, handler: Erased<()>, registered: &AtomicUsize) {
        registered.fetch_add(1, Ordering::Relaxed);
        let handler = Arc::new(handler);
        self.change(|lists| lists.any_outgoing.push(Arc::clone(&handler)));
    }

    pub(crate) fn middleware(&self, middleware: EventMiddleware) {
        let middleware = Arc::new(middleware);
        self.change(|lists| lists.middlewares.push(Arc::clone(&middleware)));
    }

    /// Changes a copy; once more if another change came between.
    fn change(&self, change: impl Fn(&mut Lists)) {
        self.0.rcu(|lists| {
            let mut changed = Lists::clone(lists);
            change(&mut changed);
            changed
        });
    }
}
