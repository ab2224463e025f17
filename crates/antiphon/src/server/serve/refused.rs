//! Why an address or a path can't be listened on, and what to do about it; and what all listeners have
//! in common.
//!
//! It goes to the program as an [`io::Error`] of the same kind.

use std::{fmt, io};

/// Connections that may wait to be accepted, on each listener.
pub(super) const BACKLOG: u32 = 4_096;

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) struct Refused {
    address: String,
    #[source]
    error: io::Error,
    advice: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(
        address: impl fmt::Display,
        error: io::Error,
        advice: impl FnOnce(&io::Error) -> Option<&'static str>,
    ) -> Self {
        Self {
            address: address.to_string(),
            advice: advice(&error),
            error,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error, .. } = self;
        write!(f, "{address} can't be listened on: {error}")?;
        match self.advice {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.error.kind(), refused)
    }
}
