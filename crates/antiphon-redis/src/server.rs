//! The Redis of a URL: where it is, how to log in, and by which node of a Redis Cluster something goes.
//!
//! The broker owns a [`Server`], made of what the user says ([`Find`]); its tasks make their
//! connections by it. It remembers where the last one was made: connections to another place, which
//! isn't the primary any more, end.

use std::sync::Arc;

use antiphon_cluster::Topic;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, Pipeline, PushInfo, PushKind,
    RedisError,
};
use tokio::sync::watch;

use crate::{
    cluster::Cluster,
    connection::{Connection, DEADLINE, Probe},
    error::{Context, Error},
    sentinel::Sentinels,
    topology::{Address, Topology},
    url,
};

/// Requests of ours that the library may hold at once: more than there ever are, so that a request
/// is written in the order in which it is made.
const REQUESTS: usize = 64;

/// A Redis, or a Redis Cluster.
#[derive(Debug)]
pub(crate) struct Server {
    place: Place,
    pub(crate) channels: Channels,
    /// Where a connection was made last.
    last: watch::Sender<String>,
}

/// Where a Redis is.
#[derive(Debug)]
enum Place {
    At(ConnectionInfo),
    /// Where the Sentinels say; but for the address this is how to log in there.
    Named(ConnectionInfo, Sentinels),
    Cluster(Cluster),
}

/// How to find a Redis, in the words of its user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Find {
    /// The URL of a Redis, or of nodes of a Redis Cluster with commas between their hosts.
    pub(crate) url: String,
    pub(crate) sentinels: Vec<String>,
    /// Whether it is a Redis Cluster, also if the URL names one node alone.
    pub(crate) is_cluster: bool,
}

/// By which of its nodes something goes where the Redis is a Redis Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// By any one: what is published at one node reaches those that listen at others. It is the only
    /// way where there is one Redis.
    Home,
    /// By the one that has the slot of the key, or of the channel.
    Keyed,
}

/// Takes what comes without being asked for.
pub(crate) type Push = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Which channels a server uses.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    /// Whether they are those of Redis 7 that a cluster of Redis spreads by their slots.
    pub(crate) are_sharded: bool,
    /// Whether it listens to them. An emitter doesn't.
    pub(crate) listens: bool,
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
    /// One that it writes to.
    pub(crate) written: String,
    /// About so many entries are kept in each.
    pub(crate) max_len: u64,
    /// The right to them all.
    pub(crate) right: String,
}

impl Channels {
    /// Whether they are those of our own wire, which no server of Node listens to.
    pub(crate) const fn are_ours(&self) -> bool {
        self.logs.is_some()
    }

