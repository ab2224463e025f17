//! One connection to a Redis: how it is made, checked and watched.
//!
//! The client library writes and parses; it isn't asked to connect again or to remember
//! subscriptions. A connection that fails is dropped, and a new one takes its place.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, Value, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::sync::watch;

use crate::error::{Context, Error};

/// So long an answer is waited for, and a connection. It is less than the time after which servers
/// count each other as dead.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// So often a connection is asked whether it is still there.
pub(crate) const PROBE: Duration = Duration::from_secs(2);

/// Requests of ours that the library may hold at once: more than there ever are, so that a request
/// is written in the order in which it is made.
const REQUESTS: usize = 64;

/// A Redis: where it is, and how to log in.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
    pub(crate) context: Context,
    pub(crate) channels: Channels,
}

/// Which channels a server uses.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    /// Whether they are those of Redis 7 that a cluster of Redis spreads by their slots.
    pub(crate) are_sharded: bool,
    /// One that nobody listens to.
    pub(crate) probe: String,
    /// The right to them all.
    pub(crate) right: String,
}

impl Channels {
    /// The command that publishes.
    pub(crate) const fn publish(&self) -> &'static str {
        if self.are_sharded {
            "SPUBLISH"
        } else {
            "PUBLISH"
        }
    }

    /// What a user has to be allowed, in words of `ACL SETUSER`.
    fn rights(&self) -> String {
        let commands = match self.are_sharded {
            true => "+spublish +ssubscribe +sunsubscribe +pubsub|shardnumsub",
            false => "+publish +subscribe +unsubscribe +psubscribe +punsubscribe +pubsub|numsub",
        };
        format!("+hello +ping {commands} {}", self.right)
    }
}

/// A connection that has been logged in.
pub(crate) struct Connection {
    pub(crate) requests: MultiplexedConnection,
    closed: watch::Receiver<bool>,
}

impl Server {
    /// The Redis of this URL.
    pub(crate) fn new(url: &str, channels: Channels) -> Result<Self, Error> {
        let wrong = |error: RedisError| {
            let problem = error.to_string();
            match problem.contains("TLS") {
                true => Error::NoTls,
                false => Error::Url {
                    problem: plain(&error),
                },
            }
        };
        let info: ConnectionInfo = url.into_connection_info().map_err(wrong)?;
        let login = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("antiphon", env!("CARGO_PKG_VERSION"));
        let info = info
            .set_redis_settings(login)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let address = info.addr().to_string();
        #[cfg(feature = "tls")]
        crate::tls::choose_provider();
        let context = Context {
            address,
            rights: channels.rights(),
            seconds: DEADLINE.as_secs(),
        };
        Ok(Self {
            client: Client::open(info).map_err(wrong)?,
            context,
            channels,
        })
    }

    /// What an error of the library means.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        Error::of(error, &self.context)
    }

    fn silent(&self) -> Error {
        Error::Silent {
            address: self.context.address.clone(),
            seconds: self.context.seconds,
        }
    }

    /// It has closed the connection.
    pub(crate) fn closed(&self) -> Error {
        Error::Closed {
            address: self.context.address.clone(),
        }
    }

    /// Connects, logs in, and gives what comes without being asked for to `push`.
    pub(crate) async fn connect(
        &self,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, Error> {
        let (closes, closed) = watch::channel(false);
        let push = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                closes.send_replace(true);
            } else {
                push(info);
            }
            Ok::<_, ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_push_sender(push)
            .set_pipeline_buffer_size(REQUESTS)
            .set_connection_timeout(None)
            .set_response_timeout(Some(DEADLINE));
        let connects = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let connects = tokio::time::timeout(DEADLINE, connects).await;
        let requests = connects
            .map_err(|_| self.silent())?
            .map_err(|error| self.error(&error))?;
        Ok(Connection { requests, closed })
    }

    /// Publishes to nobody, which the user must be allowed to, and asks whether the Redis is the
    /// primary, without which nobody else would hear. Unlike `ROLE`, all users may say `HELLO`.
    pub(crate) async fn probe(&self, requests: &mut MultiplexedConnection) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        let Channels { probe, .. } = &self.channels;
        pipeline.cmd(self.channels.publish()).arg(probe).arg("");
        pipeline.cmd("HELLO");
        let (_, about): (Value, Value) = pipeline
            .query_async(requests)
            .await
            .map_err(|error| self.error(&error))?;
        match is_replica(&about) {
            true => Err(Error::Replica {
                address: self.context.address.clone(),
            }),
            false => Ok(()),
        }
    }
}

impl Connection {
    /// Resolves when the connection has ended.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        // Without a sender the connection is gone, too.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// Whether what a Redis says of itself names it a replica.
fn is_replica(about: &Value) -> bool {
    let Value::Map(fields) = about else {
        return false;
    };
    let is = |value: &Value, text: &str| match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(string) => string == text,
        _ => false,
    };
    fields
        .iter()
        .any(|(name, value)| is(name, "role") && (is(value, "replica") || is(value, "slave")))
}

/// What the library says of a URL, without the name of its error.
fn plain(error: &RedisError) -> String {
    let text = error.to_string();
    let (what, _) = text.split_once(" - ").unwrap_or((&text, ""));
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, Error> {
        let channels = Channels {
            are_sharded: false,
            probe: "antiphon:probe".to_owned(),
            right: "&antiphon:*".to_owned(),
        };
        Server::new(url, channels)
    }

    fn wrong(url: &str) -> Error {
        server(url).err().unwrap()
    }

    #[test]
    fn a_url_that_is_none_of_a_redis_is_told_without_its_password() {
        for url in [
            "http://user:secret@host",
            "redis://user:secret@host/no-number",
            "redis://user:secret@host?protocol=9",
            "redis:///",
            "",
        ] {
            let error = wrong(url);
            assert!(matches!(error, Error::Url { .. }), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_url_with_tls_names_the_feature() {
        assert_eq!(wrong("rediss://host"), Error::NoTls);
    }

    #[test]
    fn urls_of_a_redis_are_taken() {
        for (url, address) in [
            ("redis://host", "host:6379"),
            ("redis://user:p%40ss@host:7000/2", "host:7000"),
            ("redis://[::1]:7000", "::1:7000"),
            ("unix:/run/redis.sock", "/run/redis.sock"),
        ] {
            let server = server(url).unwrap();
            assert_eq!(server.context.address, address);
        }
    }

    #[test]
    fn a_replica_says_so() {
        let about = |role: &str| {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            Value::Map(vec![
                (text("proto"), Value::Int(3)),
                (text("role"), text(role)),
            ])
        };
        assert!(is_replica(&about("replica")));
        assert!(!is_replica(&about("master")));
        assert!(!is_replica(&Value::Nil));
    }
}
