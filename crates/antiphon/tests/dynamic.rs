//! Namespaces that clients cause: by patterns and by functions.

#[path = "dynamic/leaving.rs"]
mod leaving;
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{
    Auth, ConnectError, Data, JoinRequest, Namespace, Param, QueueLimits, QueuePolicy, Server,
    Socket, State,
};
use serde_json::json;
use support::{Log, Received, WEBSOCKET, WEBSOCKET_3, WebSocket, http, serve, server, until};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

/// A client that has joined nothing yet.
async fn open(address: SocketAddr) -> Client {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client
}

/// A client in this namespace, and its id.
async fn joined(address: SocketAddr, namespace: &str) -> (Client, String) {
    let mut client = open(address).await;
    let id = join(&mut client, namespace, "").await;
    (client, id)
}

async fn join(client: &mut Client, namespace: &str, auth: &str) -> String {
    client.send(&format!("40{namespace},{auth}")).await;
    let prefix = format!("40{namespace},{{\"sid\":\"");
    let connected = client.expect_prefix(&prefix).await;
    connected[prefix.len()..][..20].to_owned()
}

async fn refused(client: &mut Client, namespace: &str, error: &str) {
    client.send(&format!("40{namespace},")).await;
    client.expect(&format!("44{namespace},{error}")).await;
}

const UNKNOWN: &str = r#"{"message":"Invalid namespace"}"#;

