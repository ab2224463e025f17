//! Clients that come back to another server, with the wire of Node's adapter for Redis streams.

#![allow(clippy::unwrap_used)]

use antiphon_redis::{NodeRedis, NodeWire, Redis};
use antiphon_test_cluster::{
    Pair,
    recovery::{self, builder},
    test_recovery,
};
use antiphon_test_redis::RedisServer;

async fn pair() -> Pair {
    at(RedisServer::start()).await
}

async fn at(server: RedisServer) -> Pair {
    let mut adapters = Vec::new();
    for _ in 0..2 {
        let redis = Redis::builder(&server.url());
        adapters.push(redis.connect_node(NodeWire::streams()).await.unwrap());
    }
    let adapters: [NodeRedis; 2] = adapters.try_into().unwrap();
    let settled = (adapters.clone(), server);
    let settle = move || {
        // The Redis lives as long as the pair.
        let (adapters, _) = &settled;
        let adapters = adapters.clone();
        let settles: antiphon::adapter::BoxFuture<()> = Box::pin(async move {
            for redis in adapters {
                redis.subscribed().await;
            }
        });
        settles
    };
    Pair::built(adapters, settle, builder)
}

test_recovery! { pair;
    a_client_comes_back_to_the_other_server
    a_client_whose_connection_is_open_yet_is_taken_over
    what_is_emitted_while_clients_move_comes_once_and_in_order
    a_server_that_closes_leaves_its_clients_to_the_other
    values_and_rooms_go_with_the_session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emitter_is_logged_once() {
    let redis = RedisServer::start();
    let emitter = Redis::builder(&redis.url());
    let emitter = emitter.node_emitter(NodeWire::streams()).await.unwrap();
    recovery::an_emitter_is_logged_once(at(redis).await, emitter).await;
}
