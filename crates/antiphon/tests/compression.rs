//! Compressed WebSocket messages (permessage-deflate; docs/protocol.md 22).

#![cfg(feature = "deflate")]
#![allow(clippy::unwrap_used)]

#[path = "support/deflate.rs"]
mod deflate;
mod support;

use std::{net::SocketAddr, thread};

use antiphon::{Args, Auth, Bytes, Limits, Parser, Server, ServerBuilder, Socket};
use antiphon_protocol::{
    socket::{Packet, msgpack},
    websocket::{Decoder, Opcode, deflate::OFFER, masked_frame},
};
use deflate::{compressed_frame, deflated};
use support::{RSV1, Received, WebSocket, http, listener, serve, sid, until};
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
        self.bytes[0] & RSV1 != 0
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
        let payload = deflated(text.as_bytes());
        self.write(&compressed_frame(Opcode::Text, &payload)).await;
    }

    /// Sends bytes. A server that refuses what they begin with may have closed the connection.
    async fn write(&mut self, frames: &[u8]) {
        let _ = self.websocket.stream().write_all(frames).await;
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

/// 22.1, however the server is served.
#[tokio::test]
async fn it_is_agreed_on_where_both_sides_want_it() {
    let (plain, _) = echo(Server::builder()).await;
    let (io, own) = echo(server()).await;
    let (listener, axum) = listener().await;
    let served = tokio::spawn(axum::serve(listener, io.router()).into_future());
    let cores = io.per_core("127.0.0.1:0").unwrap().threads(2);
    let per_core = cores.local_addrs()[0];
    let cores = thread::spawn(move || cores.run());
    for (address, offer, is_expected) in [
        (own, OFFER, true),
        (axum, OFFER, true),
        (per_core, OFFER, true),
        // What browsers and `ws` say.
        (own, "permessage-deflate; client_max_window_bits", true),
        (own, "", false),
        (own, "x-webkit-deflate-frame", false),
        (serve(&plain).await, "permessage-deflate", false),
    ] {
        let mut client = Client::joined(address, offer).await;
        let expected = is_expected.then_some(OFFER);
        assert_eq!(client.agreed.as_deref(), expected, "{offer}");
        let text = format!("420[\"echo\",\"{}\"]", long(1_000));
        match is_expected {
            true => client.send_compressed(&text).await,
            false => client.send(&text).await,
        }
        let frame = client.expect_prefix("430[\"tick").await;
        assert_eq!(frame.is_compressed(), is_expected, "{offer}");
    }
    served.abort();
    io.close().await;
    let ended = tokio::task::spawn_blocking(|| cores.join().unwrap());
    ended.await.unwrap().unwrap();
}

/// 22.1: the response to an offer, or to the first of several that can be met.
#[tokio::test]
async fn the_first_offer_that_can_be_met_is_agreed_on() {
    let (_, address) = echo(server()).await;
    for (offer, bits) in [
        ("permessage-deflate; server_max_window_bits=9", "9"),
        ("permessage-deflate; server_max_window_bits=11", "9"),
        ("permessage-deflate; server_max_window_bits=12", "12"),
        ("permessage-deflate; server_max_window_bits=14", "12"),
        ("permessage-deflate; server_max_window_bits=15", "15"),
        (
            "x-other, permessage-deflate; server_max_window_bits=12, permessage-deflate",
            "12",
        ),
        (
            "permessage-deflate, permessage-deflate; server_max_window_bits=12",
            "",
        ),
        // Fallbacks, in one header and in two.
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "",
        ),
        (
            "permessage-deflate; unknown\r\nSec-WebSocket-Extensions: permessage-deflate",
            "",
        ),
    ] {
        let client = Client::joined(address, offer).await;
        let expected = match bits {
            "" => OFFER.to_owned(),
            bits => format!("{OFFER}; server_max_window_bits={bits}"),
        };
        assert_eq!(client.agreed, Some(expected), "{offer}");
    }
    for offer in [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=8",
    ] {
        let client = Client::joined(address, offer).await;
        assert_eq!(client.agreed, None, "{offer}");
    }
}

/// Characters that nothing can be made of unless they come again, none of which JSON escapes.
fn letters(count: usize) -> String {
    let mut random = support::random(3);
    (0..count)
        .map(|_| char::from(b'#' + random(57) as u8))
        .collect()
}

