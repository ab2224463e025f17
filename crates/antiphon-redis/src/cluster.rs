//! A Redis Cluster: where its nodes are, and which of them has what.
//!
//! It is asked each time that a connection is made, and whenever a node says that something is
//! elsewhere. What it has said last is known to all connections of the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisResult, Value};
use tokio::sync::watch;

use crate::{
    error::{Context, Error},
    topology::{Address, Topology},
    url,
};

/// So long a node may take to connect, and to answer: there are others.
const DEADLINE: Duration = Duration::from_secs(1);

/// A Redis Cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// How to log in at a node. Its address is of no matter.
    login: ConnectionInfo,
    /// Nodes that are known from the beginning.
    seeds: Vec<Address>,
    topology: watch::Sender<Option<Arc<Topology>>>,
    /// Any number: so that not all servers are at the same node.
    chance: usize,
    /// How often it was asked. Each time another node is the first: one that is cut off from the
    /// others answers, too, and doesn't know what has changed.
    asked: AtomicUsize,
}

impl Cluster {
    /// The one that has these nodes, at which one logs in as the first says.
    pub(crate) fn new(seeds: &[ConnectionInfo]) -> Result<Self, Error> {
        let mut chance = [0; 4];
        // Without randomness all servers are at one node, which works.
        let _ = getrandom::fill(&mut chance);
        let addresses = seeds.iter().map(|seed| match seed.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                let (host, port) = (host.as_str().into(), *port);
                Ok(Address { host, port })
            }
            _ => Err(Error::Url {
                problem: "the nodes of a Redis Cluster have hosts".to_owned(),
            }),
        });
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        let login = seeds.first().ok_or_else(|| Error::Url {
            problem: "it names no node".to_owned(),
        })?;
        Ok(Self {
            login: login.clone(),
            seeds: addresses,
            topology: watch::Sender::new(None),
            chance: u32::from_ne_bytes(chance) as usize,
            asked: AtomicUsize::new(0),
        })
    }

    /// The addresses of the nodes that are known from the beginning.
    pub(crate) fn name(&self) -> String {
        let seeds: Vec<_> = self.seeds.iter().map(Address::to_string).collect();
        seeds.join(",")
    }

    /// Where and how to log in at a node.
    pub(crate) fn info(&self, node: &Address) -> ConnectionInfo {
        url::at(&self.login, &*node.host, node.port)
    }

    /// What was known last, and when it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Topology>>> {
        self.topology.subscribe()
    }

    /// The node to publish at and to listen at, and those to try after it: the same each time, as
    /// long as it can be reached.
    pub(crate) fn homes(&self, topology: &Topology) -> Vec<Address> {
        let mut masters: Vec<_> = topology.masters().into_iter().cloned().collect();
        let first = self.chance % masters.len().max(1);
        masters.rotate_left(first);
        masters
    }

    /// Asks who has what: the node that may know best, if there is one, then all that are known.
    pub(crate) async fn look(
        &self,
        best: Option<&Address>,
        context: impl Fn(&Address) -> Context,
    ) -> Result<Arc<Topology>, Error> {
        let known = self.topology.borrow().clone();
        let known = known.iter().flat_map(|known| {
            let masters = known.masters().into_iter();
            masters.chain(known.replicas())
        });
        let mut nodes: Vec<_> = known.chain(&self.seeds).collect();
        let first = self.asked.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(first);
        nodes.splice(0..0, best);
        let mut errors = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            if nodes[..number].contains(node) {
                continue;
            }
            match self.ask(node).await {
                Ok(reply) => {
                    let topology = Arc::new(Topology::parse(&reply, &node.host));
                    self.learn(&topology);
                    return Ok(topology);
                }
                Err(error) => errors.push((*node, Error::of(&error, &context(node)))),
            }
        }
        Err(unreachable(errors))
    }

    fn learn(&self, topology: &Arc<Topology>) {
        self.topology.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(topology);
            *known = Some(Arc::clone(topology));
            is_new
        });
    }

    async fn ask(&self, node: &Address) -> RedisResult<Value> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let mut connection = Client::open(self.info(node))?
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS").query_async(&mut connection).await
    }
}

/// What is wrong if no node says who has what: something that concerns all of them, or what each has
/// said.
fn unreachable(mut errors: Vec<(&Address, Error)>) -> Error {
    let is_away = |error: &Error| {
        matches!(
            error,
            Error::Unreachable { .. }
                | Error::Closed { .. }
                | Error::NotTaken { .. }
                | Error::Silent { .. }
        )
    };
    if let Some(number) = errors.iter().position(|(_, error)| !is_away(error)) {
        return errors.swap_remove(number).1;
    }
    let problems: Vec<_> = errors
        .iter()
        .map(|(node, error)| match error {
            Error::Unreachable { problem, .. } => format!("{node}: {problem}"),
            _ => format!("{node}: no answer"),
        })
        .collect();
    Error::NoNode {
        problems: problems.join("; "),
    }
}
