//! [`Redis`] and [`NodeRedis`]: what users put into their server's builder, and the options of both.
//!
//! Connecting makes a broker, begins its cluster, and waits for the first attempt: an [`Error`] says
//! what is wrong, unless the user wants to start without the Redis. After that the broker connects
//! again by itself.

use std::{fmt, sync::Arc, time::Duration};

use antiphon_cluster::{
    Address, Cluster, Emitter,
    node::{NodeCluster, NodeWire},
};

use crate::{
    broker::RedisBroker,
    error::Error,
    server::{Channels, Find, Server, Streams},
};

/// The names of channels begin so.
const PREFIX: &str = "antiphon";

/// The default of Node's option `requestsTimeout`.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects a server with others by a Redis: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle, which is the
/// [`Cluster`], too: by that one sees how it goes.
///
/// One of these belongs to one server.
///
/// ```no_run
/// use antiphon::Server;
/// use antiphon_redis::Redis;
///
/// # async fn example() -> Result<(), antiphon_redis::Error> {
/// let redis = Redis::connect("redis://127.0.0.1").await?;
/// let io = Server::builder().adapter(redis.clone()).build();
/// io.to("lobby").emit("news", "for the sockets of all servers");
/// println!("{}, {} servers", redis.health(), redis.servers().len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    cluster: Cluster,
}

impl Redis {
    /// Connects to the Redis of a URL: `redis://user:password@host:6379`, `rediss://host` with TLS,
    /// `unix:/path`; or to a Redis Cluster, of which it names some nodes: `redis://node1,node2:7000`.
    /// The database of a URL is of no matter, since channels belong to none.
    ///
    /// Later it connects again by itself, whatever happens.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. [`RedisBuilder::wait`] goes on without.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// As [`connect`](Self::connect), with options.
    pub fn builder(url: &str) -> RedisBuilder {
        RedisBuilder {
            find: Find {
                url: url.to_owned(),
                ..Find::default()
            },
            prefix: PREFIX.to_owned(),
            address: None,
            requests_timeout: REQUESTS_TIMEOUT,
            waits: false,
        }
    }
}

antiphon_cluster::handle!(Redis of Cluster);

/// Options of a [`Redis`].
///
/// ```no_run
/// use antiphon_redis::Redis;
///
/// # async fn example() -> Result<(), antiphon_redis::Error> {
/// let redis = Redis::builder("redis://10.0.0.7")
///     .prefix("shop") // another cluster at the same Redis has another one
///     .wait() // start without the Redis, if it is away
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until connect is called"]
pub struct RedisBuilder {
    find: Find,
    prefix: String,
    address: Option<Address>,
    requests_timeout: Duration,
    waits: bool,
}

