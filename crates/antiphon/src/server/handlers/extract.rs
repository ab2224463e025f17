//! Extractors: what a handler can ask for by the types of its arguments.
//!
//! Each takes its part of a [`Context`] when the handler is called, in the order of the arguments.
//! If it isn't there, or doesn't fit, the handler isn't called: the [`Rejection`] is the client's
//! error acknowledgement (of a middleware: its `connect_error`). An extractor that panics is
//! `internal_error`.

use std::{fmt, sync::Arc};

use antiphon_protocol::engine::TransportKind;
use serde::de::DeserializeOwned;

use crate::server::{
    Ack, Args, Context, DisconnectReason, Handshake, Namespace, Rejection, Socket,
    handlers::kinds::{OnDisconnect, OnEvent},
};

/// What can be an argument of a [`Handler`](crate::Handler) of the kind `K`. A tuple of up to eight
/// of them is one, too.
///
/// Implement it for a type of your own to say in a handler's arguments what it needs:
///
/// ```
/// use antiphon::{Context, FromContext, Rejection};
///
/// #[derive(Clone)]
/// struct User(String);
///
/// impl<K> FromContext<K> for User {
///     fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
///         let user = context.socket().get::<User>();
///         user.ok_or_else(|| Rejection::new("unauthorized", "log in first"))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of this handler",
    note = "extractors for every handler: `Socket`, `Server`, `Namespace`, `State<T>`, `Extension<T>`, `Auth<T>`, `Param<T>`, `Arc<Handshake>`, `TransportKind`; and an `Option` or `Result<_, Rejection>` of any, and tuples of them",
    note = "for handlers of events also: `Data<T>`, `Args`, `Event`, `Ack`; for those of disconnection: `DisconnectReason`"
)]
pub trait FromContext<K>: Sized {
    /// Whether it takes the arguments of an event as a type. Of a handler's extractors one may, since
    /// two would both be given the first argument; that doesn't compile.
    const TAKES_ARGUMENTS: bool = false;

    /// Takes its part of what has happened.
    ///
    /// # Errors
    /// A [`Rejection`] if that isn't there: the handler isn't called.
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection>;
}

impl<K> FromContext<K> for Socket {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(context.socket.clone())
    }
}

impl<K> FromContext<K> for Namespace {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(context.socket.namespace().clone())
    }
}

impl<K> FromContext<K> for Arc<Handshake> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(Self::clone(context.socket.handshake()))
    }
}

impl<K> FromContext<K> for TransportKind {
    /// The transport that carries the socket now.
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(context.socket.transport())
    }
}

/// A value that was given to [`ServerBuilder::state`](crate::ServerBuilder::state).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<K, T: Clone + Send + Sync + 'static> FromContext<K> for State<T> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let state = context.socket.namespace().shared().state.get::<T>();
        let state = state.cloned().ok_or_else(|| {
            let name = std::any::type_name::<T>();
            tracing::error!("no state of type {name}: give it to ServerBuilder::state");
            Rejection::new("internal_error", "the server lacks a part of its state")
        })?;
        Ok(Self(state))
    }
}

/// A clone of a value that is kept with the socket, [inserted](Socket::insert) by a middleware mostly; or of
/// one that a layer has put into the request that opened the connection, if it is
/// [kept](crate::ServerBuilder::handshake_extension).
///
/// ```
/// use antiphon::{Extension, Server, Socket};
///
/// #[derive(Clone)]
/// struct User(String);
///
/// let io = Server::new();
/// io.middleware(async |socket: Socket| {
///     socket.insert(User("ann".to_owned()));
///     Ok(())
/// })
/// .on("who am i", async |Extension(User(name)): Extension<User>| name)
/// .on("am i known", async |user: Option<Extension<User>>| user.is_some());
/// ```
///
/// Without such a value the handler isn't called (`internal_error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<T>(pub T);

impl<K, T: Clone + Send + Sync + 'static> FromContext<K> for Extension<T> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let of_request = || context.socket.handshake().extensions().get::<T>().cloned();
        let value = context.socket.get::<T>().or_else(of_request);
        value.map(Self).ok_or_else(|| {
            let name = std::any::type_name::<T>();
            let detail =
                format!("the socket has no value of type {name}: insert it in a middleware");
            Rejection::new("internal_error", "the server lacks a value of this socket")
                .with_detail(detail)
        })
    }
}

/// What an extractor gives, or `None` if it rejects: the handler is called in any case.
impl<K, E: FromContext<K>> FromContext<K> for Option<E> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(E::from_context(context).ok())
    }
}

/// What an extractor gives, or why it rejects: the handler is called in any case, and decides.
///
/// ```
/// use antiphon::{Data, Rejection, Server};
///
/// let io = Server::new();
/// io.on("age", async |age: Result<Data<u8>, Rejection>| match age {
///     Ok(Data(age)) => age,
///     Err(_) => 0,
/// });
/// ```
impl<K, E: FromContext<K>> FromContext<K> for Result<E, Rejection> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(E::from_context(context))
    }
}

/// What the client sent as its `auth` when it connected to the namespace, as a `T`.
///
/// A client that sent none fits an `Option` (and any type that an empty object fits). It is kept as
/// long as the socket, for all its handlers, up to [`max_auth`](crate::ServerBuilder::max_auth).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<T>(pub T);

impl<T> fmt::Debug for Auth<T> {
    /// Shows nothing of it: credentials are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(..)")
    }
}

impl<K, T: DeserializeOwned> FromContext<K> for Auth<T> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let parsed = context.socket.auth();
        parsed.map(Self).map_err(|error| Rejection::auth(&error))
    }
}

/// The arguments of an event as a `T`.
///
/// A tuple is the list of arguments, so `Data<(String, u32)>` takes two; any other type, an array
/// or a tuple struct too, takes the first argument. Arguments too many are ignored, as in
/// JavaScript; a missing one fits an `Option`. `Bytes` anywhere inside takes a binary attachment.
/// What doesn't fit is answered with an error acknowledgement that names the path of what was
/// wrong.
///
/// A handler has one `Data`. Two arguments aren't two of them, which doesn't compile, but a tuple:
///
/// ```compile_fail
/// # use antiphon::{Data, Server};
/// let io = Server::new();
/// io.of("/").on("add", async |Data(a): Data<i64>, Data(b): Data<i64>| a + b); // error
/// ```
///
/// ```
/// # use antiphon::{Data, Server};
/// let io = Server::new();
/// io.of("/").on("add", async |Data((a, b)): Data<(i64, i64)>| a + b);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<T>(pub T);

impl<T: DeserializeOwned> FromContext<OnEvent> for Data<T> {
    const TAKES_ARGUMENTS: bool = true;

    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(Self(context.args.deserialize()?))
    }
}

impl FromContext<OnEvent> for Args {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(Self::new(context.args.to_owned()))
    }
}

/// The name of the event: for handlers of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event(pub String);

impl FromContext<OnEvent> for Event {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(Self(context.event.to_owned()))
    }
}

impl FromContext<OnEvent> for Ack {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        Ok(Self::take(context.answer))
    }
}

impl FromContext<OnDisconnect> for DisconnectReason {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        // Handlers of this kind are always called with a reason.
        Ok(context.reason.unwrap_or(Self::ForcedClose))
    }
}
