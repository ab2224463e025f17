//! Parsers of one's own: what they may do wrong ends one packet or one connection. Stock clients
//! with such parsers do all that others do, in `tests/clients/parsers.test.js`.

#![allow(clippy::unwrap_used)]

#[path = "support/plain_parser.rs"]
#[allow(unreachable_pub)]
mod plain_parser;
mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::parser::{Decoded, Messages, PacketDecoder, PacketKind, PacketParser, RawPacket};
use antiphon::{
    Args, Bytes, Data, DecodeError, DisconnectReason, EmitError, EncodeError, Limits, Recovery,
    SendError, Server, ServerBuilder, Socket,
};
use antiphon_protocol::websocket::Opcode;
use plain_parser::Plain;
use serde_json::{Value, json};
use support::{Received, WEBSOCKET, WEBSOCKET_3, WebSocket, http, serve, sid, until};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

fn server(parser: impl PacketParser) -> ServerBuilder {
    Server::builder().parser(parser)
}

async fn connected(address: SocketAddr) -> Client {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client
}

/// A client of [`Plain`], in the main namespace.
async fn joined(address: SocketAddr) -> Client {
    let mut client = connected(address).await;
    client.send(r#"4{"type":0,"nsp":"/"}"#).await;
    client
        .expect_prefix(r#"4{"type":0,"nsp":"/","data":{"sid":""#)
        .await;
    client
}

async fn expect_closed(client: &mut Client) {
    match client.next().await {
        Received::Closed(_) => {}
        other => panic!("{other:?} instead of the end"),
    }
}

#[tokio::test]
async fn packets_of_all_types_go_through_it() {
    let io = server(Plain).build();
    io.of("/")
        .on("echo", async |args: Args| args)
        .on("ask", async |socket: Socket| {
            let answer = socket.emit_with_ack::<u8>("question", "?").await;
            socket.emit("answered", answer.unwrap());
        });
    io.of("/no")
        .middleware(async |_: Socket| Err::<(), _>("no".into()));
    let address = serve(&io).await;
    let mut client = joined(address).await;
    client
        .send(r#"4{"nsp":"/","data":["echo",1,{"a":[null]}],"id":3,"type":2}"#)
        .await;
    client
        .expect(r#"4{"type":3,"nsp":"/","id":3,"data":[1,{"a":[null]}]}"#)
        .await;
    client
        .send(r#"4{"type":2,"nsp":"/","data":["ask"],"options":{"compress":true}}"#)
        .await;
    client
        .expect(r#"4{"type":2,"nsp":"/","id":0,"data":["question","?"]}"#)
        .await;
    client
        .send(r#"4{"type":3,"nsp":"/","id":0,"data":[7]}"#)
        .await;
    client
        .expect(r#"4{"type":2,"nsp":"/","data":["answered",7]}"#)
        .await;
    client.send(r#"4{"type":0,"nsp":"/no"}"#).await;
    client
        .expect(r#"4{"type":4,"nsp":"/no","data":{"message":"no"}}"#)
        .await;
    client.send(r#"4{"type":0,"nsp":"/none"}"#).await;
    client
        .expect(r#"4{"type":4,"nsp":"/none","data":{"message":"Invalid namespace"}}"#)
        .await;
    io.of("/").sockets()[0].disconnect();
    client.expect(r#"4{"type":1,"nsp":"/"}"#).await;
}

/// Nothing of it depends on the revision: only how Engine.IO carries its messages.
#[tokio::test]
async fn clients_of_engine_io_3_and_polling_take_what_it_writes() {
    let io = server(Plain).build();
    io.of("/").on_connect(async |socket: Socket| {
        socket.emit("hello", "é");
    });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET_3).await;
    client.expect_prefix("0{").await;
    client.expect(r#"4{"type":0,"nsp":"/"}"#).await;
    client
        .expect(r#"4{"type":2,"nsp":"/","data":["hello","é"]}"#)
        .await;

    let get = "GET /socket.io/?EIO=4&transport=polling";
    let (_, open) = http(address, get, "").await;
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&open));
    let (status, _) = http(
        address,
        &format!("POST {session}"),
        r#"4{"type":0,"nsp":"/"}"#,
    )
    .await;
    assert_eq!(status, 200);
    let (_, first) = http(address, &format!("GET {session}"), "").await;
    let mut packets = first.split('\x1e').map(str::to_owned).collect::<Vec<_>>();
    if packets.len() < 2 {
        packets.push(http(address, &format!("GET {session}"), "").await.1);
    }
    assert!(packets[0].starts_with(r#"4{"type":0,"nsp":"/","data":{"sid":""#));
    assert_eq!(packets[1], r#"4{"type":2,"nsp":"/","data":["hello","é"]}"#);
}

/// What an event or a CONNECT says, without its type and its namespace.
async fn data(client: &mut Client, kind: u8) -> Value {
    let prefix = format!("4{{\"type\":{kind}");
    let text = client.expect_prefix(&prefix).await;
    let packet: Value = serde_json::from_str(&text[1..]).unwrap();
    packet["data"].clone()
}

#[tokio::test]
async fn a_socket_comes_back_with_what_it_missed() {
    let io = server(Plain).recovery(Recovery::new()).build();
    io.of("/").on_connect(async |socket: Socket| {
        socket.join("room");
        socket.emit("joined", ());
    });
    let address = serve(&io).await;
    let mut client = connected(address).await;
    client.send(r#"4{"type":0,"nsp":"/"}"#).await;
    let mut auth = data(&mut client, 0).await;
    let id = auth["sid"].take();
    data(&mut client, 2).await;
    io.of("/").to("room").emit("news", 1);
    let news = data(&mut client, 2).await;
    assert_eq!((&news[0], &news[1]), (&json!("news"), &json!(1)));
    auth["offset"] = news[2].clone();
    drop(client);
    until("it is away", || io.of("/").sockets().is_empty()).await;
    io.of("/").to("room").emit("news", 2);

    let mut client = connected(address).await;
    let resume = json!({"type": 0, "nsp": "/", "data": auth});
    client.send(&format!("4{resume}")).await;
    assert_eq!(data(&mut client, 0).await["sid"], id);
    let missed = data(&mut client, 2).await;
    assert_eq!((&missed[0], &missed[1]), (&json!("news"), &json!(2)));
}

/// Does to a packet what its first argument says, and is [`Plain`] otherwise.
struct Faulty;

impl PacketParser for Faulty {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        match packet.data.as_deref() {
            Some(data) if data.contains("unwritable") => Err(EncodeError::custom("unwritable")),
            Some(data) if data.contains("nothing") => Ok(()),
            Some(data) if data.contains("panic") => panic!("the test asked for a panic"),
            _ => Plain.encode(packet, messages),
        }
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Self)
    }
}

impl PacketDecoder for Faulty {
    fn text<'m>(
        &mut self,
        text: &'m str,
        limits: &Limits,
    ) -> Result<Option<Decoded<'m>>, DecodeError> {
        match text {
            "part" => Ok(None),
            "panic" => panic!("the test asked for a panic"),
            "error" => Err(DecodeError::custom("no")),
            text => Plain.text(text, limits),
        }
    }
}

#[tokio::test]
async fn what_a_decoder_refuses_closes_that_connection_alone() {
    let io = server(Faulty).build();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&reasons);
    io.of("/")
        .on("echo", async |args: Args| args)
        .on_disconnect(move |reason: DisconnectReason| {
            noted.lock().unwrap().push(reason);
            std::future::ready(())
        });
    let address = serve(&io).await;
    let mut bystander = joined(address).await;
    let deep = format!(
        r#"4{{"type":2,"nsp":"/","data":["a",{}{}]}}"#,
        "[".repeat(101),
        "]".repeat(101)
    );
    let bad = [
        "4error",
        "4panic",
        "4{",
        r#"4{"type":9,"nsp":"/"}"#,
        r#"4{"type":2,"nsp":"/","data":["connect"]}"#,
        r#"4{"type":2,"nsp":"nothing","data":["a"]}"#,
        &deep,
    ];
    for (index, bad) in bad.into_iter().enumerate() {
        let mut client = joined(address).await;
        client.send(bad).await;
        expect_closed(&mut client).await;
        until("it has left", || reasons.lock().unwrap().len() == index + 1).await;
        assert_eq!(
            reasons.lock().unwrap()[index],
            DisconnectReason::ForcedClose
        );
    }
    assert_eq!(io.stats().undecodable, bad.len() as u64);
    // Plain has no method for binary messages.
    let mut client = joined(address).await;
    client.send_frame(Opcode::Binary, b"x").await;
    expect_closed(&mut client).await;
    bystander
        .send(r#"4{"type":2,"nsp":"/","data":["echo"],"id":1}"#)
        .await;
    bystander
        .expect(r#"4{"type":3,"nsp":"/","id":1,"data":[]}"#)
        .await;
}

#[tokio::test]
async fn a_panic_of_a_decoder_ends_no_request_of_others_by_polling() {
    let io = server(Faulty).build();
    let address = serve(&io).await;
    let (_, open) = http(address, "GET /socket.io/?EIO=4&transport=polling", "").await;
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid(&open));
    let (status, body) = http(address, &format!("POST {session}"), "4panic").await;
    assert_eq!(
        (status, &*body),
        (200, "ok"),
        "the answer to the POST is whole"
    );
    let (status, _) = http(address, &format!("GET {session}"), "").await;
    assert!(matches!(status, 200 | 400), "closed: {status}");
}

#[tokio::test]
async fn parts_are_kept_only_for_clients_that_have_joined_and_not_without_end() {
    let io = server(Faulty)
        .limits(Limits::new().attachments(3))
        .ping_interval(Duration::from_millis(50))
        .ping_timeout(Duration::from_millis(50))
        .build();
    let address = serve(&io).await;
    let mut client = connected(address).await;
    client.send("4part").await;
    expect_closed(&mut client).await;

    let mut client = joined(address).await;
    for _ in 0..3 {
        client.send("4part").await;
    }
    client.send(r#"4{"type":2,"nsp":"/","data":["a"]}"#).await;
    for _ in 0..4 {
        client.send("4part").await;
    }
    expect_closed(&mut client).await;
    until("three", || io.stats().undecodable == 1).await;

    // Its heartbeats are answered, but the rest doesn't come.
    let mut client = joined(address).await;
    client.send("4part").await;
    loop {
        match client.next().await {
            Received::Text(ping) if ping == "2" => {
                if client.try_send_frame(Opcode::Text, b"3").await.is_err() {
                    break;
                }
            }
            Received::Closed(_) => break,
            other => panic!("{other:?} instead of the end"),
        }
    }
    assert_eq!(
        io.stats().undecodable,
        1,
        "it was too late, and no bad packet"
    );
}

#[tokio::test]
async fn what_an_encoder_cannot_write_is_an_error_of_the_emit_and_nothing_else() {
    let io = server(Faulty).build();
    let address = serve(&io).await;
    let mut clients = [joined(address).await, joined(address).await];
    until("two", || io.of("/").sockets().len() == 2).await;
    for bad in ["unwritable", "nothing", "panic"] {
        for socket in io.of("/").sockets() {
            let error = socket.emit(bad, ()).into_result().unwrap_err();
            assert!(
                matches!(error, EmitError::Send(SendError::Unwritten)),
                "{bad}: {error}"
            );
            let asked = socket.emit_with_ack::<()>(bad, ()).await;
            assert!(asked.is_err(), "{bad}: nobody can answer");
        }
        assert!(
            io.of("/").emit(bad, ()).is_queued(),
            "{bad}: a broadcast is for whoever gets it"
        );
        let answers = io.of("/").emit_with_ack::<()>(bad, ()).await.unwrap();
        assert!(answers.answers.is_empty(), "{bad}: nobody was asked");
        // A burst goes on behind it.
        io.of("/").emit("first", ());
        io.of("/").emit(bad, ());
        io.of("/").emit("second", ());
        for client in &mut clients {
            client
                .expect(r#"4{"type":2,"nsp":"/","data":["first"]}"#)
                .await;
            client
                .expect(r#"4{"type":2,"nsp":"/","data":["second"]}"#)
                .await;
        }
    }
}

/// Counts what it is asked for.
#[derive(Default)]
struct Counting(Arc<AtomicUsize>);

impl PacketParser for Counting {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Plain.encode(packet, messages)
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Plain)
    }
}

#[tokio::test]
async fn an_event_is_written_once_for_all_its_receivers() {
    let counted = Arc::new(AtomicUsize::new(0));
    let io = server(Counting(Arc::clone(&counted))).build();
    let address = serve(&io).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(joined(address).await);
    }
    until("all", || io.of("/").sockets().len() == 5).await;
    let before = counted.load(Ordering::Relaxed);
    io.of("/").emit("news", 1);
    for client in &mut clients {
        client
            .expect(r#"4{"type":2,"nsp":"/","data":["news",1]}"#)
            .await;
    }
    assert_eq!(counted.load(Ordering::Relaxed) - before, 1);
}

/// Each attachment is a message behind the text, with a text in front of each.
struct Labelled(Option<(RawPacket<'static>, usize)>);

impl PacketParser for Labelled {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        messages.text(packet.data.as_deref().unwrap_or("-"));
        for attachment in &*packet.attachments {
            messages.text(&format!("{} bytes", attachment.len()));
            messages.binary(attachment);
        }
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Self(None))
    }
}

impl PacketDecoder for Labelled {
    /// `connect`, or the number of attachments and an event.
    fn text<'m>(&mut self, text: &'m str, _: &Limits) -> Result<Option<Decoded<'m>>, DecodeError> {
        let Some((count, data)) = text.split_once(' ') else {
            return Ok(Some(RawPacket::new(PacketKind::Connect, "/").into()));
        };
        let mut packet = RawPacket::new(PacketKind::Event, "/");
        packet.data = Some(data.to_owned().into());
        self.0 = Some((packet, count.parse().map_err(DecodeError::custom)?));
        Ok(None)
    }

    fn binary(&mut self, data: Bytes, _: &Limits) -> Result<Option<Decoded<'static>>, DecodeError> {
        let (packet, count) = self
            .0
            .as_mut()
            .ok_or_else(|| DecodeError::custom("of nothing"))?;
        packet.attachments.to_mut().push(data);
        if packet.attachments.len() < *count {
            return Ok(None);
        }
        Ok(self.0.take().map(|(packet, _)| packet.into()))
    }
}

#[tokio::test]
async fn a_packet_of_several_messages_leaves_and_comes_side_by_side() {
    let io = server(Labelled(None)).build();
    io.of("/").on(
        "back",
        async |socket: Socket, Data((one, two)): Data<(Bytes, Bytes)>| {
            socket.emit("both", (two, one));
            socket.emit("end", ());
        },
    );
    let address = serve(&io).await;
    let mut client = connected(address).await;
    client.send("4connect").await;
    client.expect_prefix("4{\"sid\"").await;
    let event = r#"42 ["back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    client.send(event).await;
    client.send_frame(Opcode::Binary, b"one").await;
    client.send_frame(Opcode::Binary, b"second").await;
    client
        .expect(r#"4["both",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#)
        .await;
    client.expect("46 bytes").await;
    assert_eq!(client.next().await, Received::Binary(b"second".to_vec()));
    client.expect("43 bytes").await;
    assert_eq!(client.next().await, Received::Binary(b"one".to_vec()));
    client.expect(r#"4["end"]"#).await;
}
