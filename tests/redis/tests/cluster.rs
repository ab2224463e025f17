//! A Redis Cluster of three masters: what works over one Redis works over it, and what becomes of
//! servers when its slots move and its nodes die.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon::{Data, Server, ServerBuilder, Socket};
use antiphon_cluster::{Health, Trouble};
use antiphon_redis::{Error, NodeRedis, NodeWire, Redis};
use antiphon_test_cluster::{
    Pair, collect, features, number,
    recovery::{self, Load, Returning, one_of_each},
    support::{until, within},
    test_features, test_recovery,
};
use antiphon_test_redis::{RedisCluster, RedisServer};
use support::{down_for, ready};

/// Two servers at a Redis Cluster, and the handles of their connections.
async fn built(cluster: &RedisCluster, builder: impl Fn() -> ServerBuilder) -> (Pair, [Redis; 2]) {
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Redis::connect(&cluster.url()).await.unwrap());
    }
    let nodes: [Redis; 2] = nodes.try_into().unwrap();
    (Pair::of(&nodes, builder).await, nodes)
}

async fn pair() -> Pair {
    let cluster = RedisCluster::start();
    let (pair, _) = built(&cluster, Server::builder).await;
    pair.keeping(cluster)
}

test_features!(pair);

mod coming_back {
    //! Clients that come back to another server: the log is at the node that has its slot.

    use super::*;

    async fn pair() -> Pair {
        let cluster = RedisCluster::start();
        let (pair, _) = built(&cluster, recovery::builder).await;
        pair.keeping(cluster)
    }

    test_recovery!(pair);
}

/// Two servers that speak one of Node's wires.
async fn on_wire(cluster: &RedisCluster, wire: NodeWire) -> (Pair, [NodeRedis; 2]) {
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let redis = Redis::builder(&cluster.url());
        nodes.push(redis.connect_node(wire.clone()).await.unwrap());
    }
    let nodes: [NodeRedis; 2] = nodes.try_into().unwrap();
    let settled = nodes.clone();
    let pair = Pair::new(nodes.clone(), move || {
        let nodes = settled.clone();
        Box::pin(async move {
            for node in nodes {
                node.subscribed().await;
            }
        })
    });
    (pair, nodes)
}

mod node_wires {
    //! What Node's wires do over a Redis Cluster; with servers of Node in it see
    //! `tests/cluster/mixed.test.js`.

    use super::*;

    async fn pair(wire: NodeWire) -> Pair {
        let cluster = RedisCluster::with(3, 1);
        let (pair, _) = on_wire(&cluster, wire).await;
        pair.keeping(cluster)
    }

    async fn classic() -> Pair {
        pair(NodeWire::classic()).await
    }

    async fn sharded() -> Pair {
        pair(NodeWire::sharded()).await
    }

    async fn streams() -> Pair {
        pair(NodeWire::streams()).await
    }

    /// Servers are counted at all nodes, wherever they listen.
    #[tokio::test]
    async fn sockets_of_both_are_found() {
        for pair in [classic().await, sharded().await, streams().await] {
            features::sockets_of_both_servers_are_found_once_they_have_moved(pair).await;
        }
    }

    mod over_sharded_channels {
        use super::*;

        test_features! { sharded;
            a_broadcast_reaches_the_sockets_of_both_servers
            attachments_and_arguments_as_they_came_travel
            a_socket_that_is_silent_is_counted_and_its_server_isnt_missing
        }
    }
}

