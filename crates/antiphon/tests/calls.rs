//! Events that are called by ordinary requests: each answer, and what is left of a call.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{Ack, Args, Auth, ConnectError, Data, HttpCalls, Server, Socket};
use bytes::Bytes;
use serde_json::{Value, json};
use support::{WEBSOCKET, WebSocket, http, serve, until, within};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};

fn server(calls: HttpCalls) -> Server {
    let io = Server::builder().http_calls(calls).build();
    io.of("/")
        .on("echo", async |args: Args, ack: Ack| ack.send_args(&args))
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b)
        .on("silent", async |ack: Ack| drop(ack))
        .on("slow", async |_: Ack| std::future::pending::<()>().await)
        .on("binary", async || Bytes::from_static(b"x"))
        .on("panic", async || -> u32 { panic!("the test panics") })
        .on("join", async |socket: Socket| socket.join("room"));
    io.of("/auth")
        .middleware(async |Auth(auth): Auth<Value>| match &auth["token"] {
            Value::String(token) if token == "geheim ü" => Ok(()),
            _ => Err(ConnectError::new("log in").with_data(json!({"code": 7}))),
        })
        .on("who", async |Auth(auth): Auth<Value>| auth);
    io.of("/a b/c").on("x/y", async || "found");
    io
}

async fn call(address: SocketAddr, event: &str, body: &str) -> (u16, Value) {
    let request = format!("POST /socket.io/call/{event}");
    let (status, body) = http(address, &request, body).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// Status and code of a call that fails; every error says what to do.
async fn fails(address: SocketAddr, event: &str, body: &str) -> (u16, String) {
    let (status, error) = call(address, event, body).await;
    assert!(error["message"].is_string(), "{error}");
    assert!(!error["hint"].as_str().unwrap().is_empty(), "{error}");
    (status, error["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_call_is_answered_with_the_acknowledgement() {
    let io = server(HttpCalls::default());
    let address = serve(&io).await;
    assert_eq!(call(address, "add", "[1,2]").await, (200, json!([3])));
    let (status, answer) = call(address, "echo", r#"[1,"ü",{"a":[null]}]"#).await;
    assert_eq!((status, answer), (200, json!([1, "ü", {"a": [null]}])));
    assert_eq!(call(address, "echo", "").await, (200, json!([])));
    // The same handler over a connection.
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send("427[\"add\",1,2]").await;
    client.expect("437[3]").await;
}

#[tokio::test]
async fn a_path_names_the_namespace_and_the_event() {
    let address = serve(&server(HttpCalls::default())).await;
    let found = call(address, "a%20b/c/x%2Fy", "").await;
    assert_eq!(found, (200, json!(["found"])));
    for unknown in ["nothing", "nowhere/echo", "a%20b/c/echo"] {
        let (status, code) = fails(address, unknown, "").await;
        assert_eq!(status, 404, "{unknown}: {code}");
    }
    let (status, code) = fails(address, "%ff", "").await;
    assert_eq!((status, &*code), (400, "bad_path"));
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let calls = HttpCalls::default().timeout(Duration::from_millis(50));
    let io = server(calls);
    let address = serve(&io).await;
    let large = format!("[\"{}\"]", "x".repeat(1_000_001));
    for (event, body, status, code) in [
        ("echo", "{}", 400, "bad_body"),
        ("echo", "[1", 400, "bad_body"),
        ("add", "[1,\"a\"]", 400, "invalid_arguments"),
        ("auth/who", "[]", 401, "refused"),
        ("echo", &large, 413, "payload_too_large"),
        ("panic", "[]", 500, "internal_error"),
        ("binary", "[]", 500, "binary_answer"),
        ("silent", "[]", 504, "no_answer"),
        ("slow", "[]", 504, "timeout"),
    ] {
        let failed = fails(address, event, body).await;
        assert_eq!(failed, (status, code.to_owned()), "{event}");
    }
    let (status, _) = http(address, "GET /socket.io/call/echo", "").await;
    assert_eq!(status, 405);
    let typed = "POST /socket.io/call/echo HTTP/1.1\r\nContent-Type: text/plain\r\nX: y";
    let (status, _) = http(address, typed, "[]").await;
    assert_eq!(status, 415);
}

#[tokio::test]
async fn the_middlewares_of_the_namespace_are_asked() {
    let address = serve(&server(HttpCalls::default())).await;
    let (status, error) = call(address, "auth/who", "").await;
    assert_eq!((status, &error["message"]), (401, &json!("log in")));
    assert_eq!(error["data"], json!({"code": 7}));
    let request = "POST /socket.io/call/auth/who HTTP/1.1\r\n\
                   Antiphon-Auth: {\"token\":\"geheim \\u00fc\"}\r\nX: y";
    let (status, answer) = http(address, request, "").await;
    assert_eq!((status, &*answer), (200, "[{\"token\":\"geheim ü\"}]"));
}

#[tokio::test]
async fn nothing_is_left_of_a_call() {
    let io = server(HttpCalls::default());
    let address = serve(&io).await;
    for _ in 0..3 {
        assert_eq!(call(address, "join", "").await.0, 200);
        assert_eq!(call(address, "nowhere/echo", "").await.0, 404);
        assert_eq!(call(address, "nothing", "").await.0, 404);
    }
    assert!(io.of("/").sockets().is_empty());
    assert!(io.to("room").sockets().await.unwrap().is_empty());
    assert_eq!(io.stats().sessions, 0);
    let (_, description) = http(address, "GET /socket.io/call/openapi.json", "").await;
    assert!(!description.contains("nowhere"), "{description}");
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_nothing() {
    let io = Server::builder().http_calls(HttpCalls::default()).build();
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let ended = Arc::new(Semaphore::new(0));
    let parts = (Arc::clone(&begun), Arc::clone(&go), Arc::clone(&ended));
    io.of("/").on("work", move || {
        let (begun, go, ended) = parts.clone();
        async move {
            begun.add_permits(1);
            go.acquire().await.unwrap().forget();
            ended.add_permits(1);
        }
    });
    let address = serve(&io).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let request = b"POST /socket.io/call/work HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    caller.write_all(request).await.unwrap();
    within("its beginning", begun.acquire())
        .await
        .unwrap()
        .forget();
    drop(caller);
    go.add_permits(1);
    within("its end", ended.acquire()).await.unwrap().forget();
}

#[tokio::test]
async fn a_call_that_is_repeated_is_handled_once() {
    let io = Server::builder().http_calls(HttpCalls::default()).build();
    let handled = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Semaphore::new(0));
    let parts = (Arc::clone(&handled), Arc::clone(&go));
    io.of("/").on("count", move || {
        let (handled, go) = parts.clone();
        async move {
            let count = handled.fetch_add(1, Ordering::SeqCst) + 1;
            go.acquire().await.unwrap().forget();
            count
        }
    });
    let address = serve(&io).await;
    let first = tokio::spawn(async move { call(address, "count?t=a", "").await });
    until("the first", || handled.load(Ordering::SeqCst) > 0).await;
    // One while it runs, one afterwards.
    let again = tokio::spawn(async move { call(address, "count?t=a", "").await });
    go.add_permits(2);
    assert_eq!(first.await.unwrap(), (200, json!([1])));
    assert_eq!(again.await.unwrap(), (200, json!([1])));
    assert_eq!(call(address, "count?t=a", "").await, (200, json!([1])));
    assert_eq!(call(address, "count?t=b", "").await, (200, json!([2])));
}

#[tokio::test]
async fn calls_at_a_time_are_bounded() {
    let io = server(HttpCalls::default().max_running(1));
    let address = serve(&io).await;
    let waiting = tokio::spawn(async move { call(address, "slow", "").await });
    within("the bound", async {
        while call(address, "add", "[1,2]").await.0 != 503 {}
    })
    .await;
    let failed = fails(address, "add", "[1,2]").await;
    assert_eq!(failed, (503, "too_many_calls".to_owned()));
    waiting.abort();
}

#[tokio::test]
async fn calls_are_off_unless_they_are_turned_on() {
    let io = Server::new();
    io.of("/").on("add", async || 3);
    let address = serve(&io).await;
    let (status, error) = http(address, "POST /socket.io/call/add", "").await;
    assert_eq!((status, &error[..9]), (400, "{\"code\":0"), "{error}");
}

#[tokio::test]
async fn what_can_be_called_is_described() {
    let address = serve(&server(HttpCalls::default())).await;
    let (status, description) = http(address, "GET /socket.io/call/openapi.json", "").await;
    assert_eq!(status, 200);
    let description: Value = serde_json::from_str(&description).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    for path in ["/add", "/auth/who"] {
        let operation = &description["paths"][path]["post"];
        for status in ["200", "400", "401", "404", "413", "504"] {
            assert!(
                operation["responses"][status].is_object(),
                "{path} {status}"
            );
        }
    }
}
