//! Connections that come for one session at once, to one server or to two, while it is at another one or
//! waits there: one of them has it in the end, and none begins anew. Those that don't get it are closed, so
//! that their client comes again.

#![allow(clippy::unwrap_used)]

use antiphon_cluster::broker::memory::Hub;
use antiphon_test_cluster::{
    held::{Held, Three},
    recovery::{Returning, Session},
    support::{serve, until},
};

const ROUNDS: u64 = 60;
const CONNECTIONS: usize = 4;

/// A client of the first server, which has had an event.
async fn joined(world: &Three) -> Returning {
    let mut client = Returning::joined(&world.servers[0], "a").await;
    until("it is saved", || *world.brokers[0].has_saved.borrow()).await;
    world.servers[1].to("a").emit("n", 1_000);
    assert_eq!(client.numbers(1).await, [1_000]);
    client
}

/// The connections, to these servers by turns, and what they were told: none is somebody else.
async fn come(world: &Three, session: &Session, to: &[usize]) {
    let mut all = Vec::new();
    for number in 0..CONNECTIONS {
        let address = serve(&world.servers[to[number % to.len()]]).await;
        let session = session.clone();
        all.push(tokio::spawn(async move { session.comes(address).await }));
    }
    let mut open = Vec::new();
    for one in all {
        open.extend(one.await.unwrap());
    }
    for one in &open {
        assert_eq!(one.sid, session.sid, "it has begun anew");
    }
    // Whatever they do now, their client comes again.
    drop(open);
}

fn sockets(world: &Three) -> usize {
    let servers = world.servers.iter();
    servers.map(|io| io.of("/").sockets().len()).sum()
}

/// A session goes round the servers. Each time connections come for it to those that don't have it.
async fn rounds(brokers: [std::sync::Arc<Held>; 3], servers: usize, is_parked: bool) {
    let world = Three::new(brokers).await;
    let mut client = joined(&world).await;
    for round in 0..ROUNDS {
        let has_it = round as usize % 3;
        let others = [(has_it + 1) % 3, (has_it + 2) % 3];
        let session = client.session.clone();
        let before = is_parked.then_some(client);
        if is_parked {
            drop(before);
            until("it waits", || sockets(&world) == 0).await;
        }
        world.servers[has_it].to("a").emit("n", round);
        come(&world, &session, &others[..servers]).await;
        client = session.back(&world.servers[others[0]]).await;
        assert_eq!(client.sid, session.sid, "it has begun anew");
        assert_eq!(client.numbers(1).await, [round]);
        until("one socket", || sockets(&world) == 1).await;
    }
}

fn brokers() -> [std::sync::Arc<Held>; 3] {
    let hub = Hub::new();
    [(); 3].map(|()| Held::new(&hub))
}

fn slow_brokers(seed: u64) -> [std::sync::Arc<Held>; 3] {
    let hub = Hub::new();
    [1, 2, 3].map(|number| Held::slow(&hub, 3 * seed + number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_to_one_server_none_begins_anew() {
    rounds(brokers(), 1, false).await;
    rounds(slow_brokers(1), 1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_to_two_servers_none_begins_anew() {
    rounds(brokers(), 2, false).await;
    rounds(slow_brokers(2), 2, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_to_one_server_for_a_session_that_waits_none_begins_anew() {
    rounds(brokers(), 1, true).await;
    rounds(slow_brokers(3), 1, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_to_two_servers_for_a_session_that_waits_none_begins_anew() {
    rounds(brokers(), 2, true).await;
    rounds(slow_brokers(4), 2, true).await;
}

/// Its server can't be asked: both take what was saved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_to_two_servers_for_a_session_of_a_dead_one_none_begins_anew() {
    let world = Three::new(slow_brokers(5)).await;
    let client = joined(&world).await;
    world.brokers[0].memory.cut();
    world.servers[1].to("a").emit("n", 1);
    come(&world, &client.session, &[1, 2]).await;
    let mut back = client.session.back(&world.servers[2]).await;
    assert_eq!(back.sid, client.sid, "it has begun anew");
    assert_eq!(back.numbers(1).await, [1]);
}
