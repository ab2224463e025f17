//! Which handlers take an event: those of a namespace, and those of one socket.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::handler::{Erased, EventMiddleware};

/// The handlers of events that were registered in one place.
///
/// Changing them copies the lists; calling them copies one pointer, so that no lock is held while
/// a handler runs.
#[derive(Default)]
pub(crate) struct Listeners(RwLock<Arc<Lists>>);

#[derive(Default, Clone)]
pub(crate) struct Lists {
    by_name: HashMap<Box<str>, Vec<Listener>>,
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
}

impl Listeners {
    pub(crate) fn lists(&self) -> Arc<Lists> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
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
            named.push(listener);
        });
    }

    pub(crate) fn off(&self, event: &str) {
        self.change(|lists| {
            lists.by_name.remove(event);
        });
    }

    pub(crate) fn on_any(&self, handler: Erased<()>) {
        self.change(|lists| lists.any.push(Arc::new(handler)));
    }

    pub(crate) fn on_any_outgoing(&self, handler: Erased<()>, registered: &AtomicUsize) {
        registered.fetch_add(1, Ordering::Relaxed);
        self.change(|lists| lists.any_outgoing.push(Arc::new(handler)));
    }

    pub(crate) fn middleware(&self, middleware: EventMiddleware) {
        self.change(|lists| lists.middlewares.push(Arc::new(middleware)));
    }

    fn change(&self, change: impl FnOnce(&mut Lists)) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut lists));
    }
}
