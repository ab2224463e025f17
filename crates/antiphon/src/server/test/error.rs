//! What goes otherwise than a test expected, in the words of the test.

use antiphon_protocol::socket::{ArgsError, EncodeError};

/// What went otherwise than the test expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the connection, as a stock client would learn it from an HTTP status.
    #[error("the server answered the handshake with {0}")]
    Handshake(String),
    /// The namespace refused the socket: its `connect_error`.
    #[error("the namespace refused the socket: {message}")]
    #[non_exhaustive]
    Refused {
        /// The error's message.
        message: String,
        /// The error's data, `null` if it has none.
        data: serde_json::Value,
    },
    /// What was waited for didn't come in time.
    #[error("{0} didn't come in time")]
    Late(String),
    /// The socket is gone.
    #[error("the socket has left while it waited for {0}")]
    Left(String),
    /// Events came where none was expected.
    #[error("these events came where none was expected: {0:?}")]
    Unexpected(Vec<String>),
    /// An event that was to be acknowledged was emitted without asking for it.
    #[error("the event {0:?} doesn't ask for an acknowledgement")]
    NotAsked(String),
    /// Arguments that came aren't of the type that was asked for.
    #[error("the arguments of {0} don't fit: {1}")]
    Args(String, #[source] ArgsError),
    /// What was to be sent can't be.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// What the server sent is no packet: a fault of the server.
    #[error("the server sent what no client understands: {0}")]
    Protocol(String),
}
