//! How many listen to a channel of a Redis Cluster: its nodes count their own, and are all asked.
//!
//! The broker's [`Shared`](crate::shared::Shared) owns a [`Counter`], which keeps a connection to each node
//! for that alone. A master that doesn't answer is an error, since nobody knows what it would have said.

use std::{collections::HashMap, sync::Arc};

use redis::Cmd;
use tokio::sync::Mutex;

use crate::{
    cluster::Cluster,
    connection::Connection,
    error::Error,
    server::Server,
    topology::{Address, Topology},
};

/// Connections to all nodes of a Redis Cluster, also to those that follow another: clients may listen
/// at any, and each counts its own.
#[derive(Default)]
pub(crate) struct Counter {
    connections: Mutex<HashMap<Address, Connection>>,
}

impl Counter {
    /// The sum of what all nodes count. If one doesn't answer it may be that another has its place.
    pub(crate) async fn count(
        &self,
        server: &Server,
        cluster: &Cluster,
        question: &Cmd,
    ) -> Result<usize, Error> {
        let mut connections = self.connections.lock().await;
        let known = cluster.watch().borrow().clone();
        if let Some(topology) = known
            && let Ok(count) =
                count_at_all(server, cluster, &topology, &mut connections, question).await
        {
            return Ok(count);
        }
        let topology = server.look(cluster, None).await?;
        count_at_all(server, cluster, &topology, &mut connections, question).await
    }
}

/// The sum of what all nodes count. A node that follows another and can't be reached counts nobody.
async fn count_at_all(
    server: &Server,
    cluster: &Cluster,
    topology: &Topology,
    connections: &mut HashMap<Address, Connection>,
    question: &Cmd,
) -> Result<usize, Error> {
    let masters = topology.masters().into_iter();
    let nodes: Vec<_> = masters
        .map(|node| (node, true))
        .chain(topology.replicas().iter().map(|node| (node, false)))
        .collect();
    connections.retain(|node, _| nodes.iter().any(|(known, _)| *known == node));
    let mut all = 0;
    for (node, is_master) in nodes {
        match count_at(server, cluster, node, connections, question).await {
            Ok(count) => all += count,
            Err(error) if is_master => return Err(error),
            Err(_) => {}
        }
    }
    Ok(all)
}

/// What one node counts. A connection that fails is given up.
async fn count_at(
    server: &Server,
    cluster: &Cluster,
    node: &Address,
    connections: &mut HashMap<Address, Connection>,
    question: &Cmd,
) -> Result<usize, Error> {
    let connection = match connections.remove(node) {
        Some(connection) if !*connection.closed.borrow() => connection,
        _ => server.connect_to(cluster, node, Arc::new(|_| {})).await?,
    };
    let asked = question.query_async(&mut connection.requests.clone()).await;
    let (_, count): (String, usize) = asked.map_err(|error| connection.error(&error))?;
    connections.insert(node.clone(), connection);
    Ok(count)
}
