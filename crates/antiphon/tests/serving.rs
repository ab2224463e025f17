//! Each way to put a server behind HTTP carries polling and WebSocket.

mod support;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use antiphon::{Args, Server, Socket, engine::EngineBody};
use antiphon_protocol::websocket::{Opcode, masked_frame};
use hyper_util::rt::TokioIo;
use support::{Received, WEBSOCKET, WebSocket, http, http_over, listener, serve_on, sid, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

fn echo() -> Server {
    let io = Server::new();
    io.of("/").on("echo", async |socket: Socket, args: Args| {
        socket.emit("echo", args);
    });
    io
}

async fn polling_works(address: SocketAddr, path: &str) {
    let url = format!("{path}/?EIO=4&transport=polling");
    let (status, open) = http(address, &format!("GET {url}"), "").await;
    assert_eq!(status, 200, "{open}");
    let url = format!("{url}&sid={}", sid(&open));
    assert_eq!(
        http(address, &format!("POST {url}"), "40").await,
        (200, "ok".to_owned())
    );
    let (_, connected) = http(address, &format!("GET {url}"), "").await;
    assert!(connected.starts_with("40{"), "{connected}");
    http(address, &format!("POST {url}"), r#"42["echo",1]"#).await;
    let (_, echoed) = http(address, &format!("GET {url}"), "").await;
    assert_eq!(echoed, r#"42["echo",1]"#);
    http(address, &format!("POST {url}"), "1").await;
}

async fn websocket_works(address: SocketAddr, path: &str) {
    let url = format!("{path}/?EIO=4&transport=websocket");
    let mut client = WebSocket::connect(address, &url).await;
    client.join().await;
    client.send(r#"42["echo","hello"]"#).await;
    client.expect(r#"42["echo","hello"]"#).await;
}

#[tokio::test]
async fn an_axum_router_serves_it() {
    let (listener, address) = listener().await;
    let app = axum::Router::new()
        .route("/", axum::routing::get(async || "page"))
        .merge(echo().router());
    tokio::spawn(axum::serve(listener, app).into_future());
    polling_works(address, "/socket.io").await;
    websocket_works(address, "/socket.io").await;
    assert_eq!(http(address, "GET /", "").await, (200, "page".to_owned()));
    assert_eq!(http(address, "GET /socket.iofoo", "").await.0, 404);
}

#[tokio::test]
async fn an_axum_router_serves_it_below_a_prefix() {
    let (listener, address) = listener().await;
    let app = axum::Router::new().nest("/someapi", echo().router());
    tokio::spawn(axum::serve(listener, app).into_future());
    polling_works(address, "/someapi/socket.io").await;
    websocket_works(address, "/someapi/socket.io").await;
}

#[tokio::test]
async fn a_tower_layer_passes_other_paths_on() {
    let (listener, address) = listener().await;
    let app = axum::Router::new()
        .route("/page", axum::routing::get(async || "page"))
        .fallback(async || "fallback");
    // Around the router, so that it sees every request before any route does.
    let app = tower_layer::Layer::layer(&echo().layer(), app);
    let app = axum::Router::new().fallback_service(app);
    tokio::spawn(axum::serve(listener, app).into_future());
    polling_works(address, "/socket.io").await;
    websocket_works(address, "/socket.io").await;
    assert_eq!(http(address, "GET /page", "").await.1, "page");
    assert_eq!(http(address, "GET /other", "").await.1, "fallback");
}

#[tokio::test]
async fn plain_hyper_serves_it() {
    let (listener, address) = listener().await;
    let service = echo().service();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    polling_works(address, "/socket.io").await;
    websocket_works(address, "/socket.io").await;
}

/// Serves with the own listener: resolves when that has ended.
async fn served(io: &Server) -> (JoinHandle<()>, SocketAddr) {
    let (listener, address) = listener().await;
    (serve_on(io, listener), address)
}

#[tokio::test]
async fn its_own_listener_serves_it_until_it_is_closed() {
    let io = echo();
    let (served, address) = served(&io).await;
    polling_works(address, "/socket.io").await;
    websocket_works(address, "/socket.io").await;
    assert_eq!(http(address, "GET /other", "").await.0, 404);
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    within("close", io.close()).await;
    within("the end of serve", served).await.unwrap();
    assert!(matches!(client.next().await, Received::Closed(Some(1000))));
    assert_eq!(io.stats().sessions, 0);
}

#[tokio::test]
async fn a_poll_that_waits_is_answered_before_serve_returns() {
    let io = echo();
    let (served, address) = served(&io).await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let poll = format!("GET {POLLING}&sid={}", sid(&open));
    let waiting = tokio::spawn(async move { http(address, &poll, "").await });
    // It has come when something that was asked for later has been answered.
    http(address, "GET /other", "").await;
    within("close", io.close()).await;
    within("the end of serve", served).await.unwrap();
    assert_eq!(waiting.await.unwrap(), (200, "1".to_owned()));
}

#[tokio::test]
async fn what_is_queued_at_the_close_is_fetched_by_requests_that_come_later() {
    let io = echo();
    let (served, address) = served(&io).await;
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    let poll = format!("{POLLING}&sid={}", sid(&open));
    http(address, &format!("POST {poll}"), "40").await;
    http(address, &format!("GET {poll}"), "").await;
    io.emit("bye", ());
    let closed = tokio::spawn({
        let io = io.clone();
        async move { io.close().await }
    });
    within("the close to begin", async {
        while http(address, &format!("GET {POLLING}"), "").await.0 == 200 {}
    })
    .await;
    let mut fetched = String::new();
    loop {
        let (status, body) = http(address, &format!("GET {poll}"), "").await;
        assert_eq!(status, 200, "{body} after {fetched}");
        fetched.push_str(&body);
        if body.ends_with('1') {
            break;
        }
    }
    assert!(fetched.contains(r#"42["bye"]"#), "{fetched}");
    within("close", closed).await.unwrap();
    within("the end of serve", served).await.unwrap();
}

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const UPGRADE: &str = "Host: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends bytes, and reads until the answer has this text in it.
#[allow(clippy::unwrap_used)]
async fn exchange(stream: &mut TcpStream, sent: &[u8], until: &str) -> String {
    stream.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains(until) {
        let read = within(until, stream.read_buf(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_ne!(read, 0, "expected {until:?}, got {answer:?}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_read() {
    let address = support::serve(&echo()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut sent =
        format!("GET {WEBSOCKET} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 13\r\n\r\n")
            .into_bytes();
    sent.extend(masked_frame(Opcode::Text, b"40", [1, 2, 3, 4]));
    let answer = exchange(&mut stream, &sent, "40{").await;
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
}

#[tokio::test]
async fn a_handshake_may_come_in_pieces() {
    let address = support::serve(&echo()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET ").await.unwrap();
    // It has been read when something that was asked for later has been answered.
    http(address, "GET /other", "").await;
    let rest = format!("{WEBSOCKET} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 13\r\n\r\n");
    let answer = exchange(&mut stream, rest.as_bytes(), "0{").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_polled_becomes_a_websocket() {
    let address = support::serve(&echo()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let poll = format!("GET {POLLING} HTTP/1.1\r\nHost: test\r\n\r\n");
    let open = exchange(&mut stream, poll.as_bytes(), "}").await;
    let url = format!("{WEBSOCKET}&sid={}", sid(&open));
    let mut websocket = WebSocket::over(stream, &url).await;
    websocket.send("2probe").await;
    websocket.expect("3probe").await;
    websocket.send("5").await;
    websocket.send("40").await;
    assert!(matches!(websocket.next().await, Received::Text(open) if open.starts_with("40{")));
}

#[tokio::test]
async fn a_refused_handshake_says_why_and_leaves_the_connection_open() {
    let address = support::serve(&echo()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {WEBSOCKET} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 7\r\n\r\n");
    let answer = exchange(&mut stream, request.as_bytes(), "}").await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.contains("sec-websocket-version: 13"), "{answer}");
    assert!(answer.contains("\"hint\""), "{answer}");
    let poll = format!("GET {POLLING} HTTP/1.1\r\nHost: test\r\n\r\n");
    let open = exchange(&mut stream, poll.as_bytes(), "}").await;
    assert!(open.starts_with("HTTP/1.1 200"), "{open}");
}

#[tokio::test]
async fn who_goes_away_is_not_asked_about_any_longer() {
    let asked = Arc::new(Semaphore::new(0));
    let ask = Arc::clone(&asked);
    let (dropped, mut gone) = mpsc::unbounded_channel();
    let io = Server::builder()
        .allow_request(move |_| {
            let dropped = dropped.clone();
            ask.add_permits(1);
            async move {
                let _dropped = Dropped(dropped);
                std::future::pending().await
            }
        })
        .build();
    let address = support::serve(&io).await;
    for url in [POLLING, WEBSOCKET] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let version = "Sec-WebSocket-Version: 13";
        let request = format!("GET {url} HTTP/1.1\r\n{UPGRADE}{version}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        within("the question", asked.acquire())
            .await
            .unwrap()
            .forget();
        drop(stream);
        within("the end of the question", gone.recv()).await;
    }
}

/// Says when it is dropped.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_handshake_for_another_path_is_not_found() {
    let address = support::serve(&echo()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /other HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 13\r\n\r\n");
    let answer = exchange(&mut stream, request.as_bytes(), "not found").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_runtime_for_each_core_serves_it_until_it_is_closed() {
    let io = echo();
    io.of("/").on("all", async |io: Server| {
        io.emit("to all", ());
    });
    let cores = io.per_core("127.0.0.1:0").unwrap().threads(3);
    let address = cores.local_addrs()[0];
    let thread = std::thread::spawn(move || cores.run());
    polling_works(address, "/socket.io").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.join().await;
        clients.push(client);
    }
    clients[0].send(r#"42["all"]"#).await;
    for client in &mut clients {
        client.expect(r#"42["to all"]"#).await;
    }
    within("close", io.close()).await;
    for client in &mut clients {
        assert!(matches!(client.next().await, Received::Closed(Some(1000))));
    }
    let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
    within("the end of run", ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_for_each_core_ends_when_it_is_told_to() {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let cores = echo().per_core("127.0.0.1:0").unwrap().threads(2);
    let address = cores.local_addrs()[0];
    let thread = std::thread::spawn(move || {
        cores.run_until(async {
            let _ = ended.await;
        })
    });
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    end.send(()).unwrap();
    assert!(matches!(client.next().await, Received::Closed(Some(1000))));
    let ended = tokio::task::spawn_blocking(|| thread.join().unwrap());
    within("the end of run", ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_for_each_core_too() {
    let first = echo().per_core("127.0.0.1:0").unwrap();
    let second = echo().per_core(first.local_addrs()[0]);
    assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}

/// TLS and other connections that aren't plain TCP are written to by the driver.
#[tokio::test]
async fn a_stream_that_is_not_tcp_carries_it() {
    let service = echo().service();
    let connect = || {
        let (ours, theirs) = tokio::io::duplex(1_000);
        let service = hyper_util::service::TowerToHyperService::new(service.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(theirs), service)
            .with_upgrades();
        tokio::spawn(connection);
        ours
    };
    let (status, _) = http_over(connect(), "GET /socket.io/?EIO=4&transport=polling", "").await;
    assert_eq!(status, 200);
    let mut client = WebSocket::over(connect(), WEBSOCKET).await;
    client.join().await;
    // Larger than the stream's buffer: the rest is written when there is room again.
    let large = format!(r#"42["echo","{}"]"#, "x".repeat(100_000));
    for _ in 0..3 {
        client.send(&large).await;
        client.expect(&large).await;
    }
}

#[tokio::test]
async fn http_without_upgrades_says_what_is_missing() {
    let (listener, address) = listener().await;
    let service = echo().service();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = hyper::service::service_fn(move |mut request| {
            let mut service = service.clone();
            async move {
                // What an HTTP server that knows no upgrades would hand over.
                http::Request::<hyper::body::Incoming>::extensions_mut(&mut request).clear();
                let answered = tower_service::Service::call(&mut service, request).await;
                answered as Result<http::Response<EngineBody>, Infallible>
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer);
        let _ = connection.await;
    });
    let request = format!(
        "GET {WEBSOCKET} HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX:"
    );
    let (status, body) = http(address, &request, "").await;
    assert_eq!(status, 400);
    assert!(body.contains("with_upgrades()"), "{body}");
}
