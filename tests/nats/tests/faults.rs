//! What becomes of two servers when their NATS, or the connection to it, fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use antiphon::{EmitError, adapter::AdapterError};
use antiphon_cluster::Health;
use antiphon_nats::Nats;
use antiphon_test_cluster::{
    Pair, collect,
    faults::{self, Broken},
    joined, number,
    support::{Received, until, within},
};
use antiphon_test_nats::NatsServer;
use support::{Two, down, down_for, ready};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a server has subscribed to with a socket in one room: control, its inbox, the namespace, what
/// concerns single sockets, and the room.
const FIXED: usize = 5;

/// As the tests of all brokers have it.
struct Server(NatsServer);

impl Broken for Server {
    fn kill(&mut self) {
        self.0.kill();
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn freeze(&self) {
        self.0.freeze();
    }

    fn thaw(&self) {
        self.0.thaw();
    }
}

async fn two() -> faults::Two<Server> {
    let two = Two::new().await;
    faults::Two {
        pair: two.pair,
        nodes: two.nodes.map(|node| (*node).clone()),
        broker: Server(two.nats),
    }
}

// The others are here, with what NATS says of them.
antiphon_test_cluster::test_faults! { two;
    a_broker_that_crashes_and_starts_again_is_found_again
    crashes_under_load_double_nothing_and_nothing_is_lost_once_all_is_well
    a_broker_that_hangs_fills_a_bounded_queue_and_blocks_nobody
    events_of_one_thread_come_in_order_whatever_rooms_they_go_to
}

/// Passes connections on to a port. While it is stalled it passes nothing on and tells nobody: what
/// is sent to it waits. Returns its port, and what stalls it.
async fn stalling(to: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stall = watch::Sender::new(false);
    let stalls = stall.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut stalled = stalls.subscribe();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                loop {
                    let passes = tokio::io::copy_bidirectional(&mut near, &mut far);
                    tokio::select! {
                        _ = passes => return,
                        _ = stalled.wait_for(|is_stalled| *is_stalled) => {}
                    }
                    let _ = stalled.wait_for(|is_stalled| !*is_stalled).await;
                }
            });
        }
    });
    (port, stall)
}

