//! Two servers at a Redis.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)]

use antiphon::{Server, ServerBuilder, adapter::BoxFuture};
use antiphon_redis::Redis;
use antiphon_test_cluster::{Pair, support::until};
pub use antiphon_test_cluster::{down, down_for, ready};
use antiphon_test_redis::RedisServer;

/// Two servers, the handles of their connections, and their Redis.
pub struct Two {
    pub pair: Pair,
    pub nodes: [Redis; 2],
    pub redis: RedisServer,
}

impl Two {
    pub async fn new() -> Self {
        Self::at(RedisServer::start()).await
    }

    pub async fn at(redis: RedisServer) -> Self {
        Self::built(redis, Server::builder).await
    }

    /// Servers that are built so.
    pub async fn built(redis: RedisServer, builder: impl Fn() -> ServerBuilder) -> Self {
        let one = Redis::connect(&redis.url()).await.unwrap();
        let two = Redis::connect(&redis.url()).await.unwrap();
        let nodes = [one, two];
        for node in &nodes {
            until("both servers", || node.servers().len() == 2).await;
            ready(node).await;
        }
        let settled = nodes.clone();
        let settle = move || -> BoxFuture<()> {
            let nodes = settled.clone();
            Box::pin(async move {
                for node in nodes {
                    node.subscribed().await;
                }
            })
        };
        let pair = Pair::built(nodes.clone(), settle, builder);
        Self { pair, nodes, redis }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }
}
