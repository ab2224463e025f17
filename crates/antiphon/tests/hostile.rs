//! What clients and pages do that mean harm, and races that only show by hand.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{Cors, Data, QueueLimits, Server, ServerBuilder, Socket};
use antiphon_protocol::websocket::{Opcode, masked_frame};
use support::{Received, WEBSOCKET, WebSocket, http, serve, sid, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// With heartbeats that pass in a test's time.
fn quick() -> ServerBuilder {
    Server::builder()
        .ping_interval(Duration::from_millis(100))
        .ping_timeout(Duration::from_millis(100))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// One HTTP/1.1 exchange: the head of the answer, in lower case.
async fn head_of(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("the answer", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.to_ascii_lowercase()
}

/// Opens a session by polling and joins the main namespace: its path.
async fn joined_by_polling(address: SocketAddr) -> String {
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let path = format!("{POLLING}&sid={}", sid(&open));
    let (status, _) = http(address, &format!("POST {path}"), "40").await;
    assert_eq!(status, 200);
    path
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_claim_a_forwarded_host() {
    let address = serve(&Server::new()).await;
    let preflight = format!(
        "OPTIONS {POLLING} HTTP/1.1\r\nHost: internal\r\nOrigin: https://evil.example\r\n\
         Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-forwarded-host"
    );
    let head = head_of(address, &preflight).await;
    // With this header allowed, the page sets it to its own host and passes for the same origin.
    assert!(!head.contains("access-control-allow-headers"), "{head}");
}

#[tokio::test]
async fn what_a_page_of_another_site_embeds_opens_no_session() {
    for cors in [
        Cors::same_origin(),
        Cors::any(),
        Cors::origins(["https://a.example"]),
    ] {
        let io = Server::builder().cors(cors).build();
        let address = serve(&io).await;
        for revision in [3, 4] {
            let get = |headers: &str| {
                let polling = format!("/socket.io/?EIO={revision}&transport=polling");
                format!("GET {polling} HTTP/1.1\r\nHost: internal\r\nCookie: user=1{headers}")
            };
            for site in ["cross-site", "same-site"] {
                let embedded = get(&format!("\r\nSec-Fetch-Site: {site}"));
                let head = head_of(address, &embedded).await;
                assert!(head.starts_with("http/1.1 403"), "{head}");
            }
            assert_eq!(io.stats().sessions_opened, 0);
        }
        // The page itself, what names itself, and what is no browser.
        for headers in [
            "\r\nSec-Fetch-Site: same-origin",
            "\r\nSec-Fetch-Site: none",
            "\r\nSec-Fetch-Site: same-site\r\nOrigin: http://internal",
            "",
        ] {
            let get = format!("GET {POLLING} HTTP/1.1\r\nHost: internal{headers}");
            let head = head_of(address, &get).await;
            assert!(head.starts_with("http/1.1 200"), "{head}");
        }
    }
}

#[tokio::test]
async fn a_client_of_revision_3_that_joins_again_stays_in_the_namespace() {
    let io = Server::new();
    let chat = io.of("/chat");
    let address = serve(&io).await;
    let path = "/socket.io/?EIO=3&transport=websocket";
    let mut client = WebSocket::connect(address, path).await;
    assert!(matches!(client.next().await, Received::Text(open) if open.starts_with("0{")));
    client.expect("40").await;
    // In one write, so that the server reads them at once.
    let frames: Vec<u8> = ["40/chat", "41/chat,", "40/chat"]
        .iter()
        .flat_map(|text| masked_frame(Opcode::Text, text.as_bytes(), [0; 4]))
        .collect();
    client.stream().write_all(&frames).await.unwrap();
    client.expect("40/chat,").await;
    client.expect("40/chat,").await;
    // What the first socket leaves behind has ended when the handlers of a third have.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(chat.sockets_count(), 1);
    chat.emit("news", "x");
    client.expect(r#"42/chat,["news","x"]"#).await;
}

#[tokio::test]
async fn posts_that_are_given_up_do_not_pass_the_bound_of_handlers() {
    const BOUND: usize = 2;
    const POSTS: usize = 20;
    let started = Arc::new(AtomicUsize::new(0));
    let io = Server::builder().max_running_handlers(BOUND).build();
    let counted = Arc::clone(&started);
    io.of("/").on("wait", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    });
    let address = serve(&io).await;
    let path = joined_by_polling(address).await;
    let event = r#"42["wait"]"#;
    let full = [event; BOUND].join("\x1e");
    for post in 0..POSTS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{full}",
            full.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        if post == 0 {
            let started = Arc::clone(&started);
            until("the first events", move || {
                started.load(Ordering::Relaxed) >= BOUND
            })
            .await;
        } else {
            // Long enough for a server that takes it to have done so.
            let mut byte = [0];
            let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
        }
    }
    let started = started.load(Ordering::Relaxed);
    assert!(started <= 2 * BOUND, "{started} handlers run");
}

#[tokio::test]
async fn a_client_that_leaves_while_its_handlers_hang_is_noticed() {
    for transport in ["websocket", "polling"] {
        let io = quick().max_running_handlers(1).build();
        let started = Arc::new(Semaphore::new(0));
        let noted = Arc::clone(&started);
        io.of("/").on("wait", move || {
            noted.add_permits(1);
            std::future::pending::<()>()
        });
        let address = serve(&io).await;
        if transport == "websocket" {
            let mut client = WebSocket::connect(address, WEBSOCKET).await;
            client.join().await;
            client.send(r#"42["wait"]"#).await;
            let _ = within("the handler", started.acquire()).await;
        } else {
            let path = joined_by_polling(address).await;
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n42[\"wait\"]"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let _ = within("the handler", started.acquire()).await;
        }
        let engine = Arc::clone(io.engine());
        until(transport, move || engine.sessions_count() == 0).await;
    }
}

#[tokio::test]
async fn a_burst_of_emits_in_one_handler_reaches_a_client_that_reads() {
    const EVENTS: usize = 1_000;
    let io = Server::builder()
        .outbound(QueueLimits::new().packets(100).bytes(1 << 20))
        .build();
    io.of("/").on("history", async |socket: Socket| {
        for number in 0..EVENTS {
            socket.emit("line", number);
        }
    });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(r#"42["history"]"#).await;
    for number in 0..EVENTS {
        client.expect(&format!(r#"42["line",{number}]"#)).await;
    }
}

#[tokio::test]
async fn a_session_that_is_let_in_late_does_not_survive_the_close() {
    for transport in ["polling", "websocket"] {
        let asked = Arc::new(Semaphore::new(0));
        let let_in = Arc::new(Semaphore::new(0));
        let (ask, may) = (Arc::clone(&asked), Arc::clone(&let_in));
        let io = Server::builder()
            .allow_request(move |_| {
                ask.add_permits(1);
                let may = Arc::clone(&may);
                async move {
                    let _ = may.acquire().await;
                    Ok(())
                }
            })
            .build();
        let address = serve(&io).await;
        let client = tokio::spawn(async move {
            if transport == "polling" {
                let _ = http(address, &format!("GET {POLLING}"), "").await;
            } else {
                let _client = head_of(
                    address,
                    &format!(
                        "GET {WEBSOCKET} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
                    ),
                )
                .await;
            }
        });
        let _ = within("the question", asked.acquire()).await;
        within("the close", io.close()).await;
        let_in.add_permits(1);
        within("the client", client).await.unwrap();
        let engine = Arc::clone(io.engine());
        until("no session", move || engine.sessions_count() == 0).await;
    }
}

#[tokio::test]
async fn endless_timeouts_do_not_panic() {
    let io = Server::builder()
        .ping_interval(Duration::MAX)
        .ping_timeout(Duration::MAX)
        .upgrade_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .build();
    io.of("/").on("echo", async |Data(text): Data<String>| text);
    let address = serve(&io).await;
    let path = joined_by_polling(address).await;
    let (status, _) = http(address, &format!("GET {path}"), "").await;
    assert_eq!(status, 200);
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(r#"421["echo","x"]"#).await;
    client.expect(r#"431["x"]"#).await;
}

#[tokio::test]
async fn a_client_that_pongs_and_never_reads_is_closed() {
    let io = Server::builder()
        .ping_interval(Duration::from_millis(500))
        .ping_timeout(Duration::from_millis(500))
        .build();
    io.of("/").on("flood", async |socket: Socket| {
        // More than the buffers of the network hold, less than the queue's bound.
        let text = "x".repeat(1 << 20);
        for _ in 0..12 {
            socket.emit("flood", &text);
        }
    });
    let address = serve(&io).await;
    let stream = TcpSocket::new_v4().unwrap();
    stream.set_recv_buffer_size(4096).unwrap();
    let stream = stream.connect(address).await.unwrap();
    let mut client = WebSocket::over(stream, WEBSOCKET).await;
    client.join().await;
    client.send(r#"42["flood"]"#).await;
    let pong = masked_frame(Opcode::Text, b"3", [0; 4]);
    within("the close", async {
        while client.stream().write_all(&pong).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if io.engine().sessions_count() == 0 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_probe_whose_client_reads_nothing_comes_to_an_end() {
    let io = Server::builder()
        .upgrade_timeout(Duration::from_secs(2))
        .build();
    let address = serve(&io).await;
    let path = joined_by_polling(address).await;
    let path = path.replace("polling", "websocket");
    let stream = TcpSocket::new_v4().unwrap();
    stream.set_recv_buffer_size(4096).unwrap();
    let stream = stream.connect(address).await.unwrap();
    let mut probe = WebSocket::over(stream, &path).await;
    let many = masked_frame(Opcode::Text, b"2probe", [0; 4]).repeat(1_000);
    let stream = probe.stream();
    within("the end of the probe", async {
        while stream.write_all(&many).await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn disconnect_handlers_count_as_running_handlers() {
    const BOUND: usize = 4;
    let running = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&running);
    let io = Server::builder().max_running_handlers(BOUND).build();
    io.of("/").on_disconnect(move || {
        noted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send("41").await;
    // Each join is answered before the next leave, so that each is a read of its own.
    let rounds = async {
        for _ in 0..50 {
            client.send("40").await;
            if !matches!(client.next().await, Received::Text(_)) {
                break;
            }
            client.send("41").await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), rounds).await;
    let running = running.load(Ordering::Relaxed);
    assert!(running <= BOUND + 1, "{running} disconnect handlers run");
}

#[tokio::test]
async fn a_socket_that_its_middleware_disconnects_is_told() {
    let io = Server::new();
    io.of("/").middleware(async |socket: Socket| {
        socket.disconnect();
        Ok(())
    });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    assert!(matches!(client.next().await, Received::Text(open) if open.starts_with("0{")));
    client.send("40").await;
    let told = client.next().await;
    assert!(
        matches!(&told, Received::Text(text) if text.starts_with("44{")),
        "{told:?}"
    );
}

#[tokio::test]
async fn events_that_wait_for_a_connect_handler_are_bounded_in_bytes() {
    const MEGABYTES: usize = 64;
    let io = Server::builder().max_payload(2 << 20).build();
    io.of("/")
        .on_connect(async |_: Socket| std::future::pending::<()>().await);
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    let event = format!(r#"42["e","{}"]"#, "x".repeat(1 << 20));
    let frame = masked_frame(Opcode::Text, event.as_bytes(), [1, 2, 3, 4]);
    let mut sent = 0;
    while sent < MEGABYTES {
        let write = client.stream().write_all(&frame);
        // The server has stopped reading where this takes long.
        match tokio::time::timeout(Duration::from_secs(2), write).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        sent += 1;
    }
    assert!(sent < MEGABYTES, "all were taken in");
}

#[tokio::test]
async fn the_same_origin_is_known_by_the_authority_of_http_2() {
    use axum::{body::Body, http::Request};
    use tower_service::Service as _;
    let io = Server::new();
    let request = |origin: &str| {
        // As hyper hands on what came by HTTP/2: no Host.
        Request::get(format!("https://a.example{POLLING}"))
            .header("origin", origin)
            .body(Body::empty())
            .unwrap()
    };
    let answer = io.service().call(request("https://a.example")).await;
    assert_eq!(answer.unwrap().status(), 200);
    let answer = io.service().call(request("https://evil.example")).await;
    assert_eq!(answer.unwrap().status(), 403);
}

#[test]
fn a_runtime_that_ends_leaves_nothing_behind() {
    let io = Server::new();
    io.of("/").on("later", async || {
        tokio::task::yield_now().await;
        7
    });
    for _ in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.block_on(async {
            let address = serve(&io).await;
            let mut client = WebSocket::connect(address, WEBSOCKET).await;
            client.join().await;
            client.send(r#"421["later"]"#).await;
            client.expect("431[7]").await;
            client
        });
        drop(runtime);
        drop(client);
        assert_eq!(io.engine().sessions_count(), 0);
        assert_eq!(io.of("/").sockets_count(), 0);
    }
}
