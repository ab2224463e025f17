//! Three servers of NATS that store what is logged, each all of it: the death of any one of them loses
//! nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon_nats::Nats;
use antiphon_test_cluster::{
    Pair,
    recovery::{self, Load, one_of_each},
    support::until,
};
use antiphon_test_nats::NatsServer;
use support::ready;

/// The servers of NATS may take so long to elect a leader on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn url(servers: &[NatsServer]) -> String {
    let urls: Vec<_> = servers.iter().map(NatsServer::url).collect();
    urls.join(",")
}

/// Two servers with recovery, whose logs are kept by three servers of NATS.
async fn pair(servers: &[NatsServer]) -> (Pair, [Nats; 2]) {
    let connect = async || {
        let nats = Nats::builder(&url(servers)).replicas(3);
        nats.connect().await.unwrap()
    };
    let nodes = [connect().await, connect().await];
    (Pair::of(&nodes, recovery::builder).await, nodes)
}

/// Waits until so many events are in the log: for longer than the servers of NATS take to elect a leader.
async fn all_are_logged(pair: &Pair, count: usize) {
    let logged = async {
        loop {
            let history = pair.one().history(Some("a"), None, 2 * count).await;
            if history.is_ok_and(|history| history.len() == count) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, logged).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_of_three_dies_nothing_is_lost_or_doubled() {
    const EACH: u64 = 500;

    let mut servers = NatsServer::cluster(3);
    let (pair, nodes) = pair(&servers).await;
    let mut clients = one_of_each(&pair).await;
    let mut logged = 0;
    for server in &mut servers {
        let load = Load::begin(&pair, EACH);
        // Each in its turn: one of them leads the stream, and one or two have the connections.
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill();
        logged += 2 * EACH as usize;
        all_are_logged(&pair, logged).await;
        load.came(&mut clients).await;
        for node in &nodes {
            ready(node).await;
        }
        // Sessions are kept by the others, too.
        for (client, io) in clients.iter_mut().zip(pair.servers.iter().rev()) {
            let mut back = client.back_at_last(io).await;
            assert_eq!(back.what_is_there().await.0, Vec::<u64>::new());
            *client = back;
        }
        server.restart();
        until("it has caught up", || server.is_current()).await;
    }
}

/// One of three that is left can decide nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_logged_events_wait_for_a_leader_is_seen_and_that_it_is_over() {
    let mut servers = NatsServer::cluster(3);
    let (pair, nodes) = pair(&servers).await;
    let [_, rest @ ..] = &mut servers[..] else {
        unreachable!()
    };
    let rest = std::sync::Mutex::new(rest);
    let each = |change: fn(&mut NatsServer)| rest.lock().unwrap().iter_mut().for_each(change);
    let (kill, restart) = (
        async || each(NatsServer::kill),
        async || each(NatsServer::restart),
    );
    recovery::a_silent_log_is_seen(&pair, &nodes, kill, restart).await;
}

/// What is said then is a test of the errors of JetStream (`errors_say_what_to_do`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_replicas_than_servers_keep_nothing_and_that_is_counted() {
    let server = NatsServer::jetstream();
    let nats = Nats::builder(&server.url()).replicas(3);
    let io = recovery::builder()
        .adapter(nats.connect().await.unwrap())
        .build();
    io.emit("n", 1);
    until("it is counted", || io.stats().log_failures > 0).await;
    assert!(server.streams().is_empty());
}
