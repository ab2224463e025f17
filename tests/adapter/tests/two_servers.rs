//! Two servers joined by an adapter from outside of `antiphon`: what an application does to rooms
//! reaches the sockets of both, and what is missing is said.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/antiphon/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use antiphon::{
    AckError, Bytes, EmitError, Namespace, Server, Socket, State,
    adapter::{AdapterError, NodeId, Watch},
};
use antiphon_test_adapter::{Hub, Node};
use support::{Log, Received, WEBSOCKET, WebSocket, serve, until, within};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

struct Cluster {
    hub: Hub,
    nodes: Vec<Node>,
    servers: Vec<Server>,
}

impl Cluster {
    fn watching(watch: Watch) -> Self {
        let hub = Hub::default();
        let nodes = ["one", "two"].map(|name| hub.node(name, watch)).to_vec();
        let servers = nodes.iter().map(|node| {
            let io = Server::builder()
                .adapter(node.clone())
                .ack_timeout(Duration::from_millis(500))
                .build();
            io.of("/").on(
                "enter",
                async |socket: Socket, antiphon::Data(room): antiphon::Data<String>| {
                    socket.join(room);
                },
            );
            io
        });
        Self {
            servers: servers.collect(),
            hub,
            nodes,
        }
    }

    fn new() -> Self {
        Self::watching(Watch::Nothing)
    }

    fn one(&self) -> Namespace {
        self.servers[0].of("/")
    }

    fn two(&self) -> Namespace {
        self.servers[1].of("/")
    }

    /// A client of each server, in these rooms, and their ids.
    async fn clients(&self, rooms: [&str; 2]) -> ([Client; 2], [String; 2]) {
        let (one, first) = joined(&self.servers[0], rooms[0]).await;
        let (two, second) = joined(&self.servers[1], rooms[1]).await;
        ([one, two], [first, second])
    }
}

