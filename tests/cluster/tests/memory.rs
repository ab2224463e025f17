//! The cluster with the broker in memory.

#![allow(clippy::unwrap_used)]

use antiphon::{Recovery, Server, ServerBuilder, adapter::BoxFuture};
use antiphon_cluster::{Cluster, Emitter, broker::memory::Hub};
use antiphon_test_cluster::{Pair, features, test_features};

async fn pair() -> Pair {
    on(&Hub::new()).await
}

async fn on(hub: &Hub) -> Pair {
    built(hub, Server::builder).await
}

async fn built(hub: &Hub, builder: impl Fn() -> ServerBuilder) -> Pair {
    let clusters = [hub.broker(), hub.broker()].map(|broker| Cluster::new(broker));
    for cluster in &clusters {
        cluster.started().await;
    }
    let settled = clusters.clone();
    let settle = move || -> BoxFuture<()> {
        let clusters = settled.clone();
        Box::pin(async move {
            for cluster in clusters {
                cluster.subscribed().await;
            }
        })
    };
    Pair::built(clusters, settle, builder)
}

test_features!(pair);

#[tokio::test]
async fn a_program_that_is_no_server_emits() {
    let hub = Hub::new();
    let (pair, emitter) = (on(&hub).await, Emitter::new(hub.broker()));
    features::a_program_that_is_no_server_emits(pair, emitter).await;
}

#[tokio::test]
async fn who_was_away_gets_what_other_servers_have_emitted() {
    let builder = || Server::builder().recovery(Recovery::new());
    let pair = built(&Hub::new(), builder).await;
    features::who_was_away_gets_what_other_servers_have_emitted(pair).await;
}

#[tokio::test]
async fn values_of_other_servers_sockets_are_known() {
    let pair = pair().await;
    features::values_of_other_servers_sockets_are_known(pair).await;
}

#[tokio::test]
async fn a_parent_reaches_children_with_a_shared_log_once() {
    let builder = || Server::builder().recovery(Recovery::new());
    let pair = built(&Hub::new(), builder).await;
    features::a_parent_reaches_the_children_of_both_servers(pair).await;
}

#[tokio::test]
async fn a_child_that_comes_again_hears_others() {
    let builder = || Server::builder().remove_empty_namespaces(true);
    let pair = built(&Hub::new(), builder).await;
    features::a_child_that_comes_again_hears_others(pair).await;
}

#[tokio::test]
async fn who_was_away_from_a_child_gets_what_other_servers_have_emitted() {
    let recovery = || Recovery::new().namespaces(["/room-{id}"]);
    let pair = built(&Hub::new(), || Server::builder().recovery(recovery())).await;
    features::who_was_away_from_a_child_comes_back_to_another_server(pair).await;
}

#[tokio::test]
async fn changes_of_rooms_are_told_where_the_sockets_are() {
    let pair = pair().await;
    features::changes_of_rooms_are_told_where_the_sockets_are(pair).await;
}
