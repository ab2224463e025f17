//! Compressed WebSocket messages (permessage-deflate; docs/protocol.md 22).

#![cfg(feature = "deflate")]
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use antiphon::{Args, Bytes, Server, ServerBuilder};
use antiphon_protocol::websocket::{
    Decoder, Opcode,
    deflate::{OFFER, Window, append_compressed_frame},
    masked_frame,
};
use support::{Received, WebSocket, http, listener, serve, sid, until};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// Bytes from which on a message is compressed here.
const THRESHOLD: usize = 100;

fn server() -> ServerBuilder {
    Server::builder().compression(THRESHOLD as u32)
}

/// A server that echoes, and its address.
async fn echo(builder: ServerBuilder) -> (Server, SocketAddr) {
    let io = builder.build();
    io.of("/").on("echo", async |args: Args| args);
    let address = serve(&io).await;
    (io, address)
}

/// A client that compresses if the server agrees on it.
struct Client {
    websocket: WebSocket<TcpStream>,
    /// What the server agreed on.
    agreed: Option<String>,
}

/// A message, and the frame that it came in.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    text: String,
    bytes: Vec<u8>,
}

impl Frame {
    fn is_compressed(&self) -> bool {
        self.bytes[0] & 0x40 != 0
    }
}

impl Client {
    /// Opens a WebSocket with these extensions offered.
    async fn open(address: SocketAddr, path: &str, offer: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let offer = match offer {
            "" => String::new(),
            offer => format!("Sec-WebSocket-Extensions: {offer}\r\n"),
        };
        let (websocket, head) = WebSocket::offering(stream, path, &offer).await;
        let agreed = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let is_it = name.eq_ignore_ascii_case("sec-websocket-extensions");
            is_it.then(|| value.to_owned())
        });
        Self {
            websocket: match &agreed {
                Some(_) => websocket.map_decoder(Decoder::with_deflate),
                None => websocket,
            },
            agreed,
        }
    }

    /// Opens one, and joins the main namespace.
    async fn joined(address: SocketAddr, offer: &str) -> Self {
        let mut client = Self::open(address, PATH, offer).await;
        client.expect_prefix("0{").await;
        client.send("40").await;
        client.expect_prefix("40{").await;
        client
    }

    async fn send(&mut self, text: &str) {
        self.websocket.send(text).await;
    }

    async fn send_compressed(&mut self, text: &str) {
        let mut frame = Vec::new();
        let mask = Some([1, 2, 3, 4]);
        let data = text.as_bytes();
        assert!(append_compressed_frame(
            Opcode::Text,
            data,
            Window::Bits15,
            mask,
            &mut frame
        ));
        self.websocket.stream().write_all(&frame).await.unwrap();
    }

    /// The next message. An error is the code that the server has closed with.
    async fn next(&mut self) -> Result<Frame, u16> {
        let (received, bytes) = self.websocket.next_frame().await;
        let text = match received {
            Received::Text(text) => text,
            Received::Binary(data) => format!("binary {}", data.len()),
            Received::Closed(code) => return Err(code.unwrap_or(0)),
        };
        Ok(Frame { text, bytes })
    }

    async fn expect_prefix(&mut self, prefix: &str) -> Frame {
        let frame = self.next().await.unwrap();
        assert!(
            frame.text.starts_with(prefix),
            "{frame:?} instead of {prefix}.."
        );
        frame
    }
}

/// A text that gets much shorter.
fn long(length: usize) -> String {
    "tick tock ".repeat(length / 10)
}

