//! Sockets that leave: what was received is handled, who comes waits for who leaves, and nothing of
//! a socket that has left touches another one.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use antiphon::{Data, DisconnectReason, EmitError, Namespace, Rejection, Server, Socket, State};
use support::{
    Gate, Log, Received, WEBSOCKET, WEBSOCKET_3, WebSocket, http, serve, server, sid, until, within,
};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

/// Notes each step of a socket's life; the second part of each lies behind an await.
fn note_lives(namespace: &Namespace) {
    async fn slowly(log: &Log, what: &str) {
        log.note(what);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        log.note(format_args!("{what} ended"));
    }
    namespace
        .middleware(async |State(log): State<Log>| {
            log.note("asked");
            Ok(())
        })
        .on_connect(async |State(log): State<Log>| slowly(&log, "connect").await)
        .on(
            "note",
            async |State(log): State<Log>, Data(text): Data<String>| log.note(text),
        )
        .on_disconnecting(async |State(log): State<Log>| slowly(&log, "disconnecting").await)
        .on_disconnect(async |State(log): State<Log>| slowly(&log, "disconnect").await);
}

const LIFE: [&str; 7] = [
    "asked",
    "connect",
    "connect ended",
    "disconnecting",
    "disconnecting ended",
    "disconnect",
    "disconnect ended",
];

/// A client that hasn't asked for anything yet.
async fn connect(io: &Server, path: &str) -> Client {
    let mut client = WebSocket::connect(serve(io).await, path).await;
    client.expect_prefix("0{").await;
    if path == WEBSOCKET_3 {
        client.expect("40").await;
    }
    client
}

