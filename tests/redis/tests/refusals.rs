//! A Redis that is there and refuses what is published, read or appended: for want of memory, or of a
//! right, or since it has become a replica. Operators see it, once, and that it is over.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/antiphon/tests/support/logged.rs"]
mod logged;
mod support;

use std::time::Duration;

use antiphon_cluster::{Health, Trouble};
use antiphon_redis::{NodeWire, Redis};
use antiphon_test_cluster::{
    recovery::{self, one_of_each},
    support::{until, within},
};
use antiphon_test_redis::RedisServer;
use logged::Logged;
use redis::Value;
use support::{Streams, Two, down_for};
use tokio::sync::watch;

/// Emits until the health is such.
async fn emits_until(
    mut health: watch::Receiver<Health>,
    mut emit: impl FnMut(),
    is_such: impl Fn(&Health) -> bool,
) {
    const PAUSE: Duration = Duration::from_millis(20);

    let emits = async {
        while !is_such(&health.borrow_and_update()) {
            emit();
            let _ = tokio::time::timeout(PAUSE, health.changed()).await;
        }
    };
    within("the health", emits).await;
}

fn is_refused(part: &'static str) -> impl Fn(&Health) -> bool {
    move |health| matches!(health, Health::Degraded(Trouble::Refused { reason }) if reason.contains(part))
}

fn is_ready(health: &Health) -> bool {
    *health == Health::Ready
}

/// The only test of this file that looks at what is logged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_memory_is_seen_and_said_once_and_that_it_is_over() {
    let logged = Logged::begin_everywhere();
    let two = Streams::new().await;
    let mut clients = two.pair.clients(["a", "a"]).await.0;
    let (mut number, one) = (0, two.pair.one());
    for round in 1..=2 {
        two.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
        let health = two.nodes[0].watch_health();
        let emit = || drop(one.to("a").emit("n", 0));
        emits_until(health.clone(), emit, is_refused("maxmemory")).await;
        for _ in 0..20 {
            emit();
        }
        two.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
        // What is taken again says so, and not the time.
        emits_until(
            health,
            || {
                number += 1;
                drop(one.to("a").emit("taken", number));
            },
            is_ready,
        )
        .await;
        let lines = logged.lines();
        let said = lines.iter().filter(|line| line.contains("no memory left"));
        assert_eq!(said.count(), round, "{lines:?}");
    }
    assert!(two.nodes[0].stats().lost > 0);
    // The others get what was taken.
    one.to("a").emit("last", 1);
    let comes = async { while !clients[1].expect_prefix("42[").await.contains("last") {} };
    within("the last", comes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_memory_is_seen_and_that_it_is_over() {
    let two = Two::built(RedisServer::start(), recovery::builder).await;
    let mut clients = one_of_each(&two.pair).await;
    let one = two.pair.one();
    two.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let health = two.nodes[0].watch_health();
    let emit = || drop(one.to("a").emit("n", 0));
    emits_until(health.clone(), emit, is_refused("maxmemory")).await;
    until("it is counted", || {
        two.pair.servers[0].stats().log_failures > 0
    })
    .await;
    two.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let emit = || drop(one.to("a").emit("n", 1));
    emits_until(health, emit, is_ready).await;
    assert_eq!(clients[1].numbers(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_is_seen_and_that_it_is_given_back() {
    let two = Streams::new().await;
    let health = two.nodes[0].watch_health();
    let one = two.pair.one();
    let emit = || drop(one.to("a").emit("n", 1));
    two.redis.command(&["ACL", "SETUSER", "default", "-xadd"]);
    emits_until(health.clone(), emit, is_refused("+xadd")).await;
    two.redis.command(&["ACL", "SETUSER", "default", "+xadd"]);
    emits_until(health, emit, is_ready).await;
}

/// What this server says comes back to it, and so it learns that without an event. It needs the right to
/// be connected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_publish_there_is_no_connection_until_it_is_given_back() {
    let two = Two::new().await;
    two.redis
        .command(&["ACL", "SETUSER", "default", "-publish"]);
    for node in &two.nodes {
        down_for(node, "+publish").await;
    }
    two.redis
        .command(&["ACL", "SETUSER", "default", "+publish"]);
    two.ready().await;
}

/// What was to be appended waits for the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_becomes_a_replica_is_left_and_no_logged_event_is_lost() {
    let two = Two::built(RedisServer::start(), recovery::builder).await;
    let mut clients = one_of_each(&two.pair).await;
    two.redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    for number in 0..10 {
        two.pair.one().to("a").emit("n", number);
    }
    down_for(&two.nodes[0], "replica").await;
    two.redis.command(&["REPLICAOF", "NO", "ONE"]);
    for client in &mut clients {
        assert_eq!(client.numbers(10).await, (0..10).collect::<Vec<_>>());
    }
    two.ready().await;
}

/// How often the Redis has refused to read a log.
fn refusals(redis: &RedisServer) -> usize {
    let Value::BulkString(stats) = redis.command(&["INFO", "commandstats"]) else {
        panic!("no statistics");
    };
    let stats = String::from_utf8(stats).unwrap();
    let mut lines = stats.lines();
    let refused = lines
        .find_map(|line| line.strip_prefix("cmdstat_xrange:"))
        .and_then(|line| line.split_once("rejected_calls="))
        .and_then(|(_, count)| count.split(',').next());
    refused.map_or(0, |count| count.parse().unwrap())
}

/// It may be opened, and not read: that is tried again and again, and nothing changes by that.
async fn may_not_read(wire: Option<NodeWire>) {
    let redis = RedisServer::with(&["--requirepass", "secret"]);
    let able = [
        "ACL", "SETUSER", "able", "on", ">able", "~*", "&*", "+@all", "-xrange",
    ];
    redis.command(&able);
    let builder = Redis::builder(&redis.url_of("able:able@"));
    let (io, mut health) = match wire {
        Some(wire) => {
            let node = builder.connect_node(wire).await.unwrap();
            let io = recovery::builder().adapter(node.clone()).build();
            (io, node.watch_health())
        }
        None => {
            let node = builder.connect().await.unwrap();
            let io = recovery::builder().adapter(node.clone()).build();
            (io, node.watch_health())
        }
    };
    let _root = io.of("/");
    let is_refused =
        |health: &Health| matches!(health, Health::Degraded(Trouble::LogRefused { .. }));
    within("its health", health.wait_for(is_refused))
        .await
        .unwrap();
    let before = refusals(&redis);
    let mut later = health.clone();
    let changes = async {
        later.mark_unchanged();
        later.changed().await.unwrap();
    };
    tokio::select! {
        () = changes => panic!("its health is {}", *health.borrow()),
        () = until("it is tried again", || refusals(&redis) >= before + 2) => {}
    }
    redis.command(&["ACL", "SETUSER", "able", "+xrange"]);
    within("its health", health.wait_for(is_ready))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_can_not_be_read_is_refused_until_it_can() {
    may_not_read(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_can_not_be_read_is_refused_until_it_can() {
    may_not_read(Some(NodeWire::streams())).await;
}
