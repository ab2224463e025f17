//! Packets in MessagePack, as `socket.io-msgpack-parser` writes them (docs/protocol.md 21). The
//! stock client with that parser does all that others do, in `tests/clients/msgpack.test.js`.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use antiphon::{Args, Bytes, ConnectError, Limits, Parser, Server, ServerBuilder, Socket};
use antiphon_protocol::{
    engine::Revision,
    socket::{Decoder, Packet, msgpack},
    websocket::Opcode,
};
use support::{Received, WEBSOCKET, WEBSOCKET_3, WebSocket, http, serve, sid, until, within};
use tokio::net::TcpStream;

fn server() -> ServerBuilder {
    Server::builder().parser(Parser::Msgpack)
}

/// The message that a stock client sends for this packet.
fn message(text: &str, attachments: &[&'static [u8]]) -> Vec<u8> {
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    let mut bytes = Vec::new();
    if let Some(packet) = decoder.text(text).unwrap() {
        msgpack::encode(&packet, &mut bytes).unwrap();
        return bytes;
    }
    let mut last = None;
    for data in attachments {
        last = decoder.binary(Bytes::from_static(data)).unwrap();
    }
    msgpack::encode(&last.unwrap().packet(), &mut bytes).unwrap();
    bytes
}

/// What a message says.
fn read(message: &[u8]) -> String {
    let mut buffer = msgpack::Buffer::default();
    match msgpack::decode(message, &Limits::default(), &mut buffer).unwrap() {
        Packet::Connect { namespace, .. } => format!("connect {namespace}"),
        Packet::Disconnect { namespace } => format!("disconnect {namespace}"),
        Packet::Event { id, name, args, .. } => {
            let binary = args.attachments();
            format!("event {id:?} {name} {} {binary:?}", args.json())
        }
        Packet::Ack { id, args, .. } => format!("ack {id} {}", args.json()),
        Packet::ConnectError { data, .. } => format!("error {data}"),
    }
}

struct Client(WebSocket<TcpStream>);

impl Client {
    async fn joined(address: SocketAddr) -> Self {
        let mut client = Self(WebSocket::connect(address, WEBSOCKET).await);
        client.0.expect_prefix("0{").await;
        client.send("0").await;
        client.expect("connect /").await;
        client
    }

    async fn send(&mut self, packet: &str) {
        let message = message(packet, &[]);
        self.0.send_frame(Opcode::Binary, &message).await;
    }

    async fn expect(&mut self, said: &str) {
        match self.0.next().await {
            Received::Binary(message) => assert_eq!(read(&message), said),
            other => panic!("{other:?} instead of {said}"),
        }
    }
}

#[tokio::test]
async fn each_packet_is_one_binary_message() {
    let io = server().build();
    io.of("/")
        .on("echo", async |args: Args| args)
        .on("ask", async |socket: Socket| {
            let asked = socket.emit_with_ack::<Args>("question", "?").await;
            socket.emit("answered", asked.unwrap());
        });
    io.of("/no")
        .middleware(async |_: Socket| Err::<(), _>(ConnectError::new("no")));
    let address = serve(&io).await;
    let mut client = Client::joined(address).await;
    client.send(r#"21["echo",1,{"a":[null,true]}]"#).await;
    client.expect(r#"ack 1 1,{"a":[null,true]}"#).await;
    client.send(r#"2["ask"]"#).await;
    client.expect(r#"event Some(0) question "?" []"#).await;
    client.send(r#"30["!",2]"#).await;
    client.expect(r#"event None answered "!",2 []"#).await;
    client.send("0/no,").await;
    client.expect(r#"error {"message":"no"}"#).await;
    client.send("0/none,").await;
    client
        .expect(r#"error {"message":"Invalid namespace"}"#)
        .await;
    io.of("/").sockets()[0].disconnect();
    client.expect("disconnect /").await;
}

#[tokio::test]
async fn binary_values_stand_in_the_message_however_many_they_are() {
    let io = server().build();
    io.of("/").on("many", async |socket: Socket, args: Args| {
        socket.emit("back", args);
        socket.emit("list", (vec![Bytes::from_static(b"x"); 100],));
    });
    let address = serve(&io).await;
    let mut client = Client::joined(address).await;
    let many = message(
        r#"52-["many",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        &[b"ab", b""],
    );
    client.0.send_frame(Opcode::Binary, &many).await;
    let placeholders = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    let said = format!(r#"event None back {placeholders} [b"ab", b""]"#);
    client.expect(&said).await;
    let Received::Binary(list) = client.0.next().await else {
        panic!("a text");
    };
    assert_eq!(list.iter().filter(|byte| **byte == b'x').count(), 100);
}

#[tokio::test]
async fn a_broadcast_has_the_form_of_each_receiver() {
    let io = server().build();
    let address = serve(&io).await;
    let mut websocket = Client::joined(address).await;
    let mut old = WebSocket::connect(address, WEBSOCKET_3).await;
    old.expect_prefix("0{").await;
    // It is in the main namespace without asking. The byte of the type is in front.
    let Received::Binary(connect) = old.next().await else {
        panic!("a text");
    };
    assert_eq!((connect[0], &*read(&connect[1..])), (4, "connect /"));
    let mut text = WebSocket::connect(address, &format!("{WEBSOCKET}&b64=1")).await;
    text.expect_prefix("0{").await;
    text.send_frame(Opcode::Binary, &message("0", &[])).await;
    text.expect_prefix("b").await;
    let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
    let poll = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&open));
    // A binary message of a payload: `b` and base64 of {type: 0, nsp: "/"}.
    let posted = http(address, &format!("POST {poll}"), "bgqR0eXBlAKNuc3ChLw==").await;
    assert_eq!(posted.0, 200);
    let (_, connected) = http(address, &format!("GET {poll}"), "").await;
    assert!(connected.starts_with('b'), "{connected}");
    until("all to have joined", || io.of("/").sockets_count() == 4).await;

    for number in 0..2 {
        io.emit("n", number);
    }
    for number in 0..2 {
        let said = format!("event None n {number} []");
        websocket.expect(&said).await;
        let Received::Binary(message) = old.next().await else {
            panic!("a text");
        };
        assert_eq!((message[0], &read(&message[1..])), (4, &said));
        text.expect_prefix("b").await;
    }
    let (_, polled) = http(address, &format!("GET {poll}"), "").await;
    assert_eq!(polled.split('\x1e').count(), 2, "{polled}");
}

#[tokio::test]
async fn what_is_no_packet_closes_the_connection() {
    let deep = {
        let mut bytes = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e".to_vec();
        bytes.extend([0x91; 200]);
        bytes.push(0xc0);
        bytes
    };
    let bombs: [(Opcode, &[u8]); 5] = [
        (Opcode::Text, br#"42["echo",1]"#),
        (Opcode::Binary, b"\xc1"),
        // An array of four billion.
        (
            Opcode::Binary,
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd\xff\xff\xff\xff",
        ),
        (Opcode::Binary, b"\x81\xa4type\x09"),
        (Opcode::Binary, &deep),
    ];
    for (number, (opcode, data)) in bombs.into_iter().enumerate() {
        let io = server().build();
        io.of("/").on("echo", async |args: Args| args);
        let address = serve(&io).await;
        let mut client = Client::joined(address).await;
        client.0.send_frame(opcode, data).await;
        let closed = within("the end", client.0.next()).await;
        assert!(
            matches!(closed, Received::Closed(_)),
            "{number}: {closed:?}"
        );
        assert_eq!(io.stats().undecodable, 1, "{number}");
    }
}

#[tokio::test]
async fn bounds_are_those_of_json() {
    let limits = Limits::new().attachments(1).values(10);
    let io = server().limits(limits).build();
    io.of("/").on("echo", async |args: Args| args);
    let address = serve(&io).await;
    for refused in [
        message(
            r#"52-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
            &[b"a", b"b"],
        ),
        message(r#"2["echo",[1,2,3,4,5,6,7,8,9,10]]"#, &[]),
    ] {
        let mut client = Client::joined(address).await;
        client.0.send_frame(Opcode::Binary, &refused).await;
        let closed = within("the end", client.0.next()).await;
        assert!(matches!(closed, Received::Closed(_)), "{closed:?}");
    }
}