#[tokio::test]
async fn who_comes_waits_until_the_goodbye_of_who_leaves_is_over() {
    for path in [WEBSOCKET, WEBSOCKET_3] {
        let (io, log, _) = server(Server::builder());
        note_lives(&io.of("/chat"));
        let mut client = connect(&io, path).await;
        // Together, one by one, and with more than one round on the way.
        client
            .send_together(&["40/chat,", "41/chat,", "40/chat,"])
            .await;
        client.expect_prefix("40/chat,").await;
        client.expect_prefix("40/chat,").await;
        client.send("41/chat,").await;
        client.send("40/chat,").await;
        client.expect_prefix("40/chat,").await;
        client
            .send_together(&["41/chat,", "40/chat,", "41/chat,", "40/chat,"])
            .await;
        client.expect_prefix("40/chat,").await;
        until("the latest", || io.of("/chat").sockets_count() == 1).await;
        drop(client);
        until("the end", || io.of("/chat").sockets_count() == 0).await;
        let seen = log.seen();
        let whole = seen.len() / LIFE.len();
        log.until("disconnect ended").await;
        until("the last goodbye", || log.seen().len() % LIFE.len() == 0).await;
        let seen = log.seen();
        assert!(whole >= 3, "{seen:?}");
        for life in seen.chunks(LIFE.len()) {
            assert_eq!(life, LIFE, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn who_comes_waits_also_for_one_that_the_server_has_disconnected() {
    let (io, log, gate) = server(Server::builder());
    note_lives(&io.of("/"));
    io.of("/")
        .on_disconnect(async |State(log): State<Log>, State(gate): State<Gate>| {
            gate.pass().await;
            log.note("gone");
        });
    let mut client = connect(&io, WEBSOCKET).await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    log.until("connect ended").await;
    io.of("/").sockets()[0].disconnect();
    client.expect("41").await;
    // What a client sends right behind its CONNECT waits as well.
    client.send_together(&["40", r#"42["note","early"]"#]).await;
    log.until("disconnect ended").await;
    assert!(!log.has("gone"));
    gate.open(1);
    client.expect_prefix("40{").await;
    log.until("early").await;
    let seen = log.seen();
    let gone = seen.iter().position(|what| what == "gone").unwrap();
    assert_eq!(seen[..gone], LIFE);
    assert_eq!(
        seen[gone + 1..],
        ["asked", "connect", "connect ended", "early"]
    );
}

#[tokio::test]
async fn a_goodbye_that_never_ends_keeps_nobody_waiting_for_ever() {
    let builder = Server::builder().leave_timeout(Duration::from_millis(50));
    let (io, log, gate) = server(builder);
    io.of("/")
        .on_disconnect(async |State(log): State<Log>, State(gate): State<Gate>| {
            log.note("waits");
            gate.pass().await;
            log.note("gone");
        });
    let mut client = connect(&io, WEBSOCKET).await;
    client.send_together(&["40", "41", "40"]).await;
    client.expect_prefix("40{").await;
    client.expect_prefix("40{").await;
    assert_eq!(log.seen(), ["waits"]);
    // The next is not kept waiting for either of them once its time is up.
    client.send_together(&["41", "40"]).await;
    client.expect_prefix("40{").await;
    assert_eq!(io.of("/").sockets_count(), 1);
    gate.open(2);
    until("both goodbyes", || log.seen().len() == 4).await;
    assert_eq!(io.of("/").sockets_count(), 1, "the latest is still there");
}

#[tokio::test]
async fn the_end_of_the_connection_ends_the_queue() {
    let (io, log, gate) = server(Server::builder());
    io.of("/")
        .on_connect(async |State(log): State<Log>| log.note("connect"))
        .on_disconnect(async |State(log): State<Log>, State(gate): State<Gate>| {
            gate.pass().await;
            log.note("gone");
        });
    let mut client = connect(&io, WEBSOCKET).await;
    client
        .send_together(&["40", "41", "40", r#"42["note","dropped"]"#])
        .await;
    client.expect_prefix("40{").await;
    drop(client);
    until("the end of the session", || io.stats().sessions == 0).await;
    gate.open(10);
    log.until("gone").await;
    within("close", io.close()).await;
    assert_eq!(log.seen(), ["connect", "gone"], "who waited never came");
    assert_eq!(io.of("/").sockets_count(), 0);
}

#[tokio::test]
async fn one_that_waits_may_leave_again() {
    let (io, log, gate) = server(Server::builder());
    io.of("/")
        .on_connect(async |State(log): State<Log>| log.note("connect"))
        .on_disconnect(async |State(gate): State<Gate>| gate.pass().await);
    let mut client = connect(&io, WEBSOCKET).await;
    client
        .send_together(&["40", "41", "40", "41", "40", "40", "41"])
        .await;
    client.expect_prefix("40{").await;
    gate.open(1);
    until("the goodbye", || io.of("/").sockets_count() == 0).await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    assert_eq!(log.seen(), ["connect", "connect"]);
}

/// With Engine.IO 3 the ids come again: a handler of the old socket still runs.
#[tokio::test]
async fn a_socket_that_has_left_touches_nobody_who_has_its_id() {
    let (io, log, gate) = server(Server::builder());
    let (stays, chat) = (io.of("/stays"), io.of("/chat"));
    chat.on(
        "late",
        async |socket: Socket, State(log): State<Log>, State(gate): State<Gate>| {
            log.note("late");
            gate.pass().await;
            socket.join("of the old one");
            socket.leave("of the new one");
            socket.leave(socket.id());
            assert_eq!(socket.rooms(), Vec::<antiphon::Room>::new());
            let emitted = socket.emit("from the old one", ()).into_result();
            assert!(matches!(emitted, Err(EmitError::Disconnected)));
            socket.to(socket.id()).emit("to the own id", ());
            socket.disconnect();
            socket.close_connection();
            log.note("touched");
            "answer"
        },
    )
    .on("ask", async |socket: Socket| {
        socket.join("of the new one");
    });
    let mut client = connect(&io, WEBSOCKET_3).await;
    client.send("40/stays,").await;
    client.expect("40/stays,").await;
    client.send("40/chat,").await;
    client.expect("40/chat,").await;
    client.send(r#"42/chat,7["late"]"#).await;
    log.until("late").await;
    client.send_together(&["41/chat,", "40/chat,"]).await;
    client.expect("40/chat,").await;
    client.send(r#"42/chat,8["ask"]"#).await;
    client.expect("43/chat,8[]").await;
    gate.open(1);
    log.until("touched").await;
    let new = chat.sockets().remove(0);
    let rooms = new.rooms();
    let rooms: Vec<_> = rooms.iter().map(|room| &**room).collect();
    assert_eq!(rooms, [new.id().as_str(), "of the new one"]);
    assert_eq!(stays.sockets_count(), 1);
    chat.emit("end", ());
    client.expect(r#"42/chat,["end"]"#).await;
}

/// How a client leaves.
const WAYS: [&str; 3] = ["41", "close", "drop"];

async fn leave(mut client: Client, way: &str) {
    match way {
        "41" => client.send("41").await,
        "close" => client.send("1").await,
        _ => drop(client),
    }
}

#[tokio::test]
async fn events_behind_a_connect_handler_are_handled_when_their_client_leaves() {
    for way in WAYS {
        let (io, log, gate) = server(Server::builder());
        io.of("/")
            .on_connect(async |State(log): State<Log>, State(gate): State<Gate>| {
                gate.pass().await;
                log.note("connect");
            })
            .on(
                "note",
                async |State(log): State<Log>, Data(text): Data<String>| {
                    log.note(text);
                },
            )
            .on_disconnecting(async |socket: Socket, State(log): State<Log>| {
                log.note(format_args!("disconnecting {}", socket.rooms().len()));
            })
            .on_disconnect(async |State(log): State<Log>| log.note("disconnect"));
        let mut client = connect(&io, WEBSOCKET).await;
        client
            .send_together(&["40", r#"42["note","1"]"#, r#"42["note","2"]"#])
            .await;
        client.expect_prefix("40{").await;
        if way == "41" {
            client.send("41").await;
            until("its leave", || !io.of("/").sockets()[0].is_connected()).await;
        } else {
            leave(client, way).await;
            until("the session's end", || io.stats().sessions == 0).await;
        }
        assert_eq!(log.seen(), Vec::<String>::new(), "{way}");
        gate.open(1);
        log.until("disconnect").await;
        assert_eq!(
            log.seen(),
            ["connect", "1", "2", "disconnecting 1", "disconnect"],
            "{way}"
        );
    }
}

#[tokio::test]
async fn events_behind_a_packet_middleware_are_handled_when_their_client_leaves() {
    for way in WAYS {
        let (io, log, gate) = server(Server::builder());
        io.of("/")
            .on_connect(async |socket: Socket| {
                socket.middleware(async |State(log): State<Log>, State(gate): State<Gate>| {
                    log.note("asked");
                    gate.pass().await;
                    Ok(())
                });
            })
            .on(
                "note",
                async |State(log): State<Log>, Data(text): Data<String>| {
                    log.note(text);
                },
            )
            .on_disconnect(async |State(log): State<Log>| log.note("disconnect"));
        let mut client = connect(&io, WEBSOCKET).await;
        client.send("40").await;
        client.expect_prefix("40{").await;
        client
            .send_together(&[r#"42["note","1"]"#, r#"42["note","2"]"#])
            .await;
        log.until("asked").await;
        leave(client, way).await;
        until("its leave", || !io.of("/").sockets()[0].is_connected()).await;
        gate.open(2);
        log.until("disconnect").await;
        assert_eq!(
            log.seen(),
            ["asked", "1", "asked", "2", "disconnect"],
            "{way}"
        );
    }
}

#[tokio::test]
async fn events_of_one_post_are_handled_when_the_same_post_leaves() {
    let (io, log, _) = server(Server::builder());
    note_lives(&io.of("/"));
    let address = serve(&io).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    let (_, open) = http(address, &format!("GET {path}"), "").await;
    let body = ["40", r#"42["note","1"]"#, r#"42["note","2"]"#, "41"].join("\x1e");
    let post = format!("POST {path}&sid={}", sid(&open));
    assert_eq!(http(address, &post, &body).await.0, 200);
    log.until("disconnect ended").await;
    let mut expected = LIFE.to_vec();
    expected.splice(3..3, ["1", "2"]);
    assert_eq!(log.seen(), expected);
}

#[tokio::test]
async fn events_of_a_socket_that_the_server_disconnects_are_not_handled() {
    // In its connect handler, also where its client has left meanwhile, and in a packet middleware.
    for (leaves, in_middleware) in [(false, false), (true, false), (false, true), (true, true)] {
        let (io, log, gate) = server(Server::builder());
        io.of("/")
            .on_connect(move |socket: Socket, State(gate): State<Gate>| async move {
                if in_middleware {
                    socket.middleware(async |socket: Socket, State(gate): State<Gate>| {
                        gate.pass().await;
                        socket.disconnect();
                        Ok(())
                    });
                } else {
                    gate.pass().await;
                    socket.disconnect();
                }
            })
            .on(
                "note",
                async |State(log): State<Log>, Data(text): Data<String>| {
                    log.note(text);
                },
            )
            .on_disconnect(async |State(log): State<Log>, reason: DisconnectReason| {
                log.note(reason);
            });
        let mut client = connect(&io, WEBSOCKET).await;
        client
            .send_together(&["40", r#"42["note","1"]"#, r#"42["note","2"]"#])
            .await;
        client.expect_prefix("40{").await;
        let reason = if leaves {
            client.send("41").await;
            until("its leave", || !io.of("/").sockets()[0].is_connected()).await;
            "client namespace disconnect"
        } else {
            "server namespace disconnect"
        };
        gate.open(2);
        log.until(reason).await;
        assert_eq!(log.seen(), [reason]);
    }
}

#[tokio::test]
async fn a_refusing_packet_middleware_refuses_also_after_the_client_has_left() {
    let (io, log, gate) = server(Server::builder());
    io.of("/")
        .on_connect(async |socket: Socket| {
            socket.middleware(async |State(gate): State<Gate>, Data(text): Data<String>| {
                gate.pass().await;
                match &*text {
                    "bad" => Err(Rejection::new("forbidden", "no")),
                    _ => Ok(()),
                }
            });
        })
        .on(
            "note",
            async |State(log): State<Log>, Data(text): Data<String>| log.note(text),
        )
        .on_disconnect(async |State(log): State<Log>| log.note("disconnect"));
    let mut client = connect(&io, WEBSOCKET).await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    client
        .send_together(&[r#"42["note","bad"]"#, r#"42["note","good"]"#, "41"])
        .await;
    until("its leave", || !io.of("/").sockets()[0].is_connected()).await;
    gate.open(2);
    log.until("disconnect").await;
    assert_eq!(log.seen(), ["good", "disconnect"]);
}

#[tokio::test]
async fn a_connect_handler_that_never_ends_does_not_keep_its_socket_in_its_rooms() {
    let builder = Server::builder().connect_timeout(Duration::from_millis(400));
    let (io, log, _) = server(builder);
    io.of("/")
        .on_connect(async || std::future::pending::<()>().await)
        .on(
            "note",
            async |State(log): State<Log>, Data(text): Data<String>| log.note(text),
        )
        .on_disconnect(async |State(log): State<Log>| log.note("disconnect"));
    let mut client = connect(&io, WEBSOCKET).await;
    client.send_together(&["40", r#"42["note","waits"]"#]).await;
    client.expect_prefix("40{").await;
    drop(client);
    log.until("disconnect").await;
    assert_eq!(log.seen(), ["disconnect"]);
    assert_eq!(io.of("/").sockets_count(), 0);
    until("the end of the session", || io.stats().sessions == 0).await;
}

/// Who has met the connect handlers meets the disconnect handlers, and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_it_joins_is_said_hello_and_goodbye() {
    const ROUNDS: usize = 20;
    let (io, log, _) = server(Server::builder());
    let namespace = io.of("/");
    let address = serve(&io).await;
    // Somebody looks at many rooms all the time, so that entering the namespace takes a while.
    let mut crowd = WebSocket::connect(address, WEBSOCKET).await;
    crowd.join().await;
    let rooms: Vec<_> = (0..20_000).map(|room| format!("room {room}")).collect();
    namespace.sockets()[0].join(rooms);
    let looking = Arc::new(AtomicBool::new(true));
    let looks = std::thread::spawn({
        let (namespace, looking) = (namespace.clone(), Arc::clone(&looking));
        move || {
            while looking.load(Ordering::Relaxed) {
                let _ = namespace.rooms();
            }
        }
    });
    namespace
        .middleware(async |socket: Socket| {
            // It leaves at the very moment at which it has joined, from another thread.
            std::thread::spawn(move || {
                while !socket.is_connected() {
                    std::thread::yield_now();
                }
                socket.disconnect();
            });
            Ok(())
        })
        .on_connect(async |socket: Socket, State(log): State<Log>| {
            log.note(format_args!("connect {}", socket.id().as_str()));
        })
        .on_disconnect(async |socket: Socket, State(log): State<Log>| {
            log.note(format_args!("disconnect {}", socket.id().as_str()));
        });
    for _ in 0..ROUNDS {
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.expect_prefix("0{").await;
        client.send("40").await;
        client.next().await;
    }
    until("all goodbyes", || {
        let seen = log.seen();
        let goodbyes = seen.iter().filter(|what| what.starts_with("disconnect"));
        goodbyes.count() == ROUNDS
    })
    .await;
    looking.store(false, Ordering::Relaxed);
    looks.join().unwrap();
    let seen = log.seen();
    let place = |what: String| seen.iter().position(|one| *one == what);
    for who in seen
        .iter()
        .filter_map(|what| what.strip_prefix("disconnect "))
    {
        let hello = place(format!("connect {who}"));
        assert!(hello.is_some(), "a goodbye without a hello");
        assert!(hello < place(format!("disconnect {who}")));
    }
    assert_eq!(namespace.sockets_count(), 1);
}

#[tokio::test]
async fn a_connection_that_has_left_its_last_namespace_is_closed_in_time() {
    for (path, by_server) in [
        (WEBSOCKET, false),
        (WEBSOCKET_3, false),
        (WEBSOCKET, true),
        (WEBSOCKET_3, true),
    ] {
        let io = Server::builder()
            .connect_timeout(Duration::from_millis(400))
            // Were the heartbeat waited for, the test would fail.
            .ping_interval(Duration::from_secs(600))
            .build();
        let _ = io.of("/chat");
        let mut client = connect(&io, path).await;
        if path == WEBSOCKET {
            client.send("40").await;
            client.expect_prefix("40{").await;
        }
        // With one of two namespaces it stays.
        client.send("40/chat,").await;
        client.expect_prefix("40/chat,").await;
        client.send("41/chat,").await;
        if !by_server {
            // A server that counted from here would have closed it.
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(io.stats().sessions, 1);
        }
        if by_server {
            io.of("/").sockets()[0].disconnect();
            client.expect("41").await;
        } else {
            client.send("41").await;
        }
        assert!(matches!(client.next().await, Received::Closed(_)), "{path}");
        until("the end of the session", || io.stats().sessions == 0).await;
    }
}

#[tokio::test]
async fn a_polling_connection_that_has_left_its_last_namespace_is_closed_in_time() {
    let io = Server::builder()
        .connect_timeout(Duration::from_millis(400))
        .ping_interval(Duration::from_secs(600))
        .build();
    let address = serve(&io).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    let (_, open) = http(address, &format!("GET {path}"), "").await;
    let path = format!("{path}&sid={}", sid(&open));
    assert_eq!(http(address, &format!("POST {path}"), "40").await.0, 200);
    http(address, &format!("GET {path}"), "").await;
    assert_eq!(http(address, &format!("POST {path}"), "41").await.0, 200);
    let (_, packets) = http(address, &format!("GET {path}"), "").await;
    assert_eq!(packets, "1", "the engine's close");
}