#[tokio::test]
async fn a_url_of_one_server_that_is_a_node_says_so_and_the_reverse() {
    let cluster = RedisCluster::with(1, 0);
    let of_one = cluster.nodes[0].url();
    let error = within("an error", Redis::connect(&of_one))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::IsCluster { .. }), "{error:?}");
    assert!(
        error.to_string().contains("RedisBuilder::cluster"),
        "{error}"
    );
    let node = Redis::builder(&of_one).cluster().connect().await.unwrap();
    ready(&node).await;

    let alone = RedisServer::start();
    let builder = Redis::builder(&alone.url()).cluster();
    let error = within("an error", builder.connect()).await.unwrap_err();
    assert!(matches!(error, Error::NoCluster { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redis_cluster_that_is_away_or_lacks_a_node_is_an_error_that_says_so() {
    let mut cluster = RedisCluster::with(2, 0);
    let url = cluster.url();
    cluster.nodes.iter_mut().for_each(RedisServer::kill);
    let error = within("an error", Redis::connect(&url)).await.unwrap_err();
    assert!(matches!(error, Error::NoNode { .. }), "{error:?}");

    // One that has never been told of some slots.
    let node = RedisServer::with(&["--cluster-enabled", "yes"]);
    node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16000"]);
    let builder = Redis::builder(&node.url()).cluster();
    let wire = NodeWire::sharded();
    let error = within("an error", builder.connect_node(wire))
        .await
        .unwrap_err();
    assert_eq!(error, Error::Uncovered { slots: 383 });
}

/// What an error says that a user needs is enough, also for a log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_learns_which_are_needed_and_with_these_it_works() {
    let cluster = RedisCluster::start();
    let allow = |rights: &[&str]| {
        let words = ["ACL", "SETUSER", "able", "on", ">secret", "resetchannels"];
        for node in &cluster.nodes {
            node.command(&[&words[..], rights].concat());
        }
    };
    allow(&["+@all", "-cluster", "&antiphon:*"]);
    let url = cluster.url_of("able:secret@");
    let error = within("an error", Redis::connect(&url)).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    let text = error.to_string();
    let (_, rights) = text.split_once("ACL SETUSER .. ").unwrap();
    let rights: Vec<_> = rights.split_ascii_whitespace().collect();
    allow(&[&["-@all"], &rights[..]].concat());
    let redis = Redis::connect(&url).await.unwrap();
    let io = recovery::builder().adapter(redis.clone()).build();
    let enters = async |socket: Socket, Data(room): Data<String>| socket.join(room);
    io.of("/").on("enter", enters);
    let mut client = Returning::joined(&io, "a").await;
    ready(&redis).await;
    io.to("a").emit("n", 1);
    assert_eq!(client.numbers(1).await, [1]);
    client.back_at_last(&io).await;
}

/// A slot moves while what is logged is emitted: each event comes once, in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_slot_moves_under_load_loses_and_doubles_nothing() {
    let cluster = RedisCluster::start();
    let (pair, nodes) = built(&cluster, recovery::builder).await;
    let mut clients = one_of_each(&pair).await;
    let load = Load::begin(&pair, 1_500);
    let log = log_key(&cluster);
    let first = cluster.owner(&log);
    tokio::task::block_in_place(|| {
        for round in 1..4 {
            let to = (first + round) % 3;
            cluster.migrate(&log, to, Duration::from_millis(100));
            assert_eq!(cluster.owner(&log), to);
        }
    });
    load.came(&mut clients).await;
    for node in &nodes {
        ready(node).await;
    }
}

/// The name of the log of `/`, when something is in it.
fn log_key(cluster: &RedisCluster) -> String {
    loop {
        for node in &cluster.nodes {
            let keys = node.command(&["KEYS", "antiphon:{*}log:/"]);
            let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
            if let Some(key) = keys.into_iter().next() {
                return key;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The slot of a sharded channel moves while events are emitted to it: none comes twice or out of order,
/// and when both are well again, all come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sharded_channel_whose_slot_moves_is_subscribed_to_where_it_is() {
    let cluster = RedisCluster::start();
    let (pair, nodes) = on_wire(&cluster, NodeWire::sharded()).await;
    let ([_here, there], _) = pair.clients(["a", "a"]).await;
    let seen = collect(there);
    let mut health = nodes[1].watch_health();
    let channel = "socket.io#/#a#";
    let mut next = 0;
    for round in 1..4 {
        health.borrow_and_update();
        let to = (cluster.owner(channel) + 1) % 3;
        let moves = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let moves = || cluster.migrate(channel, to, Duration::from_millis(50));
                let moves = scope.spawn(moves);
                while !moves.is_finished() {
                    assert!(pair.one().to("a").emit("n", next).is_queued());
                    next += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                moves.join()
            })
        });
        moves.unwrap();
        // It is told that something may be missed.
        let told = health.wait_for(|health| {
            matches!(
                health,
                Health::Degraded(Trouble::Down { .. }) | Health::Resyncing { .. }
            )
        });
        within(&format!("round {round} is told"), told)
            .await
            .unwrap();
        let ready = health.wait_for(|health| *health == Health::Ready);
        within("its health", ready).await.unwrap();
        let first = next;
        for _ in 0..50 {
            assert!(pair.one().to("a").emit("n", next).is_queued());
            next += 1;
        }
        until("the last", || {
            seen.lock().unwrap().last() == Some(&(next - 1))
        })
        .await;
        let seen = seen.lock().unwrap();
        assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
        assert_eq!(seen.iter().filter(|number| **number >= first).count(), 50);
    }
    // What the node that had it didn't take was sent to the other.
    assert_eq!(nodes[0].stats().lost, 0);
}

/// The slot of a stream moves while entries are appended: each comes once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_slot_moves_loses_and_doubles_nothing() {
    let cluster = RedisCluster::start();
    let (pair, nodes) = on_wire(&cluster, NodeWire::streams()).await;
    let ([_here, there], _) = pair.clients(["a", "a"]).await;
    let seen = collect(there);
    let mut next = 0;
    for _ in 0..3 {
        let to = (cluster.owner("socket.io") + 1) % 3;
        let moves = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let moves = || cluster.migrate("socket.io", to, Duration::from_millis(50));
                let moves = scope.spawn(moves);
                while !moves.is_finished() {
                    assert!(pair.one().to("a").emit("n", next).is_queued());
                    next += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                moves.join()
            })
        });
        moves.unwrap();
        until("the last", || {
            seen.lock().unwrap().last() == Some(&(next - 1))
        })
        .await;
    }
    assert_eq!(*seen.lock().unwrap(), (0..next).collect::<Vec<_>>());
    assert_eq!((nodes[0].stats().lost, nodes[1].stats().dropped), (0, 0));
}

