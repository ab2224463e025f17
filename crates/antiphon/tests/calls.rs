//! Events that are called by ordinary requests: each answer, and what is left of a call.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{Ack, Args, Auth, ConnectError, Data, HttpCalls, Server, Socket};
use bytes::Bytes;
use serde_json::{Value, json};
use support::{WEBSOCKET, WebSocket, http, http_over, serve, until, within};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

fn server(calls: HttpCalls) -> Server {
    let io = Server::builder().http_calls(calls).build();
    io.of("/")
        .on("echo", async |args: Args, ack: Ack| ack.send(args))
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
    let io = server(HttpCalls::default().description(true));
    let address = serve(&io).await;
    for _ in 0..3 {
        assert_eq!(call(address, "join", "").await.0, 200);
        assert_eq!(call(address, "nowhere/echo", "").await.0, 404);
        assert_eq!(call(address, "nothing", "").await.0, 404);
    }
    assert!(io.of("/").sockets().is_empty());
    assert!(io.to("room").sockets().await.unwrap().sockets.is_empty());
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
    let calls = HttpCalls::default().description(true);
    let address = serve(&server(calls)).await;
    let get = "GET /socket.io/call/openapi.json HTTP/1.1\r\n\
               Antiphon-Auth: {\"token\":\"geheim \\u00fc\"}\r\nX: y";
    let (status, description) = http(address, get, "").await;
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

#[tokio::test]
async fn events_are_described_to_those_that_may_call_them() {
    let get = "GET /socket.io/call/openapi.json";
    let off = serve(&server(HttpCalls::default())).await;
    let (status, answer) = http(off, get, "").await;
    assert_eq!(status, 405, "{answer}");
    let on = serve(&server(HttpCalls::default().description(true))).await;
    for headers in ["", " HTTP/1.1\r\nAntiphon-Auth: {\"token\":\"x\"}\r\nX: y"] {
        let (status, description) = http(on, &format!("{get}{headers}"), "").await;
        assert_eq!(status, 200, "{description}");
        assert!(description.contains("/add"), "{description}");
        assert!(!description.contains("who"), "{description}");
    }
}

/// As [`http`], from an address of this machine.
async fn http_from(from: &str, address: SocketAddr, request: &str, body: &str) -> (u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    http_over(stream, request, body).await
}

#[tokio::test]
async fn a_repetition_by_another_caller_is_another_call() {
    // Credentials wherever an application may look for them, kept or not.
    let ours = "POST /socket.io/call/count?t=a&token=1 HTTP/1.1\r\nX-Api-Key: 1\r\n\
                Authorization: 1\r\nCookie: a=1\r\nAntiphon-Auth: {}\r\nX: y";
    let io = Server::builder().http_calls(HttpCalls::default()).build();
    let count = Arc::new(AtomicUsize::new(0));
    io.of("/").on("count", move || {
        let count = count.fetch_add(1, Ordering::SeqCst);
        async move { count }
    });
    let address = serve(&io).await;
    let first = http(address, ours, "[1]").await;
    assert_eq!(first, (200, "[0]".to_owned()));
    let on_the_way = ours.replace("X: y", "Via: 1.1 proxy\r\nX-Request-Id: 7\r\nX: y");
    assert_eq!(http(address, &on_the_way, "[1]").await, first);
    let mut seen = vec![first.1];
    for other in [
        ours.replace("token=1", "token=2"),
        ours.replace("&token=1", ""),
        ours.replace("X-Api-Key: 1", "X-Api-Key: 2"),
        ours.replace("X-Api-Key: 1\r\n", ""),
        ours.replace("X-Api-Key: 1", "X-Api-Key: 1\r\nX-Api-Key: 1"),
        ours.replace("Authorization: 1", "Authorization: 2"),
        ours.replace("Cookie: a=1", "Cookie: a=2"),
        ours.replace("Antiphon-Auth: {}", "Antiphon-Auth: {\"a\":1}"),
        "POST /socket.io/call/count?t=a".to_owned(),
    ] {
        let (status, answer) = http(address, &other, "[1]").await;
        assert_eq!(status, 200, "{other}");
        assert!(!seen.contains(&answer), "the answer of another: {other}");
        seen.push(answer);
    }
    let (_, elsewhere) = http_from("127.0.0.2:0", address, ours, "[1]").await;
    assert!(!seen.contains(&elsewhere), "the answer of another address");
}

#[tokio::test]
async fn middlewares_are_asked_about_a_repetition_too() {
    let io = Server::builder().http_calls(HttpCalls::default()).build();
    let is_revoked = Arc::new(AtomicBool::new(false));
    let go = Arc::new(Semaphore::new(0));
    let (asked, waits) = (Arc::clone(&is_revoked), Arc::clone(&go));
    io.of("/")
        .middleware(move || {
            let is_revoked = asked.load(Ordering::SeqCst);
            async move {
                match is_revoked {
                    true => Err(ConnectError::new("revoked")),
                    false => Ok(()),
                }
            }
        })
        .on("secret", move || {
            let waits = Arc::clone(&waits);
            async move {
                waits.acquire().await.unwrap().forget();
                "secret"
            }
        });
    let address = serve(&io).await;
    let first = tokio::spawn(async move { call(address, "secret?t=a", "").await });
    until("the first", || io.stats().calls > 0).await;
    is_revoked.store(true, Ordering::SeqCst);
    // While it runs, and when it is remembered.
    let refused = (401, "refused".to_owned());
    assert_eq!(fails(address, "secret?t=a", "").await, refused);
    go.add_permits(1);
    assert_eq!(first.await.unwrap(), (200, json!(["secret"])));
    assert_eq!(fails(address, "secret?t=a", "").await, refused);
    is_revoked.store(false, Ordering::SeqCst);
    assert_eq!(
        call(address, "secret?t=a", "").await,
        (200, json!(["secret"]))
    );
}

#[tokio::test]
async fn one_caller_does_not_take_the_capacity_of_others() {
    let io = server(HttpCalls::default());
    let address = serve(&io).await;
    let large = format!("[\"{}\"]", "x".repeat(999_000));
    let hang = |body: String| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let answer = http(address, "POST /socket.io/call/slow", &body).await;
            let _ = sender.send(answer);
        });
        (task, receiver)
    };
    let mut hanging = Vec::new();
    let refused = within("a refusal", async {
        loop {
            let before = io.stats().calls;
            let (task, mut answer) = hang(large.clone());
            hanging.push(task);
            loop {
                if let Ok(answer) = answer.try_recv() {
                    return answer;
                }
                if io.stats().calls > before {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert!(hanging.len() < 17, "{} hang", hanging.len());
    let error: Value = serde_json::from_str(&refused.1).unwrap();
    assert_eq!((refused.0, &error["code"]), (429, &json!("caller_limit")));
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("HttpCalls::caller")
    );
    let small = "POST /socket.io/call/add";
    assert_eq!(http(address, small, "[1,2]").await.0, 200);
    for body in ["[1,2]", &large] {
        let echo = "POST /socket.io/call/echo";
        assert_eq!(http_from("127.0.0.2:0", address, echo, body).await.0, 200);
    }
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_held_against_its_caller_alone() {
    let calls = HttpCalls::default().max_running_per_caller(2);
    let address = serve(&server(calls)).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = b"POST /socket.io/call/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
        stream.write_all(head).await.unwrap();
        silent.push(stream);
    }
    within("the bound", async {
        while http(address, "POST /socket.io/call/echo", "[]").await.0 != 429 {}
    })
    .await;
    let (status, _) = http_from("127.0.0.2:0", address, "POST /socket.io/call/echo", "[]").await;
    assert_eq!(status, 200);
    drop(silent);
    within("its end", async {
        while http(address, "POST /socket.io/call/echo", "[]").await.0 != 200 {}
    })
    .await;
}
