//! What the servers meet at, and what happens to it.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use antiphon_test_nats::NatsServer;
use antiphon_test_postgres::PostgresServer;
use antiphon_test_redis::{RedisCluster, RedisServer};

use crate::net::Network;

/// Of the primary among its Sentinels.
const NAME: &str = "the-primary";

/// Beyond so much that waits for a subscriber Redis gives it up.
const BUFFER: &str = "pubsub 256kb 0 0";
/// As it comes.
const STOCK: &str = "pubsub 32mb 8mb 60";

/// What the servers meet at.
pub enum Broker {
    Redis(RedisServer),
    /// The Sentinel, and the two that take turns as the primary.
    Sentinel {
        sentinel: RedisServer,
        servers: Box<[RedisServer; 2]>,
        primary: usize,
    },
    /// Three pairs, of which each has a master and its replica, and the pair that is next to suffer.
    Cluster {
        cluster: RedisCluster,
        turn: usize,
    },
    Nats(NatsServer),
    Postgres(PostgresServer),
}

/// Pairs of a Redis Cluster.
const PAIRS: usize = 3;

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is killed, and comes back after this time.
    Killed(Duration),
    /// It does nothing for this time.
    Frozen(Duration),
    /// For this time it closes the connections of its subscribers, or all, again and again.
    Closes(Duration),
    /// For this time more waits for subscribers than they may have.
    Overflows(Duration),
    /// The primary is killed, and another one takes its place.
    FailsOver,
}

impl Broker {
    pub fn redis(networks: &[Network]) -> Self {
        let addresses = networks.iter().map(|network| network.host.as_str());
        let bind = ["--protected-mode", "no", "--bind", "127.0.0.1"];
        let options: Vec<_> = bind.into_iter().chain(addresses).collect();
        Self::Redis(RedisServer::with(&options))
    }

    pub fn nats(networks: &[Network]) -> Self {
        // It takes one address.
        let host = if networks.is_empty() {
            "127.0.0.1"
        } else {
            "0.0.0.0"
        };
        Self::Nats(NatsServer::with(&format!("host: {host}")))
    }

    pub fn sentinel() -> Self {
        let first = RedisServer::start();
        let of = format!("127.0.0.1 {}", first.port());
        let second = RedisServer::with(&["--replicaof", &of]);
        let sentinel = first.sentinel(NAME);
        let it = Self::Sentinel {
            sentinel,
            servers: Box::new([first, second]),
            primary: 0,
        };
        it.has_replica();
        it
    }

    pub fn cluster() -> Self {
        Self::Cluster {
            cluster: RedisCluster::with(PAIRS, PAIRS),
            turn: 0,
        }
    }

    /// Waits until whoever isn't the primary follows it, and the Sentinel knows.
    fn has_replica(&self) {
        let (sentinel, servers, primary) = match self {
            Self::Sentinel {
                sentinel,
                servers,
                primary,
            } => (sentinel, servers, primary),
            Self::Cluster { cluster, .. } => {
                return until("the replicas", || are_pairs(cluster));
            }
            _ => return,
        };
        let port = servers[1 - primary].port().to_string();
        until("the replica", || {
            let replica = &servers[1 - primary];
            let known = sentinel.command(&["SENTINEL", "REPLICAS", NAME]);
            let known: Vec<HashMap<String, String>> = redis::from_redis_value(known).unwrap();
            let is_it = |known: &HashMap<_, _>| known["port"] == port && known["flags"] == "slave";
            replica.info("role") == "slave"
                && replica.info("master_link_status") == "up"
                && known.iter().any(is_it)
        });
    }

    /// What a server is given to connect: the URL of this, and of Sentinels.
    pub fn urls(&self, network: Option<&Network>) -> Vec<String> {
        let host = network.map_or("127.0.0.1", |network| &network.host);
        match self {
            Self::Redis(redis) => vec![format!("redis://{host}:{}", redis.port())],
            Self::Nats(nats) => vec![format!("nats://{host}:{}", nats.port())],
            Self::Sentinel { sentinel, .. } => vec![format!("redis://{NAME}"), sentinel.url()],
            Self::Cluster { cluster, .. } => vec![cluster.url()],
            Self::Postgres(postgres) => vec![postgres.url()],
        }
    }

