//! Why a socket was disconnected, in the words of Socket.IO (docs/protocol.md 11.6).
//!
//! A value: disconnect handlers get it as an argument. The engine's reasons come in by
//! `From<CloseReason>`; the others are set where a socket is closed.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::engine::CloseReason;

/// Why a socket was disconnected, in the words of Socket.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The connection failed, or the client broke a rule of its transport.
    TransportError,
    /// The client closed the connection, or lost it.
    TransportClose,
    /// The connection was closed by this side, or for a packet of Socket.IO that can't be decoded.
    ForcedClose,
    /// The client has shown no life in time.
    PingTimeout,
    /// What the client sent was no packet of Engine.IO.
    ParseError,
    /// [`Server::close`](crate::Server::close) was called.
    ServerShuttingDown,
    /// The client broke a rule of Socket.IO, or joined no namespace in time.
    ForcedServerClose,
    /// The client left the namespace.
    ClientNamespaceDisconnect,
    /// [`Socket::disconnect`](crate::Socket::disconnect) was called.
    ServerNamespaceDisconnect,
    /// Its client has resumed the session on another connection, before the loss of this one was
    /// noticed: another socket with the same id goes on.
    SessionTakenOver,
}

impl DisconnectReason {
    /// The reason as Socket.IO names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => CloseReason::TransportError.as_str(),
            Self::TransportClose => CloseReason::TransportClose.as_str(),
            Self::ForcedClose => CloseReason::ForcedClose.as_str(),
            Self::PingTimeout => CloseReason::PingTimeout.as_str(),
            Self::ParseError => CloseReason::ParseError.as_str(),
            Self::ServerShuttingDown => "server shutting down",
            Self::ForcedServerClose => "forced server close",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
            Self::SessionTakenOver => "session taken over",
        }
    }

    /// Whether its client may come back to the session (docs/protocol.md 23.2): neither side has
    /// ended it on purpose.
    pub(crate) const fn is_recoverable(self) -> bool {
        !matches!(
            self,
            Self::ParseError | Self::ClientNamespaceDisconnect | Self::ServerNamespaceDisconnect
        )
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for DisconnectReason {
    /// As Socket.IO names it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl From<CloseReason> for DisconnectReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::ForcedClose => Self::ForcedClose,
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::ParseError => Self::ParseError,
            _ => Self::TransportError,
        }
    }
}
