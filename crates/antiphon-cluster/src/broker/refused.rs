//! Why a broker doesn't do what it is asked. Brokers and journals say it; adapters make an
//! [`AdapterError`] of it, and logs an error of theirs.

use antiphon::adapter::AdapterError;

/// Why a broker doesn't send a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It isn't connected.
    #[error("not connected: {reason}")]
    Down {
        /// What has failed, and what to do about it.
        reason: String,
    },
    /// Too much waits to be sent.
    #[error("too much waits to be sent")]
    Full,
    /// The frame is too large.
    #[error("a frame of {bytes} bytes is too large: {limit} are possible")]
    TooLarge {
        /// The size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// It is connected, and says no.
    #[error("{reason}")]
    Denied {
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// It has been closed.
    #[error("closed")]
    Closed,
}

impl From<Refused> for AdapterError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Down { reason } | Refused::Denied { reason } => Self::Unreachable { reason },
            Refused::Full => Self::Full,
            Refused::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            Refused::Closed => Self::Closed,
        }
    }
}