    /// The command that publishes.
    pub(crate) const fn publish(&self) -> &'static str {
        if self.are_sharded {
            "SPUBLISH"
        } else {
            "PUBLISH"
        }
    }

    /// What a user has to be allowed, in words of `ACL SETUSER`.
    fn rights(&self, is_cluster: bool) -> String {
        let commands = match (self.are_sharded, self.listens) {
            (true, true) => "+spublish +ssubscribe +sunsubscribe +pubsub|shardnumsub",
            (true, false) => "+spublish",
            (false, true) => {
                "+publish +subscribe +unsubscribe +psubscribe +punsubscribe +pubsub|numsub"
            }
            (false, false) => "+publish",
        };
        let streams = self.streams.as_ref().map_or_else(String::new, |streams| {
            let reads = match self.listens {
                true => " +xread +xrange +xinfo|stream +set +getdel",
                false => "",
            };
            format!(" +xadd{reads} {}", streams.right)
        });
        let logs = self.logs.as_ref().filter(|_| self.listens);
        let logs = logs.map_or_else(String::new, |keys| {
            format!(
                " {keys} +info +script|load +eval +evalsha +time +xadd +xrange +pexpire +get +set \
                 +del +hget +hmget +hset +hincrby"
            )
        });
        let cluster = if is_cluster { " +cluster|slots" } else { "" };
        format!(
            "+hello +ping{cluster} {commands} {}{streams}{logs}",
            self.right
        )
    }

    /// Commands that do nothing, one for each that is used in any case: a user who lacks the right to
    /// one of them learns it at the start, and not when something is to be heard for the first time.
    fn tries(&self) -> Pipeline {
        let mut tries = redis::pipe();
        let mut listens = |begins: &str, ends: &str| {
            tries.cmd(begins).arg(&self.probe);
            tries.cmd(ends).arg(&self.probe);
        };
        match (self.listens, self.are_sharded) {
            (true, true) => listens("SSUBSCRIBE", "SUNSUBSCRIBE"),
            (true, false) => {
                listens("SUBSCRIBE", "UNSUBSCRIBE");
                listens("PSUBSCRIBE", "PUNSUBSCRIBE");
            }
            (false, _) => {}
        }
        if self.listens && !self.are_ours() {
            let counts = if self.are_sharded {
                "SHARDNUMSUB"
            } else {
                "NUMSUB"
            };
            tries.cmd("PUBSUB").arg(counts).arg(&self.probe);
        }
        if let Some(streams) = &self.streams {
            for name in &streams.names {
                tries.cmd("XREAD").arg("STREAMS").arg(name).arg("$");
            }
            // No entry can have this id.
            let nobody = ["0-0", "nsp", ""];
            tries.cmd("XADD").arg(&streams.written).arg(&nobody);
        }
        tries
    }

    /// Whether there are streams to read.
    pub(crate) fn reads(&self) -> bool {
        let mut streams = self.streams.iter();
        streams.any(|streams| !streams.names.is_empty())
    }
}

