//! What a session's packets travel on, and what it may be upgraded to.

use std::fmt;

use serde::{Serialize, Serializer};

use super::requests::Requests;

/// What a session's packets travel on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// HTTP long-polling.
    Polling,
    /// HTTP streaming: one response that stays open.
    Streaming,
    /// WebSocket.
    WebSocket,
}

impl TransportKind {
    /// The name in the query parameter `transport`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Streaming => "streaming",
            Self::WebSocket => "websocket",
        }
    }

    /// Whether a session on this transport may move to that one (docs/protocol.md 10.1).
    pub(super) const fn upgrades_to(self, to: UpgradeTarget) -> bool {
        match self {
            Self::Polling => true,
            Self::Streaming => matches!(to, UpgradeTarget::WebSocket),
            Self::WebSocket => false,
        }
    }
}

impl fmt::Display for TransportKind {
    /// Its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TransportKind {
    /// As its name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A transport that a session may be upgraded to: any but polling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpgradeTarget {
    /// WebSocket.
    WebSocket,
    /// HTTP streaming.
    Streaming,
}

impl From<UpgradeTarget> for TransportKind {
    fn from(target: UpgradeTarget) -> Self {
        match target {
            UpgradeTarget::WebSocket => Self::WebSocket,
            UpgradeTarget::Streaming => Self::Streaming,
        }
    }
}

/// The transport of a session, with what has to be known of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transport {
    Http(Requests),
    WebSocket {
        /// It takes no more for now.
        blocked: bool,
    },
}

impl Transport {
    /// The transport of a session that has just been opened on it.
    pub(super) fn new(kind: TransportKind) -> Self {
        match kind {
            TransportKind::Polling => Self::Http(Requests::default()),
            TransportKind::Streaming => Self::Http(Requests::streaming()),
            TransportKind::WebSocket => Self::WebSocket { blocked: false },
        }
    }

    pub(super) const fn kind(&self) -> TransportKind {
        match self {
            Self::Http(requests) if requests.streaming => TransportKind::Streaming,
            Self::Http(_) => TransportKind::Polling,
            Self::WebSocket { .. } => TransportKind::WebSocket,
        }
    }

    /// The requests of a session on HTTP.
    pub(super) const fn requests(&self) -> Option<&Requests> {
        match self {
            Self::Http(requests) => Some(requests),
            Self::WebSocket { .. } => None,
        }
    }

    /// Whether a GET is under way: a poll, or the response of a stream.
    pub(super) const fn has_get(&self) -> bool {
        matches!(self, Self::Http(Requests { get: true, .. }))
    }

    /// Whether the GET that is under way is a poll.
    pub(super) const fn has_poll(&self) -> bool {
        matches!(
            self,
            Self::Http(Requests {
                get: true,
                streaming: false,
                ..
            })
        )
    }

    pub(super) const fn has_post(&self) -> bool {
        matches!(self, Self::Http(Requests { post: true, .. }))
    }

    /// Whether what a client has taken to be sent has not left yet.
    pub(super) const fn is_sending(&self) -> bool {
        self.has_post() || self.is_blocked()
    }

    pub(super) const fn is_blocked(&self) -> bool {
        matches!(self, Self::WebSocket { blocked: true })
    }
}
