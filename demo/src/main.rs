//! A chat in the browser, served by Antiphon.
//!
//! The page in `public/` speaks to the namespace `/chat` with the stock `socket.io-client`; the
//! events are listed in the README. This file has the handlers; `chat.rs` has the rules,
//! `people.rs` knows who is where, `history.rs` what was said, `servers.rs` of other servers.

mod chat;
mod history;
mod host;
mod people;
mod servers;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use antiphon::{
    Auth, ConnectError, Context, Data, DisconnectReason, FromContext, Rejection, Server, Socket,
    State, TransportKind, recovery::LogError,
};
use axum::{
    Router,
    http::{HeaderValue, header},
};
use serde::{Deserialize, Serialize};
use tower_http::{services::ServeDir, set_header::SetResponseHeaderLayer};
use tracing_subscriber::EnvFilter;

use chat::{Chat, ChatError, LIMITS, Limits, Message, NewMessage, Person, shortened};
use history::{FileData, said};
use people::{PERSON, People, RoomSummary, here, rooms_of};
use servers::{Addresses, Servers};

/// The server, and the chat as it was before it was started.
async fn server(folder: &Path, address: &str) -> Result<Server, String> {
    let chat = Chat::new(host::server()?);
    let servers = Servers::connect().await?;
    let io = servers
        .connects(Server::builder())
        .transports([
            TransportKind::Polling,
            TransportKind::Streaming,
            TransportKind::WebSocket,
        ])
        .recovery(history::recovery(folder)?)
        .share_data::<Person>(PERSON)
        .state(chat.clone())
        .state(servers.clone())
        .build();
    let namespace = io.of("/chat");
    let rooms = history::rooms(&namespace).await;
    chat.restore(rooms.map_err(|error| error.to_string())?);
    namespace
        .middleware(let_in)
        .on_connect(came)
        .on("hello", hello)
        .on("rename", rename)
        .on("join", join)
        .on("leave", leave)
        .on("message", message)
        .on("file", file)
        .on("typing", typing)
        .on("latency", async || {}) // the empty acknowledgement is the answer
        .on_disconnecting(leaving)
        .on_disconnect(gone);
    servers.start(&namespace, &chat, address).await;
    Ok(io)
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
async fn let_in(socket: Socket, Auth(login): Auth<Login>) -> Result<(), ConnectError> {
    let key = login.key.as_deref().unwrap_or(socket.id().as_str());
    let person = Chat::person(&login.name, key)
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

/// A socket that has recovered is in its rooms, and has had what it missed. Others join on their
/// own.
async fn came(
    socket: Socket,
    me: Person,
    State(chat): State<Chat>,
    State(servers): State<Servers>,
) {
    if !socket.recovered() {
        return;
    }
    let namespace = socket.namespace();
    let counts = People::of(namespace.broadcast()).await.counts();
    for room in rooms_of(&socket) {
        // Made again where it has made place for another one meanwhile.
        match chat.make_room(&room, &counts) {
            Ok(_) => tell_arrival(&socket, "joined", &room, &me),
            Err(_) => socket.leave([said(&room), here(&room)]),
        }
    }
    servers.tell_rooms(namespace);
}

#[derive(Serialize)]
struct Welcome {
    you: Person,
    rooms: Vec<RoomSummary>,
    limits: Limits,
    /// The rooms that this socket is in, since it has recovered.
    here: Vec<Occupied>,
    /// Why it has not, if the page had hoped so.
    not_recovered: Option<String>,
    /// Which server this is, if there are several.
    servers: Option<Addresses>,
}

#[derive(Serialize)]
struct Occupied {
    room: String,
    people: Vec<Person>,
}

/// What a page asks first. An answer isn't logged: it is of use at this moment alone.
async fn hello(
    socket: Socket,
    you: Person,
    State(chat): State<Chat>,
    State(servers): State<Servers>,
) -> Welcome {
    let people = People::of(socket.namespace().broadcast()).await;
    let occupied = |room: String| Occupied {
        people: people.in_room(&room),
        room,
    };
    Welcome {
        you,
        rooms: people.summaries(chat.rooms()),
        limits: LIMITS,
        here: rooms_of(&socket).into_iter().map(occupied).collect(),
        not_recovered: socket.not_recovered().map(LogError::to_string),
        servers: servers.addresses(),
    }
}

#[derive(Deserialize)]
struct Rename {
    name: String,
}

#[derive(Serialize)]
struct Renamed<'a> {
    room: &'a str,
    person: &'a Person,
    /// The name that they had.
    before: &'a str,
}

/// The connection stays; what was said stays under the old name. The answer has the name as it is
/// now.
async fn rename(
    socket: Socket,
    me: Person,
    State(servers): State<Servers>,
    Data(Rename { name }): Data<Rename>,
) -> Result<Person, ChatError> {
    let person = me.renamed(&name)?;
    if person == me {
        return Ok(person);
    }
    let namespace = socket.namespace();
    // Asked before the change, which is told at once then: the name told last is the one that holds.
    let people = People::of(namespace.broadcast()).await;
    servers.rename(namespace, &person);
    for room in people.rooms(&person) {
        let renamed = Renamed {
            room,
            person: &person,
            before: &me.name,
        };
        socket.to(here(room)).emit("renamed", renamed);
    }
    Ok(person)
}

/// Up to the first `await` it is still in its rooms.
async fn leaving(socket: Socket, me: Person, reason: DisconnectReason) {
    tracing::info!(name = me.name, %reason, "gone");
    tell_departure(&socket, &rooms_of(&socket), &me).await;
}

async fn gone(socket: Socket, State(servers): State<Servers>) {
    servers.tell_rooms(socket.namespace());
}

// ---- rooms ----

#[derive(Deserialize)]
struct Join {
    room: String,
    #[serde(default)]
    create: bool,
}

/// What someone gets who joins a room.
#[derive(Serialize)]
struct Joined {
    people: Vec<Person>,
    messages: Vec<Message>,
    room: String,
}

async fn join(
    socket: Socket,
    me: Person,
    State(chat): State<Chat>,
    State(servers): State<Servers>,
    Data(request): Data<Join>,
) -> Result<Joined, ChatError> {
    let namespace = socket.namespace();
    let before = People::of(namespace.broadcast()).await;
    let room = match request.create {
        true => chat.make_room(&request.room, &before.counts())?,
        false => chat.find_room(&request.room)?,
    };
    if request.create {
        servers.made(namespace, &room);
    }
    // Into the Socket.IO rooms before the history is read: what is said in between comes twice,
    // which the page notices, rather than never.
    socket.join([said(&room), here(&room)]);
    if !before.has(&room, &me) {
        tell_arrival(&socket, "joined", &room, &me);
    }
    servers.tell_rooms(namespace);
    Ok(Joined {
        people: People::of(namespace.to(here(&room))).await.in_room(&room),
        messages: history::messages(namespace, &room).await?,
        room,
    })
}

#[derive(Deserialize)]
struct Leave {
    room: String,
}

async fn leave(
    socket: Socket,
    me: Person,
    State(servers): State<Servers>,
    Data(Leave { room }): Data<Leave>,
) -> Result<(), ChatError> {
    must_be_in(&socket, &room)?;
    socket.leave([said(&room), here(&room)]);
    tell_departure(&socket, &[room], &me).await;
    servers.tell_rooms(socket.namespace());
    Ok(())
}

/// Only those who are in a room may write there, or read.
fn must_be_in(socket: &Socket, room: &str) -> Result<(), ChatError> {
    match rooms_of(socket).iter().any(|joined| joined == room) {
        true => Ok(()),
        false => Err(ChatError::NotInRoom(shortened(room))),
    }
}

#[derive(Serialize)]
struct Arrival<'a> {
    room: &'a str,
    person: &'a Person,
}

