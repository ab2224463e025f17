//! The features, each seen by the clients of two servers.

use std::time::Duration;

use antiphon::{AckError, Bytes};
use antiphon_cluster::Emitter;

use crate::{
    Pair, User, answer,
    support::{Log, Received, WEBSOCKET, WebSocket, serve, until, within},
};

pub async fn a_broadcast_reaches_the_sockets_of_both_servers(pair: Pair) {
    let (mut clients, ids) = pair.clients(["a", "b"]).await;
    let one = pair.one();
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
    pair.comes_to_both(&mut clients).await;
}

pub async fn attachments_and_arguments_as_they_came_travel(pair: Pair) {
    let (mut clients, _) = pair.clients(["a", "b"]).await;
    let binary = (
        "x",
        Bytes::from_static(b"\0\xff"),
        [Bytes::from_static(b"2")],
    );
    pair.two().emit("binary", binary);
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

pub async fn sockets_of_both_servers_acknowledge(pair: Pair) {
    let (mut clients, ids) = pair.clients(["a", "a"]).await;
    let asked = pair.one().to("a").emit_with_ack::<(u32, Bytes)>("q", ());
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
}

pub async fn a_socket_that_is_silent_is_counted_and_its_server_isnt_missing(pair: Pair) {
    let (mut clients, ids) = pair.clients(["a", "a"]).await;
    // On a busy machine an answer takes its time, too.
    let asked = pair.one().broadcast().timeout(Duration::from_secs(5));
    let asked = asked.emit_with_ack::<u32>("q", ());
    answer(&mut clients[0], "[1]").await;
    let answered = within("the time", asked).await.unwrap();
    assert!(!answered.is_complete());
    assert_eq!((answered.expected, answered.missing), (Some(2), vec![]));
    let who: Vec<_> = answered.answers.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(who, [&ids[0]]);
}

pub async fn a_socket_that_leaves_is_waited_for_no_longer(pair: Pair) {
    let (mut clients, _) = pair.clients(["a", "a"]).await;
    let asked = pair.one().broadcast().timeout(Duration::from_secs(60));
    let asked = asked.emit_with_ack::<u32>("q", ());
    answer(&mut clients[0], "[1]").await;
    clients[1].expect_prefix("42").await;
    clients[1].send("41").await;
    let answered = within("its leave", asked).await.unwrap();
    assert_eq!(answered.answers.len(), 1);
    assert_eq!((answered.expected, answered.missing), (Some(2), vec![]));
}

pub async fn sockets_of_both_servers_are_found_moved_and_disconnected(pair: Pair) {
    moved(pair, true).await;
}

/// The same where a question may overtake what was said before.
pub async fn sockets_of_both_servers_are_found_once_they_have_moved(pair: Pair) {
    moved(pair, false).await;
}

async fn moved(pair: Pair, are_ordered: bool) {
    let (mut clients, ids) = pair.clients(["a", "b"]).await;
    let one = pair.one();
    one.to("b").join(["c", "d"]);
    one.to("c").leave("d");
    if !are_ordered {
        pair.comes_to_both(&mut clients).await;
    }
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
    until("its leave", || pair.two().sockets_count() == 0).await;
    assert_eq!(found().await, [of(&ids[0], &["a"])]);
    pair.two().to("a").close_connections();
    clients[0].expect("41").await;
    assert!(matches!(
        clients[0].next().await,
        Received::Text(_) | Received::Closed(_)
    ));
    until("its leave", || pair.one().sockets_count() == 0).await;
}

pub async fn servers_talk_to_each_other_and_not_to_themselves(pair: Pair) {
    let log = Log::default();
    for (name, server) in ["one", "two"].into_iter().zip(&pair.servers) {
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
    pair.settle().await;
    let one = pair.one();
    let args = ("me", Bytes::from_static(b"x"));
    one.server_side_emit("hello", args).into_result().unwrap();
    log.until(r#"two hears me b"x""#).await;
    assert_eq!(log.seen().len(), 1, "{log:?}", log = log.seen());

    let names = one.server_side_emit_with_ack::<String>("name", ());
    let names = within("the names", names).await.unwrap();
    let [(_, name)] = &names.answers[..] else {
        panic!("{names:?}");
    };
    assert_eq!(name.as_deref().unwrap(), "two");
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
    let one = pair.one();
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

pub async fn events_of_a_namespace_stay_in_it(pair: Pair) {
    let log = Log::default();
    for server in &pair.servers {
        let log = log.clone();
        server.of("/other").on_server_side("e", move |(): ()| {
            log.note("other");
            async {}
        });
    }
    let (mut clients, _) = pair.clients(["a", "a"]).await;
    pair.servers[0].of("/other").emit("e", ());
    pair.comes_to_both(&mut clients).await;
    let asked = pair.one().server_side_emit_with_ack::<()>("e", ());
    assert!(asked.await.unwrap().answers.is_empty());
    assert!(log.seen().is_empty());
}

pub async fn outgoing_listeners_hear_what_another_server_emits(pair: Pair) {
    let log = Log::default();
    let noted = log.clone();
    pair.two()
        .on_any_outgoing(move |antiphon::Event(event): antiphon::Event| {
            noted.note(event);
            async {}
        });
    let (mut clients, _) = pair.clients(["a", "a"]).await;
    pair.one().emit("news", ());
    clients[1].expect(r#"42["news"]"#).await;
    log.until("news").await;
    assert_eq!(log.seen().len(), 1);
}

/// What an [`Emitter`] of the same broker can do.
pub async fn a_program_that_is_no_server_emits(pair: Pair, emitter: Emitter) {
    emitter.connected().await;
    let (mut clients, ids) = pair.clients(["a", "b"]).await;
    let log = Log::default();
    for server in &pair.servers {
        let log = log.clone();
        server.of("/").on_server_side("hello", move |(): ()| {
            log.note("hello");
            async {}
        });
    }
    let root = || emitter.of("/");
    root().emit("all", &(1, Bytes::from_static(b"x"))).unwrap();
    for client in &mut clients {
        client.expect_prefix(r#"451-["all",1"#).await;
        assert_eq!(client.next().await, Received::Binary(b"x".to_vec()));
    }
    root().to("a").volatile().emit("a", &()).unwrap();
    clients[0].expect(r#"42["a"]"#).await;
    root().to(&*ids[1]).join(["c"]).unwrap();
    let two = pair.two();
    let has_room = || two.rooms().iter().any(|(room, _)| &**room == "c");
    until("it has joined", has_room).await;
    pair.settle().await;
    root().except("c").emit("not c", &()).unwrap();
    clients[0].expect(r#"42["not c"]"#).await;
    root().to("c").leave("c").unwrap();
    until("it has left", || !has_room()).await;
    root().server_side_emit("hello", &()).unwrap();
    until("both servers", || log.seen().len() == 2).await;
    pair.comes_to_both(&mut clients).await;
    root().to("a").disconnect().unwrap();
    clients[0].expect("41").await;
    emitter.close().await;
    assert!(root().emit("late", &()).is_err());
}

/// With recovery: who was away gets what another server has emitted meanwhile, also to a room that
/// nobody else is in.
pub async fn who_was_away_gets_what_other_servers_have_emitted(pair: Pair) {
    let address = serve(&pair.servers[1]).await;
    let come = async |auth: &str| {
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.expect_prefix("0{").await;
        client.send(&format!("40{auth}")).await;
        let connected = client.expect_prefix("40{").await;
        let connected: serde_json::Value = serde_json::from_str(&connected[2..]).unwrap();
        (client, connected)
    };
    let (mut client, first) = come("").await;
    client.send(r#"421["enter","a"]"#).await;
    client.expect("431[]").await;
    pair.settle().await;
    pair.one().to("a").emit("seen", ());
    let seen = client.expect_prefix(r#"42["seen","#).await;
    let offset = &seen[r#"42["seen",""#.len()..seen.len() - 2];
    drop(client);
    until("it is gone", || pair.two().sockets_count() == 0).await;
    // A room without members is heard for a second more in any case.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    pair.one().to("a").emit("missed", 1);
    pair.one().emit("missed", 2);
    pair.one().to("b").emit("not for it", ());
    pair.one().to("a").emit("missed", 3);
    let kept = async || pair.two().history(Some("a"), None, 9).await.unwrap().len();
    for _ in 0..2_000 {
        if kept().await == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let login = serde_json::json!({"pid": first["pid"], "offset": offset});
    let (mut client, second) = come(&login.to_string()).await;
    assert_eq!(second, first);
    for number in 1..=3 {
        client
            .expect_prefix(&format!(r#"42["missed",{number},"#))
            .await;
    }
}

/// What is known of sockets of other servers: the values that these share, and the handshake.
pub async fn values_of_other_servers_sockets_are_known(pair: Pair) {
    let (_clients, ids) = pair.clients(["a", "a"]).await;
    for server in &pair.servers {
        for socket in server.of("/").sockets() {
            socket.insert(User {
                name: format!("user of {}", socket.id().as_str()),
            });
            socket.insert(7_u64);
        }
    }
    let fetched = pair.one().to("a").sockets().await.unwrap();
    assert_eq!(fetched.sockets.len(), 2);
    for socket in fetched.sockets {
        assert!(ids.iter().any(|id| id == socket.id.as_str()));
        let user = socket.data::<User>("user").unwrap();
        assert_eq!(user.name, format!("user of {}", socket.id.as_str()));
        assert_eq!(socket.data.len(), 1, "{:?}", socket.data);
        assert_eq!(socket.data::<u64>("user"), None);
        assert_eq!(socket.handshake["query"]["EIO"], "4");
        assert!(socket.handshake["issued"].is_u64());
    }
}

/// A client of a server in a namespace.
async fn in_namespace(io: &antiphon::Server, name: &str) -> crate::Client {
    let mut client = WebSocket::connect(serve(io).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send(&format!("40{name},")).await;
    client.expect_prefix(&format!("40{name},")).await;
    client
}

/// The event that comes next, without the offset that recovery adds.
async fn expect_event(client: &mut crate::Client, name: &str, event: &str) {
    let expected = format!("42{name},[\"{event}\"");
    let came = client.expect_prefix(&expected).await;
    let rest = &came[expected.len()..];
    assert!(rest == "]" || rest.starts_with(",\""), "{came}");
}

pub async fn a_parent_reaches_the_children_of_both_servers(pair: Pair) {
    let parents = pair
        .servers
        .each_ref()
        .map(|io| io.of_pattern("/room-{id}"));
    for parent in &parents {
        parent
            .on_connect(async |socket: antiphon::Socket| socket.join("in"))
            .on_server_side("add", async |(a, b): (u32, u32)| a + b);
    }
    let [one, two] = &pair.servers;
    // One child is on both servers, and one on the other server alone.
    let mut clients = [
        (in_namespace(one, "/room-1").await, "/room-1"),
        (in_namespace(two, "/room-1").await, "/room-1"),
        (in_namespace(two, "/room-2").await, "/room-2"),
    ];
    pair.settle().await;
    assert!(parents[0].emit("all", ()).is_queued());
    assert!(parents[0].to("in").emit("room", ()).is_queued());
    parents[0].broadcast().local().emit("here", ());
    one.of("/room-1").to("in").emit("child", ());
    parents[1].except("in").emit("nobody", ());
    for (place, (client, name)) in clients.iter_mut().enumerate() {
        expect_event(client, name, "all").await;
        expect_event(client, name, "room").await;
        if place == 0 {
            expect_event(client, name, "here").await;
        }
        if *name == "/room-1" {
            expect_event(client, name, "child").await;
        }
    }
    let added = one
        .of("/room-1")
        .server_side_emit_with_ack::<u32>("add", (1, 2));
    let answers = within("the answer", added).await.unwrap().answers;
    let sums: Vec<_> = answers.into_iter().map(|(_, sum)| sum.unwrap()).collect();
    assert_eq!(sums, [3]);
}

/// A child that goes away, and comes again, hears what other servers say. Both servers
/// [remove](antiphon::ServerBuilder::remove_empty_namespaces) empty ones.
pub async fn a_child_that_comes_again_hears_others(pair: Pair) {
    let [one, two] = &pair.servers;
    for io in &pair.servers {
        io.of_pattern("/room-{id}");
    }
    let mut other = in_namespace(one, "/room-1").await;
    for _ in 0..3 {
        let mut client = in_namespace(two, "/room-1").await;
        pair.settle().await;
        for from in [one, two] {
            let room = from.namespace("/room-1").unwrap();
            assert!(room.emit("heard", ()).is_queued());
            expect_event(&mut client, "/room-1", "heard").await;
            expect_event(&mut other, "/room-1", "heard").await;
        }
        client.send("41/room-1,").await;
        until("the child's end", || two.namespace("/room-1").is_none()).await;
    }
}

/// A client that was in a child comes back to the same child of the other server, which has it only
/// now. Both servers share the logs of recovery.
pub async fn who_was_away_from_a_child_comes_back_to_another_server(pair: Pair) {
    let [one, two] = &pair.servers;
    let parents = [one, two].map(|io| io.of_pattern("/room-{id}"));
    let mut client = WebSocket::connect(serve(one).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send("40/room-1,").await;
    let connected = client.expect_prefix("40/room-1,").await;
    pair.settle().await;
    let room = one.namespace("/room-1").unwrap();
    room.emit("seen", ());
    let seen = client.expect_prefix(r#"42/room-1,["seen",""#).await;
    let offset = &seen[r#"42/room-1,["seen",""#.len()..seen.len() - 2];
    drop(client);
    until("it is gone", || room.sockets_count() == 0).await;
    room.emit("missed", ());
    // What comes by the parents is in the child's log as well: once, whoever appends it.
    for (parent, number) in parents.iter().zip([1, 2]) {
        parent.emit("to all", number);
    }
    let first: serde_json::Value = serde_json::from_str(&connected[10..]).unwrap();
    let login = serde_json::json!({"pid": first["pid"], "offset": offset});
    let mut client = WebSocket::connect(serve(two).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send(&format!("40/room-1,{login}")).await;
    let connected = client.expect_prefix("40/room-1,").await;
    let second: serde_json::Value = serde_json::from_str(&connected[10..]).unwrap();
    assert_eq!(second, first);
    expect_event(&mut client, "/room-1", "missed").await;
    for io in [two, one] {
        io.namespace("/room-1").unwrap().emit("last", ());
    }
    let mut came = Vec::new();
    while came.iter().filter(|event| *event == "last").count() < 2 {
        let event = client.expect_prefix("42/room-1,").await;
        let list: Vec<serde_json::Value> = serde_json::from_str(&event[10..]).unwrap();
        let argument = list[1].as_u64();
        came.push(argument.map_or("last".to_owned(), |number| format!("to all {number}")));
    }
    came.sort_unstable();
    assert_eq!(came, ["last", "last", "to all 1", "to all 2"]);
}

pub async fn a_socket_of_another_server_is_told_asked_and_moved(pair: Pair) {
    let (mut clients, ids) = pair.clients(["a", "b"]).await;
    let fetched = pair.one().to("b").sockets().await.unwrap();
    let [socket] = &fetched.sockets[..] else {
        panic!("{fetched:?}")
    };
    assert_eq!(socket.id.as_str(), ids[1]);
    assert!(socket.emit("told", ()).is_queued());
    clients[1].expect(r#"42["told"]"#).await;
    let asked = socket.emit_with_ack::<u8>("q", ());
    answer(&mut clients[1], "[7]").await;
    assert_eq!(within("the answer", asked).await.unwrap(), 7);
    socket.join("c");
    // What goes there arrives behind the join.
    pair.one().to("c").emit("moved", ());
    clients[1].expect(r#"42["moved"]"#).await;
    assert_eq!(pair.one().to("c").count().await.unwrap().count, 1);
    assert_eq!(pair.two().broadcast().count().await.unwrap().count, 2);
    socket.leave("c");
    socket.emit("left", ());
    clients[1].expect(r#"42["left"]"#).await;
    assert_eq!(pair.one().to("c").count().await.unwrap().count, 0);
    socket.disconnect();
    clients[1].expect("41").await;
    let gone = within("the answer", socket.emit_with_ack::<u8>("q", ())).await;
    assert!(matches!(gone, Err(AckError::Disconnected)), "{gone:?}");
    pair.one().emit("last", ());
    clients[0].expect(r#"42["last"]"#).await;
}

/// Each server tells of the rooms of its own sockets, whoever puts them there.
pub async fn changes_of_rooms_are_told_where_the_sockets_are(pair: Pair) {
    let logs = [Log::default(), Log::default()];
    for (io, log) in pair.servers.iter().zip(&logs) {
        let log = log.clone();
        io.on_room_event(move |_: antiphon::Namespace, event: antiphon::RoomEvent| {
            match event {
                antiphon::RoomEvent::Created { room } => log.note(format!("created {room}")),
                antiphon::RoomEvent::Deleted { room } => log.note(format!("deleted {room}")),
                _ => {}
            }
            std::future::ready(())
        });
    }
    let (_clients, ids) = pair.clients(["a", "b"]).await;
    pair.one().to(&*ids[1]).join("c");
    logs[1].until("created c").await;
    pair.one().broadcast().leave("c");
    logs[1].until("deleted c").await;
    assert_eq!(logs[0].seen(), ["created a"]);
    assert_eq!(logs[1].seen(), ["created b", "created c", "deleted c"]);
}
