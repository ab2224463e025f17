//! What the servers meet at, and what happens to it.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use antiphon_test_nats::NatsServer;
use antiphon_test_redis::RedisServer;

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
    Nats(NatsServer),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is killed, and comes back after this time.
    Killed(Duration),
    /// It does nothing for this time.
    Frozen(Duration),
    /// For this time it closes the connections of its subscribers, again and again.
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

    /// Waits until the one that isn't the primary follows it, and the Sentinel knows.
    fn has_replica(&self) {
        let Self::Sentinel {
            sentinel,
            servers,
            primary,
        } = self
        else {
            return;
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
        }
    }

    /// It happens, and is over.
    pub fn suffers(&mut self, trouble: Trouble) {
        match (trouble, self) {
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

    /// What was the primary follows the new one: a fail-over is possible again.
    pub fn recovers(&self) {
        self.has_replica();
    }

    /// How many subscriptions each connection has that has any, if the broker says so.
    pub fn subscriptions(&self) -> Option<Vec<usize>> {
        let redis = match self {
            Self::Redis(redis) => redis,
            Self::Sentinel {
                servers, primary, ..
            } => &servers[*primary],
            Self::Nats(_) => return None,
        };
        let number = |line: &String| {
            let field = line.split(' ').find_map(|field| field.strip_prefix("sub="));
            field.unwrap().parse().unwrap()
        };
        Some(redis.clients("pubsub").iter().map(number).collect())
    }
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