#[tokio::test]
async fn it_is_agreed_on_where_both_sides_want_it() {
    for (is_wanted, offer, expected) in [
        (true, "", None),
        (false, "permessage-deflate", None),
        (true, "x-webkit-deflate-frame", None),
        // What browsers and `ws` say.
        (
            true,
            "permessage-deflate; client_max_window_bits",
            Some(OFFER),
        ),
        (true, "permessage-deflate", Some(OFFER)),
        (true, "permessage-deflate; server_max_window_bits=99", None),
    ] {
        let builder = match is_wanted {
            true => server(),
            false => Server::builder(),
        };
        let (io, own) = echo(builder).await;
        let (listener, axum) = listener().await;
        let served = tokio::spawn(axum::serve(listener, io.router()).into_future());
        for address in [own, axum] {
            let mut client = Client::joined(address, offer).await;
            assert_eq!(client.agreed.as_deref(), expected, "{offer}");
            client
                .send(&format!("420[\"echo\",\"{}\"]", long(1_000)))
                .await;
            let frame = client.expect_prefix("430[\"tick").await;
            assert_eq!(frame.is_compressed(), expected.is_some(), "{offer}");
        }
        served.abort();
    }
}

#[tokio::test]
async fn messages_below_the_threshold_and_noise_leave_as_they_are() {
    let (io, address) = echo(server()).await;
    let mut client = Client::joined(address, OFFER).await;
    for length in [10, THRESHOLD * 2, 100_000] {
        let text = long(length);
        client
            .send_compressed(&format!("420[\"echo\",\"{}\"]", long(500)))
            .await;
        client.expect_prefix("430[").await;
        io.emit("n", &text);
        let frame = client.next().await.unwrap();
        assert_eq!(frame.text, format!("42[\"n\",\"{text}\"]"));
        assert_eq!(frame.is_compressed(), length > THRESHOLD, "{length}");
    }
    let mut random = support::random(7);
    let noise: Vec<u8> = (0..1_000).map(|_| random(256) as u8).collect();
    io.emit("noise", Bytes::from(noise));
    assert!(client.expect_prefix("451-").await.text.ends_with("0}]"));
    let frame = client.next().await.unwrap();
    assert_eq!(
        (&*frame.text, frame.is_compressed()),
        ("binary 1000", false)
    );
    io.emit("zeros", Bytes::from(vec![0; 10_000]));
    client.expect_prefix("451-").await;
    let frame = client.next().await.unwrap();
    assert_eq!(
        (&*frame.text, frame.is_compressed()),
        ("binary 10000", true)
    );
    assert!(frame.bytes.len() < 500);
}

#[tokio::test]
async fn a_broadcast_is_compressed_once_and_each_receiver_gets_its_form() {
    let (io, address) = echo(server()).await;
    let mut compressing = Vec::new();
    for _ in 0..3 {
        compressing.push(Client::joined(address, OFFER).await);
    }
    let mut small = Client::joined(address, "permessage-deflate; server_max_window_bits=9").await;
    let mut plain = Client::joined(address, "").await;
    let old = "/socket.io/?EIO=3&transport=websocket";
    let mut old = Client::open(address, old, OFFER).await;
    old.expect_prefix("0{").await;
    old.expect_prefix("40").await;
    let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
    let poll = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&open));
    http(address, &format!("POST {poll}"), "40").await;
    http(address, &format!("GET {poll}"), "").await;
    until("all to have joined", || io.of("/").sockets_count() == 7).await;

    let text = long(2_000);
    let expected = format!("42[\"n\",\"{text}\"]");
    io.emit("n", &text);
    let first = compressing[0].next().await.unwrap();
    assert!(first.is_compressed() && first.bytes.len() < 100);
    assert_eq!(first.text, expected);
    for client in &mut compressing[1..] {
        assert_eq!(client.next().await.unwrap(), first);
    }
    for (client, is_compressed) in [(&mut small, true), (&mut plain, false), (&mut old, true)] {
        let frame = client.next().await.unwrap();
        assert_eq!(
            (frame.is_compressed(), &frame.text),
            (is_compressed, &expected)
        );
    }
    assert_eq!(http(address, &format!("GET {poll}"), "").await.1, expected);
}

