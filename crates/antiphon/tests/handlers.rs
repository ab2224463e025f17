//! Handlers that are registered, removed and put in front, and middlewares that change events.

mod support;

use std::net::SocketAddr;

use antiphon::{
    Args, Data, Event, NewEvent, Rejection, Server, Socket, State, TransportKind, engine::Revision,
};
use support::{Log, Received, WEBSOCKET, WebSocket, http, serve, server, sid, until};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

async fn joined(address: SocketAddr) -> Client {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client
}

/// Sends an event and waits until its handlers have ended.
async fn sends(client: &mut Client, event: &str) {
    client.send(&format!(r#"427["{event}"]"#)).await;
    client.expect("437[]").await;
}

/// A handler that notes this.
fn notes(what: &'static str) -> impl Fn(State<Log>) -> std::future::Ready<()> + Clone {
    move |State(log)| {
        log.note(what);
        std::future::ready(())
    }
}

#[tokio::test]
async fn what_is_prepended_comes_first_within_its_place() {
    let (io, log, _) = server(Server::builder());
    io.on("e", notes("namespace"))
        .prepend("e", notes("namespace, first"))
        .on_any(notes("any"))
        .prepend_any(notes("any, first"))
        .on_any_outgoing(notes("out"))
        .prepend_any_outgoing(notes("out, first"))
        .on_connect(async |socket: Socket| {
            socket
                .on("e", notes("socket"))
                .prepend("e", notes("socket, first"))
                .on_any(notes("any of the socket"))
                .prepend_any(notes("any of the socket, first"))
                .on_any_outgoing(notes("out of the socket"))
                .prepend_any_outgoing(notes("out of the socket, first"));
        });
    let mut client = joined(serve(&io).await).await;
    sends(&mut client, "e").await;
    io.send("hello");
    client.expect(r#"42["message","hello"]"#).await;
    assert_eq!(
        log.seen(),
        [
            "any, first",
            "any",
            "any of the socket, first",
            "any of the socket",
            "namespace, first",
            "namespace",
            "socket, first",
            "socket",
            "out, first",
            "out",
            "out of the socket, first",
            "out of the socket",
        ]
    );
}

#[tokio::test]
async fn what_is_removed_is_called_no_more() {
    let (io, log, _) = server(Server::builder());
    io.on("a", notes("a"))
        .on("b", notes("b"))
        .on_any(notes("any"))
        .on_any_outgoing(notes("out"))
        .on_connect(async |socket: Socket| {
            socket
                .on("a", notes("own a"))
                .on("b", notes("own b"))
                .on_any(notes("own any"))
                .on_any_outgoing(notes("own out"));
        });
    let mut client = joined(serve(&io).await).await;
    let socket = io.of("/").sockets().remove(0);
    io.off("a").off_any().off_any_outgoing();
    socket.off("b");
    sends(&mut client, "a").await;
    sends(&mut client, "b").await;
    socket.emit("x", ());
    assert_eq!(log.seen(), ["own any", "own a", "own any", "b", "own out"]);
    io.off_all();
    socket.off_all().off_any().off_any_outgoing();
    socket.emit("x", ());
    for event in ["a", "b"] {
        client.send(&format!(r#"421["{event}"]"#)).await;
    }
    for _ in 0..2 {
        client.expect(r#"42["x"]"#).await;
    }
    for _ in 0..2 {
        client
            .expect_prefix(r#"431[{"error":{"code":"unknown_event""#)
            .await;
    }
    assert_eq!(log.seen().len(), 5);
}

#[tokio::test]
async fn one_handler_is_removed_by_the_function_that_it_is() {
    async fn first(socket: Socket) {
        socket.emit("first", ());
    }
    async fn second(socket: Socket) {
        socket.emit("second", ());
    }
    let third = async |socket: Socket| {
        socket.emit("third", ());
    };
    let io = Server::new();
    io.on("a", first)
        .on("a", second)
        .on("a", third)
        .on("b", first);
    io.on_connect(move |socket: Socket| async move {
        socket.on("a", first).on("a", first).on("a", third);
    });
    let mut client = joined(serve(&io).await).await;
    let socket = io.of("/").sockets().remove(0);
    let mut said = async |names: &[&str]| {
        client.send(r#"42["a"]"#).await;
        for name in names {
            client.expect(&format!(r#"42["{name}"]"#)).await;
        }
    };
    said(&["first", "second", "third", "first", "first", "third"]).await;
    io.off_handler("a", first).off_handler("a", first);
    said(&["second", "third", "first", "first", "third"]).await;
    // Of a function that was registered twice one is left.
    socket.off_handler("a", first).off_handler("a", third);
    said(&["second", "third", "first"]).await;
    io.off_handler("a", third).off_handler("none", third);
    said(&["second", "first"]).await;
    client.send(r#"42["b"]"#).await;
    client.expect(r#"42["first"]"#).await;
}

#[tokio::test]
async fn once_on_a_namespace_is_once_for_each_socket() {
    let io = Server::new();
    io.once("first", async |socket: Socket| {
        socket.emit("once", ());
    })
    .on("first", async || {});
    let address = serve(&io).await;
    for _ in 0..2 {
        let mut client = joined(address).await;
        client.send(r#"421["first"]"#).await;
        client.expect(r#"42["once"]"#).await;
        client.expect("431[]").await;
        sends(&mut client, "first").await;
    }
}

#[tokio::test]
async fn outgoing_listeners_are_told_what_was_emitted_whatever_its_size() {
    let (io, log, _) = server(Server::builder());
    io.on_any_outgoing(
        async |State(log): State<Log>, Event(name): Event, args: Args| {
            log.note(format!("{name} {}", args.json().len()));
        },
    );
    let address = serve(&io).await;
    let mut clients = [joined(address).await, joined(address).await];
    io.emit("large", "x".repeat(300_000));
    io.to("nobody").emit("nobody", ());
    io.of("/").sockets()[0].volatile().send("one");
    assert_eq!(log.seen(), ["large 300002", "large 300002", "message 5"]);
    for client in &mut clients {
        client.expect_prefix(r#"42["large","x"#).await;
    }
}

#[tokio::test]
async fn a_middleware_can_change_an_event() {
    let io = Server::new();
    io.on("add", async |Data((a, b)): Data<(i64, i64)>| a + b)
        .on_connect(async |socket: Socket| {
            socket
                .map_events(async |Event(name): Event, args: Args| match &*name {
                    "sum" => NewEvent::new("add", args),
                    "nothing" => Err(Rejection::new("nothing", "no")),
                    "reserved" => NewEvent::new("connect", args),
                    name => NewEvent::new(name, args),
                })
                // Those behind it see the new one.
                .map_events(async |Event(name): Event, Data((a, b)): Data<(i64, i64)>| {
                    assert_eq!(name, "add");
                    NewEvent::new(name, (10 * a, b))
                })
                .middleware(async |Data((a, _)): Data<(i64, i64)>| match a {
                    0 => Err(Rejection::new("zero", "zero")),
                    _ => Ok(()),
                });
        });
    let mut client = joined(serve(&io).await).await;
    for (event, answer) in [
        (r#"["sum",1,2]"#, "[12]"),
        (r#"["add",3,4]"#, "[34]"),
        (
            r#"["sum",0,1]"#,
            r#"[{"error":{"code":"zero","message":"zero"}}]"#,
        ),
        (
            r#"["nothing"]"#,
            r#"[{"error":{"code":"nothing","message":"no"}}]"#,
        ),
        (
            r#"["reserved"]"#,
            r#"[{"error":{"code":"internal_error","message":"the event can't be changed"}}]"#,
        ),
    ] {
        client.send(&format!("421{event}")).await;
        client.expect(&format!("431{answer}")).await;
    }
}

#[tokio::test]
async fn a_middleware_that_disconnects_refuses() {
    let io = Server::new();
    io.middleware(async |socket: Socket| {
        socket.disconnect();
        Ok(())
    });
    let mut client = WebSocket::connect(serve(&io).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send("40").await;
    client.expect(r#"44{"message":"disconnected"}"#).await;
}

#[tokio::test]
async fn a_socket_leaves_all_rooms_but_its_own() {
    let io = Server::new();
    io.on_connect(async |socket: Socket| socket.join(["a", "b"]))
        .on("leave", async |socket: Socket| {
            socket.leave_all();
            socket.rooms().len()
        });
    let mut client = joined(serve(&io).await).await;
    client.send(r#"421["leave"]"#).await;
    client.expect("431[1]").await;
}

#[tokio::test]
async fn an_upgrade_is_told_to_each_socket_of_the_connection() {
    let (io, log, _) = server(Server::builder());
    for name in ["/", "/chat"] {
        io.of(name).on_upgrade(
            async |socket: Socket, State(log): State<Log>, transport: TransportKind| {
                log.note(format!("{} {transport}", socket.namespace().name()));
            },
        );
    }
    let address = serve(&io).await;
    let polling = "GET /socket.io/?EIO=4&transport=polling";
    let (_, open) = http(address, polling, "").await;
    let polling = format!("{polling}&sid={}", sid(&open));
    let post = polling.replacen("GET", "POST", 1);
    http(address, &post, "40\u{1e}40/chat,").await;
    let (_, joined) = http(address, &polling, "").await;
    assert!(joined.contains("40/chat,"), "{joined}");
    let path = polling[4..].replace("polling", "websocket");
    let mut client = WebSocket::connect(address, &path).await;
    client.send("2probe").await;
    client.expect("3probe").await;
    client.send("5").await;
    until("both are told", || log.seen().len() == 2).await;
    assert_eq!(log.seen(), ["/ websocket", "/chat websocket"]);
}

#[tokio::test]
async fn a_connection_is_closed_without_a_disconnect_packet() {
    let (io, log, _) = server(Server::builder());
    io.on("close", async |socket: Socket| {
        assert_eq!(socket.revision(), Revision::V4);
        socket.emit("last", ());
        socket.close_transport();
    })
    .on_disconnect(
        async |reason: antiphon::DisconnectReason, State(log): State<Log>| log.note(reason),
    );
    let mut client = joined(serve(&io).await).await;
    client.send(r#"42["close"]"#).await;
    client.expect(r#"42["last"]"#).await;
    // The engine's own close, and none of Socket.IO.
    loop {
        match client.next().await {
            Received::Text(text) => assert_eq!(text, "1"),
            Received::Closed(_) => break,
            other => panic!("{other:?}"),
        }
    }
    log.until("forced close").await;
}
