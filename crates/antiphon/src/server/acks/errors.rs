//! Which errors are acknowledged: an option of the server.

use crate::server::Rejection;

/// Which errors of the server itself are acknowledged: see
/// [`ServerBuilder::error_acks`](crate::ServerBuilder::error_acks).
///
/// For a stock client each acknowledgement is one, an error's too: `emitWithAck` resolves with it,
/// and with the option `retries` the event counts as delivered. An event that isn't acknowledged is
/// sent again by a client with `retries`, and others run into their `ackTimeout`, if they have one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorAcks {
    /// All: a client that waits learns at once what is wrong. An event that fails is not sent
    /// again.
    #[default]
    All,
    /// Those that would come again: arguments that don't fit, and rejections of the application's
    /// own. An event that no handler takes yet, as during a deploy, or whose handler panicked
    /// (`unknown_event`, `internal_error`) isn't acknowledged.
    Lasting,
    /// None, as with Node's server.
    None,
}

impl ErrorAcks {
    pub(super) fn include(self, rejection: &Rejection) -> bool {
        match self {
            Self::All => true,
            Self::Lasting => !matches!(rejection.code(), "unknown_event" | "internal_error"),
            Self::None => false,
        }
    }
}
