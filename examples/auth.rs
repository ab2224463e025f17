//! A chat for people who are logged in: the session of the web application is the socket's, too.
//!
//! ```sh
//! cargo run --bin auth
//! ```
//!
//! ```js
//! await fetch("http://localhost:3000/login", { method: "POST", body: new URLSearchParams({ name: "ada", password: "wonder" }) });
//! const chat = io("http://localhost:3000"); // the browser sends the cookie
//! chat.on("said", (name, text) => console.log(name, text));
//! chat.emit("say", "hello");
//! ```
//!
//! `tower-sessions` keeps the sessions, a layer looks up who a session belongs to, and
//! `handshake_extension` hands that to the sockets. Whoever isn't logged in gets a `connect_error`;
//! logging out disconnects all sockets of the person.

use antiphon::{ConnectError, Context, Data, FromContext, Rejection, Server, Socket};
use axum::{
    Form, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use serde::Deserialize;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

/// Who is logged in. The layer below puts it into requests, and sockets take it from there.
#[derive(Debug, Clone)]
struct User(String);

/// Any handler may have a `User` among its arguments.
impl<K> FromContext<K> for User {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let user = context.socket().handshake().extensions().get::<Self>();
        user.cloned()
            .ok_or_else(|| Rejection::new("unauthorized", "log in first"))
    }
}

/// The room of all sockets of a person.
fn sockets_of(user: &str) -> String {
    format!("user {user}")
}

// ---- HTTP ----

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(session: Session, Form(login): Form<Login>) -> StatusCode {
    // Instead of this ask a database, with a slow hash, in `spawn_blocking`.
    if login.password != "wonder" {
        return StatusCode::UNAUTHORIZED;
    }
    // A new id, so that nobody who knew the old one is logged in with it.
    let stored = match session.cycle_id().await {
        Ok(()) => session.insert("user", login.name).await,
        Err(error) => Err(error),
    };
    stored.map_or(StatusCode::INTERNAL_SERVER_ERROR, |()| {
        StatusCode::NO_CONTENT
    })
}

async fn logout(State(io): State<Server>, session: Session) -> StatusCode {
    if let Ok(Some(user)) = session.get::<String>("user").await {
        io.to(sockets_of(&user)).disconnect();
    }
    match session.flush().await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Puts the session's user into the request, if there is one.
async fn identify(session: Session, mut request: Request, next: Next) -> Response {
    if let Ok(Some(name)) = session.get("user").await {
        request.extensions_mut().insert(User(name));
    }
    next.run(request).await
}

// ---- the chat ----

/// Refuses a socket whose `User` isn't there: the rejection is its `connect_error`.
async fn logged_in(_: User) -> Result<(), ConnectError> {
    Ok(())
}

async fn came(socket: Socket, User(name): User) {
    socket.join([sockets_of(&name), "chat".to_owned()]);
}

async fn say(io: Server, User(name): User, Data(text): Data<String>) {
    io.to("chat").emit("said", (name, text));
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt::init();
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());

    let io = Server::builder().handshake_extension::<User>().build();
    io.of("/")
        .middleware(logged_in)
        .on_connect(came)
        .on("say", say);

    // Over HTTPS leave `with_secure` at its default: the cookie isn't sent without.
    let sessions = SessionManagerLayer::new(MemoryStore::default()).with_secure(false);
    let app = Router::new()
        .route("/login", post(login))
        .route("/logout", post(logout))
        .with_state(io.clone())
        .merge(io.router().layer(from_fn(identify)))
        .layer(sessions);

    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(io.closed_by(tokio::signal::ctrl_c()))
        .await
}
