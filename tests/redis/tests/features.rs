//! What several servers must do together, over a Redis.

#![allow(clippy::unwrap_used)]

use antiphon::{Server, ServerBuilder, adapter::BoxFuture};
use antiphon_redis::{NodeRedis, NodeWire, Redis};
use antiphon_test_cluster::{
    Pair, features, recovery, support::until, test_features, test_recovery,
};
use antiphon_test_redis::RedisServer;

async fn pair() -> Pair {
    built(RedisServer::start(), Server::builder).await
}

async fn built(server: RedisServer, builder: impl Fn() -> ServerBuilder) -> Pair {
    let mut adapters = Vec::new();
    for _ in 0..2 {
        adapters.push(Redis::connect(&server.url()).await.unwrap());
    }
    for redis in &adapters {
        until("both servers", || redis.servers().len() == 2).await;
    }
    let adapters: [Redis; 2] = adapters.try_into().unwrap();
    let settled = (adapters.clone(), server);
    let settle = move || -> BoxFuture<()> {
        // The Redis lives as long as the pair.
        let (adapters, _) = &settled;
        let adapters = adapters.clone();
        Box::pin(async move {
            for redis in adapters {
                redis.subscribed().await;
            }
        })
    };
    Pair::built(adapters, settle, builder)
}

test_features!(pair);

#[tokio::test]
async fn values_of_other_servers_sockets_are_known() {
    let pair = pair().await;
    features::values_of_other_servers_sockets_are_known(pair).await;
}

mod coming_back {
    //! Clients that come back to another server: the log that both share is in the Redis.

    use super::*;

    async fn pair() -> Pair {
        built(RedisServer::start(), recovery::builder).await
    }

    test_recovery!(pair);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_emitter_is_logged_once() {
        let server = RedisServer::start();
        let emitter = Redis::builder(&server.url()).emitter().await.unwrap();
        let pair = built(server, recovery::builder).await;
        recovery::an_emitter_is_logged_once(pair, emitter).await;
    }
}

mod streams {
    //! The same over the wire of Node's adapter for Redis streams: an acknowledgement has one
    //! argument there, and doesn't say whose it is. Questions go by channels, and may overtake what
    //! goes by the stream.

    use super::*;

    async fn pair() -> Pair {
        let server = RedisServer::start();
        let mut adapters = Vec::new();
        for _ in 0..2 {
            let redis = Redis::builder(&server.url());
            adapters.push(redis.connect_node(NodeWire::streams()).await.unwrap());
        }
        let adapters: [NodeRedis; 2] = adapters.try_into().unwrap();
        let settled = (adapters.clone(), server);
        Pair::new(adapters, move || {
            let (adapters, _) = &settled;
            let adapters = adapters.clone();
            Box::pin(async move {
                for redis in adapters {
                    redis.subscribed().await;
                }
            })
        })
    }

    test_features! { pair;
        a_broadcast_reaches_the_sockets_of_both_servers
        attachments_and_arguments_as_they_came_travel
        a_socket_that_is_silent_is_counted_and_its_server_isnt_missing
        sockets_of_both_servers_are_found_once_they_have_moved
        outgoing_listeners_hear_what_another_server_emits
        values_of_other_servers_sockets_are_known
    }
}
