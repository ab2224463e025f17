//! Nothing that a developer looks for happens in silence: the log says it at its default level, once
//! a minute for each cause, with what to do. Errors of a handler's own are told to the log, and to
//! the client as far as the application says.

#![cfg(feature = "test")]
// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

#[path = "support/logged.rs"]
mod logged;

use std::collections::BTreeMap;

use antiphon::{Ack, Data, Extension, HandlerError, Server, Socket, State, test::Client};
use http::{HeaderValue, header::ORIGIN};
use logged::Logged;
use serde_json::{Value, json};

#[tokio::test]
async fn an_unknown_event_is_said_once_a_minute_with_what_to_do() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    let _ = io.of("/chat");
    let mut client = Client::connect(&io).namespace("/chat").await.unwrap();
    for _ in 0..100 {
        client.emit("mesage", "hello").unwrap();
    }
    client.expect_nothing().await.unwrap();
    logged.has_one_with(&[
        "WARN",
        "/chat",
        "mesage",
        "unknown_event",
        "register a handler",
    ]);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_said_with_their_path() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.of("/")
        .on("add", async |Data((a, b)): Data<(i64, i64)>| a + b);
    let mut client = Client::connect(&io).await.unwrap();
    for _ in 0..100 {
        let reply: Value = client.emit_with_ack("add", (1, "two")).await.unwrap();
        assert_eq!(reply["error"]["code"], "invalid_arguments");
    }
    logged.has_one_with(&["WARN", "add", "invalid_arguments", "`Data`", "times=1"]);
}

#[tokio::test]
async fn each_cause_is_said() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.of("/").on("n", async |Data(n): Data<u32>| n);
    let mut client = Client::connect(&io).await.unwrap();
    client.emit("n", "one").unwrap();
    client.emit("unknown", ()).unwrap();
    client.expect_nothing().await.unwrap();
    assert_eq!(logged.lines().len(), 2, "{:?}", logged.lines());
}

#[tokio::test]
async fn a_refused_origin_names_the_option() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    for _ in 0..3 {
        let page = HeaderValue::from_static("https://app.example");
        let refused = Client::connect(&io).header(ORIGIN, page).await;
        assert!(refused.is_err());
    }
    logged.has_one_with(&["WARN", "https://app.example", "Cors::origins"]);
}

#[tokio::test]
async fn a_message_that_is_too_large_names_the_option() {
    let (logged, _guard) = Logged::begin();
    let io = Server::builder().max_payload(10_000).build();
    let mut client = Client::connect(&io).await.unwrap();
    client.emit("upload", "x".repeat(10_001)).unwrap();
    client.left().await.unwrap();
    logged.has_one_with(&["WARN", "max_payload"]);
}

#[tokio::test]
async fn a_handlers_own_error_is_for_the_log_and_not_for_the_client() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.of("/")
        .on("read", async || {
            std::fs::read("/nowhere/secret.txt")?;
            Ok::<_, HandlerError>(())
        })
        .on("parse", async |Data(text): Data<String>| {
            let number: u32 = text
                .parse()
                .map_err(|error| HandlerError::tell("bad_number", error))?;
            Ok::<_, HandlerError>(number)
        });
    let mut client = Client::connect(&io).await.unwrap();
    let reply: Value = client.emit_with_ack("read", ()).await.unwrap();
    let hidden = json!({ "error": { "code": "internal_error", "message": "the handler failed" } });
    assert_eq!(reply, hidden);
    logged.has_one_with(&["ERROR", "a handler failed", "No such file"]);
    let told: Value = client.emit_with_ack("parse", "x").await.unwrap();
    assert_eq!(told["error"]["code"], "bad_number");
    assert_eq!(told["error"]["message"], "invalid digit found in string");
    assert_eq!(client.emit_with_ack::<u32>("parse", "7").await.unwrap(), 7);
}

