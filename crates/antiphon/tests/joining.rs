//! Sockets that come: what a middleware may wish for, a CONNECT that replaces another, and how much
//! one connection may ask for.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon::{Auth, ConnectError, Data, EmitError, Room, Server, Socket, State};
use support::{
    Gate, Log, Received, WEBSOCKET, WEBSOCKET_3, WebSocket, serve, server, until, within,
};
use tokio::net::TcpStream;

/// An auth payload.
#[derive(serde::Deserialize)]
struct Login<T> {
    value: T,
}

/// A client that has joined the main namespace.
async fn joined(io: &Server, path: &str) -> WebSocket<TcpStream> {
    let mut client = WebSocket::connect(serve(io).await, path).await;
    client.expect_prefix("0{").await;
    if path == WEBSOCKET {
        client.send("40").await;
    }
    client.expect_prefix("40").await;
    client
}

fn names(rooms: &[Room]) -> Vec<&str> {
    rooms.iter().map(|room| &**room).collect()
}

#[tokio::test]
async fn the_newest_connect_replaces_one_that_is_still_asked() {
    #[derive(Clone, PartialEq, Debug)]
    struct Number(u32);

    let (io, log, gate) = server(Server::builder());
    let chat = io.of("/chat");
    chat.middleware(
        async |socket: Socket,
               Auth(Login { value: number }): Auth<Login<u32>>,
               State(log): State<Log>,
               State(gate): State<Gate>| {
            socket.insert(Number(number));
            socket.join(format!("room {number}"));
            log.note(format_args!("asked {number}"));
            gate.pass().await;
            socket.join(format!("late room {number}"));
            let emitted = socket.emit("hello", number);
            log.note(format_args!("passed {number} {}", emitted.is_queued()));
            Ok(())
        },
    )
    .middleware(
        async |Auth(Login { value: number }): Auth<Login<u32>>, State(log): State<Log>| {
            log.note(format_args!("asked again {number}"));
            Ok(())
        },
    )
    .on_connect(async |socket: Socket, State(log): State<Log>| {
        let Number(number) = socket.get().unwrap();
        log.note(format_args!("connect {number}"));
    })
    .on_disconnect(async |State(log): State<Log>| log.note("disconnect"))
    .on(
        "auth",
        async |Auth(Login { value: number }): Auth<Login<u32>>| number,
    );
    let mut client = joined(&io, WEBSOCKET).await;
    client
        .send_together(&[
            r#"40/chat,{"value":1}"#,
            r#"40/chat,{"value":2}"#,
            r#"40/chat,{"value":3}"#,
        ])
        .await;
    log.until("asked 3").await;
    gate.open(3);
    client.expect(r#"42/chat,["hello",3]"#).await;
    client.expect_prefix("40/chat,{\"sid\"").await;
    log.until("connect 3").await;
    until("the others", || log.seen().len() == 8).await;
    let mut seen = log.seen();
    seen.sort();
    assert_eq!(
        seen,
        [
            "asked 1",
            "asked 2",
            "asked 3",
            "asked again 3",
            "connect 3",
            "passed 1 false",
            "passed 2 false",
            "passed 3 true",
        ]
    );
    let socket = chat.sockets().remove(0);
    assert_eq!(names(&socket.rooms())[1..], ["room 3", "late room 3"]);
    assert_eq!(chat.sockets_count(), 1);
    client.send(r#"42/chat,7["auth"]"#).await;
    client.expect("43/chat,7[3]").await;
    // The others have never been there.
    client.send("41/chat,").await;
    log.until("disconnect").await;
    assert_eq!(log.seen().len(), 9);
    client.send(r#"40/chat,{"value":4}"#).await;
    gate.open(1);
    client.expect(r#"42/chat,["hello",4]"#).await;
    client.expect_prefix("40/chat,{\"sid\"").await;
}

#[tokio::test]
async fn nothing_of_a_connect_that_was_replaced_answers() {
    for path in [WEBSOCKET, WEBSOCKET_3] {
        let (io, log, gate) = server(Server::builder());
        let chat = io.of("/chat");
        chat.middleware(
            async |socket: Socket, State(log): State<Log>, State(gate): State<Gate>| {
                log.note("asked");
                let number = log.seen().len();
                gate.pass().await;
                log.note("passed");
                match number {
                    1 => return Err(ConnectError::new("the first is refused")),
                    2 => panic!("the test asked for a panic"),
                    3 => socket.disconnect(),
                    4 => socket.close_connection(),
                    _ => {}
                }
                Ok(())
            },
        );
        let mut client = joined(&io, path).await;
        client.send_together(&["40/chat,"; 5]).await;
        until("all five", || log.seen().len() == 5).await;
        gate.open(5);
        client.expect_prefix("40/chat,").await;
        until("all five", || log.seen().len() == 10).await;
        chat.emit("end", ());
        client.expect(r#"42/chat,["end"]"#).await;
        assert_eq!(chat.sockets_count(), 1);
        assert_eq!(io.stats().connects_refused, 0);
    }
}

#[tokio::test]
async fn the_answer_of_one_that_a_middleware_has_disconnected_is_not_that_of_the_next() {
    let (io, log, gate) = server(Server::builder());
    io.of("/chat").middleware(
        async |socket: Socket,
               Auth(Login { value: first }): Auth<Login<bool>>,
               State(log): State<Log>,
               State(gate): State<Gate>| {
            if first {
                socket.disconnect();
                socket.disconnect();
                let emitted = socket.emit("late", ()).into_result();
                assert!(matches!(emitted, Err(EmitError::Disconnected)));
            }
            log.note("asked");
            gate.pass().await;
            Ok(())
        },
    );
    let mut client = joined(&io, WEBSOCKET).await;
    client.send(r#"40/chat,{"value":true}"#).await;
    log.until("asked").await;
    gate.open(1);
    client.expect(r#"44/chat,{"message":"disconnected"}"#).await;
    client
        .send_together(&[r#"40/chat,{"value":true}"#, r#"40/chat,{"value":false}"#])
        .await;
    until("both", || log.seen().len() == 3).await;
    gate.open(2);
    client.expect_prefix("40/chat,{\"sid\"").await;
    assert_eq!(io.of("/chat").sockets_count(), 1);
}

#[tokio::test]
async fn a_second_connect_to_a_joined_namespace_closes_the_connection() {
    for (path, second) in [
        (WEBSOCKET, "40"),
        (WEBSOCKET, "40/chat,"),
        (WEBSOCKET_3, "40"),
        (WEBSOCKET_3, "40/chat,"),
    ] {
        let io = Server::new();
        // It has joined, though its connect handler still runs.
        io.of("/chat")
            .on_connect(async || std::future::pending::<()>().await);
        let mut client = joined(&io, path).await;
        client.send("40/chat,").await;
        client.expect_prefix("40/chat,").await;
        client.send(second).await;
        assert!(
            matches!(client.next().await, Received::Closed(_)),
            "{second}"
        );
    }
}

#[tokio::test]
async fn connects_that_replace_each_other_are_bounded_like_handlers() {
    let (io, log, gate) = server(Server::builder().max_running_handlers(10));
    io.of("/chat")
        .middleware(async |State(log): State<Log>, State(gate): State<Gate>| {
            log.note("asked");
            gate.pass().await;
            Ok(())
        });
    let mut client = joined(&io, WEBSOCKET).await;
    client.send_together(&["40/chat,"; 10]).await;
    until("the bound", || log.seen().len() == 10).await;
    // Nothing more is read until some have ended.
    client.send_together(&["40/chat,"; 10]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(log.seen().len(), 10);
    gate.open(20);
    client.expect_prefix("40/chat,").await;
}

#[tokio::test]
async fn rooms_that_a_middleware_joins_are_entered_with_the_namespace() {
    let io = Server::new();
    let chat = io.of("/chat");
    chat.middleware(async |socket: Socket| {
        socket.join(["lobby", "left again", "lobby", "of users"]);
        socket.leave("left again");
        assert_eq!(
            socket
                .namespace()
                .to("lobby")
                .sockets()
                .await
                .unwrap()
                .sockets,
            []
        );
        Ok(())
    })
    .middleware(async |socket: Socket| {
        assert_eq!(names(&socket.rooms()), ["lobby", "of users"]);
        // Also from elsewhere, at whatever moment.
        let elsewhere = socket.clone();
        tokio::spawn(async move { elsewhere.join("from elsewhere") });
        socket.to("lobby").emit("somebody comes", ());
        socket.emit("before", ());
        Ok(())
    })
    .on_connect(async |socket: Socket| {
        assert_eq!(
            names(&socket.rooms())[..3],
            [socket.id().as_str(), "lobby", "of users"]
        );
    });
    let mut client = joined(&io, WEBSOCKET).await;
    client.send("40/chat,").await;
    client.expect(r#"42/chat,["before"]"#).await;
    client.expect_prefix("40/chat,").await;
    let socket = chat.sockets().remove(0);
    until("the room from elsewhere", || socket.rooms().len() == 4).await;
    chat.to("of users").emit("news", ());
    client.expect(r#"42/chat,["news"]"#).await;
    client.send("41/chat,").await;
    until("its end", || chat.sockets_count() == 0).await;
    assert_eq!(chat.rooms(), []);
    assert_eq!(io.stats().handler_panics, 0);
}

#[tokio::test]
async fn rooms_that_a_middleware_joins_are_forgotten_with_a_refusal() {
    let (io, log, gate) = server(Server::builder());
    let chat = io.of("/chat");
    chat.middleware(
        async |socket: Socket,
               Auth(Login { value: passes }): Auth<Login<bool>>,
               State(log): State<Log>,
               State(gate): State<Gate>| {
            if passes {
                return Ok(());
            }
            socket.join("secret");
            tokio::spawn(async move {
                gate.pass().await;
                socket.join("also secret");
                assert_eq!(socket.rooms(), Vec::<Room>::new());
                log.note("done");
            });
            Err(ConnectError::new("no"))
        },
    );
    let mut client = joined(&io, WEBSOCKET).await;
    client.send(r#"40/chat,{"value":false}"#).await;
    client.expect(r#"44/chat,{"message":"no"}"#).await;
    client.send(r#"40/chat,{"value":true}"#).await;
    client.expect_prefix("40/chat,").await;
    gate.open(1);
    log.until("done").await;
    assert_eq!(chat.sockets()[0].rooms().len(), 1);
    assert_eq!(chat.rooms(), []);
}

#[tokio::test]
async fn the_auth_that_a_connection_holds_is_bounded() {
    let io = Server::builder().max_auth(1_000).build();
    for name in ["/a", "/b", "/c", "/d"] {
        io.of(name)
            .on("length", async |Auth(login): Auth<Login<String>>| {
                login.value.len()
            });
    }
    let auth = |length: usize| format!(r#"{{"value":"{}"}}"#, "x".repeat(length - 12));
    let mut client = joined(&io, WEBSOCKET).await;
    client.send(&format!("40/a,{}", auth(500))).await;
    client.expect_prefix("40/a,").await;
    client.send(&format!("40/b,{}", auth(501))).await;
    client.expect(r#"44/b,{"message":"auth too large"}"#).await;
    client.send(&format!("40/b,{}", auth(500))).await;
    client.expect_prefix("40/b,").await;
    client.send("40/c,{}").await;
    client.expect(r#"44/c,{"message":"auth too large"}"#).await;
    // It is of use as long as its socket is there, and not longer.
    client.send(r#"42/a,0["length"]"#).await;
    client.expect("43/a,0[488]").await;
    client.send("41/a,").await;
    client.send(&format!("40/c,{}", auth(500))).await;
    client.expect_prefix("40/c,").await;
    // The query of Socket.IO 2.x counts as well.
    let mut client = joined(&io, WEBSOCKET_3).await;
    let query = "x".repeat(245);
    for (name, answer) in [
        ("a", "40/a,"),
        ("b", "40/b,"),
        ("c", "40/c,"),
        ("d", r#"44/d,"auth too large""#),
    ] {
        client.send(&format!("40/{name}?{query},")).await;
        client.expect(answer).await;
    }
}

#[tokio::test]
async fn the_namespaces_that_a_connection_is_in_are_bounded() {
    let (io, _, gate) = server(Server::builder().max_namespaces(3));
    for name in ["/a", "/b", "/c"] {
        let _ = io.of(name);
    }
    // Those that are still asked count, too.
    io.of("/b").middleware(async |State(gate): State<Gate>| {
        gate.pass().await;
        Ok(())
    });
    let mut client = joined(&io, WEBSOCKET).await;
    client
        .send_together(&["40/a,", "40/b,", "40/b,", "40/c,"])
        .await;
    client.expect_prefix("40/a,").await;
    client
        .expect(r#"44/c,{"message":"too many namespaces"}"#)
        .await;
    client.send_together(&["41/a,", "40/c,"]).await;
    client.expect_prefix("40/c,").await;
    gate.open(2);
    client.expect_prefix("40/b,").await;
}

#[tokio::test]
async fn a_refused_replacement_answers_once() {
    let (io, log, gate) = server(Server::builder());
    io.of("/chat")
        .middleware(
            async |Auth(Login { value: passes }): Auth<Login<bool>>,
                   State(log): State<Log>,
                   State(gate): State<Gate>| {
                log.note("asked");
                gate.pass().await;
                log.note("passed");
                match passes {
                    true => Ok(()),
                    false => Err(ConnectError::new("no")),
                }
            },
        )
        .on("next", async |Data(number): Data<u32>| number);
    let mut client = joined(&io, WEBSOCKET).await;
    client
        .send_together(&[r#"40/chat,{"value":true}"#, r#"40/chat,{"value":false}"#])
        .await;
    until("both", || log.seen().len() == 2).await;
    gate.open(2);
    client.expect(r#"44/chat,{"message":"no"}"#).await;
    until("both", || log.seen().len() == 4).await;
    assert_eq!(io.of("/chat").sockets_count(), 0);
    gate.open(1);
    client.send(r#"40/chat,{"value":true}"#).await;
    client.expect_prefix("40/chat,").await;
    client.send(r#"42/chat,1["next",2]"#).await;
    client.expect("43/chat,1[2]").await;
    within("close", io.close()).await;
}