impl RedisBuilder {
    /// The names of all channels begin with this, and a colon. `antiphon` by default. Servers of one
    /// cluster have the same, and several clusters at one Redis have others.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Asks Redis Sentinels where the primary is, each time that a connection is made. The host of
    /// the URL is the name that they know it by, and the URL says how to log in there; those of
    /// the Sentinels say how to log in at them.
    ///
    /// ```no_run
    /// # use antiphon_redis::Redis;
    /// # async fn example() -> Result<(), antiphon_redis::Error> {
    /// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
    /// let redis = Redis::builder("redis://user:password@mymaster").sentinels(sentinels);
    /// let redis = redis.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sentinels<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.find.sentinels = urls.into_iter().map(Into::into).collect();
        self
    }

    /// It is a Redis Cluster: the node of the URL says where the others are. A URL with several nodes
    /// says so by itself. One that still answers is enough.
    ///
    /// Events are published at one node and heard at another, which keeps their order; what has a key or
    /// a sharded channel goes to the node that has its slot.
    ///
    /// ```no_run
    /// # use antiphon_redis::Redis;
    /// # async fn example() -> Result<(), antiphon_redis::Error> {
    /// let redis = Redis::connect("redis://user:password@10.0.0.1:7000,10.0.0.2:7000").await?;
    /// let the_same = Redis::builder("redis://user:password@redis.internal:7000").cluster();
    /// # Ok(())
    /// # }
    /// ```
    pub const fn cluster(mut self) -> Self {
        self.find.is_cluster = true;
        self
    }

    /// Where the other servers find this one, as in `http://10.0.0.5:3000`, so that clients may come
    /// to any server with each request: no sticky sessions. It is the address of whatever serves
    /// this server, within the servers' own network. A path in it is put in front of the path of
    /// each request. With servers of Node ([`connect_node`](Self::connect_node)) it is of no matter.
    ///
    /// # Panics
    /// If it isn't `http://` with a host, a port (or 80) and maybe a path.
    pub fn advertise(mut self, url: &str) -> Self {
        self.address = Some(Address::new(url));
        self
    }

    /// How long other servers have for their answers, with servers of Node
    /// ([`connect_node`](Self::connect_node)): the option `requestsTimeout` of their adapter, and 5 s by
    /// default. See [`NodeCluster::requests_timeout`].
    pub const fn requests_timeout(mut self, time: Duration) -> Self {
        self.requests_timeout = time;
        self
    }

    /// Begins without the Redis if that can't be had now, and goes on trying: until then this server
    /// knows its own sockets alone, and its [health](Cluster::health) says what is wrong.
    pub const fn wait(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. If it [waits](Self::wait), only what no time
    /// cures is an error: a wrong URL.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Redis, Error> {
        let (prefix, channels) = (self.prefix.clone(), self.channels());
        let address = self.address.clone();
        let cluster = self.open(channels, |broker| {
            let cluster = Cluster::builder(broker).prefix(prefix);
            cluster.advertise(address).start()
        });
        Ok(Redis {
            cluster: cluster.await?,
        })
    }

    /// Connects to a cluster that has servers of Node: says what their adapter says. The prefix is
    /// the one of `wire`.
    ///
    /// ```no_run
    /// use antiphon::Server;
    /// use antiphon_redis::{NodeWire, Redis};
    ///
    /// # async fn example() -> Result<(), antiphon_redis::Error> {
    /// // const io = new Server({ adapter: createAdapter(pub, sub) });
    /// let redis = Redis::builder("redis://127.0.0.1");
    /// let redis = redis.connect_node(NodeWire::classic()).await?;
    /// let io = Server::builder().adapter(redis).build();
    /// io.to("lobby").emit("news", "for the sockets of all servers, of both kinds");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect_node(self, wire: NodeWire) -> Result<NodeRedis, Error> {
        let channels = channels_of(&wire);
        let time = self.requests_timeout;
        let cluster = self.open(channels, |broker| {
            NodeCluster::new(broker, wire).requests_timeout(time)
        });
        Ok(NodeRedis {
            cluster: cluster.await?,
        })
    }

    /// Connects a program that is no server: see [`Emitter`].
    ///
    /// ```no_run
    /// use antiphon_redis::Redis;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let emitter = Redis::builder("redis://127.0.0.1").emitter().await?;
    /// emitter.of("/").to("lobby").emit("news", &"from a job")?;
    /// emitter.close().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn emitter(self) -> Result<Emitter, Error> {
        let (prefix, mut channels) = (self.prefix.clone(), self.channels());
        channels.listens = false;
        self.open(channels, |broker| Emitter::named(broker, &prefix))
            .await
    }

    /// As [`emitter`](Self::emitter), for a cluster that has servers of Node.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn node_emitter(self, wire: NodeWire) -> Result<Emitter, Error> {
        let mut channels = channels_of(&wire);
        channels.listens = false;
        if let Some(streams) = &mut channels.streams {
            streams.names.clear();
        }
        self.open(channels, |broker| Emitter::node(broker, wire))
            .await
    }

    /// The channels of our own wire.
    fn channels(&self) -> Channels {
        let prefix = &self.prefix;
        Channels {
            are_sharded: false,
            listens: true,
            probe: format!("{prefix}:probe"),
            right: format!("&{prefix}:*"),
            logs: Some(format!("~{prefix}:*")),
            streams: None,
        }
    }

    async fn open<C>(
        self,
        channels: Channels,
        cluster: impl FnOnce(Arc<RedisBroker>) -> C,
    ) -> Result<C, Error> {
        let server = Server::new(&self.find, channels)?;
        let broker = Arc::new(RedisBroker::new(server));
        let shared = Arc::clone(&broker.0);
        let cluster = cluster(broker);
        if !self.waits {
            // Dropped, the cluster ends the attempts.
            shared.connected().await?;
        }
        Ok(cluster)
    }
}

/// The channels of one of Node's wires.
fn channels_of(wire: &NodeWire) -> Channels {
    let (are_sharded, streams) = match wire {
        NodeWire::Sharded { .. } => (true, None),
        NodeWire::Streams {
            stream,
            max_len,
            sharded,
            sessions,
            ..
        } => {
            let names = wire.streams_to_read();
            let streams = Streams {
                written: names.first().unwrap_or(stream).clone(),
                names,
                max_len: *max_len,
                right: format!("~{stream}* ~{sessions}*"),
            };
            (*sharded, Some(streams))
        }
        _ => (false, None),
    };
    let prefix = wire.prefix();
    Channels {
        are_sharded,
        listens: true,
        probe: format!("{prefix}-probe"),
        right: match wire {
            // A right to patterns has to name each of them, and there is one a namespace.
            NodeWire::Classic { .. } => "allchannels".to_owned(),
            _ => format!("&{prefix}*"),
        },
        logs: None,
        streams,
    }
}

/// Connects a server with others by a Redis, servers of Node among them: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle, which is the
/// [`NodeCluster`], too. See [`RedisBuilder::connect_node`].
#[derive(Clone)]
pub struct NodeRedis {
    cluster: NodeCluster,
}

antiphon_cluster::handle!(NodeRedis of NodeCluster);

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisBuilder")
            .field("prefix", &self.prefix)
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}
