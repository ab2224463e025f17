//! What a hop over Redis costs in time: from an emit on one server to the client of another, beside
//! the same without a hop, and beside bare PUBLISH and SUBSCRIBE.
//!
//! `cargo run --release --package antiphon-test-redis --example hop`

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use antiphon_redis::Redis;
use antiphon_test_cluster::{Client, Pair, support::until};
use antiphon_test_redis::RedisServer;
use redis::{AsyncConnectionConfig, PushKind};

const TIMES: usize = 3_000;

/// How long something takes, as median and 99th percentile.
async fn measure(mut once: impl AsyncFnMut()) -> [Duration; 2] {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        once().await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    [times[TIMES / 2], times[TIMES * 99 / 100]]
}

async fn bare(server: &RedisServer) -> [Duration; 2] {
    let client = redis::Client::open(format!("{}?protocol=resp3", server.url())).unwrap();
    let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel();
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let connect = || client.get_multiplexed_async_connection_with_config(&config);
    let mut listens = connect().await.unwrap();
    listens.subscribe("bare").await.unwrap();
    let mut publishes = client.get_multiplexed_async_connection().await.unwrap();
    measure(async || {
        let mut command = redis::cmd("PUBLISH");
        command.arg("bare").arg("x".repeat(60));
        command.exec_async(&mut publishes).await.unwrap();
        while pushes.recv().await.unwrap().kind != PushKind::Message {}
    })
    .await
}

async fn emitted(pair: &Pair, room: &str, client: &mut Client) -> [Duration; 2] {
    let one = pair.one();
    measure(async || {
        one.to(room).emit("n", 1);
        client.expect(r#"42["n",1]"#).await;
    })
    .await
}

#[tokio::main]
async fn main() {
    let server = RedisServer::start();
    let one = Redis::connect(&server.url()).await.unwrap();
    let two = Redis::connect(&server.url()).await.unwrap();
    for node in [&one, &two] {
        until("both servers", || node.servers().len() == 2).await;
    }
    let pair = Pair::new([one, two.clone()], || Box::pin(async {}));
    let ([mut here, mut there], _) = pair.clients(["a", "b"]).await;
    two.subscribed().await;
    let rows = [
        ("bare PUBLISH and SUBSCRIBE", bare(&server).await),
        (
            "emit to a client of this server",
            emitted(&pair, "a", &mut here).await,
        ),
        (
            "emit to a client of the other",
            emitted(&pair, "b", &mut there).await,
        ),
    ];
    for (what, [median, late]) in rows {
        println!("{what:32} p50 {median:>10.1?}  p99 {late:>10.1?}");
    }
}
