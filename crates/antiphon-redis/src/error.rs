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
    /// It has closed the connection before it has answered anything.
    #[error(
        "Redis at {address} closes the connection at once: it wants TLS (rediss://), or takes no more \
         clients (maxclients), or it is no Redis. Its log says which"
    )]
    NotTaken {
        /// Host and port, or the path of its socket.
        address: String,
    },
    /// What listens there speaks another protocol.
    #[error("what listens at {address} is no Redis, or speaks TLS alone (rediss://): {answer}")]
    NotRedis {
        /// Host and port, or the path of its socket.
        address: String,
        /// What isn't understood of what it says.
        answer: String,
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
    /// It lacks a command.
    #[error(
        "Redis at {address} lacks a command that is needed: {answer}. Its configuration renames or \
         disables it (rename-command), or it is too old"
    )]
    NoCommand {
        /// Host and port, or the path of its socket.
        address: String,
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
    /// It has no memory left for what it is to keep.
    #[error(
        "Redis at {address} has no memory left for what it is to keep: {answer}. Raise its maxmemory,          or have it keep less"
    )]
    NoMemory {
        /// Host and port, or the path of its socket.
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
            _ if lower.contains("unknown command") || lower.contains("unknown subcommand") => {
                // What follows are its arguments, which may be what a client has sent.
                let (answer, _) = answer.split_once(", with args").unwrap_or((&answer, ""));
                let answer = answer.to_owned();
                match first_version(&lower) {
                    Some(needed) => Self::TooOld {
                        address,
                        needed,
                        answer,
                    },
                    None => Self::NoCommand { address, answer },
                }
            }
            ErrorKind::Parse => Self::NotRedis {
                address,
                answer: answer.lines().next().unwrap_or_default().to_owned(),
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
            // Redis 6 tells what a script was told by an error of the script.
            _ if lower.contains("-readonly you can't write") => Self::Replica { address },
            _ if error.code() == Some("OOM") || lower.contains("-oom command not allowed") => {
                Self::NoMemory { address, answer }
            }
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

/// The version since which Redis has the command that it doesn't know, if that isn't a matter of
/// course.
fn first_version(unknown: &str) -> Option<&'static str> {
    let versions = [
        ("hello", "6.0"),
        ("getdel", "6.2"),
        ("spublish", "7.0"),
        ("ssubscribe", "7.0"),
        ("shardnumsub", "7.0"),
    ];
    let command = unknown.split(", with args").next().unwrap_or_default();
    let known = versions.iter().find(|(name, _)| command.contains(name));
    known.map(|(_, version)| *version)
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

    fn told(code: &str, answer: &str) -> Error {
        let context = Context {
            address: "host:6379".to_owned(),
            rights: "+hset".to_owned(),
            seconds: 5,
        };
        let error = make_extension_error(code.to_owned(), Some(answer.to_owned()));
        Error::of(&error, &context)
    }

    #[test]
    fn a_command_that_lacks_is_told_without_what_was_to_be_said_by_it() {
        let error = told(
            "ERR",
            "unknown command 'XADD', with args beginning with: 'hello'",
        );
        assert!(matches!(&error, Error::NoCommand { .. }), "{error:?}");
        assert!(!error.to_string().contains("hello"), "{error}");
        let error = told(
            "ERR",
            "unknown command 'SSUBSCRIBE', with args beginning with: 'a'",
        );
        let is_old = matches!(&error, Error::TooOld { needed: "7.0", .. });
        assert!(is_old, "{error:?}");
    }

    #[test]
    fn what_a_redis_can_not_keep_is_told_as_that_also_by_a_script() {
        let oom = "command not allowed when used memory > 'maxmemory'.";
        let by_script = format!("Error running script (call to f_1): @user_script:12: -OOM {oom}");
        for error in [told("OOM", oom), told("ERR", &by_script)] {
            assert!(matches!(&error, Error::NoMemory { .. }), "{error:?}");
        }
        let script = "Error running script: -READONLY You can't write against a read only replica.";
        let error = told("ERR", script);
        assert!(matches!(&error, Error::Replica { .. }), "{error:?}");
    }

    #[test]
    fn what_a_script_may_not_do_is_told_with_the_rights_that_are_needed() {
        let answer = "The user executing the script can't run this command or subcommand";
        let error = told("ERR", answer);
        assert!(matches!(&error, Error::Forbidden { .. }), "{error:?}");
        assert!(error.to_string().ends_with("+hset"), "{error}");
    }
}
