//! A chat in the browser, served by Antiphon.
//!
//! The page in `public/` speaks to the namespace `/chat` with the stock `socket.io-client`; the
//! events are listed in the README. This file has the handlers, `chat.rs` what they work on.

mod chat;
mod host;

use std::{path::Path, process::ExitCode, time::Duration};

use antiphon::{
    Auth, ConnectError, Context, Data, DisconnectReason, FromContext, Rejection, Server, Socket,
    State, TransportKind,
};
use axum::{
    Router,
    http::{HeaderValue, header},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tower_http::{services::ServeDir, set_header::SetResponseHeaderLayer};
use tracing_subscriber::EnvFilter;

use chat::{Chat, ChatError, Joined, LIMITS, Limits, Message, NewMessage, Person, RoomSummary};

fn server() -> Server {
    let io = Server::builder()
        .transports([
            TransportKind::Polling,
            TransportKind::Streaming,
            TransportKind::WebSocket,
        ])
        .state(Chat::default())
        .build();
    io.of("/chat")
        .middleware(let_in)
        .on_connect(welcome)
        .on("join", join)
        .on("leave", leave)
        .on("message", message)
        .on("file", file)
        .on("typing", typing)
        .on("latency", async || {}) // the empty acknowledgement is the answer
        .on_disconnect(gone);
    io
}

// ---- coming and going ----

/// What the page sends as `auth`.
#[derive(Deserialize)]
struct Login {
    name: String,
    /// Known to this tab alone; so that it is the same person after a reload.
    key: Option<String>,
}

/// Asked for each socket before it connects: an error is its `connect_error`.
async fn let_in(
    socket: Socket,
    State(chat): State<Chat>,
    Auth(login): Auth<Login>,
) -> Result<(), ConnectError> {
    let key = login.key.as_deref().unwrap_or(socket.id().as_str());
    let person = chat
        .person(&login.name, key)
        .map_err(|error| ConnectError::new(error.to_string()).with_data(error))?;
    socket.insert(person);
    Ok(())
}

/// An extractor of our own: a handler that has a `Person` among its arguments gets who sent the event.
impl<K> FromContext<K> for Person {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let person = context.socket().get::<Self>();
        person.ok_or_else(|| Rejection::new("unauthorized", "this socket has no name"))
    }
}

#[derive(Serialize)]
struct Welcome {
    you: Person,
    rooms: Vec<RoomSummary>,
    limits: Limits,
}

async fn welcome(socket: Socket, you: Person, State(chat): State<Chat>) {
    let rooms = chat.rooms();
    let limits = LIMITS;
    socket.emit("welcome", Welcome { you, rooms, limits });
}

async fn gone(socket: Socket, me: Person, State(chat): State<Chat>, reason: DisconnectReason) {
    tracing::info!(name = me.name, %reason, "gone");
    for room in chat.leave_all(socket.id().as_str(), &me) {
        tell_arrival(&socket, "left", &room, &me);
    }
    tell_rooms(&socket, &chat);
}

// ---- rooms ----

#[derive(Deserialize)]
struct Join {
    room: String,
    #[serde(default)]
    create: bool,
}

async fn join(
    socket: Socket,
    me: Person,
    State(chat): State<Chat>,
    Data(request): Data<Join>,
) -> Result<Joined, ChatError> {
    let room = chat.find_room(&request.room, request.create)?;
    // Into the Socket.IO room before the history is read: what is said in between comes twice,
    // which the page notices, rather than never.
    socket.join(channel(&room));
    let (joined, arrived) = chat
        .join(&room, socket.id().as_str(), &me)
        .inspect_err(|_| socket.leave(channel(&room)))?;
    if !socket.is_connected() {
        // It has gone meanwhile, and perhaps `gone` has been called already.
        chat.leave_all(socket.id().as_str(), &me);
    }
    if arrived {
        tell_arrival(&socket, "joined", &room, &me);
    }
    tell_rooms(&socket, &chat);
    Ok(joined)
}

#[derive(Deserialize)]
struct Leave {
    room: String,
}

async fn leave(
    socket: Socket,
    me: Person,
    State(chat): State<Chat>,
    Data(request): Data<Leave>,
) -> Result<(), ChatError> {
    let left = chat.leave(&request.room, socket.id().as_str(), &me)?;
    socket.leave(channel(&request.room));
    if left {
        tell_arrival(&socket, "left", &request.room, &me);
    }
    tell_rooms(&socket, &chat);
    Ok(())
}

