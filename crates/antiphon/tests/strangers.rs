//! What a connection can hold that has joined no namespace.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use antiphon::{ConnectError, Data, Server, Socket};
use antiphon_protocol::websocket::{Opcode, masked_frame};
use support::{Received, WEBSOCKET, WebSocket, http, serve, sid, within};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// The most bytes of a message before a namespace is joined.
const MOST: usize = 200_000;

/// A packet of so many bytes.
fn padded(head: &str, tail: &str, length: usize) -> String {
    format!(
        "{head}{}{tail}",
        "x".repeat(length - head.len() - tail.len())
    )
}

async fn opened(address: SocketAddr) -> WebSocket<TcpStream> {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    assert!(matches!(client.next().await, Received::Text(open) if open.starts_with("0{")));
    client
}

/// The close code of a connection that is closed without any answer.
async fn closed(client: &mut WebSocket<TcpStream>) -> Option<u16> {
    match within("the close", client.next()).await {
        Received::Closed(code) => code,
        other => panic!("{other:?}"),
    }
}

/// A server whose namespace `/slow` never decides, and with others that take all.
fn server() -> Server {
    let io = Server::new();
    io.of("/slow").middleware(async || {
        Notify::new().notified().await;
        Ok::<_, ConnectError>(())
    });
    let _ = io.of("/chat");
    io.of("/")
        .on("size", async |Data(text): Data<String>| text.len());
    io
}

#[tokio::test]
async fn attachments_are_refused_at_their_header_where_nobody_has_joined() {
    let address = serve(&server()).await;
    let packets = [
        r#"451-["file",{"_placeholder":true,"num":0}]"#,
        r#"451-/chat,["file",{"_placeholder":true,"num":0}]"#,
        r#"451-/slow,["file",{"_placeholder":true,"num":0}]"#,
        r#"451-/nowhere,["file",{"_placeholder":true,"num":0}]"#,
        r#"461-7[{"_placeholder":true,"num":0}]"#,
    ];
    for packet in packets {
        let mut client = opened(address).await;
        if packet.contains("/slow") {
            client.send("40/slow,").await;
        }
        client.send(packet).await;
        closed(&mut client).await;
        // By polling the session is closed as well.
        let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
        let path = format!("{POLLING}&sid={}", sid(&open));
        let (status, _) = http(address, &format!("POST {path}"), packet).await;
        assert_eq!(status, 200);
        let (_, last) = http(address, &format!("GET {path}"), "").await;
        assert_eq!(last, "1", "{packet}");
    }
    // Not even by a client that is in another namespace.
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send(packets[1]).await;
    closed(&mut client).await;
}

#[tokio::test]
async fn attachments_of_a_namespace_that_was_joined_come_through() {
    let io = server();
    io.of("/")
        .on("file", async |Data(data): Data<antiphon::Bytes>| data.len());
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client
        .send(r#"451-3["file",{"_placeholder":true,"num":0}]"#)
        .await;
    client.send_frame(Opcode::Binary, &vec![1; 900_000]).await;
    client.expect("433[900000]").await;
}

#[tokio::test]
async fn a_message_is_small_until_a_namespace_is_joined() {
    let io = server();
    io.of("/").on_connect(async |socket: Socket| {
        let auth: serde_json::Value = socket.auth().unwrap();
        let length = auth["token"].as_str().unwrap_or_default().len();
        socket.emit("token", length);
    });
    let address = serve(&io).await;
    let connect = padded(r#"40{"token":""#, r#""}"#, MOST);
    let token = MOST - 14;

    // A large `auth` passes, at once and in fragments.
    let mut client = opened(address).await;
    client.send(&connect).await;
    assert!(matches!(client.next().await, Received::Text(text) if text.starts_with("40{")));
    client.expect(&format!(r#"42["token",{token}]"#)).await;
    // From here on messages have their full size.
    client
        .send(&padded(r#"421["size",""#, r#""]"#, 999_999))
        .await;
    client.expect(&format!("431[{}]", 999_999 - 14)).await;
    client
        .send(&padded(r#"421["size",""#, r#""]"#, 1_000_001))
        .await;
    assert_eq!(closed(&mut client).await, Some(1009));

    // One byte more does not: whole, announced, or in fragments.
    let too_large = padded(r#"40{"token":""#, r#""}"#, MOST + 1);
    let mut client = opened(address).await;
    client.send(&too_large).await;
    assert_eq!(closed(&mut client).await, Some(1009));
    let mut client = opened(address).await;
    let frame = masked_frame(Opcode::Text, too_large.as_bytes(), [1, 2, 3, 4]);
    client.stream().write_all(&frame[..100]).await.unwrap();
    assert_eq!(closed(&mut client).await, Some(1009));
    let mut client = opened(address).await;
    for half in [&too_large[..MOST / 2], &too_large[MOST / 2..]] {
        let mut frame = masked_frame(Opcode::Text, half.as_bytes(), [1, 2, 3, 4]);
        // Neither is the last; the second goes on with the first.
        frame[0] = if half.starts_with('4') { 0x01 } else { 0x00 };
        client.stream().write_all(&frame).await.unwrap();
    }
    assert_eq!(closed(&mut client).await, Some(1009));

    // A namespace that hasn't decided is none.
    let mut client = opened(address).await;
    client.send("40/slow,").await;
    client.send(&too_large).await;
    assert_eq!(closed(&mut client).await, Some(1009));

    // By polling.
    for (body, expected) in [(&connect, 200), (&too_large, 413)] {
        let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
        let path = format!("{POLLING}&sid={}", sid(&open));
        let (status, text) = http(address, &format!("POST {path}"), body).await;
        assert_eq!(status, expected, "{text}");
        if expected == 200 {
            let large = padded(r#"421["size",""#, r#""]"#, 999_999);
            let (status, _) = http(address, &format!("POST {path}"), &large).await;
            assert_eq!(status, 200);
        }
    }
}

#[tokio::test]
async fn a_client_that_joins_need_not_wait_for_the_answer_with_a_large_message() {
    let address = serve(&server()).await;
    let mut client = opened(address).await;
    let large = padded(r#"421["size",""#, r#""]"#, 500_000);
    let mut frames = masked_frame(Opcode::Text, b"40", [1, 2, 3, 4]);
    frames.extend(masked_frame(Opcode::Text, large.as_bytes(), [1, 2, 3, 4]));
    client.stream().write_all(&frames).await.unwrap();
    assert!(matches!(client.next().await, Received::Text(text) if text.starts_with("40{")));
    client.expect(&format!("431[{}]", 500_000 - 14)).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_are_few() {
    let io = Server::new();
    // Clients of revision 3 join this by themselves.
    io.of("/")
        .middleware(async || Err::<(), _>(ConnectError::new("no")));
    let address = serve(&io).await;
    // A client that never polls: its answers wait.
    let ping = format!("2{}", "x".repeat(900));
    for (version, packet) in [(4, "40/nowhere,"), (3, &*ping)] {
        let polling = format!("/socket.io/?EIO={version}&transport=polling");
        let (_, open) = http(address, &format!("GET {polling}"), "").await;
        let path = format!("{polling}&sid={}", sid(&open));
        let packets = vec![packet; 90_000 / packet.len()];
        let body = match version {
            4 => packets.join("\x1e"),
            _ => packets
                .iter()
                .map(|it| format!("{}:{it}", it.len()))
                .collect(),
        };
        for _ in 0..10 {
            http(address, &format!("POST {path}"), &body).await;
        }
        let (_, waits) = http(address, &format!("GET {path}"), "").await;
        assert!(waits.len() < 100_000, "revision {version}: {}", waits.len());
    }
}
