//! The cluster with the broker in memory.

#![allow(clippy::unwrap_used)]

use antiphon_cluster::{Cluster, Emitter, broker::memory::Hub};
use antiphon_test_cluster::{Pair, features, test_features};

async fn pair() -> Pair {
    on(&Hub::new()).await
}

async fn on(hub: &Hub) -> Pair {
    let clusters = [hub.broker(), hub.broker()].map(|broker| Cluster::new(broker));
    for cluster in &clusters {
        cluster.started().await;
    }
    let settled = clusters.clone();
    Pair::new(clusters, move || {
        let clusters = settled.clone();
        Box::pin(async move {
            for cluster in clusters {
                cluster.subscribed().await;
            }
        })
    })
}

test_features!(pair);

#[tokio::test]
async fn a_program_that_is_no_server_emits() {
    let hub = Hub::new();
    let (pair, emitter) = (on(&hub).await, Emitter::new(hub.broker()));
    features::a_program_that_is_no_server_emits(pair, emitter).await;
}
