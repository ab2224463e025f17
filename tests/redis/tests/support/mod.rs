//! Two servers at a Redis.

// Not every test uses all of it.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)]

use std::{thread, time::Duration};

use antiphon::{Namespace, Server, ServerBuilder, adapter::BoxFuture};
use antiphon_cluster::Health;
use antiphon_redis::{NodeRedis, NodeWire, Redis};
use antiphon_test_cluster::{
    Pair,
    recovery::Returning,
    support::{until, within},
};
pub use antiphon_test_cluster::{down, down_for, ready, refused};
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
        let pair = Pair::of(&nodes, builder).await;
        Self { pair, nodes, redis }
    }

    /// Both are well.
    pub async fn ready(&self) {
        for node in &self.nodes {
            ready(node).await;
        }
    }
}

/// Two servers with the wire of Node's adapter for Redis streams.
pub struct Streams {
    pub pair: Pair,
    pub nodes: [NodeRedis; 2],
    pub redis: RedisServer,
}

impl Streams {
    pub async fn new() -> Self {
        Self::built(RedisServer::start(), NodeWire::streams(), Server::builder).await
    }

    pub async fn built(
        redis: RedisServer,
        wire: NodeWire,
        builder: impl Fn() -> ServerBuilder,
    ) -> Self {
        let urls = [redis.url(), redis.url()];
        Self::by(redis, urls, wire, builder).await
    }

    /// Servers that each reach the Redis under a URL of its own.
    pub async fn by(
        redis: RedisServer,
        urls: [String; 2],
        wire: NodeWire,
        builder: impl Fn() -> ServerBuilder,
    ) -> Self {
        let mut nodes = Vec::new();
        for url in urls {
            let builder = Redis::builder(&url);
            nodes.push(builder.connect_node(wire.clone()).await.unwrap());
        }
        let nodes: [NodeRedis; 2] = nodes.try_into().unwrap();
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
            let mut health = node.watch_health();
            let ready = health.wait_for(|health| *health == Health::Ready);
            within("its health", ready).await.unwrap();
        }
    }

    /// Neither is.
    pub async fn down(&self) {
        for node in &self.nodes {
            let mut health = node.watch_health();
            let down = health.wait_for(|health| *health != Health::Ready);
            within("the trouble", down).await.unwrap();
        }
    }
}