impl Server {
    pub(crate) fn new(find: &Find, channels: Channels) -> Result<Self, Error> {
        let urls = url::hosts(&find.url);
        let is_cluster = find.is_cluster || urls.len() > 1;
        let infos = urls.iter().map(|url| url::login(url));
        let infos = infos.collect::<Result<Vec<_>, _>>()?;
        let place = match (infos.as_slice(), find.sentinels.as_slice()) {
            (infos, []) if is_cluster => Place::Cluster(Cluster::new(infos)?),
            ([info], []) => Place::At(info.clone()),
            ([info], urls) if !is_cluster => match info.addr() {
                ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. } => {
                    Place::Named(info.clone(), Sentinels::new(name, urls)?)
                }
                _ => {
                    let problem = "with Sentinels its host is the name of the primary".to_owned();
                    return Err(Error::Url { problem });
                }
            },
            _ => {
                let problem = "nodes of a Redis Cluster have no Sentinels".to_owned();
                return Err(Error::Url { problem });
            }
        };
        #[cfg(feature = "tls")]
        crate::tls::choose_provider();
        let address = match &place {
            Place::At(info) | Place::Named(info, _) => info.addr().to_string(),
            Place::Cluster(cluster) => cluster.name(),
        };
        Ok(Self {
            place,
            channels,
            last: watch::Sender::new(address),
        })
    }

    /// The Redis Cluster, if it is one.
    pub(crate) const fn cluster(&self) -> Option<&Cluster> {
        match &self.place {
            Place::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// By which node a topic goes.
    pub(crate) const fn way(&self, topic: &Topic) -> Way {
        let has_place = topic.is_stream() || topic.is_log() || self.channels.are_sharded;
        match &self.place {
            Place::Cluster(_) if has_place => Way::Keyed,
            _ => Way::Home,
        }
    }

    /// Where a connection was made last.
    pub(crate) fn address(&self) -> String {
        self.last.borrow().clone()
    }

    /// What an error of the client library means.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        Error::of(error, &self.context(self.address()))
    }

    fn context(&self, address: String) -> Context {
        Context {
            address,
            rights: self.channels.rights(self.cluster().is_some()),
            seconds: DEADLINE.as_secs(),
        }
    }

    /// Asks the Redis Cluster who has what: the node that may know best, if there is one, or others.
    pub(crate) async fn look(
        &self,
        cluster: &Cluster,
        best: Option<&Address>,
    ) -> Result<Arc<Topology>, Error> {
        let context = |node: &Address| self.context(node.to_string());
        cluster.look(best, context).await
    }

    /// Connects to the Redis, or to a node of the Redis Cluster.
    pub(crate) async fn connect(&self, push: Push) -> Result<Connection, Error> {
        let cluster = match &self.place {
            Place::At(info) => return self.primary(info.clone(), push).await,
            Place::Named(info, sentinels) => {
                let (host, port) = sentinels.primary().await?;
                return self.primary(url::at(info, host, port), push).await;
            }
            Place::Cluster(cluster) => cluster,
        };
        let topology = self.look(cluster, None).await?;
        let mut connects = Err(Error::Uncovered {
            slots: topology.uncovered(),
        });
        for node in cluster.homes(&topology) {
            connects = self.connect_to(cluster, &node, Arc::clone(&push)).await;
            if connects.is_ok() {
                break;
            }
        }
        connects
    }

    /// Connects to this node of the Redis Cluster.
    pub(crate) async fn connect_to(
        &self,
        cluster: &Cluster,
        node: &Address,
        push: Push,
    ) -> Result<Connection, Error> {
        let connection = self.open(cluster.info(node), push).await?;
        self.last.send_replace(connection.context.address.clone());
        Ok(connection)
    }

    /// Connects to what is the primary now. A connection that was made to another one before ends.
    async fn primary(&self, info: ConnectionInfo, push: Push) -> Result<Connection, Error> {
        let mut connection = self.open(info, push).await?;
        let address = &connection.context.address;
        self.last.send_if_modified(|last| {
            let has_moved = last != address;
            last.clone_from(address);
            has_moved
        });
        connection.primary = Some(self.last.subscribe());
        Ok(connection)
    }

    /// Connects, logs in, and gives what comes without being asked for to `push`.
    async fn open(&self, info: ConnectionInfo, push: Push) -> Result<Connection, Error> {
        let context = self.context(info.addr().to_string());
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
            .map_err(|failed| match error(failed) {
                Error::Closed { address } => Error::NotTaken { address },
                error => error,
            })?;
        Ok(Connection {
            requests,
            context,
            closed,
            primary: None,
        })
    }

    /// Sees whether a new connection is one to what it has to be, and whether its user may do what it
    /// is for.
    pub(crate) async fn check(&self, connection: &Connection, probe: &Probe) -> Result<(), Error> {
        connection.probe(probe).await?;
        connection.may(self.channels.tries()).await
    }

    /// What a connection is asked for again and again: that of this node of a Redis Cluster, or of
    /// any.
    pub(crate) fn probe(&self, at: Option<(&Topology, &Address)>) -> Probe {
        let channels = &self.channels;
        let publishes = match at {
            // Only the node that has the slot takes it.
            Some((topology, node)) => {
                channels.are_sharded && topology.master_of(&channels.probe) == Some(node)
            }
            None => true,
        };
        let publish = publishes.then(|| (channels.publish(), channels.probe.clone()));
        let is_cluster = self.cluster().is_some();
        Probe {
            publish,
            is_cluster,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, Error> {
        let channels = Channels {
            are_sharded: false,
            listens: true,
            probe: "antiphon:probe".to_owned(),
            right: "&antiphon:*".to_owned(),
            logs: None,
            streams: None,
        };
        let url = url.to_owned();
        let find = Find {
            url,
            ..Find::default()
        };
        Server::new(&find, channels)
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
            // Nodes of a Redis Cluster.
            (
                "redis://user:a,b@one,two:7000,[::1]:1",
                "one:6379,two:7000,::1:1",
            ),
        ] {
            let server = server(url).unwrap();
            assert_eq!(server.address(), address);
            assert_eq!(server.cluster().is_some(), address.contains(','));
        }
    }

    #[test]
    fn sentinels_know_no_nodes_of_a_redis_cluster() {
        let channels = server("redis://host").unwrap().channels;
        for (url, is_cluster) in [("redis://a,b", false), ("redis://a", true)] {
            let find = Find {
                url: url.to_owned(),
                sentinels: vec!["redis://sentinel".to_owned()],
                is_cluster,
            };
            let error = Server::new(&find, channels.clone()).err().unwrap();
            assert!(error.to_string().contains("Sentinels"), "{error}");
        }
    }
}
