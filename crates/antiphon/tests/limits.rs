//! Limits are for what clients send: what the server emits has its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use antiphon::{Ack, Args, Bytes, Data, DisconnectReason, Event, Limits, Server, Socket};
use antiphon_protocol::websocket::Opcode;
use serde_json::{Value, json, value::RawValue};
use support::{Received, WEBSOCKET, WebSocket, http, serve, until};
use tokio::net::TcpStream;

async fn joined(address: SocketAddr) -> WebSocket<TcpStream> {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client
}

type Seen = Arc<Mutex<Vec<(String, String, usize)>>>;

/// Notes what goes out of the main namespace: name, JSON, attachments.
fn watched(io: &Server) -> Seen {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    io.of("/")
        .on_any_outgoing(move |Event(name): Event, args: Args| {
            let attachments = args.json().matches("_placeholder").count();
            let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((name, args.json().to_owned(), attachments));
            async {}
        });
    seen
}

fn taken(seen: &Seen) -> Vec<(String, String, usize)> {
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// JSON that is nested deeper than anyone may send.
fn deep() -> Box<RawValue> {
    RawValue::from_string("[".repeat(500) + &"]".repeat(500)).unwrap()
}

#[tokio::test]
async fn listeners_to_what_goes_out_see_all_of_it() {
    // Whatever clients may send: here next to nothing.
    let limits = Limits::new()
        .attachments(0)
        .depth(1)
        .values(1)
        .namespace(1)
        .event_name(1)
        .ack_digits(1);
    let io = Server::builder()
        .limits(limits)
        .max_emitted_attachments(20)
        .build();
    let seen = watched(&io);
    let long = "n".repeat(1_025);
    io.of("/").on("g", async |socket: Socket| {
        let name = "n".repeat(1_025);
        socket.emit(&name, 1);
        socket.emit("deep", deep());
        socket.emit("values", vec![0; 200_000]);
        socket.emit("bytes", vec![Bytes::from_static(b"x"); 20]);
        socket.emit("half", RawValue::from_string(r#""\ud83d""#.into()).unwrap());
        socket.namespace().emit(&name, "to all");
    });
    let address = serve(&io).await;
    let mut client = joined(address).await;
    client.send(r#"42["g"]"#).await;
    client.expect(&format!(r#"42["{long}",1]"#)).await;
    let deep = deep();
    client
        .expect(&format!(r#"42["deep",{}]"#, deep.get()))
        .await;
    for _ in 0..2 + 20 {
        client.next().await;
    }
    client.expect(r#"42["half","\ud83d"]"#).await;
    client.expect(&format!(r#"42["{long}","to all"]"#)).await;
    let seen = taken(&seen);
    let names: Vec<_> = seen.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, [&long, "deep", "values", "bytes", "half", &long]);
    assert_eq!(seen[1].1, deep.get());
    assert_eq!(seen[3].2, 20);
    assert_eq!(seen[4].1, r#""\ud83d""#);
}

#[tokio::test]
async fn more_binary_values_than_stock_clients_take_are_an_error_that_says_what_to_do() {
    let io = Server::new();
    let seen = watched(&io);
    io.of("/")
        .on("emit", async |socket: Socket, Data(count): Data<usize>| {
            let bytes = vec![Bytes::from_static(b"x"); count];
            let emitted = socket.emit("bytes", &bytes).into_result();
            let broadcast = socket.namespace().emit("bytes", &bytes);
            let broadcast = broadcast.into_result();
            [emitted, broadcast].map(|result| result.map_err(|error| error.to_string()))
        })
        .on("reply", async |ack: Ack, Data(count): Data<usize>| {
            ack.send(vec![Bytes::from_static(b"x"); count]);
        });
    let mut client = joined(serve(&io).await).await;
    client.send(r#"420["emit",11]"#).await;
    let Received::Text(answer) = client.next().await else {
        panic!("no answer");
    };
    assert!(
        answer.contains("11 binary values in one packet"),
        "{answer}"
    );
    assert!(answer.contains("`max_emitted_attachments`"), "{answer}");
    assert_eq!(answer.matches("11 binary values").count(), 2, "{answer}");
    assert_eq!(taken(&seen), []);
    // An answer that can't be sent is an error of the server.
    client.send(r#"421["reply",11]"#).await;
    assert!(matches!(client.next().await, Received::Text(text) if text.contains("internal_error")));
    // Ten are fine.
    client.send(r#"422["reply",10]"#).await;
    assert!(matches!(client.next().await, Received::Text(text) if text.starts_with("4610-2[")));
}

/// The option that the error names.
#[tokio::test]
async fn as_many_binary_values_are_sent_as_the_option_says() {
    let limits = Limits::new().attachments(12);
    let io = Server::builder()
        .max_emitted_attachments(12)
        .limits(limits)
        .build();
    io.of("/")
        .on("echo", async |socket: Socket, args: Args, ack: Ack| {
            socket.emit("back", &args);
            socket.namespace().emit("all", &args);
            ack.send(args);
        });
    let mut client = joined(serve(&io).await).await;
    let placeholder = |num| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
    let list = (0..12).map(placeholder).collect::<Vec<_>>().join(",");
    client.send(&format!(r#"4512-0["echo",{list}]"#)).await;
    for num in 0..12 {
        client.send_frame(Opcode::Binary, &[num]).await;
    }
    for head in [r#"4512-["back","#, r#"4512-["all","#, "4612-0["] {
        client.expect(&format!("{head}{list}]")).await;
        for num in 0..12 {
            assert_eq!(client.next().await, Received::Binary(vec![num]));
        }
    }
}

#[tokio::test]
async fn a_message_of_too_many_values_closes_the_connection() {
    let io = Server::new();
    io.of("/")
        .on("count", async |Data(list): Data<Vec<Value>>| list.len());
    let address = serve(&io).await;
    let mut client = joined(address).await;
    // The name and the list are values, too.
    let list = |count: usize| format!(r#"420["count",[{}0]]"#, "0,".repeat(count - 1));
    client.send(&list(99_998)).await;
    client.expect("430[99998]").await;
    client.send(&list(99_999)).await;
    assert!(matches!(client.next().await, Received::Closed(_)));
    assert_eq!(io.stats().undecodable, 1);
}

#[tokio::test]
async fn an_attachment_that_is_named_twice_closes_the_connection() {
    let io = Server::new();
    io.of("/")
        .on("list", async |Data(list): Data<Vec<Bytes>>| list.len());
    let mut client = joined(serve(&io).await).await;
    let twice = [r#"{"_placeholder":true,"num":0}"#; 2].join(",");
    client.send(&format!(r#"451-7["list",[{twice}]]"#)).await;
    assert!(matches!(client.next().await, Received::Closed(_)));
}

#[tokio::test]
async fn half_an_emoji_is_a_text_like_others() {
    let io = Server::builder()
        .http_calls(antiphon::HttpCalls::default())
        .build();
    io.of("/")
        .on_connect(async |socket: Socket| {
            let auth: Option<Value> = socket.auth().unwrap();
            if let Some(auth) = auth {
                socket.emit("auth", auth);
            }
        })
        .on(
            "typed",
            async |Data((text, rest)): Data<(String, Value)>| (text, rest),
        )
        .on("raw", async |args: Args, ack: Ack| ack.send(args))
        .on("\u{fffd}", async || "named")
        .on("ask", async |socket: Socket| {
            let answer = socket.emit_with_ack::<(String,)>("question", ());
            tokio::spawn(async move {
                let (answer,) = answer.await.unwrap();
                socket.emit("answered", answer);
            });
        });
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.next().await;
    client.send(r#"40{"\ud83d":"a\ud83d"}"#).await;
    assert!(matches!(client.next().await, Received::Text(text) if text.starts_with("40{")));
    let expected = json!(["auth", {"\u{fffd}": "a\u{fffd}"}]);
    client.expect(&format!("42{expected}")).await;
    client
        .send(r#"420["typed","cut \ud83d",{"a":[1,"\ude00"]}]"#)
        .await;
    let expected = json!(["cut \u{fffd}", {"a": [1, "\u{fffd}"]}]);
    client.expect(&format!("430{expected}")).await;
    client.send(r#"421["raw","\ud83d"]"#).await;
    client.expect(r#"431["\ud83d"]"#).await;
    client.send(r#"422["\ud83d"]"#).await;
    client.expect(r#"432["named"]"#).await;
    client.send(r#"42["ask"]"#).await;
    let Received::Text(question) = client.next().await else {
        panic!("no question");
    };
    let id = question
        .trim_start_matches("42")
        .trim_end_matches(r#"["question"]"#);
    client.send(&format!(r#"43{id}["\ud83d"]"#)).await;
    client.expect("42[\"answered\",\"\u{fffd}\"]").await;

    let call = "POST /socket.io/call/typed";
    let (status, answer) = http(address, call, r#"["\ud83d",{}]"#).await;
    assert_eq!((status, &*answer), (200, "[\"\u{fffd}\",{}]"));
}

/// Each limit of the builder is the one that counts: what is within is handled, and what is beyond
/// closes the connection, whichever it is.
#[tokio::test]
async fn a_packet_beyond_a_limit_of_the_builder_closes_its_connection() {
    let limits = Limits::new;
    let placeholder = |num| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
    let attachments = |count| {
        let list: Vec<_> = (0..count).map(placeholder).collect();
        format!(r#"45{count}-["a",{}]"#, list.join(","))
    };
    let texts = |within: &str, beyond: &str| [within.to_owned(), beyond.to_owned()];
    let cases = [
        (
            limits().depth(3),
            texts(r#"42["a",[[]]]"#, r#"42["a",[[[]]]]"#),
        ),
        (
            limits().depth(3),
            texts(r#"40/b,{"a":[[]]}"#, r#"40/b,{"a":[[[]]]}"#),
        ),
        (
            limits().values(4),
            texts(r#"42["a",1,[2]]"#, r#"42["a",1,[2,3]]"#),
        ),
        (limits().event_name(4), texts(r#"42["éé"]"#, r#"42["ééé"]"#)),
        (limits().namespace(4), texts("40/abc", "40/abcd")),
        (
            limits().ack_digits(2),
            texts(r#"4299["a"]"#, r#"42100["a"]"#),
        ),
        (limits().attachments(2), [attachments(2), attachments(3)]),
    ];
    for (limits, [within, beyond]) in cases {
        let io = Server::builder().limits(limits).build();
        let noted = Arc::new(Mutex::new(None));
        let noting = Arc::clone(&noted);
        io.of("/").on_disconnect(move |reason: DisconnectReason| {
            *noting.lock().unwrap() = Some(reason);
            std::future::ready(())
        });
        let address = serve(&io).await;
        let mut client = joined(address).await;
        client.send(&within).await;
        if within.starts_with("45") {
            client.send_frame(Opcode::Binary, b"x").await;
            client.send_frame(Opcode::Binary, b"x").await;
        }
        // What comes behind it is handled.
        client.send("40/z").await;
        loop {
            match client.next().await {
                Received::Text(text) if text.starts_with("44/z,") => break,
                Received::Text(_) => {}
                other => panic!("{within}: {other:?}"),
            }
        }
        assert_eq!(io.stats().undecodable, 0, "{within}");
        client.send(&beyond).await;
        assert!(
            matches!(client.next().await, Received::Closed(_)),
            "{beyond}"
        );
        assert_eq!(io.stats().undecodable, 1, "{beyond}");
        until("its handler", || noted.lock().unwrap().is_some()).await;
        assert_eq!(
            *noted.lock().unwrap(),
            Some(DisconnectReason::ForcedClose),
            "{beyond}"
        );
    }
}