/// A client in a room, and its id.
async fn joined(io: &Server, room: &str) -> (Client, String) {
    let mut client = WebSocket::connect(serve(io).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send("40").await;
    let connected = client.expect_prefix("40{").await;
    let id = support::sid(&connected).to_owned();
    client.send(&format!(r#"421["enter","{room}"]"#)).await;
    client.expect("431[]").await;
    (client, id)
}

/// Nothing has come before this.
async fn comes_to_both(cluster: &Cluster, clients: &mut [Client; 2]) {
    assert!(cluster.one().emit("last", ()).is_queued());
    for client in clients {
        client.expect(r#"42["last"]"#).await;
    }
}

/// Answers the question that comes next with this.
async fn answer(client: &mut Client, with: &str) {
    let question = client.expect_prefix("42").await;
    let id = &question[2..question.find('[').unwrap()];
    client.send(&format!("43{id}{with}")).await;
}

fn named(names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|name| NodeId::new(*name)).collect()
}

#[tokio::test]
async fn a_broadcast_reaches_the_sockets_of_both_servers() {
    let cluster = Cluster::new();
    let (mut clients, ids) = cluster.clients(["a", "b"]).await;
    let one = cluster.one();
    one.emit("all", (1, "ä\"")).into_result().unwrap();
    for client in &mut clients {
        client.expect(r#"42["all",1,"ä\""]"#).await;
    }
    one.to("b").emit("b", ());
    clients[1].expect(r#"42["b"]"#).await;
    one.except("b").emit("not b", ());
    clients[0].expect(r#"42["not b"]"#).await;
    one.to(["a", "b"]).except(&*ids[0]).emit("not one", ());
    clients[1].expect(r#"42["not one"]"#).await;
    one.to(&*ids[1]).volatile().emit("two", ());
    clients[1].expect(r#"42["two"]"#).await;
    one.broadcast().local().emit("here", ());
    clients[0].expect(r#"42["here"]"#).await;
    comes_to_both(&cluster, &mut clients).await;
}

#[tokio::test]
async fn attachments_and_arguments_as_they_came_travel() {
    let cluster = Cluster::new();
    let (mut clients, _) = cluster.clients(["a", "b"]).await;
    let binary = (
        "x",
        Bytes::from_static(b"\0\xff"),
        [Bytes::from_static(b"2")],
    );
    cluster.two().emit("binary", binary);
    for client in &mut clients {
        let first = r#"{"_placeholder":true,"num":0}"#;
        let second = r#"[{"_placeholder":true,"num":1}]"#;
        client
            .expect(&format!(r#"452-["binary","x",{first},{second}]"#))
            .await;
        assert_eq!(client.next().await, Received::Binary(b"\0\xff".to_vec()));
        assert_eq!(client.next().await, Received::Binary(b"2".to_vec()));
    }
}

#[tokio::test]
async fn sockets_of_both_servers_acknowledge() {
    let cluster = Cluster::new();
    let (mut clients, ids) = cluster.clients(["a", "a"]).await;
    let asked = cluster.one().to("a").emit_with_ack::<(u32, Bytes)>("q", ());
    answer(&mut clients[0], r#"[1,{"not":"bytes"}]"#).await;
    let question = clients[1].expect_prefix("42").await;
    let id = &question[2..question.find('[').unwrap()];
    clients[1]
        .send(&format!(r#"461-{id}[2,{{"_placeholder":true,"num":0}}]"#))
        .await;
    clients[1]
        .send_frame(antiphon_protocol::websocket::Opcode::Binary, b"two")
        .await;
    let answered = within("the answers", asked).await.unwrap();
    assert!(answered.is_complete(), "{answered:?}");
    assert_eq!(answered.expected, Some(2));
    for (id, answer) in answered.answers {
        match id.as_str() == ids[0] {
            true => assert!(matches!(answer, Err(AckError::Data(_))), "{answer:?}"),
            false => assert_eq!(answer.unwrap(), (2, Bytes::from_static(b"two"))),
        }
    }
    assert_eq!(cluster.hub.questions("one"), 0);
}

#[tokio::test]
async fn a_socket_that_is_silent_is_counted_and_its_server_isnt_missing() {
    let cluster = Cluster::new();
    let (mut clients, ids) = cluster.clients(["a", "a"]).await;
    let asked = cluster.one().emit_with_ack::<u32>("q", ());
    answer(&mut clients[0], "[1]").await;
    let answered = within("the time", asked).await.unwrap();
    assert!(!answered.is_complete());
    assert_eq!((answered.expected, answered.missing), (Some(2), vec![]));
    let who: Vec<_> = answered.answers.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(who, [&ids[0]]);
}

#[tokio::test]
async fn a_socket_that_leaves_is_waited_for_no_longer() {
    let cluster = Cluster::new();
    let (mut clients, _) = cluster.clients(["a", "a"]).await;
    let asked = cluster.one().broadcast().timeout(Duration::from_secs(60));
    let asked = asked.emit_with_ack::<u32>("q", ());
    answer(&mut clients[0], "[1]").await;
    clients[1].expect_prefix("42").await;
    clients[1].send("41").await;
    let answered = within("its leave", asked).await.unwrap();
    assert_eq!(answered.answers.len(), 1);
    assert_eq!((answered.expected, answered.missing), (Some(2), vec![]));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_missing() {
    let cluster = Cluster::new();
    let (mut clients, ids) = cluster.clients(["a", "a"]).await;
    cluster.hub.freeze("two");
    let asked = cluster.one().emit_with_ack::<u32>("q", ());
    answer(&mut clients[0], "[1]").await;
    let answered = within("the time", asked).await.unwrap();
    assert!(!answered.is_complete());
    assert_eq!(answered.answers.len(), 1);
    assert_eq!(answered.missing, named(&["two"]));
    let fetched = within("the time", cluster.one().to("a").sockets());
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
async fn sockets_of_both_servers_are_found_moved_and_disconnected() {
    let cluster = Cluster::new();
    let (mut clients, ids) = cluster.clients(["a", "b"]).await;
    let one = cluster.one();
    one.to("b").join(["c", "d"]);
    one.to("c").leave("d");
    let found = async || {
        let fetched = one.broadcast().sockets().await.unwrap();
        assert_eq!(fetched.missing, []);
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for socket in fetched.sockets {
            let rooms = socket.rooms.iter().map(|room| (**room).to_owned());
            found.push((socket.id.as_str().to_owned(), rooms.collect()));
        }
        found
    };
    let of = |id: &String, rooms: &[&str]| {
        let rooms = rooms.iter().map(|room| (*room).to_owned());
        (id.clone(), [id.clone()].into_iter().chain(rooms).collect())
    };
    assert_eq!(
        found().await,
        [of(&ids[0], &["a"]), of(&ids[1], &["b", "c"])]
    );
    let here = one.broadcast().local().sockets().await.unwrap();
    assert_eq!(here.sockets.len(), 1);
    one.to("c").disconnect();
    clients[1].expect("41").await;
    until("its leave", || cluster.two().sockets_count() == 0).await;
    assert_eq!(found().await, [of(&ids[0], &["a"])]);
    cluster.two().to("a").close_connections();
    clients[0].expect("41").await;
    assert!(matches!(
        clients[0].next().await,
        Received::Text(_) | Received::Closed(_)
    ));
    until("its leave", || cluster.one().sockets_count() == 0).await;
}

#[tokio::test]
async fn servers_talk_to_each_other_and_not_to_themselves() {
    let cluster = Cluster::new();
    let log = Log::default();
    for (name, server) in ["one", "two"].into_iter().zip(&cluster.servers) {
        let log = log.clone();
        let root = server.of("/");
        root.on_server_side("hello", move |(who, bytes): (String, Bytes)| {
            let log = log.clone();
            async move { log.note(format!("{name} hears {who} {bytes:?}")) }
        });
        root.on_server_side("name", move |(): ()| async move { name });
        root.on_server_side("name", async |(): ()| "not the first");
        root.on_server_side("fails", async |n: u32| match n {
            0 => Err::<(), _>("zero"),
            _ => panic!("as it should"),
        });
        root.on_server_side("quiet", async |(): ()| ());
    }
    let one = cluster.one();
    let args = ("me", Bytes::from_static(b"x"));
    one.server_side_emit("hello", args).into_result().unwrap();
    log.until(r#"two hears me b"x""#).await;
    assert_eq!(log.seen().len(), 1, "{log:?}", log = log.seen());

    let names = one.server_side_emit_with_ack::<String>("name", ());
    let names = within("the names", names).await.unwrap();
    let [(node, name)] = &names.answers[..] else {
        panic!("{names:?}");
    };
    assert_eq!((node.as_str(), name.as_deref().unwrap()), ("two", "two"));
    assert_eq!(names.missing, []);

    let ask = async |event: &str, arg: u32| {
        let asked = one.server_side_emit_with_ack::<serde_json::Value>(event, arg);
        let mut asked = within("an answer", asked).await.unwrap();
        assert_eq!(asked.missing, []);
        asked.answers.pop().map(|(_, answer)| answer.ok())
    };
    assert_eq!(
        ask("fails", 0).await,
        Some(Some(serde_json::json!({"error": "zero"})))
    );
    let panicked = ask("fails", 1).await.unwrap().unwrap();
    assert_eq!(panicked["error"]["code"], "internal_error");
    let one = cluster.one();
    let refused = one.server_side_emit_with_ack::<serde_json::Value>("fails", "text");
    let refused = within("an answer", refused)
        .await
        .unwrap()
        .answers
        .remove(0)
        .1;
    assert_eq!(refused.unwrap()["error"]["code"], "invalid_arguments");
    let quiet = one.server_side_emit_with_ack::<()>("quiet", ());
    assert!(quiet.await.unwrap().answers[0].1.is_ok());
    // A server without a handler answers nothing, and isn't missing.
    assert_eq!(ask("unknown", 1).await, None);
    assert_eq!(one.server_count().await, Ok(2));
}

#[tokio::test]
async fn events_of_a_namespace_stay_in_it() {
    let cluster = Cluster::new();
    let log = Log::default();
    for server in &cluster.servers {
        let log = log.clone();
        server.of("/other").on_server_side("e", move |(): ()| {
            log.note("other");
            async {}
        });
    }
    let (mut clients, _) = cluster.clients(["a", "a"]).await;
    cluster.servers[0].of("/other").emit("e", ());
    comes_to_both(&cluster, &mut clients).await;
    let asked = cluster.one().server_side_emit_with_ack::<()>("e", ());
    assert!(asked.await.unwrap().answers.is_empty());
    assert!(log.seen().is_empty());
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
async fn outgoing_listeners_hear_what_another_server_emits() {
    let log = Log::default();
    let hub = Hub::default();
    let node = |name| hub.node(name, Watch::Nothing);
    let one = Server::builder().adapter(node("one")).build();
    let two = Server::builder()
        .adapter(node("two"))
        .state(log.clone())
        .build();
    two.of("/").on_any_outgoing(
        async |antiphon::Event(event): antiphon::Event, State(log): State<Log>| log.note(event),
    );
    let mut client = WebSocket::connect(serve(&two).await, WEBSOCKET).await;
    client.join().await;
    one.emit("news", ());
    client.expect(r#"42["news"]"#).await;
    log.until("news").await;
    assert_eq!(log.seen().len(), 1);
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