/// Tells the others in a room that someone `joined` or `left`.
fn tell_arrival(socket: &Socket, event: &str, room: &str, person: &Person) {
    socket.to(here(room)).emit(event, Arrival { room, person });
}

/// Someone leaves rooms by a socket, and so has left those in which they aren't by another one.
async fn tell_departure(socket: &Socket, rooms: &[String], me: &Person) {
    let others = socket.namespace().except(socket.id().as_str());
    let others = People::of(others).await;
    for room in rooms.iter().filter(|room| !others.has(room, me)) {
        tell_arrival(socket, "left", room, me);
    }
}

// ---- what is said ----

/// The acknowledgement says that the message will do, or `{ error: { code, message } }` why not.
/// That it is kept is said by the message itself, which comes to its author, too.
async fn message(
    socket: Socket,
    me: Person,
    State(chat): State<Chat>,
    Data(new): Data<NewMessage>,
) -> Result<(), ChatError> {
    must_be_in(&socket, &new.room)?;
    if let Some((message, file)) = chat.post(&me, new, Instant::now())? {
        history::say(socket.namespace(), &message, file);
    }
    Ok(())
}

#[derive(Deserialize)]
struct WhichFile {
    room: String,
    id: u64,
}

async fn file(socket: Socket, Data(which): Data<WhichFile>) -> Result<FileData, ChatError> {
    must_be_in(&socket, &which.room)?;
    let WhichFile { room, id } = which;
    match history::file(socket.namespace(), &room, id).await {
        // Another server may have been there when it was sent.
        Err(gone) => servers::file(socket.namespace(), &room, id)
            .await
            .ok_or(gone),
        found => found,
    }
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
    Data(Typing { room, typing }): Data<Typing>,
) -> Result<(), ChatError> {
    must_be_in(&socket, &room)?;
    let others = socket.to(here(&room));
    let someone = SomeoneTypes {
        room,
        person,
        typing,
    };
    others.volatile().emit("typing", someone);
    Ok(())
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

    let host = if address.ip().is_loopback() {
        "localhost".to_owned()
    } else {
        address.ip().to_string()
    };
    let url = format!("http://{host}:{}", address.port());

    let folder = host::data();
    let io = server(&folder, &url).await?;
    let files = vendor
        .fallback_service(ServeDir::new(Path::new(HERE).join("public")))
        // The browser may keep the files, but asks whether they have changed.
        .layer(SetResponseHeaderLayer::overriding(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache"),
        ));
    let app = files.merge(io.router());

    println!("Messages are kept in {}", folder.display());
    println!("Antiphon chat: {url}   (Ctrl-C stops it)");
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
