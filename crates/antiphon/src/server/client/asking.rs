//! Names of namespaces that a client has asked for, while it isn't decided whether it gets them.
//!
//! A name that isn't there is looked for by the rules of the parents: patterns decide at once,
//! functions of the application may take their time. Meanwhile the client has no socket there: so
//! its connection keeps what it has asked for (`asked`), which counts as one of its namespaces; what
//! ends the connection forgets them all. A function has `connect_timeout`, and refuses that name alone
//! if it takes longer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::timeout;

use super::{
    Client,
    joining::{refuse, refuse_unknown},
};
use crate::{
    engine::Session,
    server::{
        ConnectError, Shared,
        handlers::permits::{self, Permit},
        namespace::{
            children::NoNamespace, lease::Lease, namespaces::Namespaces, rule::JoinRequest,
        },
    },
};

impl Client {
    /// The client asks for a namespace that isn't there, or is a function's.
    pub(super) fn ask(
        self: &Arc<Self>,
        session: &Arc<Session>,
        namespaces: &Arc<Namespaces>,
        name: &str,
        auth: Option<Box<str>>,
    ) {
        let request = JoinRequest::new(name, auth, &self.handshake, &namespaces.shared);
        let number = match self.begin_asking(&request, &namespaces.shared) {
            Ok(number) => number,
            Err(error) => return refuse(session, &namespaces.shared, name, &error),
        };
        let (this, namespaces) = (Arc::clone(self), Arc::clone(namespaces));
        let bytes = request.auth_len();
        let asks = Box::pin(async move {
            let resolved = resolve(&namespaces, &request).await;
            this.answer(number, &request, resolved);
        });
        let permit = || Permit::of(Some(Arc::clone(self)), bytes);
        permits::run(session.engine(), asks, permit);
    }

    fn begin_asking(&self, request: &JoinRequest, shared: &Shared) -> Result<u64, ConnectError> {
        let mut state = self.lock();
        if let Some(asking) = &mut state.asking {
            asking.forget(request.name());
        }
        state.has_room(1, request.auth_len(), shared)?;
        Ok(state.asking.get_or_insert_default().add(request))
    }

    /// It is decided whether the client gets what it has asked for.
    fn answer(
        self: &Arc<Self>,
        number: u64,
        request: &JoinRequest,
        resolved: Result<Lease, NoNamespace>,
    ) {
        let is_wanted = {
            let mut state = self.lock();
            let asking = state.asking.as_mut();
            let is_wanted = asking.is_some_and(|asking| asking.end(number));
            drop(state.asking.take_if(|asking| asking.len() == 0));
            is_wanted
        };
        let session = self.session.upgrade().filter(|session| session.is_open());
        let session = session.filter(|_| is_wanted);
        let (Some(session), Some(namespaces)) = (session, self.namespaces.upgrade()) else {
            // Its client has gone, or has asked anew.
            return;
        };
        let (shared, name) = (&namespaces.shared, request.name());
        match resolved {
            Ok(lease) => self.enter(&session, lease, request.auth_json()),
            Err(NoNamespace::Unknown) => refuse_unknown(&session, shared, name),
            Err(NoNamespace::Refused(error)) => refuse(&session, shared, name, &error),
        }
    }
}

/// The namespace that is asked for, if a function says so in time. What the application does on the
/// way may panic, and refuses then.
pub(crate) async fn resolve(
    namespaces: &Namespaces,
    request: &JoinRequest,
) -> Result<Lease, NoNamespace> {
    let resolving = pin!(namespaces.resolve(request));
    match timeout(namespaces.shared.connect_timeout, Guarded(resolving)).await {
        Ok(Some(resolved)) => resolved,
        Ok(None) => {
            tracing::error!(
                namespace = request.name(),
                "refusing a namespace: what makes it panicked"
            );
            Err(NoNamespace::Refused(ConnectError::new("internal error")))
        }
        Err(_) => {
            tracing::warn!(
                namespace = request.name(),
                "refusing a namespace: its function has not decided within `connect_timeout`"
            );
            Err(NoNamespace::Refused(ConnectError::new("timeout")))
        }
    }
}

/// Gives `None` if the future panics.
struct Guarded<'f, F>(Pin<&'f mut F>);

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    }
}
