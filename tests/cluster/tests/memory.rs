//! The cluster with the broker in memory.

#![allow(clippy::unwrap_used)]

use antiphon_cluster::{Cluster, broker::memory::Hub};
use antiphon_test_cluster::{Pair, test_features};

async fn pair() -> Pair {
    let hub = Hub::new();
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
