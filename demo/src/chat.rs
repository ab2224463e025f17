//! The rules of the chat: names, rooms, what a message may be. No sockets here.
//!
//! Each handler has a handle. The list of rooms lives behind one lock, which is held for the time of
//! one call. The sockets know who is in a room (`people.rs`), and the log what was said
//! (`history.rs`). Everything has a bound, since whoever is on the network may add to it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use sha2::{Digest, Sha256};

/// Rooms that are always there.
const PERMANENT_ROOMS: [&str; 3] = ["lobby", "listening", "off-topic"];
/// Messages of a room that are known when they are sent again.
const KNOWN_MESSAGES: usize = 100;
/// How long they are: until each has been stored, and so is known to its author's page, or never
/// will be. A page that sends it again later has asked what the room has.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// Ids of messages leave room for so many servers.
const SERVERS: u64 = 100;

/// What the page has to know to refuse early and kindly.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Limits {
    /// Characters of a person's name.
    pub(crate) name: usize,
    /// Characters of a room's name.
    pub(crate) room: usize,
    /// Characters of a message.
    pub(crate) text: usize,
    /// Bytes of a file. As base64, for long-polling, it still fits the server's `max_payload`.
    pub(crate) file: usize,
    /// Rooms at a time.
    pub(crate) rooms: usize,
}

pub(crate) const LIMITS: Limits = Limits {
    name: 32,
    room: 32,
    text: 4_000,
    file: 700_000,
    rooms: 24,
};

/// Why something can't be done: a code for the page, a sentence for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChatError {
    #[error("A name has 1 to {} characters, and no control characters.", LIMITS.name)]
    BadName,
    #[error("A room’s name has 1 to {} letters, digits and dashes.", LIMITS.room)]
    BadRoom,
    #[error("There is no room “{0}”.")]
    UnknownRoom(String),
    #[error("You are not in the room “{0}”. Join it first.")]
    NotInRoom(String),
    #[error("There are {} rooms already, all with people in them. Join one of those.", LIMITS.rooms)]
    TooManyRooms,
    #[error("The message is empty.")]
    Empty,
    #[error("A message has up to {max} characters; this one has {0}.", max = LIMITS.text)]
    TooLong(usize),
    #[error("Files can have up to {max} KB; this one has {} KB.", .0.div_ceil(1_000), max = LIMITS.file / 1_000)]
    FileTooBig(usize),
    #[error("The file is empty, or its name or type is too long.")]
    BadFile,
    #[error("This file is no longer kept.")]
    FileGone,
    #[error("What was said here can’t be read right now.")]
    NoHistory,
    #[error("The nonce is too long.")]
    BadNonce,
}

impl ChatError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::BadName => "bad_name",
            Self::BadRoom => "bad_room",
            Self::UnknownRoom(_) => "unknown_room",
            Self::NotInRoom(_) => "not_in_room",
            Self::TooManyRooms => "too_many_rooms",
            Self::Empty => "empty",
            Self::TooLong(_) => "too_long",
            Self::FileTooBig(_) => "file_too_big",
            Self::BadFile => "bad_file",
            Self::FileGone => "file_gone",
            Self::NoHistory => "no_history",
            Self::BadNonce => "bad_nonce",
        }
    }
}

/// `{"code": "...", "message": "..."}`: the `error` of an acknowledgement.
impl Serialize for ChatError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("ChatError", 2)?;
        error.serialize_field("code", self.code())?;
        error.serialize_field("message", &self.to_string())?;
        error.end()
    }
}

/// Someone in the chat, in one browser tab or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A message as it is delivered and kept. The bytes of its file are kept by themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) room: String,
    from: Person,
    /// Milliseconds since 1970.
    at: u64,
    /// Chosen by the author's page, which may send again what was never confirmed.
    nonce: String,
    text: String,
    file: Option<AttachedFile>,
}

/// What is said of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AttachedFile {
    name: String,
    #[serde(rename = "type")]
    media_type: String,
    size: usize,
}

/// A message as its author sends it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct NewMessage {
    pub(crate) room: String,
    #[serde(default)]
    nonce: String,
    #[serde(default)]
    text: String,
    file: Option<NewFile>,
}

/// A file as its author sends it: `data` travels as a binary attachment of the packet.
#[derive(Debug, Deserialize)]
struct NewFile {
    name: String,
    #[serde(rename = "type", default)]
    media_type: String,
    data: Bytes,
}

/// A handle to the chat. Clones are the same chat.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    rooms: Arc<Mutex<Rooms>>,
    /// Of this server among others, below [`SERVERS`]: part of each message's id.
    server: u64,
}

#[derive(Debug)]
struct Rooms {
    /// The oldest first.
    rooms: Vec<Room>,
    /// The last id without the server's part.
    last_message: u64,
}

#[derive(Debug)]
struct Room {
    name: String,
    /// Authors and nonces of the last messages, and when they came.
    said: VecDeque<(String, String, Instant)>,
}

impl Chat {
    /// The chat of the server with this number.
    pub(crate) fn new(server: u64) -> Self {
        Self {
            rooms: Arc::default(),
            server: server % SERVERS,
        }
    }

    /// These rooms were there before the server was started.
    pub(crate) fn restore(&self, rooms: impl IntoIterator<Item = String>) {
        let mut state = self.lock();
        for name in rooms {
            if state.rooms.len() < LIMITS.rooms && state.room(&name).is_err() {
                state.rooms.push(Room::new(&name));
            }
        }
    }

    /// The person who comes with this name. Who shows the same `key` again is the same person, also
    /// after a restart of the server; the others only see what has been made of it.
    pub(crate) fn person(name: &str, key: &str) -> Result<Person, ChatError> {
        let name = person_name(name)?;
        let digest = Sha256::digest(key);
        let id = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        Ok(Person {
            id: id.collect(),
            name,
        })
    }