#[tokio::test]
async fn a_handler_may_end_with_an_emit() {
    let io = Server::new();
    io.of("/")
        .on("shout", async |socket: Socket, Data(text): Data<String>| {
            socket.emit("shouted", text.to_uppercase())
        });
    let mut client = Client::connect(&io).await.unwrap();
    client.emit_with_ack::<()>("shout", "a").await.unwrap();
    assert_eq!(client.expect::<String>("shouted").await.unwrap(), "A");
}

#[tokio::test]
async fn a_namespace_is_kept_while_it_is_registered_on() {
    let io = Server::new();
    let chat = io.of("/chat").on("one", async || 1).on("two", async || 2);
    chat.on("three", async || 3);
    let mut client = Client::connect(&io).namespace("/chat").await.unwrap();
    for (event, number) in [("one", 1), ("two", 2), ("three", 3)] {
        assert_eq!(
            client.emit_with_ack::<u32>(event, ()).await.unwrap(),
            number
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_the_servers_close_is_told_so() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.on("stop", async |io: Server| io.close().await);
    let mut client = Client::connect(&io).await.unwrap();
    client.emit("stop", ()).unwrap();
    client.left().await.unwrap();
    io.close().await;
    assert!(
        logged
            .lines()
            .iter()
            .all(|line| line.contains("has to spawn it")),
        "{:?}",
        logged.lines()
    );
    assert!(!logged.lines().is_empty());
}

#[derive(Clone)]
struct User(String);

#[tokio::test]
async fn a_value_that_nobody_has_inserted_is_said_with_its_type() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.on("who am i", |Extension(User(name)): Extension<User>| name);
    let mut client = Client::connect(&io).await.unwrap();
    for _ in 0..3 {
        let reply: Value = client.emit_with_ack("who am i", ()).await.unwrap();
        assert_eq!(reply["error"]["code"], "internal_error");
        assert!(!reply.to_string().contains("User"), "{reply}");
    }
    logged.has_one_with(&["WARN", "who am i", "::User", "insert it in a middleware"]);
}

#[tokio::test]
async fn a_value_that_a_middleware_misses_is_said_with_its_type() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.middleware(|Extension(_): Extension<User>| Ok(()));
    Client::connect(&io).await.unwrap_err();
    logged.has_one_with(&["WARN", "::User", "insert it in a middleware"]);
}

#[tokio::test]
async fn a_state_that_was_not_given_is_said_with_its_type() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.on("who am i", |State(User(name)): State<User>| name);
    let mut client = Client::connect(&io).await.unwrap();
    let reply: Value = client.emit_with_ack("who am i", ()).await.unwrap();
    assert_eq!(reply["error"]["code"], "internal_error");
    logged.has_one_with(&["ERROR", "::User", "ServerBuilder::state"]);
}

/// Serde knows it, and JSON can't have it: the keys of its objects are texts.
fn board() -> BTreeMap<(u8, u8), char> {
    BTreeMap::from([((0, 0), 'x')])
}

#[tokio::test]
async fn what_json_cannot_have_is_said_with_its_event() {
    let (logged, _guard) = Logged::begin();
    let io = Server::new();
    io.on("board", |socket: Socket| {
        assert!(!socket.emit("board", board()).is_queued());
    });
    let mut client = Client::connect(&io).await.unwrap();
    client.emit("board", ()).unwrap();
    client.expect_nothing().await.unwrap();
    logged.has_one_with(&["ERROR", "board", "not emitted", "key must be a string"]);
}

#[tokio::test]
async fn a_reply_that_json_cannot_have_is_said_and_answered() {
    for by_hand in [false, true] {
        let (logged, _guard) = Logged::begin();
        let io = Server::new();
        if by_hand {
            io.on("board", |ack: Ack| ack.send(board()));
        } else {
            io.on("board", board);
        }
        let mut client = Client::connect(&io).await.unwrap();
        let reply: Value = client.emit_with_ack("board", ()).await.unwrap();
        assert_eq!(reply["error"]["message"], "the answer can't be encoded");
        logged.has_one_with(&[
            "ERROR",
            "can't be encoded",
            "BTreeMap<(u8, u8), char>",
            "key must be a string",
        ]);
    }
}
