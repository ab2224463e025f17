//! Which handlers take an event: those of a namespace, and those of one socket.
//!
//! There is one [`Listeners`] for each namespace, and one for a socket that has handlers of its
//! own. Readers take the lists as they are, without a lock; a change copies them, so a handler that
//! registers another affects the next event. Handlers of `once` are marked as spent by the event
//! that takes them: those of a socket themselves, those of a namespace for each socket.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use crate::server::{
    Socket,
    handlers::erased::{Erased, EventMiddleware},
};

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
    /// The type of the function: each function and each closure in the source has its own.
    function: TypeId,
    times: Times,
}

/// How often a handler is called.
#[derive(Clone)]
pub(crate) enum Times {
    Always,
    /// Once, and whether it has been.
    Once(Arc<AtomicBool>),
    /// Once for each socket, which notes this number.
    OncePerSocket(u64),
}

impl Times {
    /// Once: a socket's own handler.
    pub(crate) fn once() -> Self {
        Self::Once(Arc::default())
    }

    /// Once for each socket.
    pub(crate) fn once_per_socket() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::OncePerSocket(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Which handlers of `once` a socket has had. Kept among its values.
#[derive(Default)]
pub(crate) struct Spent(pub(crate) HashSet<u64>);

/// Where a handler stands among those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    Last,
}

impl Place {
    fn put<T>(self, one: T, among: &mut Vec<T>) {
        match self {
            Self::First => among.insert(0, one),
            Self::Last => among.push(one),
        }
    }
}

impl Listener {
    /// The handler, unless it was for one call and has had it.
    pub(crate) fn take(&self, socket: &Socket) -> Option<&Erased<()>> {
        let is_due = match &self.times {
            Times::Always => true,
            Times::Once(spent) => !spent.swap(true, Ordering::Relaxed),
            Times::OncePerSocket(number) => socket.spends(*number),
        };
        is_due.then_some(&*self.handler)
    }

    fn is_spent(&self) -> bool {
        matches!(&self.times, Times::Once(spent) if spent.load(Ordering::Relaxed))
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

    /// `handler` calls a function of the type `function`.
    pub(crate) fn on(
        &self,
        event: &str,
        (handler, function): (Erased<()>, TypeId),
        times: Times,
        place: Place,
    ) {
        let listener = Listener {
            handler: Arc::new(handler),
            function,
            times,
        };
        self.change(|lists| {
            let named = lists.by_name.entry(event.into()).or_default();
            // Those that have had their one call are of no use any more.
            named.retain(|one| !one.is_spent());
            place.put(listener.clone(), named);
        });
    }

    pub(crate) fn off(&self, event: &str) {
        self.change(|lists| {
            lists.by_name.remove(event);
        });
    }

    /// Removes the handler of an event that calls a function of this type, the last if there are
    /// several.
    pub(crate) fn off_handler(&self, event: &str, function: TypeId) {
        self.change(|lists| {
            let Some(named) = lists.by_name.get_mut(event) else {
                return;
            };
            if let Some(last) = named.iter().rposition(|one| one.function == function) {
                named.remove(last);
            }
            if named.is_empty() {
                lists.by_name.remove(event);
            }
        });
    }

    /// Removes the handlers of all names.
    pub(crate) fn off_all(&self) {
        self.change(|lists| lists.by_name.clear());
    }

    pub(crate) fn on_any(&self, handler: Erased<()>, place: Place) {
        let handler = Arc::new(handler);
        self.change(|lists| place.put(Arc::clone(&handler), &mut lists.any));
    }

    pub(crate) fn off_any(&self) {
        self.change(|lists| lists.any.clear());
    }

    /// `registered` counts those of all namespaces and sockets.
    pub(crate) fn on_any_outgoing(
        &self,
        handler: Erased<()>,
        place: Place,
        registered: &AtomicUsize,
    ) {
        registered.fetch_add(1, Ordering::Relaxed);
        let handler = Arc::new(handler);
        self.change(|lists| place.put(Arc::clone(&handler), &mut lists.any_outgoing));
    }

    pub(crate) fn off_any_outgoing(&self, registered: &AtomicUsize) {
        let before = self.change(|lists| lists.any_outgoing.clear());
        registered.fetch_sub(before.any_outgoing.len(), Ordering::Relaxed);
    }

    pub(crate) fn middleware(&self, middleware: EventMiddleware) {
        let middleware = Arc::new(middleware);
        self.change(|lists| lists.middlewares.push(Arc::clone(&middleware)));
    }

    /// Changes a copy; once more if another change came between. Returns what was before.
    fn change(&self, change: impl Fn(&mut Lists)) -> Arc<Lists> {
        self.0.rcu(|lists| {
            let mut changed = Lists::clone(lists);
            change(&mut changed);
            changed
        })
    }
}
