//! Clients that come back to another server, and what becomes of the log that both share when their
//! Redis fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon_test_cluster::{
    recovery::{self, Load, Returning, one_of_each},
    support::until,
};
use antiphon_test_redis::RedisServer;
use support::{Two, down, refused};

/// Two servers with recovery.
async fn two(options: &[&str]) -> Two {
    Two::built(RedisServer::with(options), recovery::builder).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_killed() {
    const EACH: u64 = 1_500;

    let two = two(&[]).await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    for round in 0..12 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let kind = if round % 2 == 0 { "pubsub" } else { "normal" };
        two.redis
            .command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
    }
    load.came(&mut clients).await;
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stores_comes_back_with_all() {
    const EACH: u64 = 500;

    let mut two = two(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.redis.kill();
    for node in &two.nodes {
        down(node).await;
    }
    two.redis.restart();
    load.came(&mut clients).await;
    // Sessions outlive it, too.
    let mut back = clients[0].back(&two.pair.servers[1]).await;
    assert_eq!(back.sid, clients[0].sid);
    two.pair.one().to("a").emit("n", 1);
    assert_eq!(back.numbers(1).await, [1]);
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_redis_that_has_lost_all_clients_begin_anew() {
    let mut two = two(&["--save", ""]).await;
    let mut clients = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    let away = clients[0].session.clone();
    two.redis.kill();
    for node in &two.nodes {
        down(node).await;
    }
    // It waits for the Redis.
    two.pair.one().to("a").emit("n", 2);
    two.redis.restart();
    two.ready().await;
    two.pair.two().to("a").emit("n", 3);
    for client in &mut clients {
        let mut came = client.numbers(2).await;
        came.sort_unstable();
        assert_eq!(came, [2, 3]);
    }
    // What was before can't be recovered, and nobody pretends that.
    let back = away.back(&two.pair.servers[1]).await;
    assert_ne!(back.sid, away.sid);
    clients[1].back_at_last(&two.pair.servers[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_or_forgets_its_scripts_while_it_runs_goes_on() {
    let two = two(&[]).await;
    let mut clients = one_of_each(&two.pair).await;
    for (round, command) in (0..).zip([["SCRIPT", "FLUSH"], ["FLUSHALL", "SYNC"]]) {
        two.redis.command(&command);
        for number in 10 * round..10 * round + 3 {
            two.pair.one().to("a").emit("n", number);
        }
        for client in &mut clients {
            let expected: Vec<_> = (10 * round..10 * round + 3).collect();
            assert_eq!(client.numbers(3).await, expected, "{command:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stalls_delays_what_is_logged_and_nothing_else() {
    let two = two(&[]).await;
    let mut clients = one_of_each(&two.pair).await;
    two.redis.freeze();
    for number in 0..100 {
        two.pair.one().to("a").emit("n", number);
    }
    // What isn't logged goes on.
    two.pair.one().to("a").local().volatile().emit("n", 1_000);
    assert_eq!(clients[0].numbers(1).await, [1_000]);
    two.redis.thaw();
    for client in &mut clients {
        assert_eq!(client.numbers(100).await, (0..100).collect::<Vec<_>>());
    }
}

/// Whether all of it is stopped, or only what writes: as a script that takes its time, or a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_logged_events_wait_is_seen_and_that_it_is_over() {
    let two = two(&[]).await;
    let (pair, redis) = (&two.pair, &two.redis);
    let (freeze, thaw) = (async || redis.freeze(), async || redis.thaw());
    recovery::a_silent_log_is_seen(pair, &two.nodes, freeze, thaw).await;
    let pause = async || {
        redis.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    };
    let unpause = async || {
        redis.command(&["CLIENT", "UNPAUSE"]);
    };
    recovery::a_silent_log_is_seen(pair, &two.nodes, pause, unpause).await;
}

/// What its user may not do is said, and its events aren't delivered, rather than delivered to some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_keys_events_of_the_log_are_not_delivered() {
    let redis = RedisServer::with(&["--requirepass", "secret"]);
    redis.command(&[
        "ACL",
        "SETUSER",
        "few",
        "on",
        ">few",
        "+@all",
        "allchannels",
        "resetkeys",
    ]);
    let url = redis.url_of("few:few@");
    let node = antiphon_redis::Redis::connect(&url).await.unwrap();
    let io = recovery::builder().adapter(node.clone()).build();
    io.of("/").on(
        "enter",
        async |socket: antiphon::Socket, antiphon::Data(room): antiphon::Data<String>| {
            socket.join(room);
        },
    );
    let mut client = Returning::joined(&io, "a").await;
    io.to("a").emit("n", 1);
    io.to("a").volatile().emit("n", 2);
    assert_eq!(client.numbers(1).await, [2]);
    until("it is counted", || io.stats().log_failures > 0).await;
    refused(&node).await;
}