/// 22.1: nothing is said by a reference farther back than a client's window reaches.
#[tokio::test]
async fn a_client_that_asks_for_a_small_window_gets_messages_made_for_it() {
    let (io, address) = echo(server()).await;
    let mut clients = Vec::new();
    for (offer, reach) in [
        ("permessage-deflate; server_max_window_bits=9", 1 << 9),
        ("permessage-deflate; server_max_window_bits=12", 1 << 12),
        (OFFER, 1 << 15),
    ] {
        clients.push((Client::joined(address, offer).await, reach));
    }
    for distance in [200, 2_000, 10_000] {
        let text = letters(distance).repeat(2);
        io.emit("n", &text);
        for (client, reach) in &mut clients {
            let frame = client.next().await.unwrap();
            assert_eq!(frame.text, format!("42[\"n\",\"{text}\"]"));
            let is_found = frame.bytes.len() < distance * 14 / 10;
            assert_eq!(is_found, distance < *reach, "{distance} of {reach}");
        }
    }
}

/// 22.2: the length that counts is that of the packet as it goes to this receiver.
#[tokio::test]
async fn what_reaches_the_threshold_is_compressed_and_what_is_a_byte_shorter_is_not() {
    let (io, address) = echo(server()).await;
    let mut client = Client::joined(address, OFFER).await;
    for length in [THRESHOLD - 1, THRESHOLD] {
        let is_expected = length == THRESHOLD;
        let frame = "42[\"n\",\"\"]".len();
        io.emit("n", "x".repeat(length - frame));
        let frame = client.next().await.unwrap();
        assert_eq!(
            (frame.text.len(), frame.is_compressed()),
            (length, is_expected)
        );
        io.emit("n", Bytes::from(vec![0; length]));
        client.expect_prefix("451-").await;
        let frame = client.expect_prefix("binary ").await;
        assert_eq!(frame.is_compressed(), is_expected, "{length} bytes");
    }
}

/// 22.2 with 3.5: a client that takes no bytes gets base64, compressed.
#[tokio::test]
async fn base64_is_compressed_like_other_texts() {
    let (io, address) = echo(server()).await;
    let mut client = Client::open(address, &format!("{PATH}&b64=1"), OFFER).await;
    client.expect_prefix("0{").await;
    client.send("40").await;
    client.expect_prefix("40{").await;
    let mut other = Client::joined(address, OFFER).await;
    // Below the threshold as bytes, and beyond it as base64.
    for (length, is_compressed) in [(60, false), (90, true), (10_000, true)] {
        io.emit("n", Bytes::from(vec![0; length]));
        client.expect_prefix("451-").await;
        let frame = client.next().await.unwrap();
        assert!(frame.text.starts_with("bAAAA"), "{frame:?}");
        assert_eq!(frame.text.len(), 1 + length.div_ceil(3) * 4);
        assert_eq!(frame.is_compressed(), is_compressed, "{length}");
        other.expect_prefix("451-").await;
        let frame = other.expect_prefix("binary ").await;
        assert_eq!(frame.is_compressed(), length >= THRESHOLD, "{length}");
    }
}

/// 22.2 and 22.3 with 21.1: packets in MessagePack are binary messages, compressed both ways.
#[tokio::test]
async fn packets_in_messagepack_are_compressed_both_ways() {
    let io = server().parser(Parser::Msgpack).build();
    io.of("/").on("echo", async |socket: Socket, args: Args| {
        socket.emit("echo", args);
    });
    let address = serve(&io).await;
    let mut client = Client::open(address, PATH, OFFER).await;
    client.expect_prefix("0{").await;
    let connect = b"\x82\xa4type\x00\xa3nsp\xa1/";
    client.websocket.send_frame(Opcode::Binary, connect).await;
    client.expect_prefix("binary ").await;
    io.emit("echo", (long(2_000), Bytes::from(vec![0; 2_000])));
    let mut sent = None;
    for _ in 0..2 {
        let (received, frame) = client.websocket.next_frame().await;
        let Received::Binary(message) = received else {
            panic!("{received:?}");
        };
        assert!(frame[0] & RSV1 != 0 && frame.len() < 200);
        let mut buffer = msgpack::Buffer::default();
        let packet = msgpack::decode(&message, &Limits::default(), &mut buffer).unwrap();
        let Packet::Event { args, .. } = packet else {
            panic!("{packet:?}");
        };
        assert!(args.json().starts_with("\"tick tock "));
        assert_eq!(args.attachments(), [vec![0; 2_000]]);
        // What the server says to what it said is the same.
        let payload = deflated(&message);
        client
            .write(&compressed_frame(Opcode::Binary, &payload))
            .await;
        assert_eq!(*sent.get_or_insert(message.clone()), message);
    }
}

/// 22.2.
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

/// 22.2.
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

/// 22.2 with 16.1.
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

/// 22.2.
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

/// 22.3.
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
}

