//! What handlers ask for by their arguments, values of sockets, and the main namespace by its server.

mod support;

use std::net::SocketAddr;

use antiphon::{
    Auth, CloseReason, ConnectError, Data, DisconnectReason, Extension, Rejection, Revision,
    Server, Socket, State, TransportKind,
};
use serde_json::json;
use support::{WEBSOCKET, WebSocket, serve, within};
use tokio::net::TcpStream;

type Client = WebSocket<TcpStream>;

#[derive(Debug, Clone, PartialEq)]
struct User(String);

async fn joined(address: SocketAddr, auth: &str) -> Client {
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send(&format!("40{auth}")).await;
    client.expect_prefix("40{").await;
    client
}

async fn answers(client: &mut Client, event: &str, answer: &str) {
    client.send(&format!("421{event}")).await;
    client.expect(&format!("431{answer}")).await;
}

#[tokio::test]
async fn a_value_that_a_middleware_inserts_is_an_argument() {
    let io = Server::new();
    io.middleware(
        async |socket: Socket, Auth(auth): Auth<serde_json::Value>| {
            if let Some(name) = auth["name"].as_str() {
                socket.insert(User(name.to_owned()));
            }
            Ok(())
        },
    )
    .on("who", async |Extension(User(name)): Extension<User>| name)
    .on("maybe", async |user: Option<Extension<User>>| {
        user.map(|Extension(User(name))| name)
    })
    .on("forget", async |socket: Socket| {
        socket.remove::<User>().is_some()
    })
    .on(
        "rename",
        async |socket: Socket, Data(name): Data<String>| {
            socket.update(|user: &mut User| std::mem::replace(&mut user.0, name))
        },
    );
    let address = serve(&io).await;
    let mut client = joined(address, r#"{"name":"ann"}"#).await;
    answers(&mut client, r#"["who"]"#, r#"["ann"]"#).await;
    answers(&mut client, r#"["rename","bob"]"#, r#"["ann"]"#).await;
    answers(&mut client, r#"["maybe"]"#, r#"["bob"]"#).await;
    answers(&mut client, r#"["forget"]"#, "[true]").await;
    answers(&mut client, r#"["forget"]"#, "[false]").await;
    answers(&mut client, r#"["rename","eve"]"#, "[null]").await;
    answers(&mut client, r#"["maybe"]"#, "[null]").await;
    let error = r#"[{"error":{"code":"internal_error","message":"the server lacks a value of this socket"}}]"#;
    answers(&mut client, r#"["who"]"#, error).await;
}

#[tokio::test]
async fn an_extractor_may_fail_if_the_handler_says_so() {
    let io = Server::new();
    io.on("age", async |age: Result<Data<u8>, Rejection>| match age {
        Ok(Data(age)) => json!(age),
        Err(rejection) => json!(rejection.code()),
    })
    .on(
        "state",
        async |state: Option<State<u8>>, data: Option<Data<u8>>| (state.is_some(), data.is_some()),
    );
    let mut client = joined(serve(&io).await, "").await;
    answers(&mut client, r#"["age",7]"#, "[7]").await;
    answers(&mut client, r#"["age","x"]"#, r#"["invalid_arguments"]"#).await;
    answers(&mut client, r#"["state",1]"#, "[false,true]").await;
    answers(&mut client, r#"["state"]"#, "[false,false]").await;
}

#[tokio::test]
async fn a_server_stands_for_its_main_namespace() {
    let io = Server::new();
    io.on("where", async |socket: Socket, transport: TransportKind| {
        socket.join("room");
        (socket.is_in("room"), socket.is_in("other"), transport)
    });
    let mut client = joined(serve(&io).await, "").await;
    answers(&mut client, r#"["where"]"#, r#"[true,false,"websocket"]"#).await;
    io.volatile().send(1);
    client.expect(r#"42["message",1]"#).await;
    let asked = io
        .timeout(std::time::Duration::from_secs(5))
        .emit_with_ack::<u8>("q", ());
    let question = client.expect_prefix("42").await;
    let id = &question[2..question.find('[').unwrap()];
    client.send(&format!("43{id}[7]")).await;
    let answered = within("the answer", asked).await.unwrap();
    assert_eq!(answered.answers.len(), 1);
    assert!(io.server_side_emit("nobody", ()).is_queued());
}

#[test]
fn what_one_prints_or_sends_can_be() {
    let io = Server::new();
    let stats = serde_json::to_value(io.stats()).unwrap();
    assert_eq!(stats["sessions"], 0);
    assert_eq!(json!(DisconnectReason::PingTimeout), "ping timeout");
    assert_eq!(
        json!(TransportKind::Streaming),
        TransportKind::Streaming.to_string()
    );
    assert_eq!(json!(Revision::V4), 4);
    assert_eq!(Revision::V3.to_string(), "3");
    assert_eq!(
        json!(CloseReason::PingTimeout),
        CloseReason::PingTimeout.to_string()
    );
    let error = ConnectError::new("no").with_data(1);
    assert_eq!(
        (error.to_string(), json!(error)),
        ("no".to_owned(), json!({"message": "no", "data": 1}))
    );
}
