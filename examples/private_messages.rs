//! Messages from person to person: each may have several tabs, and be away for a while.
//!
//! ```sh
//! cargo run --bin private_messages
//! ```
//!
//! ```js
//! const me = io("http://localhost:3000", { auth: { name: "ada" } });
//! me.on("users", (names) => ..);
//! me.on("user connected", (name) => ..);
//! me.on("private message", ({ from, to, text }) => ..);
//! me.emit("private message", { to: "ben", text: "hello" });
//! ```
//!
//! It was a program for Node: `tests/examples/private_messages.node.js`. Both do the same, and take
//! the same test. A person is a room with all of their sockets; who a socket belongs to is what
//! its middleware inserts. With `recovery` a tab that was away gets what it has missed.

use std::collections::BTreeSet;

use antiphon::{
    Auth, ConnectError, Context, Data, FromContext, Listener, Namespace, Recovery, Rejection,
    Server, Socket,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Login {
    name: Option<String>,
}

/// Who a socket belongs to. Other servers know it, too, by `share_data`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct User(String);

impl<K> FromContext<K> for User {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let user = context.socket().get::<Self>();
        user.ok_or_else(|| Rejection::new("unauthorized", "this socket has no user"))
    }
}

/// Should check a password or a token; see the example `auth`.
async fn identify(socket: Socket, Auth(login): Auth<Login>) -> Result<(), ConnectError> {
    match login.name.filter(|name| !name.is_empty()) {
        Some(name) => {
            socket.insert(User(name));
            Ok(())
        }
        None => Err(ConnectError::new("invalid name")),
    }
}

async fn came(socket: Socket, namespace: Namespace, User(name): User) {
    socket.join(&name);
    let sockets = namespace.broadcast().sockets().await;
    let sockets = sockets.map(|fetched| fetched.sockets).unwrap_or_default();
    let users = sockets.iter().filter_map(|it| it.data::<User>("user"));
    let users: BTreeSet<User> = users.collect();
    socket.emit("users", users);
    socket.broadcast().emit("user connected", name);
}

#[derive(Serialize)]
struct Message<'a> {
    from: &'a str,
    to: &'a str,
    text: &'a str,
}

#[derive(Deserialize)]
struct Draft {
    to: String,
    text: String,
}

async fn message(socket: Socket, User(from): User, Data(Draft { to, text }): Data<Draft>) {
    let message = Message {
        from: &from,
        to: &to,
        text: &text,
    };
    // To all tabs of both, but for the one that it comes from.
    socket.to([&to, &from]).emit("private message", message);
}

/// Says so when the last tab is closed.
async fn gone(socket: Socket, namespace: Namespace, User(name): User) {
    let others = namespace.to(&name).except(socket.id());
    if others
        .sockets()
        .await
        .is_ok_and(|found| found.sockets.is_empty())
    {
        namespace.emit("user disconnected", name);
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt::init();
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());

    let io = Server::builder()
        .recovery(Recovery::new())
        .share_data::<User>("user")
        .build();
    io.of("/")
        .middleware(identify)
        .on_connect(came)
        .on("private message", message)
        .on_disconnect(gone);

    let serving = io.serving([Listener::tcp(format!("127.0.0.1:{port}"))?]);
    println!("listening on {}", serving.local_addrs()[0]);
    serving.run_until(tokio::signal::ctrl_c()).await
}