/// Two servers, of which the second reaches the NATS server by what may stall.
async fn with_stalls(nats: &NatsServer) -> ([Nats; 2], Pair, watch::Sender<bool>) {
    let (port, stall) = stalling(nats.port()).await;
    let near = Nats::connect(&nats.url()).await.unwrap();
    let far = format!("nats://127.0.0.1:{port}");
    let far = Nats::connect(&far).await.unwrap();
    let nodes = [near, far];
    for node in &nodes {
        until("both servers", || node.servers().len() == 2).await;
        ready(node).await;
    }
    let pair = Pair::new(nodes.clone(), || Box::pin(async {}));
    (nodes, pair, stall)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_dead_without_a_word_is_noticed_and_replaced() {
    let nats = NatsServer::start();
    let (nodes, pair, stall) = with_stalls(&nats).await;
    let (mut clients, _) = pair.clients(["a", "b"]).await;
    nodes[1].subscribed().await;
    stall.send_replace(true);
    down_for(&nodes[1], "hasn't answered in 5 s").await;
    assert_eq!(nodes[0].health(), Health::Ready);
    stall.send_replace(false);
    ready(&nodes[1]).await;
    pair.one().to("b").emit("n", 2).into_result().unwrap();
    assert_eq!(number(&mut clients[1]).await, 2);
    pair.two().to("a").emit("n", 3).into_result().unwrap();
    assert_eq!(number(&mut clients[0]).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_reads_too_slowly_is_cut_off_and_comes_back() {
    let nats = NatsServer::with("max_pending: 2MB\nwrite_deadline: \"500ms\"");
    let (nodes, pair, stall) = with_stalls(&nats).await;
    let (mut clients, _) = pair.clients(["a", "b"]).await;
    nodes[1].subscribed().await;
    stall.send_replace(true);
    let large = "x".repeat(500 << 10);
    let begun = Instant::now();
    while nats.number("/varz", "slow_consumers") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        let _ = pair.one().to("b").emit("large", &*large);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stall.send_replace(false);
    down(&nodes[1]).await;
    ready(&nodes[1]).await;
    assert_eq!(nodes[0].health(), Health::Ready);
    pair.one().to("b").emit("n", 1).into_result().unwrap();
    loop {
        match clients[1].next().await {
            Received::Text(text) if text.starts_with(r#"42["large""#) => {}
            other => break assert!(matches!(&other, Received::Text(t) if t == r#"42["n",1]"#)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_above_the_servers_limit_is_refused_and_the_connection_stays() {
    let two = Two::at(NatsServer::with("max_payload: 100KB")).await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let refused = two.pair.one().to("b").emit("n", "x".repeat(101 << 10));
    let refused = refused.into_result();
    assert!(
        matches!(
            refused,
            Err(EmitError::Adapter(AdapterError::TooLarge {
                limit: 102_400,
                ..
            }))
        ),
        "{refused:?}"
    );
    two.pair.one().to("b").emit("n", 1).into_result().unwrap();
    assert_eq!(number(&mut there).await, 1);
    assert_eq!(two.nodes[1].health(), Health::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_of_any_name_hear_their_own_events_alone() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let rooms = [
        " a.*.> \u{1f980}\r\n".to_owned(),
        "$SYS.>".to_owned(),
        "x".repeat(5_000),
        "x".repeat(5_001),
    ];
    two.pair.two().to("b").local().join(rooms.clone());
    two.pair.settle().await;
    for (number, room) in rooms.iter().enumerate() {
        two.pair.one().to(&**room).emit("n", number);
        assert_eq!(
            antiphon_test_cluster::number(&mut there).await as usize,
            number
        );
    }
    assert_eq!(two.nodes[1].health(), Health::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_under_our_subjects_is_counted_and_skipped() {
    let two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    two.nats.publish("antiphon.control", b"garbage");
    two.nats.publish("antiphon.namespace:/", &[0xff; 300]);
    until("the count", || two.nodes[1].stats().malformed == 2).await;
    two.pair.one().to("b").emit("n", 1).into_result().unwrap();
    assert_eq!(number(&mut there).await, 1);
    assert_eq!(two.nodes[1].health(), Health::Ready);
}

/// A configuration with a user `able` who may do this.
fn able(publish: &str, subscribe: &str) -> String {
    format!(
        "authorization {{ users: [{{ user: able, password: secret, permissions {{ publish: \
         {publish}, subscribe: {subscribe} }} }}] }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_are_told_and_given_back_they_are_used() {
    let all = able("\"antiphon.>\"", "\"antiphon.>\"");
    let nats = NatsServer::with(&all);
    let node = Nats::connect(&nats.url_of("able:secret@")).await.unwrap();
    ready(&node).await;
    nats.configure(&able("\"other.>\"", "\"antiphon.>\""));
    nats.reload();
    down_for(&node, "antiphon.>").await;
    nats.configure(&all);
    nats.reload();
    ready(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_a_user_may_not_publish_are_counted_and_others_are_sent() {
    // Subjects of rooms have three tokens.
    let publish = "\"antiphon.*\"";
    let two = Two::with_login(
        NatsServer::with(&able(publish, "\"antiphon.>\"")),
        "able:secret@",
    )
    .await;
    let (mut there, _) = joined(&two.pair.servers[1], "b").await;
    for number in 0..10 {
        two.pair
            .one()
            .to("b")
            .emit("n", number)
            .into_result()
            .unwrap();
    }
    until("the count", || two.nodes[0].stats().lost == 10).await;
    two.pair.one().emit("n", 10).into_result().unwrap();
    assert_eq!(number(&mut there).await, 10);
    assert_eq!(two.nodes[0].health(), Health::Ready);
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
    until("its connection's end", || two.nats.connections() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rooms_are_subscribed_to_and_given_up_also_after_a_reconnect() {
    let mut two = Two::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    two.pair.settle().await;
    let before = two.nats.subscriptions();
    let rooms: Vec<_> = (0..10_000).map(|number| format!("room {number}")).collect();
    two.pair.two().to("b").local().join(rooms.clone());
    two.pair.settle().await;
    assert_eq!(two.nats.subscriptions(), before + 10_000);
    for number in [0, 4_999, 9_999] {
        two.pair.one().to(&*rooms[number]).emit("n", number);
        assert_eq!(
            antiphon_test_cluster::number(&mut there).await as usize,
            number
        );
    }
    two.nats.kill();
    down(&two.nodes[1]).await;
    two.nats.restart();
    two.ready().await;
    assert_eq!(two.nats.subscriptions(), before + 10_000);
    two.pair.one().to(&*rooms[77]).emit("n", 77);
    assert_eq!(number(&mut there).await, 77);
    two.pair.two().to("b").local().leave(rooms);
    until("the leave", || two.nats.subscriptions() == before).await;
    assert_eq!(two.nodes[1].stats().topics, FIXED);
}
