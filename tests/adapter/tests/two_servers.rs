//! Two servers joined by an adapter from outside of `antiphon`: what an application does to rooms
//! reaches the sockets of both, and what is missing is said.

#![allow(clippy::unwrap_used)]

use std::{ops::Deref, time::Duration};

use antiphon::{
    EmitError,
    adapter::{AdapterError, NodeId, Watch},
};
use antiphon_test_adapter::{Hub, Node};
use antiphon_test_cluster::{
    Pair, answer, joined,
    support::{until, within},
    test_features,
};

struct Cluster {
    hub: Hub,
    nodes: [Node; 2],
    pair: Pair,
}

impl Cluster {
    fn watching(watch: Watch) -> Self {
        let hub = Hub::default();
        let nodes = ["one", "two"].map(|name| hub.node(name, watch));
        let pair = Pair::new(nodes.clone(), || Box::pin(async {}));
        Self { hub, nodes, pair }
    }

    fn new() -> Self {
        Self::watching(Watch::Nothing)
    }
}

impl Deref for Cluster {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

async fn pair() -> Pair {
    Cluster::new().pair
}

test_features!(pair);

fn named(names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|name| NodeId::new(*name)).collect()
}

#[tokio::test]
async fn a_server_that_says_nothing_is_missing() {
    let cluster = Cluster::new();
    let (mut clients, ids) = cluster.clients(["a", "a"]).await;
    cluster.hub.freeze("two");
    let brief = || cluster.one().broadcast().timeout(Duration::from_secs(5));
    let asked = brief().emit_with_ack::<u32>("q", ());
    answer(&mut clients[0], "[1]").await;
    let answered = within("the time", asked).await.unwrap();
    assert!(!answered.is_complete());
    assert_eq!(answered.answers.len(), 1);
    assert_eq!(answered.missing, named(&["two"]));
    let fetched = within("the time", brief().to("a").sockets());
    let fetched = fetched.await.unwrap();
    assert_eq!(fetched.sockets.len(), 1);
    assert_eq!(fetched.sockets[0].id.as_str(), ids[0]);
    assert_eq!(fetched.missing, named(&["two"]));
    let asked = cluster.one().server_side_emit_with_ack::<u32>("q", ());
    let answered = within("the time", asked).await.unwrap();
    assert!(answered.answers.is_empty());
    assert_eq!(answered.missing, named(&["two"]));
    // What is over is forgotten with the next question.
    drop(cluster.one().server_side_emit_with_ack::<u32>("q", ()));
    assert_eq!(cluster.hub.questions("one"), 1);
}

#[tokio::test]
async fn a_server_that_dies_is_missing_and_isnt_waited_for() {
    let cluster = Cluster::new();
    let (mut clients, _) = cluster.clients(["a", "a"]).await;
    let asked = cluster.one().broadcast().timeout(Duration::from_secs(60));
    let asked = asked.emit_with_ack::<u32>("q", ());
    // It has said its count, and dies with an answer owed.
    clients[1].expect_prefix("42").await;
    answer(&mut clients[0], "[1]").await;
    cluster.hub.bury("two");
    let answered = within("its death", asked).await.unwrap();
    assert_eq!(answered.answers.len(), 1);
    assert_eq!(answered.missing, named(&["two"]));
    assert_eq!(cluster.one().server_count().await, Ok(1));
}

#[tokio::test]
async fn an_adapter_hears_of_sockets_and_rooms_in_their_order() {
    let cluster = Cluster::watching(Watch::Sockets);
    let (client, _) = joined(&cluster.servers[0], "a").await;
    let (mut other, _) = joined(&cluster.servers[0], "a").await;
    cluster.two().to("a").join("b");
    cluster.two().to("b").leave("a");
    other.send("41").await;
    until("its leave", || cluster.one().sockets_count() == 1).await;
    drop(client);
    until("its leave", || cluster.one().sockets_count() == 0).await;
    let log = cluster.nodes[0].log();
    let expected = [
        "start /",
        "came",
        "created a",
        "joined a",
        "came",
        "joined a",
        "created b",
        "joined b",
        "joined b",
        "left a",
        "left a",
        "deleted a",
        "left b",
        "gone",
        "left b",
        "deleted b",
        "gone",
    ];
    assert_eq!(log, expected);
}

