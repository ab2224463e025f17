//! An event that is retained: who joins later gets the last one, once, and nothing older behind it.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod support;

use std::thread;

use antiphon::{Auth, Recovery, Server, ServerBuilder, Socket};
use support::{Received, WEBSOCKET, WebSocket, serve};

type Client = WebSocket<tokio::net::TcpStream>;

/// Both kinds of namespaces: without and with recovery.
fn servers() -> [ServerBuilder; 2] {
    [
        Server::builder(),
        Server::builder().recovery(Recovery::new()),
    ]
}

/// A server whose clients say the rooms that they join.
fn joining(builder: ServerBuilder) -> Server {
    let io = builder.build();
    io.of("/")
        .on_connect(
            async |socket: Socket, Auth(auth): Auth<serde_json::Value>| {
                let rooms: Vec<String> = serde_json::from_value(auth["rooms"].clone()).unwrap();
                socket.join(rooms);
                socket.emit("end", ());
            },
        )
        .on(
            "join",
            async |socket: Socket, antiphon::Data(room): antiphon::Data<String>| {
                socket.join(room);
                socket.emit("end", ());
            },
        );
    io
}

async fn joined(address: std::net::SocketAddr, rooms: &str) -> Client {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send(&format!(r#"40{{"rooms":{rooms}}}"#)).await;
    client.expect_prefix("40{").await;
    client
}

/// The events up to the next of the name "end": name and first argument.
async fn until_end(client: &mut Client) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let Received::Text(text) = client.next().await else {
            panic!("a text");
        };
        let list: Vec<serde_json::Value> =
            serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        if list[0] == "end" {
            return events;
        }
        events.push(format!("{} {}", list[0].as_str().unwrap(), list[1]));
    }
}

#[tokio::test]
async fn a_joiner_gets_the_last_retained_event_of_each_room() {
    for builder in servers() {
        let io = joining(builder);
        let address = serve(&io).await;
        for number in 0..3 {
            io.to("a").retain().emit("state", number);
            io.to("a").emit("passing", number);
        }
        io.to(["b", "c"]).retain().emit("state", "both");
        let mut client = joined(address, r#"["a","b","empty"]"#).await;
        assert_eq!(until_end(&mut client).await, ["state 2", "state \"both\""]);
        // One that is there has had it.
        client.send(r#"42["join","a"]"#).await;
        assert_eq!(until_end(&mut client).await, [""; 0]);
        io.to("a").retain().emit("state", 3);
        client.send(r#"42["join","c"]"#).await;
        assert_eq!(until_end(&mut client).await, ["state 3", "state \"both\""]);
        io.to("a").forget_retained();
        let mut late = joined(address, r#"["a"]"#).await;
        assert_eq!(until_end(&mut late).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_is_retained_for_everyone_comes_with_the_connect() {
    for builder in servers() {
        let io = joining(builder);
        let address = serve(&io).await;
        io.of("/")
            .broadcast()
            .retain()
            .emit("notice", "maintenance");
        let mut client = joined(address, "[]").await;
        assert_eq!(until_end(&mut client).await, ["notice \"maintenance\""]);
    }
}

#[tokio::test]
async fn those_who_are_joined_by_the_server_get_it_too() {
    for builder in servers() {
        let io = joining(builder);
        let address = serve(&io).await;
        let mut clients = [
            joined(address, "[]").await,
            joined(address, r#"["a"]"#).await,
        ];
        for client in &mut clients {
            until_end(client).await;
        }
        io.to("a").retain().emit("state", 1);
        io.of("/").broadcast().join("a");
        io.emit("end", ());
        for client in &mut clients {
            assert_eq!(until_end(client).await, ["state 1"], "each once");
        }
    }
}

/// Threads emit numbers that grow while clients join: each sees one number at its join, and then every
/// one behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_joins_meanwhile_misses_one_or_sees_an_older_one() {
    for builder in servers() {
        let io = joining(builder);
        let address = serve(&io).await;
        io.to("a").retain().emit("state", 0);
        let emitting = thread::spawn({
            let io = io.clone();
            move || {
                for number in 1..=3_000 {
                    io.to("a").retain().emit("state", number);
                    if number % 16 == 0 {
                        thread::sleep(std::time::Duration::from_micros(300));
                    }
                }
            }
        });
        let mut clients = Vec::new();
        while !emitting.is_finished() && clients.len() < 60 {
            clients.push(joined(address, r#"["a"]"#).await);
        }
        emitting.join().unwrap();
        io.to("a").emit("end", ());
        assert!(clients.len() > 3);
        for client in &mut clients {
            let mut seen = until_end(client).await;
            // The end of its connect handler is somewhere before the end of all.
            seen.extend(until_end(client).await);
            let numbers: Vec<u32> = seen
                .iter()
                .map(|it| it["state ".len()..].parse().unwrap())
                .collect();
            let expected: Vec<u32> = (numbers[0]..=3_000).collect();
            assert_eq!(numbers, expected);
        }
    }
}
