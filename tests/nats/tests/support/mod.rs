//! Two servers at a NATS server.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)]

use antiphon::{Server, ServerBuilder, adapter::BoxFuture};
use antiphon_nats::Nats;
use antiphon_test_cluster::{Pair, support::until};
pub use antiphon_test_cluster::{down, down_for, ready, refused};
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
        Self::built(nats, &url, Server::builder).await
    }

    /// Servers that are built so, and reach the NATS server under this URL.
    pub async fn built(nats: NatsServer, url: &str, builder: impl Fn() -> ServerBuilder) -> Self {
        let one = Nats::connect(url).await.unwrap();
        let two = Nats::connect(url).await.unwrap();
        let nodes = [one, two];
        let pair = Pair::of(&nodes, builder).await;
        Self { pair, nodes, nats }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }
}
