//! What can be wrong with a Redis, in the words of whoever runs it, and what to do about it.
//!
//! Errors of the client library come in with what is known of the connection ([`Context`]); no text
//! that goes out has a password.

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
    /// It is older than what is needed: 6.0, or 7.0 for the sharded channels of Node's adapter.
    #[error(
        "Redis at {address} is too old: version {needed} or later is needed. It says: {answer}"
    )]
    TooOld {
        /// Host and port, or the path of its socket.
        address: String,
        /// The version that is needed.
        needed: &'static str,
        /// What it says.
        answer: String,
    },
    /// Its user lacks a right.
    #[error(
        "Redis at {address} doesn't allow its user enough: {answer}. This is needed: ACL SETUSER \
         .. {rights}"
    )]
    Forbidden {
        /// Host and port, or the path of its socket.
        address: String,
        /// What it says.
        answer: String,
        /// What it has to be allowed.
        rights: String,
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
    /// Another one is the primary now.
    #[error("Redis at {address} isn't the primary any more: that is {primary} now")]
    Moved {
        /// Host and port.
        address: String,
        /// Those of the primary.
        primary: String,
    },
    /// No Sentinel says where the primary is.
    #[error(
        "no Sentinel knows the primary {name} ({problems}): see whether they run, and by which name \
         they watch it (SENTINEL MASTERS)"
    )]
    NoPrimary {
        /// The name that they were asked for: the host of the URL.
        name: String,
        /// What each has said.
        problems: String,
    },
    /// It is a node of a Redis Cluster, and the URL is one of a single server.
    #[error(
        "Redis at {address} is a node of a Redis Cluster: name several of its nodes in the URL, as in \
         redis://node1,node2, or say RedisBuilder::cluster"
    )]
    IsCluster {
        /// Host and port.
        address: String,
    },
    /// It isn't a node of a Redis Cluster, and was named as one.
    #[error(
        "Redis at {address} isn't a node of a Redis Cluster: connect to it by a URL with its host \
         alone, and without RedisBuilder::cluster"
    )]
    NoCluster {
        /// Host and port.
        address: String,
    },
    /// No node of the Redis Cluster can be reached.
    #[error(
        "no node of the Redis Cluster can be reached ({problems}): see whether they run and listen \
         there, and at the addresses that they announce (CLUSTER SLOTS)"
    )]
    NoNode {
        /// What is wrong with each.
        problems: String,
    },
    /// The Redis Cluster is without a node for some of what it keeps.
    #[error(
        "the Redis Cluster has no node for {slots} of its 16384 slots: a node is down and has no \
         replica, or one isn't in its place yet (CLUSTER SLOTS, CLUSTER INFO)"
    )]
    Uncovered {
        /// So many slots.
        slots: usize,
    },
    /// What a node of the Redis Cluster had is on its way to another one, or there.
    #[error(
        "Redis at {address} doesn't have what it had any more: another node of the Redis Cluster \
         has it, or will have it in a moment ({answer})"
    )]
    Elsewhere {
        /// Host and port.
        address: String,
        /// What it says.
        answer: String,
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
    /// What the user has to be allowed.
    pub(crate) rights: String,
    /// So long answers are waited for.
    pub(crate) seconds: u64,
}

impl Error {
    /// What an error of the client library means.
    pub(crate) fn of(error: &RedisError, context: &Context) -> Self {
        let Context {
            address,
            rights,
            seconds,
        } = context.clone();
        let answer = answer(error);
        let lower = answer.to_ascii_lowercase();
        match error.kind() {
            // What Redis 5 says of HELLO, which the library puts into words of its own, and Redis 6
            // of the sharded commands.
            ErrorKind::RESP3NotSupported => Self::TooOld {
                address,
                needed: "6.0",
                answer,
            },
            _ if lower.contains("unknown command") => Self::TooOld {
                address,
                needed: if lower.contains("hello") {
                    "6.0"
                } else {
                    "7.0"
                },
                answer,
            },
            ErrorKind::AuthenticationFailed => Self::Login { address, answer },
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Forbidden {
                address,
                answer,
                rights,
            },
            // What a script may not do is told by an error of the script.
            _ if lower.contains("the user executing the script can't") => Self::Forbidden {
                address,
                answer,
                rights,
            },
            _ if lower.contains("cluster support disabled") => Self::NoCluster { address },
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
                Self::NotReady { address, answer }
            }
            _ if error.is_cluster_error() => Self::Elsewhere { address, answer },
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

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn what_a_script_may_not_do_is_told_with_the_rights_that_are_needed() {
        let context = Context {
            address: "host:6379".to_owned(),
            rights: "+hset".to_owned(),
            seconds: 5,
        };
        let answer = "The user executing the script can't run this command or subcommand";
        let error = make_extension_error("ERR".to_owned(), Some(answer.to_owned()));
        let error = Error::of(&error, &context);
        assert!(matches!(&error, Error::Forbidden { .. }), "{error:?}");
        assert!(error.to_string().ends_with("+hset"), "{error}");
    }
}
