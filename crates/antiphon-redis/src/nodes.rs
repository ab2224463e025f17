//! The connections by which something leaves: one, or one to each node of a Redis Cluster that has
//! slots.
//!
//! The task that publishes owns them. It is told when one fails, and then all of them are made anew.
//! Questions go by the same connections ([`Reach`]).

use std::{sync::Arc, task::Poll};

use redis::aio::MultiplexedConnection;

use crate::{
    cluster::Cluster,
    connection::{Connection, Ending},
    error::Error,
    server::{Server, Way},
    topology::{Address, Topology},
};

/// Connections to all nodes that a task needs.
pub(crate) struct Nodes {
    /// `None` if one node is enough.
    topology: Option<Arc<Topology>>,
    nodes: Vec<Node>,
}

/// One of them.
pub(crate) struct Node {
    /// `None` if it is of no matter which it is.
    address: Option<Address>,
    pub(crate) connection: Connection,
    /// The digest of the script that appends to logs, once this node has been told.
    pub(crate) script: Option<Result<String, Error>>,
    ending: Ending,
}

/// By which connections questions may be asked.
#[derive(Clone)]
pub(crate) struct Reach {
    topology: Option<Arc<Topology>>,
    nodes: Vec<(Option<Address>, MultiplexedConnection)>,
}

impl Nodes {
    /// Connects to one node, or to all that have slots.
    pub(crate) async fn connect(server: &Server, way: Way) -> Result<Self, Error> {
        if let (Way::Keyed, Some(cluster)) = (way, server.cluster()) {
            let topology = server.look(cluster, None).await?;
            return Self::of(server, cluster, topology, Vec::new()).await;
        }
        let connection = server.connect(Arc::new(|_| {})).await?;
        let probe = server.probe(None);
        server.check(&connection, &probe).await?;
        let node = Node {
            address: None,
            ending: connection.ending(Some(probe)),
            connection,
            script: None,
        };
        Ok(Self {
            topology: None,
            nodes: vec![node],
        })
    }

    /// Connections to all that have slots, some of which are there.
    async fn of(
        server: &Server,
        cluster: &Cluster,
        topology: Arc<Topology>,
        mut known: Vec<Node>,
    ) -> Result<Self, Error> {
        if topology.uncovered() > 0 {
            let slots = topology.uncovered();
            return Err(Error::Uncovered { slots });
        }
        let mut nodes = Vec::new();
        for address in topology.masters() {
            let is_it = |node: &Node| node.address.as_ref() == Some(address);
            let probe = server.probe(Some((&topology, address)));
            if let Some(number) = known.iter().position(is_it) {
                let mut node = known.swap_remove(number);
                node.ending = node.connection.ending(Some(probe));
                nodes.push(node);
                continue;
            }
            let connection = server.connect_to(cluster, address, Arc::new(|_| {}));
            let connection = connection.await?;
            server.check(&connection, &probe).await?;
            nodes.push(Node {
                address: Some(address.clone()),
                ending: connection.ending(Some(probe)),
                connection,
                script: None,
            });
        }
        Ok(Self {
            topology: Some(topology),
            nodes,
        })
    }

    /// Asks who has what now, of the node of this number first, and connects to those that are new.
    pub(crate) async fn look(&mut self, server: &Server, best: Option<usize>) -> Result<(), Error> {
        let Some(cluster) = server.cluster() else {
            return Ok(());
        };
        let best = best.and_then(|best| self.nodes.get(best)?.address.as_ref());
        let topology = server.look(cluster, best).await?;
        let known = std::mem::take(&mut self.nodes);
        *self = Self::of(server, cluster, topology, known).await?;
        Ok(())
    }

    /// The number of the node that has this key, or channel: any if nobody has it, which says so.
    pub(crate) fn that_has(&self, key: &str) -> usize {
        let at = self.nodes.iter().map(|node| &node.address);
        position(self.topology.as_deref(), at, key).unwrap_or(0)
    }

    pub(crate) fn node(&mut self, number: usize) -> Option<&mut Node> {
        self.nodes.get_mut(number)
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Resolves when one of them fails.
    pub(crate) async fn failed(&mut self) -> Error {
        std::future::poll_fn(|cx| {
            let mut nodes = self.nodes.iter_mut();
            let failed = nodes.find_map(|node| match node.ending.as_mut().poll(cx) {
                Poll::Ready(error) => Some(error),
                Poll::Pending => None,
            });
            failed.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// By what questions may be asked.
    pub(crate) fn reach(&self) -> Reach {
        let node = |node: &Node| (node.address.clone(), node.connection.requests.clone());
        Reach {
            topology: self.topology.clone(),
            nodes: self.nodes.iter().map(node).collect(),
        }
    }
}

impl Reach {
    /// The connection to the node that has this key.
    pub(crate) fn to(&self, key: &str) -> Option<MultiplexedConnection> {
        let at = self.nodes.iter().map(|(address, _)| address);
        let number = position(self.topology.as_deref(), at, key)?;
        self.nodes
            .get(number)
            .map(|(_, connection)| connection.clone())
    }
}

/// Which of the nodes has a key.
fn position<'a>(
    topology: Option<&Topology>,
    mut nodes: impl Iterator<Item = &'a Option<Address>>,
    key: &str,
) -> Option<usize> {
    match topology {
        Some(topology) => {
            let master = topology.master_of(key)?;
            nodes.position(|node| node.as_ref() == Some(master))
        }
        None => Some(0),
    }
}