/// Servers of Node's wires find the replica, too, and hear each other again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nodes_wires_servers_find_what_follows_a_master_that_dies() {
    let wires = [
        (NodeWire::sharded(), "socket.io#/#a#"),
        (NodeWire::streams(), "socket.io"),
    ];
    for (wire, key) in wires {
        let mut cluster = RedisCluster::with(3, 3);
        let (pair, nodes) = on_wire(&cluster, wire).await;
        let ([_here, mut there], _) = pair.clients(["a", "a"]).await;
        let owner = cluster.owner(key);
        cluster.nodes[owner].kill();
        for node in &nodes {
            let mut health = node.watch_health();
            let down = |health: &Health| matches!(health, Health::Degraded(Trouble::Down { .. }));
            within("the trouble", health.wait_for(down)).await.unwrap();
        }
        for node in &nodes {
            let mut health = node.watch_health();
            let ready = health.wait_for(|health| *health == Health::Ready);
            within("its health", ready).await.unwrap();
        }
        pair.one().to("a").emit("n", 7).into_result().unwrap();
        assert_eq!(number(&mut there).await, 7);
        // They are counted anew, too.
        let found = pair.two().broadcast().sockets().await.unwrap();
        assert_eq!(found.sockets.len(), 2);
    }
}

/// Those who don't lose a connection go on, logged events wait for the failover, and nothing is lost of
/// them but what Redis itself had not passed on to the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_is_followed_by_its_replica() {
    let mut cluster = RedisCluster::with(3, 3);
    let (pair, nodes) = built(&cluster, recovery::builder).await;
    let mut clients = one_of_each(&pair).await;
    pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    let log = log_key(&cluster);
    let owner = cluster.owner(&log);
    // The replica has it, too.
    until("the replica", || {
        let replica = &cluster.nodes[3 + owner];
        replica.info("master_repl_offset") == cluster.nodes[owner].info("master_repl_offset")
    })
    .await;
    cluster.nodes[owner].kill();
    for node in &nodes {
        down_for(node, "Redis").await;
    }
    // It waits.
    pair.one().to("a").emit("n", 2);
    for node in &nodes {
        ready(node).await;
    }
    pair.two().to("a").emit("n", 3);
    for client in &mut clients {
        let mut came = client.numbers(2).await;
        came.sort_unstable();
        assert_eq!(came, [2, 3]);
    }
    assert_eq!(cluster.owner(&log), 3 + owner);
    let mut back = clients[0].back_at_last(&pair.servers[1]).await;
    pair.one().to("a").emit("n", 4);
    assert_eq!(back.numbers(1).await, [4]);
    // What was the master comes back as a replica, and changes nothing.
    cluster.nodes[owner].restart();
    pair.two().to("a").emit("n", 5);
    assert_eq!(back.numbers(1).await, [5]);
}

/// An event that isn't logged goes on by a node that lives, also while another has no successor yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_no_slot_goes_on_without_a_master() {
    let mut cluster = RedisCluster::start();
    let (pair, nodes) = built(&cluster, Server::builder).await;
    let ([_here, mut there], _) = pair.clients(["a", "b"]).await;
    for killed in 0..2 {
        cluster.nodes[killed].kill();
        // Whoever was there goes to another.
        until("it is noticed and over", || {
            pair.one().to("b").emit("n", 1_000 + killed as u32);
            std::thread::sleep(Duration::from_millis(20));
            nodes.iter().all(|node| node.health() == Health::Ready)
        })
        .await;
        pair.one()
            .to("b")
            .emit("n", killed as u32)
            .into_result()
            .unwrap();
        while number(&mut there).await != killed as u32 {}
    }
}
