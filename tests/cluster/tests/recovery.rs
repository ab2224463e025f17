//! Clients that come back to another server, with the broker in memory and its faults.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use antiphon::{Server, ServerBuilder, adapter::BoxFuture};
use antiphon_cluster::{
    Cluster, Emitter,
    broker::memory::{Hub, Memory},
};
use antiphon_test_cluster::{
    Pair, down,
    recovery::{self, Returning, builder},
    support::until,
    test_recovery,
};

/// Two servers at a hub, what connects them, and their brokers.
async fn on(hub: &Hub) -> (Pair, [Cluster; 2], [Arc<Memory>; 2]) {
    built(hub, builder).await
}

/// The same with servers that are built so.
async fn built(
    hub: &Hub,
    builder: impl Fn() -> ServerBuilder,
) -> (Pair, [Cluster; 2], [Arc<Memory>; 2]) {
    let brokers = [hub.broker(), hub.broker()];
    let clusters = brokers.clone().map(|broker| Cluster::new(broker));
    for cluster in &clusters {
        cluster.started().await;
    }
    let (settled, kept) = (clusters.clone(), clusters.clone());
    let settle = move || -> BoxFuture<()> {
        let clusters = settled.clone();
        Box::pin(async move {
            for cluster in clusters {
                cluster.subscribed().await;
            }
        })
    };
    (Pair::built(clusters, settle, builder), kept, brokers)
}

async fn pair() -> Pair {
    on(&Hub::new()).await.0
}

test_recovery!(pair);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emitter_is_logged_once() {
    let hub = Hub::new();
    let (pair, ..) = on(&hub).await;
    recovery::an_emitter_is_logged_once(pair, Emitter::new(hub.broker())).await;
}

/// Its owner can't be asked: what was saved counts, and the owner learns it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_server_that_is_cut_off_is_taken_and_that_server_gives_way() {
    let hub = Hub::new();
    let (pair, _, brokers) = on(&hub).await;
    let mut client = Returning::joined(&pair.servers[0], "its room").await;
    pair.settle().await;
    pair.two().to("its room").emit("n", 0);
    assert_eq!(client.numbers(1).await, [0]);
    until("it is saved with its room", || {
        let mut sessions = hub.sessions().into_iter();
        sessions.any(|session| session.windows(8).any(|part| part == b"its room"))
    })
    .await;
    brokers[0].cut();
    pair.two().to("its room").emit("n", 1);
    let mut back = client.back(&pair.servers[1]).await;
    assert_eq!(back.sid, client.sid);
    assert_eq!(back.numbers(1).await, [1]);
    brokers[0].mend();
    // Whatever the old server says of it, it is the new one's.
    pair.one().to("its room").emit("n", 2);
    assert_eq!(back.numbers(1).await, [2]);
    pair.one().sockets().iter().for_each(|socket| {
        socket.join("b");
    });
    client.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_emitted_without_the_broker_is_delivered_when_it_is_back() {
    let (pair, _, brokers) = on(&Hub::new()).await;
    let mut one = Returning::joined(&pair.servers[0], "a").await;
    let mut two = Returning::joined(&pair.servers[1], "a").await;
    pair.settle().await;
    brokers[0].cut();
    for number in 0..10 {
        pair.one().to("a").emit("n", number);
        pair.two().to("a").emit("n", 100 + number);
    }
    assert_eq!(two.numbers(10).await, (100..110).collect::<Vec<_>>());
    brokers[0].mend();
    let behind: Vec<_> = (0..10).collect();
    assert_eq!(two.numbers(10).await, behind);
    assert_eq!(
        one.numbers(20).await,
        (100..110).chain(0..10).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_lost_all_begins_anew_and_clients_too() {
    for lost in [usize::MAX, 2] {
        let hub = Hub::new();
        let (pair, clusters, brokers) = on(&hub).await;
        let mut client = Returning::joined(&pair.servers[0], "a").await;
        pair.settle().await;
        for number in 0..5 {
            pair.one().to("a").emit("n", number);
        }
        assert_eq!(client.numbers(5).await, [0, 1, 2, 3, 4]);
        brokers.iter().for_each(|broker| broker.cut());
        for cluster in &clusters {
            down(cluster).await;
        }
        match lost {
            usize::MAX => hub.forget(),
            count => hub.forget_newest(count),
        }
        brokers.iter().for_each(|broker| broker.mend());
        // Who is connected goes on.
        pair.two().to("a").emit("n", 5);
        assert_eq!(client.numbers(1).await, [5]);
        pair.one().to("a").emit("n", 6);
        assert_eq!(client.numbers(1).await, [6]);
        // What is behind the break can be recovered.
        pair.one().to("a").emit("n", 7);
        let mut back = client.back_at_last(&pair.servers[1]).await;
        assert_eq!(back.numbers(1).await, [7]);
    }
}

/// What the log has dropped can't be had, and nobody is told that nothing was missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_longer_than_the_log_reaches_recovers_nobody_from_before() {
    let few = || Server::builder().recovery(recovery::recovery().max_events(100));
    let (pair, clusters, brokers) = built(&Hub::new(), few).await;
    let mut here = Returning::joined(&pair.servers[0], "a").await;
    let there = Returning::joined(&pair.servers[1], "a").await;
    pair.settle().await;
    pair.one().to("a").emit("n", 0);
    assert_eq!(here.numbers(1).await, [0]);
    let away = here.session.clone();
    brokers[0].cut();
    down(&clusters[0]).await;
    // The log keeps 100 and some more.
    for number in 1..=2_000 {
        pair.two().to("a").emit("n", number);
    }
    drop(there);
    brokers[0].mend();
    // Those that are still there come.
    let first = here.numbers(1).await[0];
    assert!(first > 1 && first <= 2_000, "{first}");
    let rest: Vec<_> = (first + 1..=2_000).collect();
    assert_eq!(here.numbers(rest.len()).await, rest);
    let back = away.back(&pair.servers[0]).await;
    assert_ne!(back.sid, away.sid);
}
