//! What travels between servers is no parser's: each may have its own, with its own clients.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/antiphon/tests/support/plain_parser.rs"]
#[allow(unreachable_pub)]
mod plain_parser;

use antiphon::{Data, Server, Socket};
use antiphon_cluster::{Cluster, broker::memory::Hub};
use antiphon_test_cluster::{
    Client,
    support::{WEBSOCKET, WebSocket, serve, within},
};
use plain_parser::Plain;

/// A client that has joined the room, by these packets of its parser.
async fn joined(io: &Server, [connect, enter, entered]: [&str; 3]) -> Client {
    let mut client = WebSocket::connect(serve(io).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send(connect).await;
    client.expect_prefix("4").await;
    client.send(enter).await;
    client.expect(entered).await;
    client
}

#[tokio::test]
async fn events_and_acknowledgements_travel_between_servers_of_different_parsers() {
    let hub = Hub::new();
    let clusters = [hub.broker(), hub.broker()].map(|broker| Cluster::new(broker));
    for cluster in &clusters {
        cluster.started().await;
    }
    let [first, second] = clusters.clone();
    let standard = Server::builder().adapter(first).build();
    let plain = Server::builder().parser(Plain).adapter(second).build();
    for io in [&standard, &plain] {
        io.of("/").on("enter", async |socket: Socket| {
            socket.join("room");
        });
        io.of("/")
            .on("tell", async |socket: Socket, Data(text): Data<String>| {
                socket.to("room").emit("told", text);
            });
    }
    let mut one = joined(&standard, ["40", r#"421["enter"]"#, "431[]"]).await;
    let enter = r#"4{"type":2,"nsp":"/","data":["enter"],"id":1}"#;
    let entered = r#"4{"type":3,"nsp":"/","id":1,"data":[]}"#;
    let mut two = joined(&plain, [r#"4{"type":0,"nsp":"/"}"#, enter, entered]).await;
    for cluster in &clusters {
        cluster.subscribed().await;
    }

    one.send(r#"42["tell","é"]"#).await;
    two.expect(r#"4{"type":2,"nsp":"/","data":["told","é"]}"#)
        .await;
    two.send(r#"4{"type":2,"nsp":"/","data":["tell","back"]}"#)
        .await;
    one.expect(r#"42["told","back"]"#).await;

    let namespace = standard.of("/");
    let asking = tokio::spawn(async move {
        let asked = namespace
            .to("room")
            .emit_with_ack::<u32>("sum", (1, 2))
            .await;
        asked.unwrap().answers
    });
    let question = one.expect_prefix("42").await;
    let id = &question[2..question.find('[').unwrap()];
    one.send(&format!("43{id}[3]")).await;
    let question = two.expect_prefix(r#"4{"type":2"#).await;
    let question: serde_json::Value = serde_json::from_str(&question[1..]).unwrap();
    let answer = serde_json::json!({"type": 3, "nsp": "/", "id": question["id"], "data": [4]});
    two.send(&format!("4{answer}")).await;
    let answers = within("the answers", asking).await.unwrap().into_iter();
    let mut answers: Vec<u32> = answers.filter_map(|(_, answer)| answer.ok()).collect();
    answers.sort_unstable();
    assert_eq!(answers, [3, 4]);
}
