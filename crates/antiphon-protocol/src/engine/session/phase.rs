//! Open, closing, closed: how far a session is, and why it has ended.
//!
//! ```text
//!          close                 drained, or the deadline
//!   Open ---------> Closing ------------------------------> Closed(why)
//!    |                                                       ^
//!    +------------- anything that ends it at once -----------+
//! ```

use std::{fmt, time::Instant};

use serde::{Serialize, Serializer};

use super::timers::Timer;

/// Why a session was closed by the engine, in the words of Socket.IO's disconnect reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The connection failed, or the peer broke a rule of its transport.
    TransportError,
    /// The peer closed the connection.
    TransportClose,
    /// This side closed the session.
    ForcedClose,
    /// The peer has not answered or sent a heartbeat in time.
    PingTimeout,
    /// A packet could not be decoded.
    ParseError,
}

impl CloseReason {
    /// The reason as Socket.IO names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
        }
    }
}

impl fmt::Display for CloseReason {
    /// As Socket.IO names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CloseReason {
    /// As Socket.IO names it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How far a session is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Open,
    /// This side has closed it, and what is queued may still leave.
    Closing {
        expires: Instant,
    },
    Closed(CloseReason),
}

impl Phase {
    /// The rule for messages, in both roles and on every transport: they are taken while the
    /// session is open. Once this is `false` it stays so, so a copy of the answer may be kept
    /// outside of a lock.
    pub(super) const fn takes_messages(self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) const fn is_closing(self) -> bool {
        matches!(self, Self::Closing { .. })
    }

    pub(super) const fn closed(self) -> Option<CloseReason> {
        match self {
            Self::Closed(reason) => Some(reason),
            Self::Open | Self::Closing { .. } => None,
        }
    }

    pub(super) const fn timer(self) -> Option<(Timer, Instant)> {
        match self {
            Self::Closing { expires } => Some((Timer::Close, expires)),
            Self::Open | Self::Closed(_) => None,
        }
    }
}
