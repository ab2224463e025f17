//! Types for clients in TypeScript, from the types of the handlers.
//!
//! ```sh
//! cargo run --example typescript --features typescript -- events.d.ts 3000
//! ```
//!
//! writes `events.d.ts` and serves at port 3000. Handlers are registered by `declarations.describe(..)`;
//! what they take and return is described by `JsonSchema`, which is derived beside serde's traits.

use antiphon::{Binary, Data, Rejection, Server, Socket, typescript::Declarations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A message as it is written and read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Message {
    room: String,
    text: String,
    /// Nobody, if it is left out.
    #[serde(default)]
    mentions: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "type")]
enum Kind {
    Plain,
    Reply { to: u32 },
}

/// What becomes of a message.
#[derive(Debug, Serialize, JsonSchema)]
struct Stored {
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Refused {
    TooLong,
    NotInRoom,
}

/// Any `serde` type can be an argument; several are a tuple.
async fn join(socket: Socket, Data((room, since)): Data<(String, Option<u32>)>) {
    socket.join(&room);
    socket.to(&room).emit("joined", (socket.id(), since));
}

async fn message(socket: Socket, Data(message): Data<Message>) -> Result<Stored, Refused> {
    if message.text.len() > 100 {
        return Err(Refused::TooLong);
    }
    if !socket.rooms().iter().any(|room| **room == *message.room) {
        return Err(Refused::NotInRoom);
    }
    socket.to(&message.room).emit("message", &message);
    Ok(Stored {
        id: 1,
        warning: message.text.is_empty().then(|| "it is empty".to_owned()),
    })
}

async fn upload(Data((name, file)): Data<(String, Binary)>) -> (String, usize) {
    (name, file.0.len())
}

async fn ask_back(socket: Socket) -> Result<u32, Rejection> {
    let asked = socket.emit_with_ack::<u32>("question", "six times seven?");
    let answer = asked.await;
    answer.map_err(|error| Rejection::new("no_answer", error.to_string()))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (file, port) = (args.next(), args.next());

    let io = Server::new();
    let declarations = Declarations::new();
    declarations
        .describe(&io.of("/chat"))
        .on("join", join)
        .on("message", message)
        .on("upload", upload)
        .on("ask back", ask_back)
        .on("echo", async |args: antiphon::Args| args)
        .emits::<(String, Option<u32>)>("joined")
        .emits::<Message>("message")
        .emits_with_ack::<String, u32>("question");

    match file {
        Some(file) => std::fs::write(&file, declarations.to_string())?,
        None => print!("{declarations}"),
    }
    let Some(port) = port else { return Ok(()) };
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on {}", listener.local_addr()?);
    io.serve(listener).await;
    Ok(())
}
