//! Clients that come back to another server, with the wire of Node's adapter for Redis streams, also
//! when their Redis fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon_redis::{NodeWire, Redis};
use antiphon_test_cluster::{
    Pair,
    recovery::{self, Load, builder, is_silent, one_of_each},
    support::{until, within},
    test_recovery,
};
use antiphon_test_redis::RedisServer;
use redis::Value;
use support::Streams;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

async fn at(redis: RedisServer) -> Streams {
    Streams::built(redis, NodeWire::streams(), builder).await
}

async fn pair() -> Pair {
    let mut two = at(RedisServer::start()).await;
    // The Redis lives as long as the pair.
    two.pair.keeps(two.redis);
    two.pair
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
    recovery::an_emitter_is_logged_once(at(redis).await.pair, emitter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_logged_events_wait_is_seen_and_that_it_is_over() {
    let two = at(RedisServer::start()).await;
    let (freeze, thaw) = (async || two.redis.freeze(), async || two.redis.thaw());
    recovery::a_silent_log_is_seen(&two.pair, &two.nodes, freeze, thaw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_local_comes_in_its_order_and_is_not_recovered() {
    let two = at(RedisServer::start()).await;
    let [mut one, mut other] = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    two.pair.one().to("a").local().emit("n", 2);
    two.pair.one().to("a").emit("n", 3);
    assert_eq!(one.numbers(3).await, [1, 2, 3]);
    assert_eq!(other.numbers(2).await, [1, 3]);
    let length = two.redis.command(&["XLEN", "socket.io"]);
    assert_eq!(length, Value::Int(2));
}

/// Passes connections on to a port. While it is closed, nothing that is sent to there arrives.
struct Valve {
    port: u16,
    is_open: watch::Sender<bool>,
}

impl Valve {
    async fn new(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_open = watch::Sender::new(true);
        let opens = is_open.clone();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_near, mut to_near) = near.into_split();
                let (mut from_far, mut to_far) = far.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
                let mut opens = opens.subscribe();
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 * 1_024];
                    while let Ok(read @ 1..) = from_near.read(&mut bytes).await {
                        opens.wait_for(|is_open| *is_open).await.unwrap();
                        to_far.write_all(&bytes[..read]).await.unwrap();
                    }
                });
            }
        });
        Self { port, is_open }
    }
}

/// It asks for the session when the client has gone on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_late_does_not_end_the_client_s_next_session() {
    let redis = RedisServer::start();
    let valve = Valve::new(redis.port()).await;
    let urls = [redis.url(), format!("redis://127.0.0.1:{}", valve.port)];
    let two = Streams::by(redis, urls, NodeWire::streams(), builder).await;
    let [mut client, _] = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    assert_eq!(client.numbers(1).await, [1]);
    valve.is_open.send_replace(false);
    let (session, slow) = (client.session.clone(), two.pair.servers[1].clone());
    let late = tokio::spawn(async move { session.back(&slow).await });
    // It is asked for, and not told.
    let mut health = two.nodes[1].watch_health();
    let silent = health.wait_for(is_silent);
    within("its health", silent).await.unwrap();
    let mut live = client.back(&two.pair.servers[0]).await;
    assert_eq!(live.sid, client.sid);
    valve.is_open.send_replace(true);
    let late = within("the slow server", late).await.unwrap();
    assert_ne!(late.sid, client.sid);
    two.pair.one().to("a").emit("n", 2);
    assert_eq!(live.numbers(1).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_killed() {
    const EACH: u64 = 1_500;

    let two = at(RedisServer::start()).await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    for round in 0..12 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let kind = if round % 3 == 0 { "pubsub" } else { "normal" };
        let kill = ["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"];
        two.redis.command(&kill);
    }
    load.came(&mut clients).await;
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stores_comes_back_with_all() {
    const EACH: u64 = 500;

    let stores = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut two = at(RedisServer::with(&stores)).await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.redis.kill();
    two.down().await;
    two.redis.restart();
    load.came(&mut clients).await;
    two.ready().await;
    let mut back = clients[0].back(&two.pair.servers[1]).await;
    assert_eq!(back.sid, clients[0].sid);
    two.pair.one().to("a").emit("n", 1);
    assert_eq!(back.numbers(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_lost_all_goes_on_and_nobody_misses_anything_unsaid() {
    let mut two = at(RedisServer::start()).await;
    let mut clients = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    let away = clients[0].session.clone();
    two.redis.kill();
    two.down().await;
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
    // Nobody pretends that nothing is missing: it begins anew, or this server has had all of it.
    let mut back = away.back(&two.pair.servers[1]).await;
    if back.sid == away.sid {
        let mut came = back.numbers(2).await;
        came.sort_unstable();
        assert_eq!(came, [2, 3]);
    }
    clients[1].back_at_last(&two.pair.servers[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_the_redis_refuses_is_delivered_to_nobody_and_others_go_on() {
    let two = at(RedisServer::start()).await;
    let mut clients = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    two.redis.command(&["RENAME", "socket.io", "kept"]);
    two.redis.command(&["SET", "socket.io", "no stream"]);
    two.pair.one().to("a").emit("n", 2);
    let counts = || two.pair.servers[0].stats().log_failures > 0;
    until("it is counted", counts).await;
    two.redis.command(&["DEL", "socket.io"]);
    two.redis.command(&["RENAME", "kept", "socket.io"]);
    two.ready().await;
    two.pair.one().to("a").emit("n", 3);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [3]);
    }
}

/// A server that begins knows what was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_new_gives_what_was_missed_before_it() {
    let two = at(RedisServer::start()).await;
    let [mut one, _] = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    assert_eq!(one.numbers(1).await, [1]);
    for number in 2..500 {
        two.pair.two().to("a").emit("n", number);
    }
    let new = Redis::builder(&two.redis.url());
    let new = new.connect_node(NodeWire::streams()).await.unwrap();
    let io = builder().adapter(new.clone()).build();
    let mut back = one.session.back(&io).await;
    assert_eq!(back.sid, one.sid);
    assert_eq!(back.numbers(498).await, (2..500).collect::<Vec<_>>());
    two.pair.one().to("a").emit("n", 500);
    assert_eq!(back.numbers(1).await, [500]);
}

/// Sessions of this format don't say when they began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_before_a_client_came_isnt_to_be_had_by_an_offset_that_is_made_up() {
    let two = at(RedisServer::start()).await;
    two.pair.one().emit("n", 1);
    let [mut one, _] = one_of_each(&two.pair).await;
    two.pair.one().emit("n", 2);
    assert_eq!(one.numbers(1).await, [2]);
    let mut away = one.session.clone();
    drop(one);
    away.offset = Some("1-1".to_owned());
    let mut back = away.back(&two.pair.servers[1]).await;
    assert_ne!(back.sid, away.sid);
    two.pair.one().emit("n", 3);
    assert_eq!(back.numbers(1).await, [3]);
}
