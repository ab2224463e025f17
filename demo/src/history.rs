//! The messages of the chat: the log of recovery keeps them, in a file. There is no other store.
//!
//! A message is emitted to the Socket.IO room [`said`], where it is logged before it is delivered.
//! So the log gives those who were away what they have missed, and newcomers the last messages. A
//! file is emitted to a room in which nobody is: the log alone keeps it. The list of rooms is the
//! only event to everyone: the newest one says which rooms there were before a restart. Events are
//! dropped for their age and for the log's bounds, the oldest first; where the disk is full, new
//! ones are neither stored nor delivered.

use std::{path::Path, time::Duration};

use antiphon::{
    Namespace, Recovery,
    recovery::{LogError, LogFile, LogFileError, LoggedEvent},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::chat::{ChatError, Message};

/// How long messages are kept, and how long someone may be away and come back to them.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Tabs that may be away at a time.
const AWAY: usize = 1_000;
/// Messages that someone gets who joins a room.
const LAST_MESSAGES: usize = 100;

/// Recovery with a log in a file of this folder, which is made if it lacks.
pub(crate) fn recovery(folder: &Path) -> Result<Recovery, String> {
    let shown = folder.display();
    std::fs::create_dir_all(folder).map_err(|error| {
        format!("Can’t make the folder {shown} for the messages: {error}. {ANOTHER}")
    })?;
    let path = folder.join("messages.redb");
    let file = LogFile::open(&path).map_err(|error| match error {
        LogFileError::InUse => {
            format!("The messages in {shown} are in use, perhaps by another chat. {ANOTHER}")
        }
        error => format!("{}: {error}. {ANOTHER}", path.display()),
    })?;
    Ok(Recovery::new()
        .duration(KEPT_FOR)
        .max_sessions(AWAY)
        .namespaces(["/chat"])
        // A message that anyone has seen outlives a crash.
        .durable(file.stored_before_delivery()))
}

const ANOTHER: &str = "Choose another folder: DATA=folder ./dev demo";

/// The Socket.IO room of the messages of a room of the chat, and of nothing else: so its history is
/// the messages.
pub(crate) fn said(room: &str) -> String {
    format!("said:{room}")
}

/// A message, to everyone in its room. Its author's page takes it as the confirmation: it comes
/// when it is stored.
pub(crate) fn say(namespace: &Namespace, message: &Message, file: Option<Bytes>) {
    if let Some(data) = file {
        let room = file_of(&message.room, message.id);
        namespace.to(room).emit("file", FileData { data });
    }
    namespace.to(said(&message.room)).emit("message", message);
}

/// The last messages of a room, oldest first.
pub(crate) async fn messages(namespace: &Namespace, room: &str) -> Result<Vec<Message>, ChatError> {
    let logged = last(namespace, &said(room), LAST_MESSAGES).await?;
    Ok(logged.iter().filter_map(read).collect())
}

/// The bytes of a file: what the page gets that asks for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileData {
    data: Bytes,
}

/// The file of a message.
pub(crate) async fn file(
    namespace: &Namespace,
    room: &str,
    message: u64,
) -> Result<FileData, ChatError> {
    let logged = last(namespace, &file_of(room, message), 1).await?;
    logged.first().and_then(read).ok_or(ChatError::FileGone)
}

/// The rooms that there were when the list of rooms was last told.
pub(crate) async fn rooms(namespace: &Namespace) -> Result<Vec<String>, LogError> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let told = namespace.history(None, None, 1).await?;
    let rooms: Option<Vec<Named>> = told.first().and_then(read);
    Ok(rooms.into_iter().flatten().map(|room| room.name).collect())
}

/// The Socket.IO room of a file, which is never joined. With the room of its message, since only
/// those who are there may have it.
fn file_of(room: &str, message: u64) -> String {
    format!("file:{room}:{message}")
}

/// The argument of an event. `None` if another version of the chat has written it.
fn read<T: DeserializeOwned>(logged: &LoggedEvent) -> Option<T> {
    logged.event.with_args(|args| args.deserialize().ok())
}

/// The newest events to a Socket.IO room.
async fn last(
    namespace: &Namespace,
    room: &str,
    limit: usize,
) -> Result<Vec<LoggedEvent>, ChatError> {
    let logged = namespace.history(Some(room), None, limit).await;
    logged.map_err(|error| {
        tracing::error!(%error, "the log can't be read");
        ChatError::NoHistory
    })
}

#[cfg(test)]
mod tests;
