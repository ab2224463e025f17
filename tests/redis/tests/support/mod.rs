//! Two servers at a Redis.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use antiphon_cluster::{Health, Trouble};
use antiphon_redis::Redis;
use antiphon_test_cluster::{
    Pair,
    support::{until, within},
};
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
        let one = Redis::connect(&redis.url()).await.unwrap();
        let two = Redis::connect(&redis.url()).await.unwrap();
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
        Self { pair, nodes, redis }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }
}

/// Waits until this server is well.
pub async fn ready(node: &Redis) {
    let mut health = node.watch_health();
    let ready = health.wait_for(|health| *health == Health::Ready);
    within("its health", ready).await.unwrap();
}

/// Waits until this server has no connection, and gives the reason.
pub async fn down(node: &Redis) -> String {
    down_for(node, "").await
}

/// Waits until this server has no connection for a reason that contains this.
pub async fn down_for(node: &Redis, part: &str) -> String {
    let mut health = node.watch_health();
    let reason = |health: &Health| match health {
        Health::Degraded(Trouble::Down { reason }) => Some(reason.clone()),
        _ => None,
    };
    let down = health.wait_for(|health| reason(health).is_some_and(|reason| reason.contains(part)));
    let down = within("the trouble", down).await.unwrap();
    reason(&down).unwrap()
}
