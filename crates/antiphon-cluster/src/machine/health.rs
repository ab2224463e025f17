//! How a server stands to the others: a state that operators watch.
//!
//! The [`Machine`](super::Machine) decides it; the router logs each change and gives it to watchers.

use std::{fmt, sync::Arc};

use antiphon::adapter::NodeId;

/// How a server stands to the others of its cluster.
///
/// ```text
/// Starting -> Ready <-> Degraded -> Resyncing -> Ready .. -> Closed
/// ```
///
/// Its own sockets get what is emitted here in any state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The connection is being made, or others haven't had the time to answer yet.
    Starting,
    /// All is well: what is wanted is subscribed to, and all known servers are heard.
    Ready,
    /// Something is wrong.
    Degraded(Trouble),
    /// Trouble is over, and others are being heard again.
    Resyncing {
        /// The servers that haven't been heard since.
        missing: Vec<NodeId>,
    },
    /// The server has been closed.
    Closed,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// There is no connection to the broker.
    Down {
        /// What has failed, and what to do about it.
        reason: String,
    },
    /// The broker refuses what is published, and the connection is there: it has no memory left, has become
    /// a replica, or a right was taken away. That is so for 10 s after the last refusal, or until the
    /// same is taken.
    Refused {
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// The broker takes frames, but doesn't bring back what this server has published itself.
    ProbeLost,
    /// What comes isn't read in time: events of others come late.
    Lagging,
    /// More came than could be read: events of others were lost.
    Dropping,
    /// The log of a namespace with recovery has not answered for a second: its events wait, and so
    /// do clients that come back. The connection is there.
    LogSilent {
        /// The namespace; the one that has waited the longest.
        namespace: Arc<str>,
    },
    /// The broker refuses to keep the log of a namespace with recovery: its events aren't delivered.
    LogRefused {
        /// The namespace.
        namespace: Arc<str>,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// Servers that are there answer nothing.
    NobodyAnswers,
    /// Another server is configured so differently that they don't understand each other.
    OtherConfig {
        /// One of these servers.
        node: NodeId,
    },
}

impl Health {
    /// Says so to operators.
    pub(crate) fn log(&self) {
        match self {
            Self::Ready | Self::Closed => tracing::info!("cluster: {self}"),
            _ => tracing::warn!("cluster: {self}"),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::Degraded(trouble) => write!(f, "degraded: {trouble}"),
            Self::Resyncing { missing } if missing.is_empty() => {
                f.write_str("resyncing: subscribing to what is wanted")
            }
            Self::Resyncing { missing } => {
                write!(f, "resyncing: {} servers not heard yet", missing.len())
            }
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { reason } => write!(f, "no connection to the broker: {reason}"),
            Self::Refused { reason } => {
                write!(f, "the broker refuses what is published: {reason}")
            }
            Self::ProbeLost => f.write_str(
                "the broker doesn't bring back what is published: see whether it is overloaded",
            ),
            Self::Lagging => f.write_str(
                "events of others are handled late: this server has more to do than it can",
            ),
            Self::Dropping => {
                f.write_str("events of others were dropped: this server has more to do than it can")
            }
            Self::LogSilent { namespace } => write!(
                f,
                "logged events of the namespace {namespace} wait, since the broker doesn't answer: see whether \
                 it is overloaded, locked or without a leader"
            ),
            Self::LogRefused { namespace, reason } => write!(
                f,
                "events of the namespace {namespace} aren't logged, and not delivered: {reason}"
            ),
            Self::NobodyAnswers => {
                f.write_str("servers that are there answer nothing: see their logs")
            }
            Self::OtherConfig { node } => write!(
                f,
                "the server {node} runs another version or configuration: make them alike"
            ),
        }
    }
}
