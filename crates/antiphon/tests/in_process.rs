//! `antiphon::test`: clients in the process see what a stock client would.

#![cfg(feature = "test")]
// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use antiphon::{
    Args, Auth, Bytes, ConnectError, Data, DisconnectReason, Rejection, Server, Socket,
    test::{Client, Error, Left},
};
use http::HeaderValue;
use serde_json::json;
use tokio::sync::mpsc;

fn echo() -> Server {
    let io = Server::new();
    io.of("/").on("echo", async |socket: Socket, args: Args| {
        socket.emit("echo", &args);
        args
    });
    io
}

#[tokio::test]
async fn who_is_refused_learns_why() {
    let io = Server::new();
    io.of("/")
        .middleware(async |Auth(auth): Auth<serde_json::Value>| {
            Err::<(), _>(ConnectError::new("not you").with_data(auth))
        });
    let refused = Client::connect(&io).auth(json!({ "name": "eve" })).await;
    let Err(Error::Refused { message, data, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(message, "not you");
    assert_eq!(data, json!({ "name": "eve" }));
    let nowhere = Client::connect(&io)
        .namespace("/nowhere")
        .await
        .unwrap_err();
    let text = "the namespace refused the socket: Invalid namespace";
    assert_eq!(nowhere.to_string(), text);
}

#[tokio::test]
async fn a_connection_that_the_server_refuses_says_with_what() {
    let io = Server::builder()
        .allow_request(async |_| Err("members only".into()))
        .build();
    let error = Client::connect(&io).await.unwrap_err().to_string();
    assert!(error.contains("HTTP/1.1 403"), "{error}");
    assert!(error.contains("members only"), "{error}");
}

#[tokio::test]
async fn events_and_acknowledgements_go_both_ways_with_attachments() {
    let io = echo();
    let mut client = Client::connect(&io).await.unwrap();
    let sent = (1, "two".to_owned(), Bytes::from_static(b"three"));
    let acknowledged: (u32, String, Bytes) = client.emit_with_ack("echo", &sent).await.unwrap();
    assert_eq!(acknowledged, sent);
    assert_eq!(
        client.expect::<(u32, String, Bytes)>("echo").await.unwrap(),
        sent
    );

    let socket = io.of("/").socket(client.id()).unwrap();
    let (asked, answered) = tokio::join!(
        socket.emit_with_ack::<u32>("double", 21),
        client.acknowledge("double", |n: u32| n * 2),
    );
    answered.unwrap();
    assert_eq!(asked.unwrap(), 42);

    socket.emit("double", 1);
    let not_asked = client.acknowledge("double", |n: u32| n).await.unwrap_err();
    assert!(matches!(not_asked, Error::NotAsked(event) if event == "double"));
}

#[tokio::test]
async fn what_is_waited_for_is_found_among_others_which_stay() {
    let io = Server::new();
    io.of("/").on_connect(async |socket: Socket| {
        for (number, event) in ["a", "b", "a", "c"].into_iter().enumerate() {
            socket.emit(event, number);
        }
    });
    let mut client = Client::connect(&io).await.unwrap();
    assert_eq!(client.expect::<u32>("b").await.unwrap(), 1);
    assert_eq!(client.expect::<u32>("a").await.unwrap(), 0);
    let unexpected = client.expect_nothing().await.unwrap_err();
    assert!(matches!(&unexpected, Error::Unexpected(events) if events == &["a", "c"]));
    let (name, args) = client.next().await.unwrap();
    assert_eq!((name.as_str(), args.json()), ("a", "2"));
    assert!(matches!(
        client.expect::<String>("c").await,
        Err(Error::Args(..))
    ));
    client.expect_nothing().await.unwrap();
}

#[tokio::test]
async fn an_event_that_a_handler_emits_at_once_is_no_surprise_later() {
    let io = echo();
    let mut client = Client::connect(&io).await.unwrap();
    for _ in 0..100 {
        client.emit("echo", "x").unwrap();
        assert!(client.expect_nothing().await.is_err());
        client.expect::<String>("echo").await.unwrap();
    }
}

#[tokio::test]
async fn both_sides_know_how_a_socket_has_left() {
    let io = Server::new();
    let (note, mut reasons) = mpsc::unbounded_channel();
    io.of("/")
        .on("send me away", async |socket: Socket| socket.disconnect())
        .on_disconnect(move |reason: DisconnectReason| {
            let note = note.clone();
            async move { note.send(reason).unwrap() }
        });
    let connect = || async { Client::connect(&io).await.unwrap() };

    let mut leaves = connect().await;
    leaves.leave();
    let reason = reasons.recv().await.unwrap();
    assert_eq!(reason, DisconnectReason::ClientNamespaceDisconnect);

    let mut sent_away = connect().await;
    sent_away.emit("send me away", ()).unwrap();
    assert_eq!(sent_away.left().await.unwrap(), Left::Disconnected);
    let reason = reasons.recv().await.unwrap();
    assert_eq!(reason, DisconnectReason::ServerNamespaceDisconnect);

    drop(connect().await);
    let reason = reasons.recv().await.unwrap();
    assert_eq!(reason, DisconnectReason::TransportClose);

    let mut closed = connect().await;
    io.close().await;
    closed.left().await.unwrap();
    let error = closed.expect::<()>("more").await.unwrap_err().to_string();
    assert!(error.contains(r#"waited for the event "more""#), "{error}");
}

#[tokio::test(start_paused = true)]
async fn time_can_be_made_up() {
    let io = echo();
    let mut client = Client::connect(&io).await.unwrap();
    tokio::time::sleep(Duration::from_secs(36_000)).await; // a thousand heartbeats
    let _: String = client.emit_with_ack("echo", "still here").await.unwrap();
    client.expect::<String>("echo").await.unwrap();
    let late = client.expect::<()>("never").await.unwrap_err().to_string();
    assert_eq!(late, r#"the event "never" didn't come in time"#);
    io.of("/")
        .on("wait", async || std::future::pending::<u32>().await);
    let hurried = Client::connect(&io).patience(Duration::from_millis(1));
    let unanswered = hurried
        .await
        .unwrap()
        .emit_with_ack::<u32>("wait", ())
        .await;
    assert!(matches!(unanswered, Err(Error::Late(_))), "{unanswered:?}");
}

#[tokio::test]
async fn a_request_brings_headers_and_what_layers_know() {
    #[derive(Clone)]
    struct User(&'static str);
    let io = Server::builder()
        .handshake_headers([http::header::ACCEPT_LANGUAGE])
        .handshake_extension::<User>()
        .build();
    io.of("/").on("who", async |socket: Socket| {
        let handshake = socket.handshake();
        let language = handshake.headers()[http::header::ACCEPT_LANGUAGE].clone();
        let User(name) = *handshake.extensions().get::<User>().unwrap();
        (name, language.to_str().unwrap().to_owned())
    });
    let mut client = Client::connect(&io)
        .header(
            http::header::ACCEPT_LANGUAGE,
            HeaderValue::from_static("sv"),
        )
        .extension(User("ada"))
        .await
        .unwrap();
    let who: (String, String) = client.emit_with_ack("who", ()).await.unwrap();
    assert_eq!(who, ("ada".to_owned(), "sv".to_owned()));
}

#[tokio::test]
async fn two_clients_are_two_sockets() {
    let io = Server::new();
    io.of("/chat")
        .on_connect(async |socket: Socket| socket.join("lobby"))
        .on("say", async |socket: Socket, Data(text): Data<String>| {
            socket.to("lobby").emit("said", text);
        });
    let connect = || async { Client::connect(&io).namespace("/chat").await.unwrap() };
    let (mut ada, mut ben) = (connect().await, connect().await);
    assert_ne!(ada.id(), ben.id());
    ada.emit("say", "hello").unwrap();
    assert_eq!(ben.expect::<String>("said").await.unwrap(), "hello");
    ada.expect_nothing().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_handled_at_the_second_attempt_is_remembered_for_its_own_ten_minutes() {
    let io = Server::new();
    let handled = Arc::new(AtomicUsize::new(1));
    let attempts = Arc::new(AtomicUsize::new(0));
    io.of("/")
        .on_connect(move |socket: Socket| {
            let attempts = Arc::clone(&attempts);
            socket.middleware(move || {
                let is_first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
                // What was rejected may come again.
                std::future::ready(match is_first {
                    true => Err(Rejection::new("busy", "not now")),
                    false => Ok(()),
                })
            });
        })
        .handle_once("buy")
        .on("buy", move || handled.fetch_add(1, Ordering::Relaxed));
    let mut client = Client::connect(&io).await.unwrap();
    let mut buy = async || {
        client
            .emit_with_ack::<serde_json::Value>("buy", "an id")
            .await
    };
    assert!(buy().await.unwrap()["error"].is_object());
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert_eq!(buy().await.unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(buy().await.unwrap(), 1, "it was handled again");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(buy().await.unwrap(), 2, "it is remembered for too long");
}
