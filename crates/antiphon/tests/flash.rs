//! Flash sockets: the policy on the port of the server and on one of its own, and HTTP beside it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{net::SocketAddr, time::Duration};

use antiphon::{Args, FlashPolicy, Server, Socket};
use support::{WEBSOCKET, WebSocket, http, listener, serve, sid, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const REQUEST: &[u8] = b"<policy-file-request/>\0";

fn flash() -> Server {
    let policy = FlashPolicy::new(["https://app.example:8443"]);
    let io = Server::builder().flash_sockets(policy).build();
    io.of("/").on("echo", async |socket: Socket, args: Args| {
        socket.emit("echo", args);
    });
    io
}

/// All that comes until the server closes the connection, which may also reset it.
async fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    // Longer than any deadline of the server: in tests with a clock of their own it comes last.
    let read = tokio::time::timeout(Duration::from_secs(3_600), stream.read_to_end(&mut rest));
    let _ = read.await.expect("the connection is closed");
    String::from_utf8(rest).unwrap()
}

async fn exchange(address: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    within("the answer", rest(stream)).await
}

/// Sends in pieces that arrive one by one.
async fn trickle(stream: &mut TcpStream, sent: &[u8]) {
    stream.set_nodelay(true).unwrap();
    for byte in sent {
        stream.write_all(&[*byte]).await.unwrap();
        // Other tasks of the runtime of this test, the server, get to read it.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_policy_is_answered_on_the_port_of_the_server() {
    let address = serve(&flash()).await;
    let policy = exchange(address, REQUEST).await;
    let port = address.port();
    let allowed = format!("<allow-access-from domain=\"app.example\" to-ports=\"{port}\"/>");
    assert!(policy.contains(&allowed), "{policy}");
    assert!(policy.ends_with("</cross-domain-policy>\n\0"), "{policy}");

    let mut slow = TcpStream::connect(address).await.unwrap();
    trickle(&mut slow, REQUEST).await;
    assert_eq!(within("the answer", rest(slow)).await, policy);
}

#[tokio::test]
async fn http_goes_on_with_every_byte() {
    let address = serve(&flash()).await;
    let url = "/socket.io/?EIO=3&transport=polling";
    let mut slow = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {url} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    trickle(&mut slow, head.as_bytes()).await;
    let open = within("the answer", rest(slow)).await;
    assert!(open.starts_with("HTTP/1.1 200 OK\r\n"), "{open}");
    assert!(open.contains(r#""upgrades":["websocket","flashsocket"]"#));
    let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
    assert!(open.contains(r#""upgrades":["websocket"]"#), "{open}");
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(r#"42["echo","hello"]"#).await;
    client.expect(r#"42["echo","hello"]"#).await;
}

#[tokio::test]
async fn a_flash_socket_is_a_websocket() {
    let address = serve(&flash()).await;
    let url = "/socket.io/?EIO=4&transport=flashsocket";
    let mut client = WebSocket::connect(address, url).await;
    client.join().await;
    client.send(r#"42["echo",1]"#).await;
    client.expect(r#"42["echo",1]"#).await;

    let polling = "GET /socket.io/?EIO=3&transport=polling";
    let (_, open) = http(address, polling, "").await;
    let url = format!("{url}&sid={}", sid(&open)).replace("EIO=4", "EIO=3");
    let mut probe = WebSocket::connect(address, &url).await;
    probe.send("2probe").await;
    probe.expect("3probe").await;
}

#[tokio::test]
async fn a_peer_that_sends_something_else_is_closed_without_a_word() {
    let address = serve(&flash()).await;
    for sent in [
        &b"<policy-file-requesT/>\0"[..],
        b"<policy-file-request/> ",
        b"<?xml version=\"1.0\"?>",
        &[b'<'; 100_000],
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be closed before all of it is sent.
        let _ = stream.write_all(sent).await;
        assert_eq!(within("the end", rest(stream)).await, "");
    }
}

/// The clock of these tests runs when nothing else does.
#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_half_way_is_closed() {
    let address = serve(&flash()).await;
    for length in 0..REQUEST.len() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&REQUEST[..length]).await.unwrap();
        assert_eq!(rest(stream).await, "", "{length} bytes");
    }
}

#[tokio::test]
async fn a_peer_that_goes_half_way_leaves_the_server_as_it_was() {
    let address = serve(&flash()).await;
    for length in 0..REQUEST.len() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&REQUEST[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(within("the end", rest(stream)).await, "");
    }
    assert!(exchange(address, REQUEST).await.contains("app.example"));
}

#[tokio::test]
async fn a_port_of_its_own_speaks_nothing_else() {
    let policy = FlashPolicy::new(["http://app.example"]).ports([80, 443]);
    let io = Server::builder().flash_sockets(policy).build();
    let (listener, address) = listener().await;
    let served = tokio::spawn({
        let io = io.clone();
        async move { io.serve_flash_policy(listener).await }
    });
    let policy = exchange(address, REQUEST).await;
    assert!(policy.contains("domain=\"app.example\" to-ports=\"80,443\""));
    assert_eq!(exchange(address, b"G").await, "");
    within("close", io.close()).await;
    within("the end of the port", served).await.unwrap();
}

#[tokio::test]
async fn without_the_option_there_is_no_flash() {
    let io = Server::new();
    let address = serve(&io).await;
    assert!(exchange(address, REQUEST).await.starts_with("HTTP/1.1 400"));
    let (status, body) = http(address, "GET /socket.io/?EIO=3&transport=flashsocket", "").await;
    assert_eq!(status, 400);
    assert!(body.contains("\"code\":0"), "{body}");
    let (_, open) = http(address, "GET /socket.io/?EIO=3&transport=polling", "").await;
    assert!(open.contains(r#""upgrades":["websocket"]"#), "{open}");
    let (listener, _) = listener().await;
    within("nothing to serve", io.serve_flash_policy(listener)).await;
}
