//! The Redis of a URL: where it is, and how to log in.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisError, io::tcp::TcpSettings,
};
use tokio::sync::watch;

use crate::{
    connection::{Connection, DEADLINE},
    error::{Context, Error},
    sentinel::Sentinels,
};

/// Requests of ours that the library may hold at once: more than there ever are, so that a request
/// is written in the order in which it is made.
const REQUESTS: usize = 64;

/// A Redis.
#[derive(Debug)]
pub(crate) struct Server {
    info: ConnectionInfo,
    sentinels: Option<Sentinels>,
    pub(crate) channels: Channels,
    /// Where the primary was found last.
    primary: watch::Sender<String>,
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
    /// The right to the keys of logs, if there may be any.
    pub(crate) logs: Option<String>,
    /// The streams beside them, if there are any.
    pub(crate) streams: Option<Streams>,
}

/// Which streams a server uses.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// Those that it reads. An emitter reads none.
    pub(crate) names: Vec<String>,
    /// About so many entries are kept in each.
    pub(crate) max_len: u64,
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
        let streams = self.streams.as_ref().map_or_else(String::new, |streams| {
            format!(
                " +xadd +xread +xrange +xinfo|stream +set +getdel {}",
                streams.right
            )
        });
        let logs = self.logs.as_ref().map_or_else(String::new, |keys| {
            format!(
                " {keys} +info +script|load +eval +evalsha +time +xadd +xrange +pexpire +get +set \
                 +del +hget +hmget +hset +hincrby"
            )
        });
        format!("+hello +ping {commands} {}{streams}{logs}", self.right)
    }

    /// Whether there are streams to read.
    pub(crate) fn reads(&self) -> bool {
        let mut streams = self.streams.iter();
        streams.any(|streams| !streams.names.is_empty())
    }
}

impl Server {
    /// The Redis of this URL. If there are URLs of Sentinels, its host is the name that these know
    /// the primary by.
    pub(crate) fn new(url: &str, sentinels: &[String], channels: Channels) -> Result<Self, Error> {
        let info = info(url)?;
        let login = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("antiphon", env!("CARGO_PKG_VERSION"));
        let info = info.set_redis_settings(login);
        let address = info.addr().to_string();
        let sentinels = match (sentinels, info.addr()) {
            ([], _) => None,
            (urls, ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. }) => {
                Some(Sentinels::new(name, urls)?)
            }
            _ => {
                let problem = "with Sentinels its host is the name of the primary".to_owned();
                return Err(Error::Url { problem });
            }
        };
        #[cfg(feature = "tls")]
        crate::tls::choose_provider();
        Ok(Self {
            info,
            sentinels,
            channels,
            primary: watch::Sender::new(address),
        })
    }

    /// Where the primary was found last.
    pub(crate) fn address(&self) -> String {
        self.primary.borrow().clone()
    }

    /// What an error of the client library means.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        let context = Context {
            address: self.address(),
            rights: self.channels.rights(),
            seconds: DEADLINE.as_secs(),
        };
        Error::of(error, &context)
    }

    fn context(&self, info: &ConnectionInfo) -> Context {
        Context {
            address: info.addr().to_string(),
            rights: self.channels.rights(),
            seconds: DEADLINE.as_secs(),
        }
    }

    /// Where the primary is now.
    async fn find(&self) -> Result<ConnectionInfo, Error> {
        let Some(sentinels) = &self.sentinels else {
            return Ok(self.info.clone());
        };
        let (to, at) = sentinels.primary().await?;
        let mut address = self.info.addr().clone();
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
            &mut address
        {
            (*host, *port) = (to, at);
        }
        Ok(self.info.clone().set_addr(address))
    }

    /// Connects, logs in, and gives what comes without being asked for to `push`.
    pub(crate) async fn connect(
        &self,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, Error> {
        let info = self.find().await?;
        let context = self.context(&info);
        let error = |error: RedisError| Error::of(&error, &context);
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
        let client = Client::open(info).map_err(error)?;
        let connects = client.get_multiplexed_async_connection_with_config(&config);
        let connects = tokio::time::timeout(DEADLINE, connects).await;
        let requests = connects
            .map_err(|_| Error::Silent {
                address: context.address.clone(),
                seconds: context.seconds,
            })?
            .map_err(error)?;
        // The other connection leaves a Redis that is no longer the primary.
        self.primary.send_if_modified(|primary| {
            let has_moved = *primary != context.address;
            primary.clone_from(&context.address);
            has_moved
        });
        Ok(Connection {
            requests,
            context,
            closed,
            primary: self.primary.subscribe(),
        })
    }
}

/// What a URL says.
pub(crate) fn info(url: &str) -> Result<ConnectionInfo, Error> {
    let info =
        url.into_connection_info()
            .map_err(|error| match error.to_string().contains("TLS") {
                true => Error::NoTls,
                false => Error::Url {
                    problem: plain(&error),
                },
            })?;
    // A connection that is given up must be over: what the system still holds of it would be
    // published behind what the next one has, once a network that was cut is whole again.
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_linger_time(Duration::ZERO);
    Ok(info.set_tcp_settings(settings))
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
            logs: None,
            streams: None,
        };
        Server::new(url, &[], channels)
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
            assert_eq!(server.address(), address);
        }
    }
}
