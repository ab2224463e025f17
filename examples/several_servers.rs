//! One chat on any number of servers, which meet at a Redis.
//!
//! ```sh
//! cargo run --bin several_servers -- 3001 redis://127.0.0.1
//! cargo run --bin several_servers -- 3002 redis://127.0.0.1
//! ```
//!
//! ```js
//! const chat = io("http://localhost:3001", { auth: { name: "ada" } });
//! chat.on("said", (name, text) => ..);        // whoever says it, on any server
//! await chat.emitWithAck("say", "hello");
//! await chat.emitWithAck("who");              // ["ada", "ben"]
//! ```
//!
//! The adapter is all that makes one of many: rooms, broadcasts and questions reach the sockets of
//! all servers. What isn't a matter of sockets is told by `server_side_emit`. Behind a proxy that
//! sends a client's requests to any server, see `advertise` in `docs/cluster.md`.

use antiphon::{Auth, ConnectError, Data, Listener, Namespace, Rejection, Server, Socket};
use antiphon_redis::Redis;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    name: String,
}

async fn identify(socket: Socket, Auth(user): Auth<User>) -> Result<(), ConnectError> {
    socket.insert(user);
    Ok(())
}

async fn say(socket: Socket, namespace: Namespace, Data(text): Data<String>) {
    let name = socket.get::<User>().map(|user| user.name);
    namespace.emit("said", (name, text));
}

/// Who is there, on all servers. One that doesn't answer in time is named, and not passed over.
async fn who(namespace: Namespace) -> Result<Vec<String>, Rejection> {
    let fetched = namespace.broadcast().sockets().await;
    let fetched = fetched.map_err(|error| Rejection::new("no_answer", error.to_string()))?;
    if let Some(server) = fetched.missing.first() {
        let message = format!("the server {server} doesn't answer");
        return Err(Rejection::new("no_answer", message));
    }
    let users = fetched
        .sockets
        .iter()
        .filter_map(|it| it.data::<User>("user"));
    let mut names: Vec<String> = users.map(|user| user.name).collect();
    names.sort();
    Ok(names)
}

/// Closes the chat for a name, on all servers.
async fn ban(namespace: Namespace, Data(name): Data<String>) {
    namespace.server_side_emit("ban", &name);
    disconnect(&namespace, &name).await; // a server doesn't hear itself
}

async fn disconnect(namespace: &Namespace, name: &str) {
    let here = namespace.broadcast().local().sockets().await;
    for socket in here.map(|fetched| fetched.sockets).unwrap_or_default() {
        if socket
            .data::<User>("user")
            .is_some_and(|user| user.name == name)
        {
            namespace.to(socket.id.as_str()).local().disconnect();
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();
    let mut args = std::env::args().skip(1);
    let port = args.next().unwrap_or_else(|| "3000".to_owned());
    let redis = args
        .next()
        .unwrap_or_else(|| "redis://127.0.0.1".to_owned());

    let io = Server::builder()
        .adapter(Redis::connect(&redis).await?)
        .share_data::<User>("user")
        .build();
    let chat = io.of("/");
    chat.middleware(identify)
        .on("say", say)
        .on("who", who)
        .on("ban", ban);
    let banning = chat.clone();
    chat.on_server_side("ban", move |name: String| {
        let chat = banning.clone();
        async move { disconnect(&chat, &name).await }
    });

    let serving = io.serving([Listener::tcp(format!("127.0.0.1:{port}"))?]);
    println!("listening on {}", serving.local_addrs()[0]);
    serving.run_until(tokio::signal::ctrl_c()).await?;
    Ok(())
}
