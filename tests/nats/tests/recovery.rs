//! Clients that come back to another server, and what becomes of the log that both share when JetStream,
//! or the connection to it, fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon::{Data, Server, Socket};
use antiphon_nats::{Error, Nats};
use antiphon_test_cluster::{
    recovery::{self, Load, Returning, one_of_each},
    support::until,
};
use antiphon_test_nats::{JETSTREAM, NatsServer};
use support::{Two, down, refused};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Two servers with recovery.
async fn two() -> Two {
    let nats = NatsServer::jetstream();
    let url = nats.url();
    Two::built(nats, &url, recovery::builder).await
}

/// Passes connections on to a port, and ends all of them each time that it is told. Returns its port.
async fn cutting(to: u16) -> (u16, watch::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cut = watch::Sender::new(());
    let cuts = cut.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut cut = cuts.subscribe();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await else {
                    return;
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    (port, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_cut() {
    const EACH: u64 = 1_500;

    let nats = NatsServer::jetstream();
    let (port, cut) = cutting(nats.port()).await;
    let url = format!("nats://127.0.0.1:{port}");
    let two = Two::built(nats, &url, recovery::builder).await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cut.send_replace(());
    }
    load.came(&mut clients).await;
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_crashes_comes_back_with_all_that_it_has_stored() {
    const EACH: u64 = 500;

    let mut two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    let load = Load::begin(&two.pair, EACH);
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.nats.kill();
    for node in &two.nodes {
        down(node).await;
    }
    two.nats.restart();
    load.came(&mut clients).await;
    // Sessions outlive it, too.
    let mut back = clients[0].back(&two.pair.servers[1]).await;
    assert_eq!(back.sid, clients[0].sid);
    two.pair.one().to("a").emit("n", 1);
    assert_eq!(back.numbers(1).await, [1]);
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_nats_that_has_lost_all_clients_begin_anew() {
    let mut two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    two.pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(1).await, [1]);
    }
    let away = clients[0].session.clone();
    two.nats.kill();
    for node in &two.nodes {
        down(node).await;
    }
    two.nats.forget();
    // It waits for the NATS server.
    two.pair.one().to("a").emit("n", 2);
    two.nats.restart();
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

/// As an operator does it: nats stream rm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_deleted_while_all_runs_are_made_anew() {
    let two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    for round in 0..3 {
        two.pair.one().to("a").emit("n", 2 * round);
        two.pair.two().to("a").emit("n", 2 * round + 1);
        for client in &mut clients {
            let mut came = client.numbers(2).await;
            came.sort_unstable();
            assert_eq!(came, [2 * round, 2 * round + 1], "round {round}");
        }
        for stream in two.nats.streams() {
            two.nats
                .publish(&format!("$JS.API.STREAM.DELETE.{stream}"), b"");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_stalls_delays_what_is_logged_and_nothing_else() {
    let two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    two.nats.freeze();
    for number in 0..100 {
        two.pair.one().to("a").emit("n", number);
    }
    // What isn't logged goes on.
    two.pair.one().to("a").local().volatile().emit("n", 1_000);
    assert_eq!(clients[0].numbers(1).await, [1_000]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    two.nats.thaw();
    for client in &mut clients {
        assert_eq!(client.numbers(100).await, (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_logged_events_wait_is_seen_and_that_it_is_over() {
    let two = two().await;
    let (freeze, thaw) = (async || two.nats.freeze(), async || two.nats.thaw());
    recovery::a_silent_log_is_seen(&two.pair, &two.nodes, freeze, thaw).await;
}

/// A server with one client, which has joined a room.
async fn alone(node: &Nats) -> (Server, Returning) {
    let io = recovery::builder().adapter(node.clone()).build();
    io.of("/")
        .on("enter", async |socket: Socket, Data(room): Data<String>| {
            socket.join(room);
        });
    let client = Returning::joined(&io, "a").await;
    (io, client)
}

/// Events of the log aren't delivered, rather than delivered to some, and that is counted.
async fn refuses(io: &Server, client: &mut Returning) {
    io.to("a").emit("n", 1);
    io.to("a").volatile().emit("n", 2);
    assert_eq!(client.numbers(1).await, [2]);
    until("it is counted", || io.stats().log_failures > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_jetstream_events_of_the_log_are_not_delivered() {
    let rights = "\"antiphon.>\"";
    let nats = NatsServer::with(&format!(
        "{JETSTREAM}\nauthorization {{ users: [{{ user: few, password: few, permissions {{ publish: \
         {rights}, subscribe: {rights} }} }}] }}"
    ));
    let url = nats.url_of("few:few@");
    let node = Nats::connect(&url).await.unwrap();
    let (io, mut client) = alone(&node).await;
    refuses(&io, &mut client).await;
    refused(&node).await;
    // Without it each server has its own log.
    let nats = Nats::builder(&url).prefix("antiphon").jetstream(false);
    let node = nats.connect().await.unwrap();
    let (io, mut client) = alone(&node).await;
    io.to("a").emit("n", 3);
    assert_eq!(client.numbers(1).await, [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_without_jetstream_is_told_to_those_that_want_it() {
    let nats = NatsServer::start();
    let wanted = Nats::builder(&nats.url()).jetstream(true).connect().await;
    assert!(
        matches!(wanted, Err(Error::NoJetStream { .. })),
        "{wanted:?}"
    );
    // Those that leave it open have logs of their own.
    let node = Nats::connect(&nats.url()).await.unwrap();
    let (io, mut client) = alone(&node).await;
    io.to("a").emit("n", 1);
    assert_eq!(client.numbers(1).await, [1]);
}

/// Garbage in the stream, and beside it, is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_into_the_log_is_counted_and_skipped() {
    let two = two().await;
    let mut clients = one_of_each(&two.pair).await;
    until("the stream", || two.nats.republished().is_some()).await;
    let [entries, heard] = two.nats.republished().unwrap();
    two.pair.one().to("a").emit("n", 0);
    two.nats.publish(&entries, b"garbage");
    two.nats.publish(&entries, b"");
    two.nats.publish(&heard, b"1:2:garbage");
    two.pair.one().to("a").emit("n", 1);
    for client in &mut clients {
        assert_eq!(client.numbers(2).await, [0, 1]);
    }
    until("the count", || two.nodes[1].stats().malformed >= 2).await;
    // It is read over, too.
    let mut back = clients[0].back(&two.pair.servers[1]).await;
    assert_eq!(back.sid, clients[0].sid);
    two.pair.one().to("a").emit("n", 2);
    assert_eq!(back.numbers(1).await, [2]);
}
