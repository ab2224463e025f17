//! Sockets that were asked for, and what is told of rooms.

mod support;

use std::{net::SocketAddr, time::Duration};

use antiphon::{AckError, Namespace, RoomEvent, Server, Socket};
use serde::{Deserialize, Serialize};
use support::{Log, Received, WEBSOCKET, WebSocket, serve, sid, until, within};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

/// A client in the main namespace, and its id.
async fn joined(address: SocketAddr) -> (Client, String) {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send("40").await;
    let connected = client.expect_prefix("40{").await;
    (client, sid(&connected).to_owned())
}

#[tokio::test]
async fn a_socket_that_was_fetched_is_known_and_can_be_told_asked_and_moved() {
    let io = Server::builder().share_data::<User>("user").build();
    io.on_connect(async |socket: Socket| {
        let name = "ann".to_owned();
        socket.insert(User { name });
        socket.join("lobby");
    });
    let (mut client, id) = joined(serve(&io).await).await;
    let fetched = io.to("lobby").sockets().await.unwrap();
    assert!(fetched.missing.is_empty());
    let [socket] = &fetched.sockets[..] else {
        panic!("{fetched:?}")
    };
    assert_eq!(socket.id.as_str(), id);
    assert_eq!(
        socket.rooms.iter().map(|room| &**room).collect::<Vec<_>>(),
        [&*id, "lobby"]
    );
    assert_eq!(socket.data::<User>("user").unwrap().name, "ann");
    assert_eq!(socket.handshake["query"]["EIO"], "4");

    assert!(socket.emit("a", 1).is_queued());
    client.expect(r#"42["a",1]"#).await;
    socket.send("b");
    client.expect(r#"42["message","b"]"#).await;
    let asked = socket.emit_with_ack::<u8>("q", ());
    let question = client.expect_prefix("42").await;
    let ack = &question[2..question.find('[').unwrap()];
    client.send(&format!("43{ack}[7]")).await;
    assert_eq!(within("the answer", asked).await.unwrap(), 7);
    let time = Duration::from_millis(20);
    let silent = socket.emit_with_ack_within::<u8>(time, "q", ()).await;
    assert!(matches!(silent, Err(AckError::Timeout)), "{silent:?}");
    client.expect_prefix("42").await;

    socket.join(["garden", "house"]);
    socket.leave("lobby");
    assert_eq!(io.to("garden").count().await.unwrap().count, 1);
    assert_eq!(io.to("lobby").count().await.unwrap().count, 0);
    assert_eq!(io.of("/").broadcast().count().await.unwrap().count, 1);
    socket.disconnect();
    client.expect("41").await;
    until("it has left", || io.of("/").sockets_count() == 0).await;
    let gone = socket.emit_with_ack::<u8>("q", ()).await;
    assert!(matches!(gone, Err(AckError::Disconnected)), "{gone:?}");
}

#[tokio::test]
async fn many_sockets_are_moved_and_disconnected_at_once() {
    let io = Server::new();
    let address = serve(&io).await;
    let (mut one, id) = joined(address).await;
    let (mut two, _) = joined(address).await;
    io.of("/").broadcast().join("all");
    io.to("all").except(&*id).leave("all");
    assert_eq!(io.to("all").count().await.unwrap().count, 1);
    io.to("all").close_connections();
    one.expect("41").await;
    io.of("/").broadcast().disconnect();
    two.expect("41").await;
    let fetched = io.of("/").broadcast().sockets().await.unwrap();
    assert!(fetched.sockets.is_empty());
    loop {
        if matches!(one.next().await, Received::Closed(_)) {
            break;
        }
    }
}

/// The kind of a change, its room, and whether a socket is named.
fn shown(event: &RoomEvent) -> String {
    match event {
        RoomEvent::Created { room } => format!("created {room}"),
        RoomEvent::Joined { room, socket } => format!("{:.3} joined {room}", socket.as_str()),
        RoomEvent::Left { room, socket } => format!("{:.3} left {room}", socket.as_str()),
        RoomEvent::Deleted { room } => format!("deleted {room}"),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn changes_of_rooms_are_told_in_their_order() {
    let log = Log::default();
    let io = Server::new();
    let into = log.clone();
    io.on_room_event(move |_: Namespace, event: RoomEvent| {
        let into = into.clone();
        async move {
            if matches!(event, RoomEvent::Created { .. }) {
                // None behind it is told before.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            into.note(shown(&event));
            assert_ne!(
                shown(&event),
                "created panics",
                "the test asked for a panic"
            );
            // What is done here is told later.
            tokio::task::yield_now().await;
        }
    });
    let address = serve(&io).await;
    let (_one, id) = joined(address).await;
    let (two, other) = joined(address).await;
    let (a, b) = (&id[..3], &other[..3]);
    let socket = io.of("/").socket(&id).unwrap();
    socket.join(["x", "panics"]);
    io.to(&*other).join("x");
    socket.join("x");
    socket.leave_all();
    drop(two);
    let expected = [
        "created x".to_owned(),
        format!("{a} joined x"),
        "created panics".to_owned(),
        format!("{a} joined panics"),
        format!("{b} joined x"),
        format!("{a} left x"),
        format!("{a} left panics"),
        "deleted panics".to_owned(),
        format!("{b} left x"),
        "deleted x".to_owned(),
    ];
    log.until("deleted x").await;
    assert_eq!(log.seen(), expected);
}

#[tokio::test]
async fn a_parent_is_told_of_the_rooms_of_all_children() {
    let log = Log::default();
    let io = Server::new();
    let parent = io.of_pattern("/room-{id}");
    let early = io.of("/room-1");
    let into = log.clone();
    parent.on_room_event(move |namespace: Namespace, event: RoomEvent| {
        into.note(format!("{} {}", namespace.name(), shown(&event)));
        std::future::ready(())
    });
    parent.on_connect(async |socket: Socket| socket.join("x"));
    let address = serve(&io).await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    for name in ["/room-1", "/room-2"] {
        client.send(&format!("40{name},")).await;
        client.expect_prefix(&format!("40{name},")).await;
    }
    log.until("/room-2 created x").await;
    log.until("/room-1 created x").await;
    assert_eq!(early.rooms().len(), 1);
}