    /// It happens, and is over.
    pub fn suffers(&mut self, trouble: Trouble) {
        match (trouble, self) {
            (Trouble::FailsOver, Self::Cluster { cluster, turn }) => {
                let (gone, next) = pair(cluster, turn);
                cluster.nodes[gone].kill();
                until("the fail-over", || {
                    cluster.nodes[next].info("role") == "master"
                        && cluster.nodes[next].cluster_info("cluster_state") == "ok"
                });
                cluster.nodes[gone].restart();
            }
            (Trouble::Frozen(time), Self::Cluster { cluster, turn }) => {
                let (master, _) = pair(cluster, turn);
                cluster.nodes[master].freeze();
                thread::sleep(time);
                cluster.nodes[master].thaw();
            }
            (Trouble::FailsOver, broker) => broker.fails_over(),
            (Trouble::Killed(time), Self::Redis(redis)) => {
                redis.kill();
                thread::sleep(time);
                redis.restart();
            }
            (Trouble::Killed(time), Self::Nats(nats)) => {
                nats.kill();
                thread::sleep(time);
                nats.restart();
            }
            (Trouble::Killed(time), Self::Postgres(postgres)) => {
                postgres.kill();
                thread::sleep(time);
                postgres.restart();
            }
            (Trouble::Frozen(time), Self::Postgres(postgres)) => {
                postgres.freeze();
                thread::sleep(time);
                postgres.thaw();
            }
            (Trouble::Closes(time), Self::Postgres(postgres)) => {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    postgres.cut();
                    thread::sleep(Duration::from_millis(200));
                }
            }
            (Trouble::Frozen(time), Self::Redis(redis)) => {
                redis.freeze();
                thread::sleep(time);
                redis.thaw();
            }
            (Trouble::Frozen(time), Self::Nats(nats)) => {
                nats.freeze();
                thread::sleep(time);
                nats.thaw();
            }
            (Trouble::Closes(time), Self::Redis(redis)) => {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                    thread::sleep(Duration::from_millis(50));
                }
            }
            (Trouble::Overflows(time), Self::Redis(redis)) => {
                let limit = |limit| {
                    redis.command(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
                };
                limit(BUFFER);
                thread::sleep(time);
                limit(STOCK);
            }
            (trouble, _) => panic!("{trouble:?} isn't for this broker"),
        }
    }

    fn fails_over(&mut self) {
        let Self::Sentinel {
            sentinel,
            servers,
            primary,
        } = self
        else {
            panic!("without a Sentinel nothing fails over");
        };
        let gone = *primary;
        servers[gone].kill();
        *primary = 1 - gone;
        let port = servers[*primary].port().to_string();
        until("the fail-over", || {
            let named = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            let (_, named): (String, String) = redis::from_redis_value(named).unwrap();
            named == port
        });
        until("the new primary", || {
            servers[*primary].info("role") == "master"
        });
        servers[gone].restart();
    }

    /// Whoever was the primary follows the new one: a fail-over is possible again.
    pub fn recovers(&self) {
        self.has_replica();
    }

    /// How many subscriptions each connection has that has any, if the broker says so.
    pub fn subscriptions(&self) -> Option<Vec<usize>> {
        let redis = match self {
            Self::Redis(redis) => std::slice::from_ref(redis),
            Self::Sentinel {
                servers, primary, ..
            } => std::slice::from_ref(&servers[*primary]),
            Self::Cluster { cluster, .. } => &cluster.nodes,
            Self::Nats(_) | Self::Postgres(_) => return None,
        };
        let number = |line: &String| {
            let field = line.split(' ').find_map(|field| field.strip_prefix("sub="));
            field.unwrap().parse().unwrap()
        };
        let clients = redis.iter().flat_map(|redis| redis.clients("pubsub"));
        Some(clients.map(|line| number(&line)).collect())
    }
}

/// The master and the replica of the pair whose turn it is.
fn pair(cluster: &RedisCluster, turn: &mut usize) -> (usize, usize) {
    let (one, other) = (*turn % PAIRS, *turn % PAIRS + PAIRS);
    *turn += 1;
    match &*cluster.nodes[one].info("role") {
        "master" => (one, other),
        _ => (other, one),
    }
}

/// Whether each pair has a master and a replica that follows it.
fn are_pairs(cluster: &RedisCluster) -> bool {
    let follows = |node: &RedisServer| {
        node.info("role") == "slave" && node.info("master_link_status") == "up"
    };
    let is_pair = |at| {
        let of = [at, at + PAIRS].map(|at| &cluster.nodes[at]);
        of.iter().filter(|node| follows(node)).count() == 1
            && of.iter().any(|node| node.info("role") == "master")
    };
    let agrees = |node: &RedisServer| node.cluster_info("cluster_state") == "ok";
    (0..PAIRS).all(is_pair) && cluster.nodes.iter().all(agrees)
}

/// Waits for something of a broker.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "not in time: {what}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}
