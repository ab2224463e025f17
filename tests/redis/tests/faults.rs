//! What becomes of two servers when their Redis, or the connection to it, fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use antiphon::{Bytes, EmitError, Server, adapter::AdapterError};
use antiphon_cluster::{Health, Trouble};
use antiphon_redis::Redis;
use antiphon_test_cluster::{
    Pair, collect,
    faults::emit_here,
    joined, number,
    support::{until, within},
};
use antiphon_test_redis::RedisServer;
use redis::Value;
use support::{Two, down, down_for, ready};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a server has subscribed to with a socket in one room: control, its inbox, the namespace, what
/// concerns single sockets, and the room.
const FIXED: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_double_nothing_and_nothing_is_lost_once_all_is_well() {
    let two = Two::new().await;
    let ([mut here, there], _) = two.pair.clients(["a", "a"]).await;
    let seen = collect(there);
    let troubles = Arc::new(Mutex::new(HashSet::new()));
    let mut health = two.nodes[1].watch_health();
    let noted = Arc::clone(&troubles);
    tokio::spawn(async move {
        while health.changed().await.is_ok() {
            let now = health.borrow_and_update().clone();
            noted.lock().unwrap().insert(std::mem::discriminant(&now));
        }
    });

    let mut next = 0;
    for round in 0..20 {
        let kind = if round % 5 == 4 { "normal" } else { "pubsub" };
        two.redis.command(&["CLIENT", "KILL", "TYPE", kind]);
        for _ in 0..50 {
            // While the connection is lost this is refused, and those here get it all the same.
            let _ = emit_here(&two.pair, &mut here, next).await;
            next += 1;
        }
        if round % 3 == 0 {
            two.ready().await;
        }
    }
    // Both have noticed: whoever lost a connection has another one.
    until("their connections", || {
        two.redis.clients("pubsub").len() == 2 && two.redis.clients("normal").len() == 3
    })
    .await;
    two.ready().await;
    let first = next;
    for _ in 0..200 {
        emit_here(&two.pair, &mut here, next).await.unwrap();
        next += 1;
    }
    until("the last", || {
        seen.lock().unwrap().last() == Some(&(next - 1))
    })
    .await;
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
    let since: Vec<_> = seen.iter().filter(|number| **number >= first).collect();
    assert_eq!(since.len(), 200);
    let degraded = Health::Degraded(Trouble::ProbeLost);
    let troubles = troubles.lock().unwrap();
    for state in [degraded, Health::Ready] {
        assert!(
            troubles.contains(&std::mem::discriminant(&state)),
            "{state}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_crashes_and_starts_again_is_found_again() {
    let mut two = Two::new().await;
    let ([mut here, mut there], ids) = two.pair.clients(["a", "b"]).await;
    two.redis.kill();
    for node in &two.nodes {
        let reason = down(node).await;
        assert!(reason.contains("Redis at 127.0.0.1"), "{reason}");
    }
    // The connection that publishes notices by itself: what it had taken by then is counted as lost.
    let mut taken = 0;
    while emit_here(&two.pair, &mut here, taken).await.is_ok() {
        taken += 1;
    }
    for number in taken + 1..taken + 4 {
        let refused = emit_here(&two.pair, &mut here, number).await;
        assert!(
            matches!(
                refused,
                Err(EmitError::Adapter(AdapterError::Unreachable { .. }))
            ),
            "{refused:?}"
        );
    }
    // Nothing waits for the connection.
    let fetched = within("an error", two.pair.one().broadcast().sockets());
    assert!(matches!(
        fetched.await,
        Err(AdapterError::Unreachable { .. })
    ));
    assert!(two.nodes[0].stats().refused >= 4);

    two.redis.restart();
    two.ready().await;
    two.pair.one().to("b").emit("n", 10).into_result().unwrap();
    assert_eq!(number(&mut there).await, 10);
    two.pair.two().to("a").emit("n", 11).into_result().unwrap();
    assert_eq!(number(&mut here).await, 11);
    let fetched = two.pair.one().broadcast().sockets().await.unwrap();
    assert_eq!(fetched.missing, []);
    let found: HashSet<_> = fetched
        .sockets
        .iter()
        .map(|one| one.id.as_str().to_owned())
        .collect();
    assert_eq!(found, ids.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_fills_a_bounded_queue_and_blocks_nobody() {
    let two = Two::new().await;
    let ([mut here, there], _) = two.pair.clients(["a", "a"]).await;
    drop(there);
    two.redis.freeze();
    let large = Bytes::from(vec![0; 8 << 20]);
    // More than the system takes for a connection, and the queue behind it.
    let full = (0..40).find_map(|_| {
        let begun = Instant::now();
        let emitted = two.pair.one().to("nobody here").emit("n", large.clone());
        // Less than the 5 s after which the broker is given up, and more than a busy machine takes.
        assert!(begun.elapsed() < Duration::from_secs(4));
        emitted.into_result().err()
    });
    assert!(
        matches!(full, Some(EmitError::Adapter(AdapterError::Full))),
        "{full:?}"
    );
    let _ = emit_here(&two.pair, &mut here, 1).await;
    assert!(down(&two.nodes[0]).await.contains("hasn't answered in 5 s"));
    let _ = emit_here(&two.pair, &mut here, 2).await;
    assert!(two.nodes[0].stats().lost > 5);

    two.redis.thaw();
    two.ready().await;
    let (mut there, _) = joined(&two.pair.servers[1], "b").await;
    two.pair.settle().await;
    emit_here(&two.pair, &mut here, 3).await.unwrap();
    assert_eq!(number(&mut there).await, 3);
}

/// Passes connections on to a port. Those that are there at a stall pass nothing on any more, and
/// nobody is told, as where a firewall forgets them. Returns its port, and what stalls them.
async fn forgetful(to: u16) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stall = watch::Sender::new(0);
    let stalls = stall.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut stalled = stalls.subscribe();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let passes = tokio::io::copy_bidirectional(&mut near, &mut far);
                tokio::select! {
                    _ = passes => return,
                    _ = stalled.changed() => {}
                }
                std::future::pending::<()>().await;
                drop((near, far));
            });
        }
    });
    (port, stall)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_dead_without_a_word_are_noticed_and_replaced() {
    let redis = RedisServer::start();
    let (port, stall) = forgetful(redis.port()).await;
    let near = Redis::connect(&redis.url()).await.unwrap();
    let url = format!("redis://127.0.0.1:{port}");
    let far = Redis::connect(&url).await.unwrap();
    for node in [&near, &far] {
        until("both servers", || node.servers().len() == 2).await;
        ready(node).await;
    }
    let pair = Pair::new([near.clone(), far.clone()], || Box::pin(async {}));
    let (mut clients, _) = pair.clients(["a", "b"]).await;
    far.subscribed().await;
    stall.send_replace(1);
    // Nobody knows yet: it is lost.
    pair.one().to("b").emit("n", 1).into_result().unwrap();
    down_for(&far, "hasn't answered in 5 s").await;
    assert_eq!(near.health(), Health::Ready);
    ready(&far).await;
    pair.one().to("b").emit("n", 2).into_result().unwrap();
    assert_eq!(number(&mut clients[1]).await, 2);
    pair.two().to("a").emit("n", 3).into_result().unwrap();
    assert_eq!(number(&mut clients[0]).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_overflows_the_buffers_of_redis_is_survived_and_explained() {
    let two = Two::new().await;
    let limit = [
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "pubsub 1mb 0 0",
    ];
    two.redis.command(&limit);
    let ([_, mut there], _) = two.pair.clients(["a", "b"]).await;
    let seen = Arc::new(Mutex::new(String::new()));
    let (mut health, noted) = (two.nodes[1].watch_health(), Arc::clone(&seen));
    tokio::spawn(async move {
        while health.changed().await.is_ok() {
            let now = health.borrow_and_update().to_string();
            noted.lock().unwrap().push_str(&now);
        }
    });
    let large = "x".repeat(4 << 20);
    two.pair.one().to("b").emit("n", &*large);
    let explained = || seen.lock().unwrap().contains("client-output-buffer-limit");
    until("the reason", explained).await;
    two.ready().await;
    two.pair.one().to("b").emit("n", 1).into_result().unwrap();
    assert_eq!(number(&mut there).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_no_redis_takes_is_refused_and_the_connection_stays() {
    let two = Two::new().await;
    let ([_, mut there], _) = two.pair.clients(["a", "b"]).await;
    let large = "x".repeat(17 << 20);
    let refused = two.pair.one().to("b").emit("n", &*large).into_result();
    assert!(
        matches!(
            refused,
            Err(EmitError::Adapter(AdapterError::TooLarge { .. }))
        ),
        "{refused:?}"
    );
    two.pair.one().to("b").emit("n", 1).into_result().unwrap();
    assert_eq!(number(&mut there).await, 1);
    assert_eq!(two.nodes[1].health(), Health::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_a_replica_is_left() {
    let primary = RedisServer::start();
    let two = Two::new().await;
    let port = primary.port().to_string();
    two.redis.command(&["REPLICAOF", "127.0.0.1", &port]);
    assert!(down(&two.nodes[0]).await.contains("is a replica"));
    two.redis.command(&["REPLICAOF", "NO", "ONE"]);
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_are_told_and_given_back_they_are_used() {
    let redis = RedisServer::start();
    let rights = [
        "ACL",
        "SETUSER",
        "able",
        "on",
        ">secret",
        "+@all",
        "resetchannels",
    ];
    redis.command(&[&rights[..], &["&antiphon:*"]].concat());
    let node = Redis::connect(&redis.url_of("able:secret@")).await.unwrap();
    ready(&node).await;
    redis.command(&[&rights[..], &["&other:*"]].concat());
    down_for(&node, "&antiphon:*").await;
    redis.command(&[&rights[..], &["&antiphon:*"]].concat());
    ready(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_a_user_may_not_publish_are_counted_and_others_are_sent() {
    let redis = RedisServer::start();
    let user = [
        "ACL",
        "SETUSER",
        "able",
        "on",
        ">secret",
        "+@all",
        "resetchannels",
    ];
    let rights = ["probe", "control", "node:*", "namespace:*", "sockets:*"]
        .map(|name| format!("&antiphon:{name}"));
    let rights: Vec<_> = rights.iter().map(String::as_str).collect();
    redis.command(&[&user[..], &rights[..]].concat());
    let one = Redis::connect(&redis.url_of("able:secret@")).await.unwrap();
    let two = Redis::connect(&redis.url()).await.unwrap();
    for node in [&one, &two] {
        until("both servers", || node.servers().len() == 2).await;
        ready(node).await;
    }
    let pair = Pair::new([one.clone(), two], || Box::pin(async {}));
    let (mut there, _) = joined(&pair.servers[1], "b").await;
    for number in 0..10 {
        pair.one().to("b").emit("n", number).into_result().unwrap();
    }
    until("the count", || one.stats().lost == 10).await;
    pair.one().emit("n", 10).into_result().unwrap();
    assert_eq!(number(&mut there).await, 10);
    let health = one.health();
    let Health::Degraded(Trouble::Refused { reason }) = &health else {
        panic!("{health}");
    };
    assert!(reason.contains("NOPERM"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_missing_until_it_counts_as_dead() {
    let two = Two::new().await;
    let ([_here, _there], _) = two.pair.clients(["a", "a"]).await;
    // It ends without a word, as a crash does: its tasks are gone with their runtime.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = two.redis.url();
    let third = runtime.spawn(async move {
        let redis = Redis::connect(&url).await.unwrap();
        let io = Server::builder().adapter(redis.clone()).build();
        io.of("/").on("enter", async || ());
        ready(&redis).await;
        (io, redis)
    });
    let (io, third) = third.await.unwrap();
    let node = third.node().clone();
    until("three servers", || two.nodes[0].servers().len() == 3).await;
    runtime.shutdown_background();
    let fetched = within("the answers", two.pair.one().broadcast().sockets());
    let fetched = fetched.await.unwrap();
    assert_eq!(fetched.sockets.len(), 2);
    assert_eq!(fetched.missing, [node]);
    until("its death", || two.nodes[0].servers().len() == 2).await;
    let fetched = two.pair.one().broadcast().sockets().await.unwrap();
    assert_eq!((fetched.sockets.len(), fetched.missing), (2, vec![]));
    drop((io, third));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_emitted_before_the_end_is_sent() {
    let two = Two::new().await;
    let ([here, there], _) = two.pair.clients(["b", "a"]).await;
    drop(here);
    let seen = collect(there);
    for number in 0..2_000 {
        two.pair.one().to("a").emit("n", number);
    }
    within("the end", two.pair.servers[0].close()).await;
    until("the last", || seen.lock().unwrap().last() == Some(&1_999)).await;
    assert_eq!(*seen.lock().unwrap(), (0..2_000).collect::<Vec<_>>());
    let refused = two.pair.one().emit("n", 1).into_result();
    assert!(matches!(
        refused,
        Err(EmitError::Adapter(AdapterError::Closed))
    ));
    // Those of the other server are left, and the one that asks.
    let are_gone =
        || two.redis.clients("pubsub").len() == 1 && two.redis.clients("normal").len() == 2;
    until("its connections", are_gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_follow_a_hundred_thousand_joins_and_leaves_with_kills_in_between() {
    let two = Two::new().await;
    let (_clients, _) = two.pair.clients(["a", "b"]).await;
    let before = channels(&two);
    let all = two.pair.two();
    let mut random = antiphon_test_cluster::support::random(7);
    let mut joined = HashSet::new();
    for step in 0..100_000 {
        let room = random(2_000);
        let name = format!("room {room}");
        match joined.insert(room) {
            true => drop(all.to("b").local().join(name)),
            false => {
                joined.remove(&room);
                all.to("b").local().leave(name);
            }
        }
        if step % 20_000 == 10_000 {
            two.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        if step % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until("their end", || channels(&two) == before + joined.len()).await;
    two.ready().await;
    assert_eq!(two.nodes[1].stats().topics, FIXED + joined.len());
    assert_eq!(two.nodes[1].stats().dropped, 0);
}

// One thread: the connection sees all of it at once, which is more than is remembered for it.
#[tokio::test]
async fn seventy_thousand_changes_at_once_are_subscribed_to_and_given_up() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let before = channels(&two);
    let rooms: Vec<_> = (0..70_000).map(|number| format!("room {number}")).collect();
    two.pair.two().to("b").local().join(rooms.clone());
    two.pair.settle().await;
    assert_eq!(channels(&two), before + 70_000);
    two.pair.one().to(&*rooms[69_999]).emit("n", 1);
    assert_eq!(number(&mut there).await, 1);
    two.pair.two().to("b").local().leave(rooms);
    until("the leave", || two.nodes[1].stats().topics == FIXED).await;
    two.pair.settle().await;
    assert_eq!(channels(&two), before);
    // The connection was never given up for it.
    assert_eq!(two.nodes[1].health(), Health::Ready);
}

/// The channels of Redis that somebody has subscribed to.
fn channels(two: &Two) -> usize {
    match two.redis.command(&["PUBSUB", "CHANNELS", "*"]) {
        Value::Array(channels) => channels.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rooms_are_subscribed_to_and_given_up_also_after_a_reconnect() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let before = channels(&two);
    let rooms: Vec<_> = (0..10_000).map(|number| format!("room {number}")).collect();
    two.pair.two().to("b").local().join(rooms.clone());
    two.pair.settle().await;
    assert_eq!(channels(&two), before + 10_000);
    for number in [0, 4_999, 9_999] {
        two.pair.one().to(&*rooms[number]).emit("n", number);
        assert_eq!(
            antiphon_test_cluster::number(&mut there).await as usize,
            number
        );
    }
    two.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    down(&two.nodes[1]).await;
    two.ready().await;
    assert_eq!(channels(&two), before + 10_000);
    two.pair.one().to(&*rooms[77]).emit("n", 77);
    assert_eq!(number(&mut there).await, 77);
    two.pair.two().to("b").local().leave(rooms);
    until("the leave", || channels(&two) == before).await;
    assert_eq!(two.nodes[1].stats().topics, FIXED);
}
