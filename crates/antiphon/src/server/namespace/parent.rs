//! Namespaces that clients cause: a parent says which names there may be, and its children share
//! what is registered on it.
//!
//! `Namespaces` owns the parents, in the order of their registration, and all children. A
//! [`ParentNamespace`] is a handle: inside it is a namespace that no client can join, for its
//! handlers and its adapter, by which parents of other servers are told. Its rule is a pattern or a
//! function of the application's; that may take its time, fail or panic, and refuses then.

use std::{fmt, future::Future, sync::Arc};

use serde::de::DeserializeOwned;

use super::pattern::{Pattern, PatternError};
use crate::server::{
    Broadcast, ConnectError, Emitted, Handshake, IntoArgs, IntoRooms, Namespace, Shared,
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

/// Namespaces that clients cause, one for each name that fits: what
/// [`Server::of_pattern`](crate::Server::of_pattern) and
/// [`Server::of_matching`](crate::Server::of_matching) give. A cheap handle.
///
/// Its children share what is registered here, also what is registered later. What is emitted here
/// goes to the sockets of all children. Sockets are in the children: [`children`](Self::children) has
/// those of this server, and each can be asked for its sockets.
#[derive(Clone)]
pub struct ParentNamespace {
    namespace: Namespace,
    rule: Arc<Rule>,
}

impl ParentNamespace {
    /// Names of parents begin so, which no client's do.
    const MARK: &'static str = "*";

    pub(super) fn new(rule: Rule, number: usize, make: impl FnOnce(&str) -> Namespace) -> Self {
        let mark = Self::MARK;
        let name = match &rule {
            Rule::Pattern(pattern) => format!("{mark}{}", pattern.as_str()),
            Rule::Function(_) => format!("{mark}{number}"),
        };
        Self {
            namespace: make(&name),
            rule: Arc::new(rule),
        }
    }

    /// The pattern of its children's names. Returns `None` if a function decides.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        match &*self.rule {
            Rule::Pattern(pattern) => Some(pattern.as_str()),
            Rule::Function(_) => None,
        }
    }

    /// Its children on this server: those that clients are in or have been in, and those that the
    /// application has asked for.
    #[must_use]
    pub fn children(&self) -> Vec<Namespace> {
        let namespaces = self.namespace.namespaces();
        namespaces.map_or_else(Vec::new, |all| all.children_of(self.namespace.joins()))
    }

    /// Emits an event to every socket of all children, on all servers.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.broadcast().emit(event, args)
    }

    /// Emits the event `message` to every socket of all children: as `emit("message", ..)`.
    pub fn send(&self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// The sockets of these rooms of all children.
    #[doc(alias = "in")]
    pub fn to(&self, rooms: impl IntoRooms) -> ParentBroadcast {
        self.broadcast().to(rooms)
    }

    /// All sockets of all children but those of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> ParentBroadcast {
        self.broadcast().except(rooms)
    }

    /// All sockets of all children.
    pub fn broadcast(&self) -> ParentBroadcast {
        ParentBroadcast(self.namespace.broadcast())
    }

    /// What is emitted by this is dropped for receivers that can't take it at once.
    pub fn volatile(&self) -> ParentBroadcast {
        self.broadcast().volatile()
    }

    pub(crate) fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The namespace that has its handlers.
    pub(crate) const fn as_namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl PartialEq for ParentNamespace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rule, &other.rule)
    }
}

impl Eq for ParentNamespace {}

impl fmt::Debug for ParentNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentNamespace")
            .field("name", &self.namespace.name())
            .finish_non_exhaustive()
    }
}

/// Sockets of all children of a parent, by rooms: what [`ParentNamespace::to`] and its like give.
///
/// It emits, as a [`Broadcast`] does, with the same rooms and flags. What asks sockets for something,
/// changes their rooms, or stays for those who come later ([`retain`](Broadcast::retain),
/// [`at_least_once`](Broadcast::at_least_once)) is a matter of the children:
/// [`children`](ParentNamespace::children) are those that there are, and
/// [`on_new_namespace`](crate::Server::on_new_namespace) hears of each before anybody is in it.
#[derive(Debug, Clone)]
#[must_use = "this only says whom; end it with `emit`"]
pub struct ParentBroadcast(Broadcast);

impl ParentBroadcast {
    /// Adds rooms.
    #[doc(alias = "in")]
    pub fn to(self, rooms: impl IntoRooms) -> Self {
        Self(self.0.to(rooms))
    }

    /// Leaves out the sockets of these rooms.
    pub fn except(self, rooms: impl IntoRooms) -> Self {
        Self(self.0.except(rooms))
    }

    /// See [`Broadcast::volatile`].
    pub fn volatile(self) -> Self {
        Self(self.0.volatile())
    }

    /// See [`Broadcast::drop_newest`].
    pub fn drop_newest(self) -> Self {
        Self(self.0.drop_newest())
    }

    /// See [`Broadcast::drop_oldest`].
    pub fn drop_oldest(self) -> Self {
        Self(self.0.drop_oldest())
    }

    /// See [`Broadcast::conflate`]: it takes the place of what waits under the same key for the same
    /// child, if that was emitted to the parent, too. A client that is in several children gets the
    /// newest in each.
    pub fn conflate(self, key: impl AsRef<str>) -> Self {
        Self(self.0.conflate(key))
    }

    /// Sockets of this server only.
    pub fn local(self) -> Self {
        Self(self.0.local())
    }

    /// Emits an event to these sockets: encoded once for each child. In a child with recovery it is
    /// logged, unless the log is one that several servers share: then clients that are away miss it.
    pub fn emit(self, event: &str, args: impl IntoArgs) -> Emitted {
        self.0.emit(event, args)
    }

    /// Emits the event `message`: as `emit("message", ..)`.
    pub fn send(self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }
}
