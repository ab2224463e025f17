//! Two servers at a NATS server.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use antiphon_cluster::{Health, Trouble};
use antiphon_nats::Nats;
use antiphon_test_cluster::{
    Pair,
    support::{until, within},
};
use antiphon_test_nats::NatsServer;

/// Two servers, the handles of their connections, and their NATS server.
pub struct Two {
    pub pair: Pair,
    pub nodes: [Nats; 2],
    pub nats: NatsServer,
}

impl Two {
    pub async fn new() -> Self {
        Self::at(NatsServer::start()).await
    }

    pub async fn at(nats: NatsServer) -> Self {
        Self::with_login(nats, "").await
    }

    /// With a login as `user:password@`.
    pub async fn with_login(nats: NatsServer, login: &str) -> Self {
        let url = nats.url_of(login);
        let one = Nats::connect(&url).await.unwrap();
        let two = Nats::connect(&url).await.unwrap();
        let nodes = [one, two];
        for node in &nodes {
            until("both servers", || node.servers().len() == 2).await;
            ready(node).await;
        }
        let settled = nodes.clone();
        let pair = Pair::new(nodes.clone(), move || {
            let nodes = settled.clone();
            Box::pin(async move {
                for node in nodes {
                    node.subscribed().await;
                }
            })
        });
        Self { pair, nodes, nats }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }
}

/// Waits until this server is well.
pub async fn ready(node: &Nats) {
    let mut health = node.watch_health();
    let ready = health.wait_for(|health| *health == Health::Ready);
    within("its health", ready).await.unwrap();
}

/// Waits until this server has no connection, and gives the reason.
pub async fn down(node: &Nats) -> String {
    down_for(node, "").await
}

/// Waits until this server has no connection for a reason that contains this.
pub async fn down_for(node: &Nats, part: &str) -> String {
    let mut health = node.watch_health();
    let reason = |health: &Health| match health {
        Health::Degraded(Trouble::Down { reason }) => Some(reason.clone()),
        _ => None,
    };
    let down = health.wait_for(|health| reason(health).is_some_and(|reason| reason.contains(part)));
    let down = within("the trouble", down).await.unwrap();
    reason(&down).unwrap()
}