#[tokio::test]
async fn an_adapter_may_hear_of_rooms_alone_or_of_nothing() {
    for (watch, expected) in [
        (Watch::Rooms, &["start /", "created a", "deleted a"][..]),
        (Watch::Nothing, &["start /"]),
    ] {
        let cluster = Cluster::watching(watch);
        let (client, _) = joined(&cluster.servers[0], "a").await;
        drop(client);
        until("its leave", || cluster.one().sockets_count() == 0).await;
        assert_eq!(cluster.nodes[0].log(), expected);
    }
}

#[tokio::test]
async fn a_closed_server_has_closed_its_adapters_and_says_so() {
    let cluster = Cluster::new();
    let _other = cluster.servers[0].of("/other");
    within("the end", cluster.servers[0].close()).await;
    let mut log = cluster.nodes[0].log();
    log.sort();
    assert_eq!(log, ["close /", "close /other", "start /", "start /other"]);
    assert_eq!(cluster.two().server_count().await, Ok(1));
    let refused = cluster.one().emit("e", ()).into_result();
    assert!(matches!(
        refused,
        Err(EmitError::Adapter(AdapterError::Closed))
    ));
    let refused = cluster.one().to("a").join("b").into_result();
    assert!(matches!(
        refused,
        Err(EmitError::Adapter(AdapterError::Closed))
    ));
    let refused = cluster.one().broadcast().sockets().await;
    assert_eq!(refused, Err(AdapterError::Closed));
    let asked = cluster.one().emit_with_ack::<()>("e", ()).await.unwrap();
    assert_eq!(asked.error, Some(AdapterError::Closed));
    assert!(!asked.is_complete());
}

#[tokio::test]
async fn a_full_queue_is_told_and_this_servers_sockets_get_it_all_the_same() {
    let cluster = Cluster::new();
    let (mut client, _) = joined(&cluster.servers[0], "a").await;
    // Nobody reads meanwhile, since nothing is awaited.
    let emitted: Vec<_> = (0..1_100).map(|n| cluster.one().emit("n", n)).collect();
    assert_eq!(emitted.iter().filter(|one| one.is_queued()).count(), 1_024);
    for n in 0..1_100 {
        client.expect(&format!(r#"42["n",{n}]"#)).await;
    }
}

#[tokio::test]
async fn forged_frames_reach_nobody() {
    let cluster = Cluster::new();
    let (mut clients, _) = cluster.clients(["a", "a"]).await;
    let frame = |name: &str, json: &str| {
        let args = serde_json::json!({"json": json, "attachments": []});
        let event = serde_json::json!({"name": name, "args": args});
        let to = serde_json::json!({"rooms": [], "except": []});
        let says = serde_json::json!({"event": event, "to": to, "volatile": false});
        serde_json::json!({"from": "evil", "says": {"Broadcast": says}}).to_string()
    };
    let forged = [
        "garbage".to_owned(),
        frame("e", "1]42[\"forged\""),
        frame("e", "{"),
        frame("disconnect", ""),
    ];
    for frame in &forged {
        cluster.hub.inject(frame.as_bytes());
    }
    cluster.hub.inject(frame("fine", "1").as_bytes());
    for client in &mut clients {
        client.expect(r#"42["fine",1]"#).await;
    }
    let log = cluster.nodes[1].log();
    assert_eq!(
        log.iter()
            .filter(|line| line.starts_with("refused"))
            .count(),
        3
    );
    assert!(log.contains(&"garbage".to_owned()));
}
