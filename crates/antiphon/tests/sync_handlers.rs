//! Handlers that aren't async: functions that return their reply at once. What is said of handlers
//! holds for them, too: replies, errors, middlewares, panics, and that one which blocks is named.

#![cfg(feature = "test")]
// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

#[path = "support/logged.rs"]
mod logged;

use std::time::Duration;

use antiphon::{
    Auth, ConnectError, Data, DisconnectReason, Event, HandlerError, Rejection, Server, Socket,
    adapter::BoxFuture,
    test::{Client, Error},
};
use logged::Logged;
use serde_json::{Value, json};

fn half(Data(n): Data<u32>) -> Result<u32, &'static str> {
    match n % 2 {
        0 => Ok(n / 2),
        _ => Err("odd"),
    }
}

fn parsed(Data(text): Data<String>) -> Result<u32, HandlerError> {
    Ok(text.parse::<u32>()?)
}

async fn answer(client: &mut Client, event: &str, data: Value) -> Value {
    client.emit_with_ack(event, data).await.unwrap()
}

#[tokio::test]
async fn what_a_function_returns_is_the_reply() {
    let io = Server::new();
    let name = "lobby".to_owned();
    io.on("next", |Data(n): Data<u32>| n + 1)
        .on("half", half)
        .on("parsed", parsed)
        // Unlike an async closure, it may own what it captures.
        .on("name", move || name.clone());
    let client = &mut Client::connect(&io).await.unwrap();
    assert_eq!(answer(client, "next", json!(41)).await, 42);
    assert_eq!(answer(client, "half", json!(42)).await, 21);
    assert_eq!(
        answer(client, "half", json!(21)).await,
        json!({ "error": "odd" })
    );
    assert_eq!(answer(client, "name", json!(0)).await, "lobby");
    let failed = answer(client, "parsed", json!("x")).await;
    assert_eq!(failed["error"]["code"], "internal_error");
    let unfit = answer(client, "next", json!("x")).await;
    assert_eq!(unfit["error"]["code"], "invalid_arguments");
}

#[tokio::test]
async fn a_function_that_returns_nothing_leaves_the_reply_to_others() {
    let io = Server::new();
    io.on("both", |socket: Socket| socket.emit("seen", ()))
        .on("both", || ())
        .on("both", async || "from the third");
    let client = &mut Client::connect(&io).await.unwrap();
    assert_eq!(answer(client, "both", json!(0)).await, "from the third");
    client.expect::<()>("seen").await.unwrap();
}

#[tokio::test]
async fn a_function_that_returns_a_future_is_an_async_handler() {
    fn boxed() -> BoxFuture<&'static str> {
        Box::pin(async {
            tokio::task::yield_now().await;
            "boxed"
        })
    }
    let io = Server::new();
    io.on("block", || async {
        tokio::task::yield_now().await;
        "block"
    })
    .on("boxed", boxed)
    .on("closure", async || {
        tokio::task::yield_now().await;
        "closure"
    });
    let client = &mut Client::connect(&io).await.unwrap();
    for event in ["block", "boxed", "closure"] {
        assert_eq!(answer(client, event, json!(0)).await, event);
    }
}

#[tokio::test]
async fn functions_let_in_and_let_pass() {
    let io = Server::new();
    let (left, has_left) = std::sync::mpsc::channel();
    io.middleware(|Auth(auth): Auth<Value>| match auth["name"] == "eve" {
        true => Err(ConnectError::new("not you")),
        false => Ok(()),
    })
    .on_connect(|socket: Socket| {
        socket.emit("welcome", ());
        socket.middleware(|Event(name): Event| match &*name {
            "admin" => Err(Rejection::new("forbidden", "no")),
            _ => Ok(()),
        });
        socket.on("own", || "own");
    })
    .on_disconnect(move |reason: DisconnectReason| left.send(reason).unwrap())
    .on("admin", || "never");

    let refused = Client::connect(&io)
        .auth(json!({ "name": "eve" }))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { message, .. } if message == "not you"),
        "{refused}"
    );

    let mut client = Client::connect(&io)
        .auth(json!({ "name": "ann" }))
        .await
        .unwrap();
    client.expect::<()>("welcome").await.unwrap();
    assert_eq!(answer(&mut client, "own", json!(0)).await, "own");
    let rejected = answer(&mut client, "admin", json!(0)).await;
    assert_eq!(rejected["error"]["code"], "forbidden");
    client.leave();
    let reason =
        tokio::task::spawn_blocking(move || has_left.recv_timeout(Duration::from_secs(10)));
    assert_eq!(
        reason.await.unwrap().unwrap(),
        DisconnectReason::ClientNamespaceDisconnect
    );
}

#[tokio::test]
async fn a_functions_panic_ends_that_call_alone() {
    let io = Server::new();
    io.on("panic", || -> u32 { panic!("the test's") })
        .on("fine", || "fine")
        .on_connect(|| -> () { panic!("the test's") });
    let client = &mut Client::connect(&io).await.unwrap();
    let failed = answer(client, "panic", json!(0)).await;
    assert_eq!(
        failed["error"],
        json!({ "code": "internal_error", "message": "the handler failed" })
    );
    assert_eq!(answer(client, "fine", json!(0)).await, "fine");
    let stats = io.stats();
    // As of an async one: a panic, and nothing that was rejected.
    assert_eq!((stats.handler_panics, stats.events_rejected), (2, 0));

    let io = Server::new();
    io.middleware(|| -> Result<(), ConnectError> { panic!("the test's") });
    let refused = Client::connect(&io).await.unwrap_err().to_string();
    assert!(refused.contains("internal error"), "{refused}");
}

fn hash() -> &'static str {
    std::thread::sleep(Duration::from_millis(200));
    "hashed"
}

#[tokio::test]
async fn a_handler_that_blocks_is_named() {
    // The thread that watches writes it. No other test of this file looks at what is logged.
    let logged = Logged::begin_everywhere();
    let io = Server::new();
    io.on("hash", hash).on("hash later", async || hash());
    let client = &mut Client::connect(&io).await.unwrap();
    for event in ["hash", "hash later"] {
        assert_eq!(answer(client, event, json!(0)).await, "hashed");
        let parts = ["WARN", event, "sync_handlers", "spawn_blocking"];
        let is_it = |line: &String| parts.iter().all(|part| line.contains(part));
        assert!(
            logged.lines().iter().any(is_it),
            "{event}: {:?}",
            logged.lines()
        );
    }
}
