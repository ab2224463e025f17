//! What can go wrong between a server and its sockets, as the user and the client see it.
//!
//! [`EmitError`] and [`AckError`] are returned to the caller; [`Emitted`] has logged its error
//! already, since it may be ignored. [`ConnectError`] and [`Rejection`] go to the client: as
//! `connect_error`, and as the error acknowledgement of docs/protocol.md 16.5. Their codes are for
//! programs and stay; their texts are for people.

use std::{borrow::Cow, fmt};

use antiphon_protocol::socket::{ArgsError, EncodeError};
use serde::Serialize;

use crate::{engine::SendError, server::adapter::AdapterError};

/// Why an event was not emitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The arguments can't be encoded, or the event's name is reserved.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The session didn't take it.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The socket is not connected, or not any more.
    #[error("the socket is not connected")]
    Disconnected,
    /// So many events are kept for this client already until it acknowledges them.
    #[error("{0} events are kept for this client, which acknowledges none of them")]
    TooManyKept(usize),
    /// Other servers could not be told. The sockets of this one have got it.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// What became of an emit: queued, or an error that has been logged. It may be ignored.
///
/// ```
/// # fn example(socket: antiphon::Socket) {
/// socket.emit("news", "it rains"); // fire and forget
///
/// if let Err(error) = socket.emit("invoice", 42).into_result() {
///     eprintln!("not sent: {error}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Emitted(pub(crate) Result<(), EmitError>);

impl Emitted {
    /// Whether the event was queued.
    #[must_use]
    pub const fn is_queued(&self) -> bool {
        self.0.is_ok()
    }

    /// The error, if the event was not queued.
    ///
    /// # Errors
    /// [`EmitError`] says why.
    pub fn into_result(self) -> Result<(), EmitError> {
        self.0
    }

    /// Logs an error, since its caller may ignore it.
    pub(crate) fn log(result: Result<(), EmitError>, event: &str) -> Self {
        match &result {
            Ok(()) => {}
            Err(error @ EmitError::Encode(_)) => tracing::error!(event, %error, "not emitted"),
            Err(error) => tracing::debug!(event, %error, "not emitted"),
        }
        Self(result)
    }
}

/// Why no acknowledgement came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The event was not emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The client has not answered in time.
    #[error("operation has timed out")]
    Timeout,
    /// The socket was disconnected before the answer came.
    #[error("socket has been disconnected")]
    Disconnected,
    /// The adapter has failed, so that nothing is known of other servers.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The answer doesn't fit the type that was asked for.
    #[error("the acknowledgement doesn't fit: {0}")]
    Data(#[from] ArgsError),
}

/// Why a client may not connect to a namespace: what its `connect_error` event gets.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<serde_json::Value>,
}

impl ConnectError {
    /// An error with this message (`err.message` at the client).
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            data: None,
        }
    }

    /// Adds details (`err.data` at the client).
    ///
    /// # Panics
    /// If `data` can't be JSON: a map with keys that aren't strings, or a failing `Serialize`.
    #[must_use]
    pub fn with_data(mut self, data: impl Serialize) -> Self {
        match serde_json::to_value(data) {
            Ok(data) => self.data = Some(data),
            Err(error) => panic!("the data of a connect error can't be JSON: {error}"),
        }
        self
    }
}

impl From<&str> for ConnectError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for ConnectError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<Rejection> for ConnectError {
    /// The client is told what it asks for: the rejection's code, message and path are the data.
    fn from(mut rejection: Rejection) -> Self {
        if rejection == Rejection::panicked() {
            // A client that may not connect has called no handler.
            rejection.message = "internal error".into();
        }
        Self::new(rejection.to_string()).with_data(rejection)
    }
}

/// Any error in a handler, by `?`: of the standard library, of a database, of `anyhow`.
///
/// The log is told what it was. The client is acknowledged with `internal_error`, and learns no
/// more: errors may name tables, paths and hosts. What the client may know is said by
/// [`tell`](Self::tell).
///
/// ```
/// use antiphon::{Data, HandlerError, Server};
///
/// let io = Server::new();
/// io.of("/").on("read", async |Data(page): Data<String>| {
///     let page: u32 = page
///         .parse()
///         .map_err(|error| HandlerError::tell("bad_page", error))?; // {"code":"bad_page","message":"invalid digit ..."}
///     let text = std::fs::read_to_string(format!("pages/{page}"))?; // {"code":"internal_error", ..}
///     Ok::<_, HandlerError>(text)
/// });
/// ```
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "typescript", derive(schemars::JsonSchema))]
pub struct HandlerError {
    code: &'static str,
    message: Cow<'static, str>,
}

impl HandlerError {
    /// An error that the client may know: with a code for programs, and the error's text.
    #[must_use]
    pub fn tell(code: &'static str, error: impl fmt::Display) -> Self {
        Self {
            code,
            message: error.to_string().into(),
        }
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut causes = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push_str(": ");
            causes.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!("a handler failed: {error}{causes}");
        Self {
            code: "internal_error",
            message: "the handler failed".into(),
        }
    }
}

/// Why a handler could not be called: an extractor didn't find what it needs.
///
/// The client gets it as an error acknowledgement, `{"error":{"code","message","path"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[cfg_attr(feature = "typescript", derive(schemars::JsonSchema))]
#[error("{message}")]
pub struct Rejection {
    code: &'static str,
    message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// What the log says instead of the message: more of the program, and less of what the client
    /// sent.
    #[serde(skip)]
    detail: Option<Box<str>>,
}

impl Rejection {
    /// A rejection with a code for programs and a message for people.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            path: None,
            detail: None,
        }
    }

    /// What the log says instead of the message.
    pub(crate) fn with_detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The auth payload doesn't fit. It is a secret: neither the client nor the log is told what is
    /// in it.
    pub(crate) fn auth(error: &serde_json::Error) -> Self {
        let error = ArgsError::of_value(error);
        let message = format!("the auth payload doesn't fit: {}", error.for_secret());
        Self::new("invalid_auth", message)
    }

    /// What the log says of it.
    pub(crate) fn detail(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.message)
    }

    /// Whether the log says more than the client is told.
    pub(crate) const fn has_detail(&self) -> bool {
        self.detail.is_some()
    }

    /// The handler panicked.
    pub(crate) fn panicked() -> Self {
        Self::new("internal_error", "the handler failed")
    }

    /// What the handler returned can't be written.
    pub(crate) fn unencodable() -> Self {
        Self::new("internal_error", "the answer can't be encoded")
    }

    /// No handler takes the event.
    pub(crate) fn unknown_event(name: &str) -> Self {
        Self::new(
            "unknown_event",
            format!("no handler for the event {name:?}"),
        )
    }

    /// The code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Where the arguments don't fit, if that is the matter.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

impl From<ArgsError> for Rejection {
    fn from(error: ArgsError) -> Self {
        Self {
            code: "invalid_arguments",
            path: Some(error.path().to_owned()),
            message: error.for_client().into(),
            detail: Some(error.for_log().into()),
        }
    }
}