#[tokio::test]
async fn broadcasts_of_every_size_come_in_order() {
    let io = server().build();
    io.of("/").on("burst", async |io: Server| {
        for number in 0..200_usize {
            io.emit("n", (number, long(number * 37 % 3_000)));
        }
    });
    let address = serve(&io).await;
    let mut clients = [
        Client::joined(address, OFFER).await,
        Client::joined(address, OFFER).await,
        Client::joined(address, "").await,
    ];
    clients[0].send("42[\"burst\"]").await;
    for client in &mut clients {
        for number in 0..200_usize {
            let text = long(number * 37 % 3_000);
            let frame = client.next().await.unwrap();
            assert_eq!(frame.text, format!("42[\"n\",{number},\"{text}\"]"));
        }
    }
}

#[tokio::test]
async fn after_an_upgrade_what_is_sent_is_compressed() {
    let (io, address) = echo(server()).await;
    let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
    let sid = sid(&open);
    let poll = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    http(address, &format!("POST {poll}"), "40").await;
    http(address, &format!("GET {poll}"), "").await;
    let text = long(1_000);
    // It was queued for a poll, and waits for whatever comes.
    io.emit("before", &text);
    let mut client = Client::open(address, &format!("{PATH}&sid={sid}"), OFFER).await;
    client.send("2probe").await;
    client.expect_prefix("3probe").await;
    client.send("5").await;
    let before = client.expect_prefix("42[\"before\",").await;
    assert!(!before.is_compressed());
    io.emit("after", &text);
    assert!(client.expect_prefix("42[\"after\",").await.is_compressed());
}

#[tokio::test]
async fn what_a_client_compresses_counts_as_large_as_it_is() {
    let builder = || server().max_payload(10_000).max_payload_before_join(1_000);
    let (_, address) = echo(builder()).await;
    let mut client = Client::joined(address, OFFER).await;
    client
        .send_compressed(&format!("420[\"echo\",\"{}\"]", long(9_000)))
        .await;
    client.expect_prefix("430[").await;
    client
        .send_compressed(&format!("420[\"echo\",\"{}\"]", long(11_000)))
        .await;
    assert_eq!(client.next().await.unwrap_err(), 1009);
    // Before it has joined, less.
    let mut client = Client::open(address, PATH, OFFER).await;
    client.expect_prefix("0{").await;
    client
        .send_compressed(&format!("40{{\"a\":\"{}\"}}", long(2_000)))
        .await;
    assert_eq!(client.next().await.unwrap_err(), 1009);
    // A bomb: 64 MB of zeros in 64 KB.
    let mut client = Client::joined(address, OFFER).await;
    let mut bomb = Vec::new();
    let zeros = vec![b' '; 64 << 20];
    let mask = Some([1, 2, 3, 4]);
    assert!(append_compressed_frame(
        Opcode::Text,
        &zeros,
        Window::Bits15,
        mask,
        &mut bomb
    ));
    client
        .websocket
        .stream()
        .write_all(&bomb)
        .await
        .unwrap_or_default();
    assert_eq!(client.next().await.unwrap_err(), 1009);
}

#[tokio::test]
async fn what_cant_be_inflated_or_was_not_agreed_on_ends_the_connection() {
    let (_, address) = echo(server()).await;
    let compressed = |data: &[u8]| {
        let mut frame = masked_frame(Opcode::Text, data, [1, 2, 3, 4]).to_vec();
        frame[0] |= 0x40;
        frame
    };
    for (offer, frame, code) in [
        (OFFER, compressed(b"\xff\xff\xff"), 1007),
        (OFFER, compressed(b"garbage, no deflate"), 1007),
        ("", compressed(b"x"), 1002),
        (
            OFFER,
            masked_frame(Opcode::Ping, b"", [0; 4])
                .iter()
                .enumerate()
                .map(|(at, byte)| if at == 0 { byte | 0x40 } else { *byte })
                .collect(),
            1002,
        ),
    ] {
        let mut client = Client::joined(address, offer).await;
        client.websocket.stream().write_all(&frame).await.unwrap();
        assert_eq!(client.next().await.unwrap_err(), code, "{frame:?}");
    }
}
