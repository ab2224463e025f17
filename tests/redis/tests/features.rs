//! What several servers must do together, over a Redis.

#![allow(clippy::unwrap_used)]

use antiphon_redis::Redis;
use antiphon_test_cluster::{Pair, features, support::until, test_features};
use antiphon_test_redis::RedisServer;

async fn pair() -> Pair {
    let server = RedisServer::start();
    let mut adapters = Vec::new();
    for _ in 0..2 {
        adapters.push(Redis::connect(&server.url()).await.unwrap());
    }
    for redis in &adapters {
        until("both servers", || redis.servers().len() == 2).await;
    }
    let adapters: [Redis; 2] = adapters.try_into().unwrap();
    let settled = (adapters.clone(), server);
    Pair::new(adapters, move || {
        // The Redis lives as long as the pair.
        let (adapters, _) = &settled;
        let adapters = adapters.clone();
        Box::pin(async move {
            for redis in adapters {
                redis.subscribed().await;
            }
        })
    })
}

test_features!(pair);

#[tokio::test]
async fn values_of_other_servers_sockets_are_known() {
    let pair = pair().await;
    features::values_of_other_servers_sockets_are_known(pair).await;
}