#[tokio::test]
async fn a_name_that_fits_a_pattern_is_a_namespace_with_parameters() {
    let io = Server::new();
    io.of_pattern("/{tenant}/room-{number}").on(
        "where",
        async |namespace: Namespace, Param((tenant, number)): Param<(String, u32)>| {
            (namespace.name().to_owned(), tenant, number)
        },
    );
    let mut client = open(serve(&io).await).await;
    join(&mut client, "/acme/room-7", "").await;
    client.send(r#"42/acme/room-7,1["where"]"#).await;
    client
        .expect(r#"43/acme/room-7,1["/acme/room-7","acme",7]"#)
        .await;
    for name in [
        "/acme/room-",
        "/room-7",
        "/acme/room-7/8",
        "/acme/\u{1}/room-7",
    ] {
        refused(&mut client, name, UNKNOWN).await;
    }
    assert_eq!(io.of_pattern("/{tenant}/room-{number}").children().len(), 1);
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_refuses_in_a_middleware() {
    let io = Server::new();
    io.of_pattern("/room-{id}")
        .middleware(async |Param(_): Param<u8>| Ok(()));
    let mut client = open(serve(&io).await).await;
    join(&mut client, "/room-255", "").await;
    client.send("40/room-256,").await;
    let refused = client.expect_prefix("44/room-256,").await;
    assert!(
        refused.contains(r#""code":"invalid_namespace""#),
        "{refused}"
    );
}

#[tokio::test]
async fn namespaces_come_before_parents_and_parents_in_their_order() {
    let io = Server::new();
    let which = |name: &'static str| move || std::future::ready(name);
    io.of("/room-1").on("which", which("namespace"));
    io.of_matching(async |request: JoinRequest| Ok(request.name().ends_with("even")))
        .on("which", which("function"));
    io.of_pattern("/room-{id}").on("which", which("pattern"));
    io.of_pattern("/{any}").on("which", which("last"));
    let mut client = open(serve(&io).await).await;
    for (name, expected) in [
        ("/room-1", "namespace"),
        ("/room-even", "function"),
        ("/room-2", "pattern"),
        ("/other", "last"),
    ] {
        join(&mut client, name, "").await;
        client.send(&format!(r#"42{name},1["which"]"#)).await;
        client.expect(&format!(r#"43{name},1["{expected}"]"#)).await;
    }
}

#[tokio::test]
async fn children_share_what_is_registered_on_the_parent_also_later() {
    let (io, log, _) = server(Server::builder());
    let rooms = io.of_pattern("/room-{id}");
    let address = serve(&io).await;
    let (mut client, _) = joined(address, "/room-1").await;
    rooms
        .on("ping", async || "pong")
        .on_any(async |State(log): State<Log>, event: antiphon::Event| log.note(event.0))
        .on_any_outgoing(async |State(log): State<Log>, event: antiphon::Event| {
            log.note(format!("out {}", event.0));
        })
        .on_connect(async |State(log): State<Log>| log.note("connect"))
        .on_disconnect(async |State(log): State<Log>| log.note("disconnect"))
        .middleware(
            async |Auth(auth): Auth<serde_json::Value>| match auth["n"].as_u64() {
                Some(_) => Ok(()),
                None => Err("a number, please".into()),
            },
        );
    // What is registered on a child is for that alone, and comes behind.
    io.of("/room-1").on("own", async || "own");
    client.send(r#"42/room-1,1["ping"]"#).await;
    client.expect(r#"43/room-1,1["pong"]"#).await;
    client.send(r#"42/room-1,2["own"]"#).await;
    client.expect(r#"43/room-1,2["own"]"#).await;
    rooms.emit("news", ());
    client.expect(r#"42/room-1,["news"]"#).await;
    assert_eq!(log.seen(), ["ping", "own", "out news"]);
    client.send("41/room-1,").await;
    log.until("disconnect").await;
    refused(&mut client, "/room-2", r#"{"message":"a number, please"}"#).await;
    join(&mut client, "/room-2", r#"{"n":1}"#).await;
    log.until("connect").await;
    client.send(r#"42/room-2,3["own"]"#).await;
    client
        .expect_prefix(r#"43/room-2,3[{"error":{"code":"unknown_event""#)
        .await;
}

#[tokio::test]
async fn what_is_handled_once_is_so_in_each_child() {
    let io = Server::new();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    io.of_pattern("/room-{id}")
        .handle_once("buy")
        .on("buy", move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(number)
        });
    let address = serve(&io).await;
    for (room, expected) in [("/room-1", 0), ("/room-2", 1), ("/room-1", 0)] {
        let (mut client, _) = joined(address, room).await;
        client.send(&format!(r#"42{room},1["buy","an id"]"#)).await;
        client.expect(&format!("43{room},1[{expected}]")).await;
    }
}

#[tokio::test]
async fn a_child_has_the_policy_of_its_parent_unless_it_has_its_own() {
    let io = Server::builder()
        .outbound(QueueLimits::new().packets(8))
        .build();
    io.of_pattern("/room-{id}")
        .queue_policy(QueuePolicy::DropNewest);
    io.of("/room-2").queue_policy(QueuePolicy::DropOldest);
    let address = serve(&io).await;
    for (room, first) in [("/room-1", 0), ("/room-2", 12)] {
        // A client on polling takes nothing meanwhile.
        let polling = "/socket.io/?EIO=4&transport=polling";
        let (_, open) = http(address, &format!("GET {polling}"), "").await;
        let url = format!("{polling}&sid={}", support::sid(&open));
        http(address, &format!("POST {url}"), &format!("40{room},")).await;
        let (_, connected) = http(address, &format!("GET {url}"), "").await;
        assert!(connected.contains(&format!("40{room},")), "{connected}");
        let namespace = io.namespace(room).unwrap();
        for number in 0..20 {
            namespace.emit("n", number);
        }
        let (_, got) = http(address, &format!("GET {url}"), "").await;
        assert!(
            got.starts_with(&format!(r#"42{room},["n",{first}]"#)),
            "{got}"
        );
    }
}

#[tokio::test]
async fn an_emit_to_the_parent_reaches_the_sockets_of_all_children() {
    let io = Server::new();
    let rooms = io.of_pattern("/room-{id}");
    rooms.on_connect(async |socket: Socket| socket.join("all"));
    let address = serve(&io).await;
    let (mut one, _) = joined(address, "/room-1").await;
    let (mut two, id) = joined(address, "/room-2").await;
    rooms.emit("a", 1);
    rooms.to("all").except(&*id).emit("not two", ());
    rooms.to("nobody").emit("nobody", ());
    rooms.volatile().to("all").send("volatile");
    for (client, room) in [(&mut one, 1), (&mut two, 2)] {
        client.expect(&format!(r#"42/room-{room},["a",1]"#)).await;
        if room == 1 {
            client.expect(r#"42/room-1,["not two"]"#).await;
        }
        client
            .expect(&format!(r#"42/room-{room},["message","volatile"]"#))
            .await;
    }
}

#[tokio::test]
async fn a_namespace_that_fits_a_pattern_is_its_child_if_it_is_made_by_hand() {
    let io = Server::new();
    let early = io.of("/room-0");
    let rooms = io.of_pattern("/room-{id}");
    rooms.on("ping", async || "pong");
    let by_hand = io.of("room-1");
    assert_eq!(by_hand.parent(), Some(&rooms));
    assert_eq!(early.parent(), None);
    assert_eq!(io.of_pattern("room-{id}"), rooms);
    let (mut client, _) = joined(serve(&io).await, "/room-1").await;
    client.send(r#"42/room-1,1["ping"]"#).await;
    client.expect(r#"43/room-1,1["pong"]"#).await;
    assert_eq!(io.namespace("room-1").as_ref(), Some(&by_hand));
    assert_eq!(io.namespace("room-2"), None);
}

#[tokio::test]
async fn a_function_sees_name_auth_and_handshake_and_refuses_with_data() {
    let io = Server::builder().state(7_u8).build();
    io.of_matching(async |request: JoinRequest| {
        if !request.name().starts_with("/tenant-") {
            return Ok(false);
        }
        assert_eq!(request.state::<u8>(), Some(7));
        assert_eq!(request.handshake().query("EIO").as_deref(), Some("4"));
        match request.auth::<serde_json::Value>().unwrap()["token"].as_str() {
            Some("secret") => Ok(true),
            _ => Err(ConnectError::new("not authorized").with_data(json!({"code": 1}))),
        }
    });
    let mut client = open(serve(&io).await).await;
    let no = r#"{"message":"not authorized","data":{"code":1}}"#;
    refused(&mut client, "/tenant-1", no).await;
    refused(&mut client, "/other", UNKNOWN).await;
    let asked = io.stats().connects_refused;
    assert_eq!(asked, 2);
    join(&mut client, "/tenant-1", r#"{"token":"secret"}"#).await;
    // It is asked again, though the namespace is there.
    let mut other = open(serve(&io).await).await;
    refused(&mut other, "/tenant-1", no).await;
    // A namespace of its own by hand isn't the function's.
    assert_eq!(io.of("/tenant-2").parent(), None);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_slow_or_fails_refuses_that_namespace_alone() {
    let (io, log, gate) = server(Server::builder().connect_timeout(Duration::from_secs(3)));
    io.of("/").on("ping", async || "pong");
    let asked = log.clone();
    io.of_matching(move |request: JoinRequest| {
        let (asked, gate) = (asked.clone(), gate.clone());
        async move {
            asked.note(request.name());
            match request.name() {
                "/panics" => panic!("the test asked for a panic"),
                "/slow" => gate.pass().await,
                _ => {}
            }
            Ok(true)
        }
    });
    let mut client = open(serve(&io).await).await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    client
        .send_together(&["40/slow,", "40/panics,", "40/quick,", r#"421["ping"]"#])
        .await;
    client
        .expect(r#"44/panics,{"message":"internal error"}"#)
        .await;
    client.expect_prefix("40/quick,").await;
    client.expect(r#"431["pong"]"#).await;
    assert_eq!(log.seen(), ["/slow", "/panics", "/quick"]);
    client.expect(r#"44/slow,{"message":"timeout"}"#).await;
    client.send(r#"422["ping"]"#).await;
    client.expect(r#"432["pong"]"#).await;
}

#[tokio::test]
async fn a_second_connect_replaces_the_first_while_the_function_is_asked() {
    let (io, log, gate) = server(Server::builder());
    let passes = (log.clone(), gate.clone());
    io.of_matching(move |request: JoinRequest| {
        let (log, gate) = passes.clone();
        async move {
            log.note(&request.auth::<serde_json::Value>().unwrap()["n"]);
            gate.pass().await;
            Ok(true)
        }
    })
    .on("who", async |Auth(auth): Auth<serde_json::Value>| auth);
    let mut client = open(serve(&io).await).await;
    client.send(r#"40/a,{"n":1}"#).await;
    log.until("1").await;
    client.send(r#"40/a,{"n":2}"#).await;
    log.until("2").await;
    gate.open(2);
    client.expect_prefix("40/a,").await;
    client.send(r#"42/a,1["who"]"#).await;
    client.expect(r#"43/a,1[{"n":2}]"#).await;
}

#[tokio::test]
async fn a_client_that_goes_while_the_function_is_asked_joins_nothing() {
    let (io, log, gate) = server(Server::builder().remove_empty_namespaces(true));
    let passes = (log.clone(), gate.clone());
    let rooms = io.of_matching(move |_: JoinRequest| {
        let (log, gate) = passes.clone();
        async move {
            log.note("asked");
            gate.pass().await;
            log.note("decided");
            Ok(true)
        }
    });
    rooms.on_connect(async |State(log): State<Log>| log.note("connect"));
    let mut client = open(serve(&io).await).await;
    client.send("40/a,").await;
    log.until("asked").await;
    drop(client);
    until("the session's end", || io.engine().stats().sessions == 0).await;
    gate.open(1);
    log.until("decided").await;
    until("the namespace's end", || rooms.children().is_empty()).await;
    assert_eq!(log.seen(), ["asked", "decided"]);
}

#[tokio::test]
async fn a_packet_for_a_namespace_that_is_not_decided_closes_the_connection() {
    let (io, log, gate) = server(Server::builder());
    let passes = (log.clone(), gate);
    io.of_matching(move |_: JoinRequest| {
        let (log, gate) = passes.clone();
        async move {
            log.note("asked");
            gate.pass().await;
            Ok(true)
        }
    });
    let mut client = open(serve(&io).await).await;
    client.send("40/a,").await;
    log.until("asked").await;
    client.send(r#"42/a,["early"]"#).await;
    assert!(matches!(client.next().await, Received::Closed(_)));
}

#[tokio::test]
async fn many_clients_that_cause_a_namespace_at_once_are_in_the_same() {
    let made = Arc::new(AtomicUsize::new(0));
    let io = Server::new();
    let rooms = io.of_pattern("/room-{id}");
    let count = Arc::clone(&made);
    io.on_new_namespace(move |namespace| {
        count.fetch_add(1, Ordering::Relaxed);
        // Nobody is in it before.
        namespace.middleware(async |socket: Socket| {
            socket.insert("asked");
            Ok(())
        });
    });
    rooms.on("asked", async |socket: Socket| socket.get::<&str>());
    let address = serve(&io).await;
    let clients = (0..16).map(|_| tokio::spawn(async move { joined(address, "/room-1").await.0 }));
    for client in clients.collect::<Vec<_>>() {
        let mut client = client.await.unwrap();
        client.send(r#"42/room-1,1["asked"]"#).await;
        client.expect(r#"43/room-1,1["asked"]"#).await;
        drop(client);
    }
    assert_eq!(made.load(Ordering::Relaxed), 1);
    assert_eq!(rooms.children().len(), 1);
}

#[tokio::test]
async fn a_hook_that_panics_lets_nobody_in_and_may_ask_for_its_namespace() {
    let io = Server::new();
    io.of_pattern("/room-{id}");
    let server = io.clone();
    io.on_new_namespace(move |namespace| {
        let same = server.of(namespace.name());
        assert_eq!(same, namespace);
        assert_ne!(namespace.name(), "/room-bad", "the test asked for a panic");
    });
    let mut client = open(serve(&io).await).await;
    for _ in 0..2 {
        refused(&mut client, "/room-bad", r#"{"message":"internal error"}"#).await;
    }
    join(&mut client, "/room-1", "").await;
}

#[tokio::test]
async fn clients_cause_so_many_namespaces_and_no_more() {
    let io = Server::builder().max_dynamic_namespaces(2).build();
    io.of_pattern("/room-{id}");
    let _ = io.of("/room-0"); // the application's own, which doesn't count
    let mut client = open(serve(&io).await).await;
    for name in ["/room-0", "/room-1", "/room-2"] {
        join(&mut client, name, "").await;
    }
    let error = r#"{"message":"too many namespaces on this server"}"#;
    refused(&mut client, "/room-3", error).await;
    // One that the application asks for doesn't count any more.
    let _ = io.of("/room-1");
    join(&mut client, "/room-3", "").await;
    refused(&mut client, "/room-4", error).await;
}

#[tokio::test]
async fn names_that_are_not_decided_count_for_the_connection() {
    let (io, log, gate) = server(Server::builder().max_namespaces(2).max_auth(8));
    let passes = (log.clone(), gate.clone());
    io.of_matching(move |request: JoinRequest| {
        let (log, gate) = passes.clone();
        async move {
            log.note(request.name());
            gate.pass().await;
            Ok(true)
        }
    });
    let mut client = open(serve(&io).await).await;
    client.send(r#"40/a,{"n":1}"#).await;
    log.until("/a").await;
    client.send(r#"40/b,{"n":1}"#).await;
    client.expect(r#"44/b,{"message":"auth too large"}"#).await;
    client.send("40/b,").await;
    log.until("/b").await;
    refused(&mut client, "/c", r#"{"message":"too many namespaces"}"#).await;
    gate.open(2);
    client.expect_prefix("40/").await;
    client.expect_prefix("40/").await;
}

#[tokio::test]
async fn clients_of_revision_3_join_with_their_query() {
    let io = Server::new();
    io.of_pattern("/room-{id}").on(
        "who",
        async |Param(id): Param<String>, Auth(query): Auth<serde_json::Value>| (id, query),
    );
    let mut client = WebSocket::connect(serve(&io).await, WEBSOCKET_3).await;
    client.expect_prefix("0{").await;
    client.expect("40").await;
    client.send("40/room-1?token=a,").await;
    client.expect("40/room-1,").await;
    client.send(r#"42/room-1,1["who"]"#).await;
    client.expect(r#"43/room-1,1["1",{"token":"a"}]"#).await;
}

#[tokio::test]
async fn a_name_that_is_odd_or_long_is_refused_or_is_one() {
    let io = Server::new();
    io.of_pattern("/{any}");
    let mut client = open(serve(&io).await).await;
    for name in [
        "/\u{20ac} \"'<b>",
        "/{any}",
        "/..",
        "/%2F",
        &format!("/{}", "a".repeat(250)),
    ] {
        join(&mut client, name, "").await;
    }
    for name in ["/a#b", "/a?b", "/a\nb", "/a\0", "/a/b", "/"] {
        refused_or_unknown(&mut client, name).await;
    }
    client.send(&format!("40/{},", "a".repeat(300))).await;
    assert!(matches!(client.next().await, Received::Closed(_)));
}

async fn refused_or_unknown(client: &mut Client, name: &str) {
    match name {
        // It is there always.
        "/" => {
            client.send("40").await;
            client.expect_prefix("40{").await;
        }
        name => refused(client, name, UNKNOWN).await,
    }
}

#[tokio::test]
async fn calls_by_http_go_to_namespaces_by_the_same_rules() {
    let io = Server::builder()
        .http_calls(antiphon::HttpCalls::default().description(true))
        .remove_empty_namespaces(true)
        .build();
    let rooms = io.of_pattern("/room-{id}");
    rooms.on("add", async |Param(id): Param<u32>, Data(n): Data<u32>| {
        id + n
    });
    io.of_matching(
        async |request: JoinRequest| match request.auth::<Option<()>>() {
            Ok(Some(())) => Ok(true),
            _ => Err("who?".into()),
        },
    )
    .on("ping", async || "pong");
    let address = serve(&io).await;
    let call =
        async |path: &str, body| http(address, &format!("POST /socket.io/call{path}"), body).await;
    assert_eq!(call("/room-3/add", "[4]").await, (200, "[7]".to_owned()));
    let (status, body) = call("/room-3/unknown", "[]").await;
    assert!(status == 404 && body.contains("unknown"), "{body}");
    let (status, body) = call("/other/ping", "[]").await;
    assert!(status == 401 && body.contains("who?"), "{body}");
    until("the children's end", || rooms.children().is_empty()).await;
    // Names of clients aren't for others.
    let (_client, _) = joined(address, "/room-secret").await;
    let (status, body) = http(address, "GET /socket.io/call/openapi.json", "").await;
    assert!(status == 200 && !body.contains("secret"), "{body}");
}

#[test]
fn patterns_that_can_not_work_panic_with_what_to_write() {
    let panics = |pattern: &'static str| {
        let made = std::panic::catch_unwind(|| {
            let io = Server::new();
            io.of_pattern("/room-{id}");
            io.of_pattern(pattern);
        });
        *made.unwrap_err().downcast::<String>().unwrap()
    };
    for (pattern, hint) in [
        ("/room", "use `of`"),
        ("/:id", "write `{name}`"),
        ("/room-{number}", "write the first one in both places"),
    ] {
        let panic = panics(pattern);
        assert!(panic.contains(hint), "{panic}");
    }
}