#[derive(Serialize)]
struct Arrival<'a> {
    room: &'a str,
    person: &'a Person,
}

/// Tells the others in a room that someone `joined` or `left`.
fn tell_arrival(socket: &Socket, event: &str, room: &str, person: &Person) {
    socket
        .to(channel(room))
        .emit(event, Arrival { room, person });
}

/// Tells everyone which rooms there are, and how many people are in them.
fn tell_rooms(socket: &Socket, chat: &Chat) {
    socket.namespace().emit("rooms", chat.rooms());
}

/// The Socket.IO room of a room of the chat. With a prefix, so that no room's name is a socket's id.
fn channel(room: &str) -> String {
    format!("room:{room}")
}

// ---- what is said ----

/// What this returns is the acknowledgement: the message as it's kept, or an `Err`, of which the
/// page gets `{ error: { code, message } }`.
async fn message(
    socket: Socket,
    me: Person,
    State(chat): State<Chat>,
    Data(new): Data<NewMessage>,
) -> Result<Message, ChatError> {
    let (message, is_new) = chat.post(socket.id().as_str(), &me, new)?;
    if is_new {
        socket.to(channel(&message.room)).emit("message", &message);
    }
    Ok(message.brief())
}

#[derive(Deserialize)]
struct WhichFile {
    room: String,
    id: u64,
}

#[derive(Serialize)]
struct FileData {
    data: Bytes,
}

async fn file(
    socket: Socket,
    State(chat): State<Chat>,
    Data(which): Data<WhichFile>,
) -> Result<FileData, ChatError> {
    let data = chat.file(&which.room, socket.id().as_str(), which.id)?;
    Ok(FileData { data })
}

#[derive(Deserialize)]
struct Typing {
    room: String,
    typing: bool,
}

#[derive(Serialize)]
struct SomeoneTypes {
    room: String,
    person: Person,
    typing: bool,
}

async fn typing(
    socket: Socket,
    person: Person,
    State(chat): State<Chat>,
    Data(Typing { room, typing }): Data<Typing>,
) {
    if chat.is_member(&room, socket.id().as_str()) {
        let others = socket.to(channel(&room));
        others.volatile().emit(
            "typing",
            SomeoneTypes {
                room,
                person,
                typing,
            },
        );
    }
}

// ---- the program ----

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// How long the program waits for the last packets to be taken when it stops.
const GOODBYES: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,antiphon_demo=info"));
    tracing_subscriber::fmt().with_env_filter(filter).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// The libraries of the page.
fn vendor() -> Result<Router, String> {
    let libraries = [
        ("socket.io-client", "node_modules/socket.io-client/dist"),
        ("engine.io-client", "node_modules/engine.io-client/dist"),
        ("transports", "../packages/transports/dist"),
    ];
    let mut vendor = Router::new();
    for (name, folder) in libraries {
        let folder = Path::new(HERE).join(folder);
        if !folder.is_dir() {
            return Err(format!(
                "The page needs {name}: `./dev demo` installs all that is missing. By hand: `npm install` in the folder \
                 demo/, and `npm install && npm run build` in packages/transports/."
            ));
        }
        vendor = vendor.nest_service(&format!("/vendor/{name}"), ServeDir::new(folder));
    }
    Ok(vendor)
}

async fn run() -> Result<(), String> {
    let vendor = vendor()?;
    let listener = host::listen(host::host()?, host::port()?).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;

    let io = server();
    let files = vendor
        .fallback_service(ServeDir::new(Path::new(HERE).join("public")))
        // The browser may keep the files, but asks whether they have changed.
        .layer(SetResponseHeaderLayer::overriding(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
    let app = files.merge(io.router());

    let host = if address.ip().is_loopback() {
        "localhost".to_owned()
    } else {
        address.ip().to_string()
    };
    println!(
        "Antiphon chat: http://{host}:{}   (Ctrl-C stops it)",
        address.port()
    );
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            host::asked_to_stop().await;
            println!("Closing all connections");
            // Says goodbye to everyone. Who polls may have gone without a word, and would be waited for.
            let _ = tokio::time::timeout(GOODBYES, io.close()).await;
        })
        .await
        .map_err(|error| error.to_string())
}
