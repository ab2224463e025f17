//! Which names a parent has children of: a pattern, or a function of the application's.
//!
//! A function may take its time, fail or panic, and refuses then. It is given a [`JoinRequest`].

use std::{fmt, future::Future, sync::Arc};

use serde::de::DeserializeOwned;

use super::pattern::{Pattern, PatternError};
use crate::server::{
    ConnectError, Handshake, Shared,
    client::handshake::auth_as,
    handlers::{
        future::{BoxFuture, guarded},
        watch,
    },
};

/// Which names a parent has children of.
pub(crate) enum Rule {
    Pattern(Pattern),
    Function(Box<Function>),
}

type Function = dyn Fn(JoinRequest) -> BoxFuture<Result<bool, ConnectError>> + Send + Sync;

impl Rule {
    /// The rule of a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says why it can't work.
    pub(crate) fn pattern(text: &str, shared: &Shared) -> Result<Self, PatternError> {
        Pattern::parse(text, shared.limits.namespace).map(Self::Pattern)
    }

    /// The rule of a function. One that panics refuses.
    pub(crate) fn function<F, Fut>(function: F) -> Self
    where
        F: Fn(JoinRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, ConnectError>> + Send + 'static,
    {
        let name = watch::name::<F>("of_matching");
        Self::Function(Box::new(move |request| {
            let asked = request.name().to_owned();
            Box::pin(guarded(name, function(request), move |answer| {
                answer.unwrap_or_else(|| {
                    let function = std::any::type_name::<F>();
                    tracing::error!(
                        namespace = asked,
                        function,
                        "a function of namespaces panicked"
                    );
                    Err(ConnectError::new("internal error"))
                })
            }))
        }))
    }

    /// Whether a name is one of its children.
    pub(super) async fn admits(&self, request: &JoinRequest) -> Result<bool, ConnectError> {
        match self {
            Self::Pattern(pattern) => Ok(pattern.fits(request.name())),
            Self::Function(function) => function(request.clone()).await,
        }
    }

    /// Whether the name alone decides.
    pub(super) const fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }
}

/// A client asks to join a namespace that isn't there, or is a function's: what that function is
/// given. See [`Server::of_matching`](crate::Server::of_matching).
#[derive(Clone)]
pub struct JoinRequest(Arc<Request>);

struct Request {
    name: Box<str>,
    auth: Option<Box<str>>,
    handshake: Arc<Handshake>,
    shared: Arc<Shared>,
}

impl JoinRequest {
    pub(crate) fn new(
        name: &str,
        auth: Option<Box<str>>,
        handshake: &Arc<Handshake>,
        shared: &Arc<Shared>,
    ) -> Self {
        Self(Arc::new(Request {
            name: name.into(),
            auth,
            handshake: Arc::clone(handshake),
            shared: Arc::clone(shared),
        }))
    }

    /// The name of the namespace, with the slash that it begins with: chosen by the client.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the client sent as its `auth`, as a `T`: see [`Auth`](crate::Auth).
    ///
    /// # Errors
    /// If it doesn't fit.
    pub fn auth<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        auth_as(self.0.auth.as_deref())
    }

    /// What is known from the request that opened the client's connection.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// A clone of the value of this type that was given to
    /// [`ServerBuilder::state`](crate::ServerBuilder::state). Returns `None` if there is none.
    #[must_use]
    pub fn state<T: Clone + 'static>(&self) -> Option<T> {
        self.0.shared.state.get::<T>().cloned()
    }

    pub(crate) fn auth_json(&self) -> Option<Box<str>> {
        self.0.auth.clone()
    }

    pub(crate) fn auth_len(&self) -> usize {
        self.0.auth.as_deref().map_or(0, str::len)
    }
}

impl fmt::Debug for JoinRequest {
    /// Shows nothing of the auth: credentials are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
