//! What is an argument, and what a reply, byte by byte as a stock client sees it: decided by the
//! Rust type, both ways.

#![allow(clippy::unwrap_used)]

mod support;

use antiphon::{Ack, Args, Data, HttpCalls, Server, Socket};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::{WEBSOCKET, WebSocket, http, serve};

/// As the vectors of `glam` and its like: serde knows them as tuples.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
struct Vec3(f64, f64, f64);

#[derive(Serialize)]
struct Wrapped((u8, u8));

#[derive(Serialize)]
enum Status {
    Accepted,
}

#[derive(Serialize)]
struct Done;

#[derive(Serialize)]
struct Empty {}

/// One of the application, which only has the name of the other.
mod own {
    #[derive(serde::Serialize)]
    pub(crate) enum Result {
        Ok(u8),
        Err(u8),
    }
}

/// Each reply, and the arguments that the client gets.
const REPLIES: [(&str, &str); 19] = [
    ("tuple", r#"["a",1]"#),
    ("array", "[[1.5,2.5,3.5]]"),
    ("vector", "[[1.0,2.0,3.0]]"),
    ("newtype", "[[1,2]]"),
    ("boxed", "[[1,2]]"),
    ("variant", r#"["Accepted"]"#),
    ("unit struct", "[null]"),
    ("empty struct", "[{}]"),
    ("empty array", "[[]]"),
    ("null", "[null]"),
    ("unit", "[]"),
    ("ok", "[[1,2]]"),
    ("ok tuple", "[1,2]"),
    ("ok unit", "[]"),
    ("err", r#"[{"error":"no"}]"#),
    ("own ok", r#"[{"Ok":1}]"#),
    ("own err", r#"[{"Err":2}]"#),
    ("by hand", "[[1,2]]"),
    ("nothing by hand", "[]"),
];

fn server() -> Server {
    let io = Server::builder().http_calls(HttpCalls::default()).build();
    io.of("/")
        .on("tuple", async || ("a", 1))
        .on("array", async || [1.5, 2.5, 3.5])
        .on("vector", async || Vec3(1.0, 2.0, 3.0))
        .on("newtype", async || Wrapped((1, 2)))
        .on("boxed", async || Box::new((1, 2)))
        .on("variant", async || Status::Accepted)
        .on("unit struct", async || Done)
        .on("empty struct", async || Empty {})
        .on("empty array", async || [0; 0])
        .on("null", async || Value::Null)
        .on("unit", async || {})
        .on("ok", async || Ok::<_, ()>([1, 2]))
        .on("ok tuple", async || Ok::<_, ()>((1, 2)))
        .on("ok unit", async || Ok::<_, String>(()))
        .on("err", async || Err::<(), _>("no"))
        .on("own ok", async || own::Result::Ok(1))
        .on("own err", async || own::Result::Err(2))
        .on("by hand", async |ack: Ack| ack.send([1, 2]))
        .on("nothing by hand", async |ack: Ack| ack.send(()));
    io
}

async fn joined(io: &Server) -> WebSocket<tokio::net::TcpStream> {
    let mut client = WebSocket::connect(serve(io).await, WEBSOCKET).await;
    client.join().await;
    client
}

#[tokio::test]
async fn a_reply_is_several_arguments_only_as_a_tuple() {
    let mut client = joined(&server()).await;
    for (event, arguments) in REPLIES {
        client.send(&format!("421[\"{event}\"]")).await;
        client.expect(&format!("431{arguments}")).await;
    }
}

#[tokio::test]
async fn a_call_by_http_is_answered_with_the_same() {
    let address = serve(&server()).await;
    for (event, arguments) in REPLIES {
        let path = event.replace(' ', "%20");
        let answer = http(address, &format!("POST /socket.io/call/{path}"), "").await;
        assert_eq!(answer, (200, arguments.to_owned()), "{event}");
    }
}

#[tokio::test]
async fn an_answer_at_once_doesn_t_wait_for_other_handlers() {
    let io = Server::new();
    io.of("/")
        .on("e", async || Ok::<(), ()>(()))
        .on("e", async |_: Socket| std::future::pending::<()>().await)
        .on("f", async || {})
        .on("f", async || Done)
        .on("f", async || "too late");
    let mut client = joined(&io).await;
    client.send("421[\"e\"]").await;
    client.expect("431[]").await;
    // `()` leaves it to the next.
    client.send("422[\"f\"]").await;
    client.expect("432[null]").await;
}

#[tokio::test]
async fn arguments_are_handed_on_by_returning_them() {
    let io = Server::new();
    io.of("/")
        .on("echo", async |args: Args| args)
        .on("ack", async |args: Args, ack: Ack| ack.send(&args));
    let mut client = joined(&io).await;
    for event in ["echo", "ack"] {
        client.send(&format!("421[\"{event}\",1 ,[2]]")).await;
        client.expect("431[1 ,[2]]").await;
        client.send(&format!("422[\"{event}\"]")).await;
        client.expect("432[]").await;
    }
}

#[tokio::test]
async fn an_event_is_read_as_it_is_written() {
    let io = Server::new();
    io.of("/")
        .on("array", async |socket: Socket, Data(it): Data<[u8; 3]>| {
            socket.emit("array", it);
        })
        .on("vector", async |socket: Socket, Data(it): Data<Vec3>| {
            socket.emit("vector", it);
        })
        .on(
            "both",
            async |socket: Socket, Data(it): Data<(Vec3, u8)>| {
                socket.emit("both", it);
            },
        )
        .on("ask", async |socket: Socket| {
            let answered = socket.emit_with_ack::<[u8; 2]>("question", [1, 2]);
            tokio::spawn(async move {
                let [a, b] = answered.await.unwrap();
                socket.emit("answer", a + b);
            });
        });
    let mut client = joined(&io).await;
    for event in [
        r#"42["array",[1,2,3]]"#,
        r#"42["vector",[1.0,2.0,3.0]]"#,
        r#"42["both",[1.0,2.0,3.0],4]"#,
    ] {
        client.send(event).await;
        client.expect(event).await;
    }
    client.send("42[\"ask\"]").await;
    client.expect("420[\"question\",[1,2]]").await;
    client.send("430[[3,4]]").await;
    client.expect("42[\"answer\",7]").await;
    // Three numbers aren't an array of three.
    client.send("421[\"array\",1,2,3]").await;
    let refused = client.expect_prefix("431").await;
    assert!(refused.contains("expected an array"), "{refused}");
}
