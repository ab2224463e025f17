//! A server that closes: what was queued reaches clients that read, whatever way they have.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon::{Recovery, Server, ServerBuilder};
use support::{Received, WEBSOCKET, WebSocket, http, serve, sid, until, within};

const EVENTS: usize = 3_000;

fn servers() -> [ServerBuilder; 2] {
    [
        Server::builder(),
        Server::builder().recovery(Recovery::new()),
    ]
}

/// Emits, each acknowledged as queued, and closes at once.
async fn emit_and_close(io: &Server) {
    let text = "x".repeat(300);
    for number in 0..EVENTS {
        assert!(io.emit("n", (number, &text)).is_queued());
    }
    within("the server's close", io.close()).await;
}

/// The number of each event in a message of the engine.
fn number(packet: &str) -> Option<usize> {
    let list = packet.strip_prefix("42[\"n\",")?;
    list.split(',').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_queued_reaches_a_websocket_that_reads() {
    for builder in servers() {
        let io = builder.build();
        let address = serve(&io).await;
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.join().await;
        until("the socket", || io.of("/").sockets_count() == 1).await;
        let closing = tokio::spawn({
            let io = io.clone();
            async move { emit_and_close(&io).await }
        });
        let mut numbers = Vec::new();
        loop {
            match client.next().await {
                Received::Text(text) => numbers.extend(number(&text)),
                Received::Closed(_) => break,
                Received::Binary(_) => panic!("a binary message"),
            }
            if numbers.len() % 500 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
        closing.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_queued_reaches_a_client_that_polls() {
    for builder in servers() {
        let io = builder.build();
        let address = serve(&io).await;
        let polling = "/socket.io/?EIO=4&transport=polling";
        let (_, open) = http(address, &format!("GET {polling}"), "").await;
        let polling = format!("{polling}&sid={}", sid(&open));
        http(address, &format!("POST {polling}"), "40").await;
        let (_, connected) = http(address, &format!("GET {polling}"), "").await;
        assert!(connected.starts_with("40"), "{connected}");
        until("the socket", || io.of("/").sockets_count() == 1).await;
        let closing = tokio::spawn({
            let io = io.clone();
            async move { emit_and_close(&io).await }
        });
        let mut numbers = Vec::new();
        loop {
            let (status, body) = http(address, &format!("GET {polling}"), "").await;
            if status != 200 {
                break;
            }
            numbers.extend(body.split('\u{1e}').filter_map(number));
            if body.split('\u{1e}').any(|packet| packet == "1") {
                break;
            }
        }
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
        closing.await.unwrap();
    }
}