    /// The names of all rooms.
    pub(crate) fn rooms(&self) -> Vec<String> {
        let state = self.lock();
        state.rooms.iter().map(|room| room.name.clone()).collect()
    }

    /// The proper name of a room that exists.
    pub(crate) fn find_room(&self, name: &str) -> Result<String, ChatError> {
        let name = room_name(name)?;
        self.lock().room(&name)?;
        Ok(name)
    }

    /// The proper name of a room, which is made if it doesn't exist: in place of the oldest that
    /// nobody is in, where there are too many. `people` says how many are in which rooms.
    pub(crate) fn make_room(
        &self,
        name: &str,
        people: &HashMap<String, usize>,
    ) -> Result<String, ChatError> {
        let name = room_name(name)?;
        let mut state = self.lock();
        if state.room(&name).is_err() {
            if state.rooms.len() >= LIMITS.rooms {
                let may_go = |room: &Room| !room.is_permanent() && !people.contains_key(&room.name);
                let oldest = state.rooms.iter().position(may_go);
                state.rooms.remove(oldest.ok_or(ChatError::TooManyRooms)?);
            }
            state.rooms.push(Room::new(&name));
        }
        Ok(name)
    }

    /// Someone who is in the room says something: the message, and the bytes of its file. `None` if
    /// it had arrived a moment ago, and its author's page didn't know.
    pub(crate) fn post(
        &self,
        me: &Person,
        new: NewMessage,
        now: Instant,
    ) -> Result<Option<(Message, Option<Bytes>)>, ChatError> {
        let text = new.text.trim();
        let length = text.chars().count();
        if length > LIMITS.text {
            return Err(ChatError::TooLong(length));
        }
        if text.is_empty() && new.file.is_none() {
            return Err(ChatError::Empty);
        }
        if new.nonce.len() > 64 {
            return Err(ChatError::BadNonce);
        }
        let (file, data) = match new.file {
            Some(new) => {
                let (file, data) = new.checked()?;
                (Some(file), Some(data))
            }
            None => (None, None),
        };
        let mut state = self.lock();
        let id = state.next_id() * SERVERS + self.server;
        let room = state.room(&new.room)?;
        if !room.hears(me, &new.nonce, now) {
            return Ok(None);
        }
        let message = Message {
            id,
            room: room.name.clone(),
            from: me.clone(),
            at: unix_millis(),
            nonce: new.nonce,
            text: text.to_owned(),
            file,
        };
        Ok(Some((message, data)))
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        // No call leaves the state half changed, so it is good even after a panic.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            rooms: PERMANENT_ROOMS.map(Room::new).into(),
            last_message: 0,
        }
    }
}

impl Rooms {
    /// Grows with time, so that messages of all servers and all runs have an order, and no id comes
    /// twice. Below 2^53: JavaScript can count it.
    fn next_id(&mut self) -> u64 {
        self.last_message = (unix_millis() * 10).max(self.last_message + 1);
        self.last_message
    }

    fn room(&mut self, name: &str) -> Result<&mut Room, ChatError> {
        let room = self.rooms.iter_mut().find(|room| room.name == name);
        room.ok_or_else(|| ChatError::UnknownRoom(shortened(name)))
    }
}

impl Room {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            said: VecDeque::new(),
        }
    }

    fn is_permanent(&self) -> bool {
        PERMANENT_ROOMS.contains(&&*self.name)
    }

    /// Returns `false` if it has just heard a message of this author with this nonce.
    fn hears(&mut self, author: &Person, nonce: &str, now: Instant) -> bool {
        if nonce.is_empty() {
            return true;
        }
        self.said
            .retain(|(_, _, at)| now.duration_since(*at) < KNOWN_FOR);
        let mut said = self.said.iter();
        if said.any(|(by, said, _)| *by == author.id && said == nonce) {
            return false;
        }
        if self.said.len() >= KNOWN_MESSAGES {
            self.said.pop_front();
        }
        let said = (author.id.clone(), nonce.to_owned(), now);
        self.said.push_back(said);
        true
    }
}

impl NewFile {
    /// What is said of the file, and its bytes.
    fn checked(self) -> Result<(AttachedFile, Bytes), ChatError> {
        let size = self.data.len();
        if size > LIMITS.file {
            return Err(ChatError::FileTooBig(size));
        }
        if size == 0 || self.name.is_empty() || self.name.len() > 300 || self.media_type.len() > 200
        {
            return Err(ChatError::BadFile);
        }
        let file = AttachedFile {
            name: self.name,
            media_type: self.media_type,
            size,
        };
        Ok((file, self.data))
    }
}

impl Person {
    /// The same person under another name.
    pub(crate) fn renamed(&self, name: &str) -> Result<Self, ChatError> {
        Ok(Self {
            id: self.id.clone(),
            name: person_name(name)?,
        })
    }
}

/// “ Ada  Lovelace ” is called “Ada Lovelace”.
fn person_name(given: &str) -> Result<String, ChatError> {
    let name = given.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = name.chars().count();
    let invisible =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if length == 0 || length > LIMITS.name || name.contains(invisible) {
        return Err(ChatError::BadName);
    }
    Ok(name)
}

/// “Choir Berlin” is the room `choir-berlin`.
fn room_name(given: &str) -> Result<String, ChatError> {
    let words = given.split_whitespace().collect::<Vec<_>>();
    let name = words.join("-").to_lowercase();
    let length = name.chars().count();
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    if length == 0 || length > LIMITS.room || !name.chars().all(fits) {
        return Err(ChatError::BadRoom);
    }
    Ok(name)
}

/// What a client sent, as far as it goes into an error message.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(LIMITS.room).collect()
}

fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
