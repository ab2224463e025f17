//! A Redis Cluster for tests: nodes of one's own, which end with the value that stands for them.

use std::{
    thread,
    time::{Duration, Instant},
};

use redis::Value;

use crate::{RedisServer, free_port};

/// So many slots there are.
const SLOTS: usize = 16_384;

/// So long the nodes may take to agree.
const AGREE: Duration = Duration::from_secs(30);

/// A running Redis Cluster.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters first, each with its share of the slots, then a replica of each of the first.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Three masters.
    pub fn start() -> Self {
        Self::with(3, 0)
    }

    /// So many masters, and replicas of the first of them.
    pub fn with(masters: usize, replicas: usize) -> Self {
        let start = |_| {
            // By default it is far above the port, where there may be none.
            let bus = free_port().to_string();
            RedisServer::with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                // So soon a node that doesn't answer counts as failed.
                "--cluster-node-timeout",
                "1000",
            ])
        };
        let cluster = Self {
            nodes: (0..masters + replicas).map(start).collect(),
        };
        for (number, node) in cluster.nodes[..masters].iter().enumerate() {
            let first = number * SLOTS / masters;
            let last = (number + 1) * SLOTS / masters - 1;
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let range = [first.to_string(), last.to_string()];
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
        }
        for node in &cluster.nodes[1..] {
            cluster.meet(node);
        }
        cluster.until(|node| known(node) == masters + replicas);
        for (number, replica) in cluster.nodes[masters..].iter().enumerate() {
            let master = cluster.nodes[number].node_id();
            replica.command(&["CLUSTER", "REPLICATE", &master]);
        }
        cluster.until(|node| node.cluster_info("cluster_state") == "ok");
        for replica in &cluster.nodes[masters..] {
            wait(|| replica.info("master_link_status") == "up");
        }
        cluster
    }

    /// The URL of all nodes.
    pub fn url(&self) -> String {
        self.url_of("")
    }

    /// The URL with a login, as `user:password@`.
    pub fn url_of(&self, login: &str) -> String {
        let nodes = self.nodes.iter();
        let nodes: Vec<_> = nodes
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis://{login}{}", nodes.join(","))
    }

    /// Lets a new node in, which has no slots.
    fn meet(&self, node: &RedisServer) {
        let (port, bus) = (node.port().to_string(), node.option("--cluster-port"));
        self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }

    fn until(&self, is_true: impl Fn(&RedisServer) -> bool) {
        wait(|| self.nodes.iter().all(&is_true));
    }

    /// The number of the node that has a key.
    pub fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let has = |node: &RedisServer| {
            let Ok(Value::Array(ranges)) = node.try_command(&["CLUSTER", "SLOTS"]) else {
                // It is dead.
                return false;
            };
            ranges.into_iter().any(|range| {
                let Value::Array(range) = range else {
                    panic!("no range");
                };
                let is_it = |port: &Value| *port == Value::Int(node.port().into());
                let master: Vec<Value> = redis::from_redis_value(range[2].clone()).unwrap();
                let [Value::Int(first), Value::Int(last)] = range[..2] else {
                    panic!("no numbers");
                };
                (first..=last).contains(&slot) && is_it(&master[1])
            })
        };
        self.nodes.iter().position(has).unwrap()
    }

    fn slot(&self, key: &str) -> i64 {
        match self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]) {
            Value::Int(slot) => slot,
            other => panic!("{other:?}"),
        }
    }

    /// Moves the slot of a key to another node, with what is in it, and takes its time.
    pub fn migrate(&self, key: &str, to: usize, pause: Duration) {
        let slot = self.slot(key).to_string();
        let (from, to) = (&self.nodes[self.owner(key)], &self.nodes[to]);
        let ids = [from.node_id(), to.node_id()];
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
        thread::sleep(pause);
        loop {
            let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
            if keys.is_empty() {
                break;
            }
            let port = to.port().to_string();
            let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            from.command(&[&head[..], &keys].concat());
            thread::sleep(pause);
        }
        for node in [to, from].into_iter().chain(&self.nodes) {
            // A replica learns it by itself.
            if node.info("role") == "master" {
                node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]);
            }
        }
    }
}

impl RedisServer {
    /// The id of a node.
    pub fn node_id(&self) -> String {
        redis::from_redis_value(self.command(&["CLUSTER", "MYID"])).unwrap()
    }

    /// A field of `CLUSTER INFO`.
    pub fn cluster_info(&self, field: &str) -> String {
        let info = self.command(&["CLUSTER", "INFO"]);
        let info: String = redis::from_redis_value(info).unwrap();
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(name, _)| *name == field).unwrap();
        value.to_owned()
    }

    fn option(&self, name: &str) -> String {
        let number = self.options.iter().position(|option| option == name);
        self.options[number.unwrap() + 1].clone()
    }
}

/// How many nodes a node knows.
fn known(node: &RedisServer) -> usize {
    node.cluster_info("cluster_known_nodes").parse().unwrap()
}

fn wait(is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < AGREE, "the nodes don't agree");
        thread::sleep(Duration::from_millis(50));
    }
}
