//! Each way to put a server behind HTTP carries polling and WebSocket.

mod support;

use std::{convert::Infallible, net::SocketAddr};

use antiphon::{Args, Server, Socket, engine::EngineBody};
use hyper_util::rt::TokioIo;
use support::{Received, WEBSOCKET, WebSocket, http, http_over, listener, sid, within};

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

#[tokio::test]
async fn its_own_listener_serves_it_until_it_is_closed() {
    let (listener, address) = listener().await;
    let io = echo();
    let served = tokio::spawn({
        let io = io.clone();
        async move { io.serve(listener).await }
    });
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