/// 22.3 with 15.10: what tells who a client is may be long, and comes before it has joined.
#[tokio::test]
async fn a_large_auth_may_come_compressed() {
    let io = server().build();
    io.of("/").on_connect(
        async |socket: Socket, Auth(auth): Auth<Box<serde_json::value::RawValue>>| {
            socket.emit("auth", (auth,));
        },
    );
    let address = serve(&io).await;
    for (length, is_taken) in [(199_000, true), (201_000, false)] {
        let mut client = Client::open(address, PATH, OFFER).await;
        client.expect_prefix("0{").await;
        let auth = format!("{{\"token\":\"{}\"}}", long(length));
        client.send_compressed(&format!("40{auth}")).await;
        if is_taken {
            client.expect_prefix("40{").await;
            let frame = client.next().await.unwrap();
            assert_eq!(frame.text, format!("42[\"auth\",{auth}]"));
            assert!(frame.is_compressed());
        } else {
            assert_eq!(client.next().await.unwrap_err(), 1009);
        }
    }
}

/// A compressed message in fragments.
fn fragments(payload: &[u8], length: usize) -> Vec<Vec<u8>> {
    let chunks = payload.chunks(length);
    let last = chunks.len() - 1;
    let frame = |(at, chunk)| {
        let mut frame = match at {
            0 => compressed_frame(Opcode::Text, chunk),
            _ => masked_frame(Opcode::Continuation, chunk, [1, 2, 3, 4]).to_vec(),
        };
        if at < last {
            frame[0] &= !FIN;
        }
        frame
    };
    chunks.enumerate().map(frame).collect()
}

/// The bit of a message's last frame.
const FIN: u8 = 0x80;

/// 22.3 with 8.5.
#[tokio::test]
async fn a_compressed_message_may_come_in_fragments() {
    let (_, address) = echo(server()).await;
    let mut client = Client::joined(address, OFFER).await;
    let text = letters(800) + &long(500);
    let payload = deflated(format!("420[\"echo\",\"{text}\"]").as_bytes());
    let ping = masked_frame(Opcode::Ping, b"", [0; 4]);
    for length in [payload.len() - 1, 100, 7, 1] {
        for frame in fragments(&payload, length) {
            client.write(&[&frame[..], &ping[..]].concat()).await;
        }
        let frame = client.expect_prefix("430[").await;
        assert_eq!(frame.text, format!("430[\"{text}\"]"), "{length}");
    }
}

/// 22.3, 22.4 and 8.8: whatever a message breaks whole, it breaks in fragments.
#[tokio::test]
async fn fragments_get_around_no_rule() {
    let (_, address) = echo(server()).await;
    let too_long = fragments(&deflated(long(1_100_000).as_bytes()), 500).concat();
    let broken = fragments(b"garbage, no deflate", 5).concat();
    let mut too_many = fragments(&[0; 2], 1);
    let empty = masked_frame(Opcode::Continuation, b"", [0; 4]);
    let mut empty = empty.to_vec();
    empty[0] &= !FIN;
    too_many.truncate(1);
    too_many.extend(vec![empty; 1_001]);
    let mut marked_twice = fragments(&deflated(long(500).as_bytes()), 5);
    marked_twice[1][0] |= RSV1;
    for (frames, code) in [
        (too_long, 1009),
        (broken, 1007),
        (too_many.concat(), 1008),
        (marked_twice.concat(), 1002),
    ] {
        let mut client = Client::joined(address, OFFER).await;
        client.write(&frames).await;
        assert_eq!(client.next().await.unwrap_err(), code);
    }
}

/// 22.4.
#[tokio::test]
async fn what_cant_be_inflated_or_was_not_agreed_on_ends_the_connection() {
    let (_, address) = echo(server()).await;
    for (offer, frame, code) in [
        (OFFER, compressed_frame(Opcode::Text, b"\xff\xff\xff"), 1007),
        (
            OFFER,
            compressed_frame(Opcode::Text, b"garbage, no deflate"),
            1007,
        ),
        ("", compressed_frame(Opcode::Text, b"x"), 1002),
        (OFFER, compressed_frame(Opcode::Ping, b""), 1002),
    ] {
        let mut client = Client::joined(address, offer).await;
        client.websocket.stream().write_all(&frame).await.unwrap();
        assert_eq!(client.next().await.unwrap_err(), code, "{frame:?}");
    }
}

/// A thread keeps what compresses: servers of several levels take turns.
#[tokio::test]
async fn more_work_makes_a_message_smaller() {
    let text: String = (0..400).map(|n| format!("{} ", n * 7919 % 640)).collect();
    let mut lengths = Vec::new();
    for level in [1, 6, 1] {
        let (_, address) = echo(server().compression_level(level)).await;
        let mut client = Client::joined(address, OFFER).await;
        client.send(&format!(r#"421["echo","{text}"]"#)).await;
        let frame = client.next().await.unwrap();
        assert_eq!(frame.text, format!(r#"431["{text}"]"#));
        lengths.push(frame.bytes.len());
    }
    assert!(lengths[0] > lengths[1] && lengths[0] == lengths[2]);
}
