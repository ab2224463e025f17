//! What can be wrong with a Redis, and what to do about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// What is wrong with the Redis, and what to do about it.
///
/// No text contains a password: URLs are told without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL isn't one of a Redis.
    #[error(
        "the URL isn't understood: {problem}. Write it like redis://127.0.0.1, \
         redis://user:password@host:6379 or rediss://host (TLS)"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// The URL asks for TLS, and this program has been built without.
    #[error("rediss:// asks for TLS: build with the feature `tls` of antiphon-redis")]
    NoTls,
    /// There is no connection to its address.
    #[error(
        "Redis at {address} can't be reached: {problem}. See whether it runs and listens there"
    )]
    Unreachable {
        /// Host and port, or the path of its socket.
        address: String,
        /// What the system says.
        problem: String,
    },
    /// It has closed the connection.
    #[error(
        "Redis at {address} has closed the connection: it was stopped, somebody told it to \
         (CLIENT KILL), or this server read too slowly for its client-output-buffer-limit. Its \
         log says which"
    )]
    Closed {
        /// Host and port, or the path of its socket.
        address: String,
    },
    /// It takes too long to answer.
    #[error(
        "Redis at {address} hasn't answered in {seconds} s: it hangs, it is overloaded, or the \
         network is cut"
    )]
    Silent {
        /// Host and port, or the path of its socket.
        address: String,
        /// So long it was waited for.
        seconds: u64,
    },
    /// User or password are wrong, or it wants some and the URL has none.
    #[error(
        "Redis at {address} refuses the login: {answer}. Put the right user and password into the \
         URL: redis://user:password@host"
    )]
    Login {
        /// Host and port, or the path of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
    /// Its version is older than 6.0.
    #[error("Redis at {address} is too old: it doesn't know HELLO. Version 6.0 or later is needed")]
    TooOld {
        /// Host and port, or the path of its socket.
        address: String,
    },
    /// Its user lacks a right.
    #[error(
        "Redis at {address} doesn't allow its user enough: {answer}. This is needed: ACL SETUSER \
         .. +hello +ping +publish +subscribe +unsubscribe +psubscribe +punsubscribe \
         +pubsub|numsub &{prefix}:*"
    )]
    Forbidden {
        /// Host and port, or the path of its socket.
        address: String,
        /// What it says.
        answer: String,
        /// The names of all channels begin so.
        prefix: String,
    },
    /// It is a replica. What is published there doesn't reach those that subscribe elsewhere.
    #[error(
        "Redis at {address} is a replica: what is published there reaches nobody else. Connect to \
         the primary"
    )]
    Replica {
        /// Host and port, or the path of its socket.
        address: String,
    },
    /// It has been started and isn't ready yet.
    #[error("Redis at {address} isn't ready yet: {answer}")]
    NotReady {
        /// Host and port, or the path of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
    /// It answers with another error.
    #[error("Redis at {address} answers: {answer}")]
    Other {
        /// Host and port, or the path of its socket.
        address: String,
        /// What it says.
        answer: String,
    },
}

/// Of whom an error is told.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) address: String,
    pub(crate) prefix: String,
    /// So long answers are waited for.
    pub(crate) seconds: u64,
}

impl Error {
    /// What an error of the client library means.
    pub(crate) fn of(error: &RedisError, context: &Context) -> Self {
        let Context {
            address,
            prefix,
            seconds,
        } = context.clone();
        let answer = answer(error);
        let lower = answer.to_ascii_lowercase();
        match error.kind() {
            ErrorKind::RESP3NotSupported => Self::TooOld { address },
            // Redis 5 spells it with quotes of another kind.
            _ if lower.contains("unknown command") && lower.contains("hello") => {
                Self::TooOld { address }
            }
            ErrorKind::AuthenticationFailed => Self::Login { address, answer },
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Forbidden {
                address,
                answer,
                prefix,
            },
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain,
            ) => Self::NotReady { address, answer },
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::Replica { address },
            _ if matches!(error.code(), Some("WRONGPASS" | "NOAUTH")) => {
                Self::Login { address, answer }
            }
            _ if error.is_timeout() => Self::Silent { address, seconds },
            // The library's own words for a connection that has ended.
            ErrorKind::Io if error.is_connection_dropped() && !error.is_connection_refusal() => {
                Self::Closed { address }
            }
            ErrorKind::Io => Self::Unreachable {
                address,
                problem: answer,
            },
            _ => Self::Other { address, answer },
        }
    }
}

/// What the server says, in its own words, or else the library.
fn answer(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}
