//! Handlers of events that other servers emit to this one: no socket is concerned.
//!
//! [`Local`](crate::server::adapter::Local) owns the [`ServerSide`] of its namespace; the
//! application registers handlers, and the adapter calls them. They run in the adapter's task, one
//! behind the other. How many events are handled at a time is bounded; what comes beyond that is
//! dropped and logged, since other servers can't be told to wait.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
};

use antiphon_protocol::socket::{Draft, Outgoing, OwnedArgs};
use tokio::sync::Semaphore;

use super::{
    future::{BoxFuture, guarded},
    watch,
};
use crate::server::{FromArgs, IntoReply, Rejection};

/// What a handler's future resolves with: its reply, or `None` if it leaves that to others.
type Handler = dyn Fn(OwnedArgs) -> BoxFuture<Option<OwnedArgs>> + Send + Sync;

/// The handlers of one namespace.
pub(crate) struct ServerSide {
    by_event: RwLock<HashMap<Box<str>, Vec<Arc<Handler>>>>,
    running: Arc<Semaphore>,
}

impl ServerSide {
    /// For so many events at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            by_event: RwLock::default(),
            running: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        }
    }

    pub(crate) fn on<T, F, Fut>(&self, event: &str, handler: F)
    where
        T: FromArgs,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply + Send,
    {
        let handler = erased(event, handler);
        let mut by_event = self
            .by_event
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        by_event.entry(event.into()).or_default().push(handler);
    }

    fn of(&self, event: &str) -> Vec<Arc<Handler>> {
        let by_event = self.by_event.read().unwrap_or_else(PoisonError::into_inner);
        by_event.get(event).cloned().unwrap_or_default()
    }

    /// Handles an event: those of a parent and those of the namespace, of which the last bounds how
    /// many run. Resolves with the first reply, which is one without arguments if no handler has
    /// returned any; with `None` if there is no handler, or too many run.
    pub(crate) fn handle<'s>(
        all: impl Iterator<Item = &'s Self>,
        event: &Outgoing,
    ) -> BoxFuture<Option<OwnedArgs>> {
        let name = event.name();
        let (mut handlers, mut running) = (Vec::new(), None);
        for one in all {
            handlers.extend(one.of(&name));
            running = Some(&one.running);
        }
        let Some(running) = running.filter(|_| !handlers.is_empty()) else {
            return Box::pin(std::future::ready(None));
        };
        let Ok(permit) = Arc::clone(running).try_acquire_owned() else {
            tracing::warn!(
                event = &*name,
                "dropping an event of another server: too many are handled already"
            );
            return Box::pin(std::future::ready(None));
        };
        let args = event.with_args(|args| args.to_owned());
        Box::pin(async move {
            let mut reply = None;
            for handler in handlers {
                let replied = handler(args.clone()).await;
                reply = reply.or(replied);
            }
            drop(permit);
            Some(reply.unwrap_or_default())
        })
    }
}

impl fmt::Debug for ServerSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSide").finish_non_exhaustive()
    }
}

fn erased<T, F, Fut>(event: &str, handler: F) -> Arc<Handler>
where
    T: FromArgs,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoReply + Send,
{
    let name = watch::name::<F>(event);
    Arc::new(move |args| {
        let called = catch_unwind(AssertUnwindSafe(|| T::from_args(args).map(&handler)));
        match called {
            Ok(Ok(future)) => Box::pin(guarded(name, future, |returned| {
                let reply = returned.ok_or(()).and_then(|reply| {
                    catch_unwind(AssertUnwindSafe(|| encode(&reply))).map_err(|_| ())
                });
                reply.unwrap_or_else(|()| refuse(&panicked::<F>()))
            })),
            Ok(Err(error)) => ready(refuse(&error.into())),
            Err(_) => ready(refuse(&panicked::<F>())),
        }
    })
}

fn ready(reply: Option<OwnedArgs>) -> BoxFuture<Option<OwnedArgs>> {
    Box::pin(std::future::ready(reply))
}

fn panicked<F>() -> Rejection {
    let handler = std::any::type_name::<F>();
    tracing::error!(handler, "a handler of another server's event panicked");
    Rejection::panicked()
}

fn encode(reply: &impl IntoReply) -> Option<OwnedArgs> {
    if !reply.is_answer() {
        return None;
    }
    let mut draft = Draft::new(usize::MAX);
    match reply.encode_ack(&mut draft, "", 0) {
        Ok(()) => Some(draft.finish_args()),
        Err(error) => {
            tracing::error!(%error, "an answer to another server can't be encoded");
            refuse(&Rejection::unencodable())
        }
    }
}

/// An error is answered as to a client: `{"error":{..}}`.
fn refuse(rejection: &Rejection) -> Option<OwnedArgs> {
    tracing::warn!(
        reason = rejection.detail(),
        "an event of another server was not handled"
    );
    encode(&Err::<(), _>(rejection))
}
