//! The chat itself: rooms, who is in them, what was said. No sockets here.
//!
//! All of it lives in memory behind one lock, which is held for the time of one call. Everything
//! has a bound, since whoever is on the network may add to it.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

/// Rooms that are always there.
const PERMANENT_ROOMS: [&str; 3] = ["lobby", "listening", "off-topic"];
/// Messages that a room keeps.
const KEPT_MESSAGES: usize = 100;
/// Bytes of files that a room keeps; the files of its oldest messages go first.
const KEPT_FILE_BYTES: usize = 4_000_000;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A line of the list of rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RoomSummary {
    name: String,
    people: usize,
}

/// What someone gets who joins a room. Its messages come without the bytes of their files.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Joined {
    pub(crate) room: String,
    people: Vec<Person>,
    messages: Vec<Message>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) room: String,
    from: Person,
    /// Milliseconds since 1970.
    at: u64,
    /// Chosen by the author's page, which may send again what was never acknowledged.
    nonce: String,
    text: String,
    file: Option<FileOfMessage>,
}

#[derive(Debug, Clone, Serialize)]
struct FileOfMessage {
    name: String,
    #[serde(rename = "type")]
    media_type: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Bytes>,
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

impl Message {
    /// Without the bytes of its file, for who has them or may never ask for them.
    pub(crate) fn brief(&self) -> Self {
        let mut brief = self.clone();
        if let Some(file) = &mut brief.file {
            file.data = None;
        }
        brief
    }
}

/// A handle to the chat. Clones are the same chat.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chat {
    rooms: Arc<Mutex<Rooms>>,
    /// Makes public ids out of the keys of people; another one in each run of the server.
    ids: RandomState,
}

#[derive(Debug)]
struct Rooms {
    rooms: Vec<Room>,
    /// Grows from run to run, so that pages that outlive the server see no id twice.
    next_message: u64,
}

#[derive(Debug)]
struct Room {
    name: String,
    permanent: bool,
    /// By socket: a person with two tabs is here twice.
    members: Vec<(String, Person)>,
    messages: VecDeque<Message>,
    empty_since: Instant,
}

impl Chat {
    /// The person who comes with this name. Who shows the same `key` again is the same person; the
    /// others only see what has been made of it.
    pub(crate) fn person(&self, name: &str, key: &str) -> Result<Person, ChatError> {
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        let length = name.chars().count();
        let invisible = |c: char| {
            c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        if length == 0 || length > LIMITS.name || name.contains(invisible) {
            return Err(ChatError::BadName);
        }
        let id = format!("{:016x}", self.ids.hash_one(key));
        Ok(Person { id, name })
    }

    /// All rooms, with how many people are in them.
    pub(crate) fn rooms(&self) -> Vec<RoomSummary> {
        let state = self.lock();
        let summary = |room: &Room| RoomSummary {
            name: room.name.clone(),
            people: room.people().len(),
        };
        state.rooms.iter().map(summary).collect()
    }

    /// The proper name of a room that exists, after making it if `create` says so.
    pub(crate) fn find_room(&self, name: &str, create: bool) -> Result<String, ChatError> {
        let name = room_name(name)?;
        let mut state = self.lock();
        match state.room(&name) {
            Ok(_) => {}
            Err(_) if create => state.add_room(&name)?,
            Err(error) => return Err(error),
        }
        Ok(name)
    }

    /// Someone joins by this socket. True: they weren't in the room by another.
    pub(crate) fn join(
        &self,
        name: &str,
        socket: &str,
        me: &Person,
    ) -> Result<(Joined, bool), ChatError> {
        let mut state = self.lock();
        let room = state.room(name)?;
        let arrived = !room.has(me);
        room.members.retain(|(member, _)| member != socket);
        room.members.push((socket.to_owned(), me.clone()));
        let joined = Joined {
            room: room.name.clone(),
            people: room.people(),
            messages: room.messages.iter().map(Message::brief).collect(),
        };
        Ok((joined, arrived))
    }

    /// This socket leaves. True: its person is not in the room by another.
    pub(crate) fn leave(&self, name: &str, socket: &str, me: &Person) -> Result<bool, ChatError> {
        let mut state = self.lock();
        let room = state.room_of(name, socket)?;
        room.remove(socket);
        Ok(!room.has(me))
    }

    /// This socket leaves all its rooms. Gives those that its person is not in any more.
    pub(crate) fn leave_all(&self, socket: &str, me: &Person) -> Vec<String> {
        let mut state = self.lock();
        let was_in = state.rooms.iter_mut().filter(|room| room.is_member(socket));
        let left = was_in.filter_map(|room| {
            room.remove(socket);
            (!room.has(me)).then(|| room.name.clone())
        });
        left.collect()
    }

    /// Whether this socket is in the room.
    pub(crate) fn is_member(&self, name: &str, socket: &str) -> bool {
        self.lock().room_of(name, socket).is_ok()
    }

    /// Someone says something. False: it had arrived before, but its acknowledgement had not.
    pub(crate) fn post(
        &self,
        socket: &str,
        me: &Person,
        new: NewMessage,
    ) -> Result<(Message, bool), ChatError> {
        let file = new.file.map(FileOfMessage::try_from).transpose()?;
        let text = new.text.trim();
        let length = text.chars().count();
        if length > LIMITS.text {
            return Err(ChatError::TooLong(length));
        }
        if text.is_empty() && file.is_none() {
            return Err(ChatError::Empty);
        }
        if new.nonce.len() > 64 {
            return Err(ChatError::BadNonce);
        }
        let mut state = self.lock();
        let id = state.next_message;
        let room = state.room_of(&new.room, socket)?;
        if let Some(known) = room.find_nonce(me, &new.nonce) {
            return Ok((known.clone(), false));
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
        room.keep(message.clone());
        state.next_message += 1;
        Ok((message, true))
    }

    /// The bytes of the file of a message.
    pub(crate) fn file(&self, name: &str, socket: &str, message: u64) -> Result<Bytes, ChatError> {
        let mut state = self.lock();
        let room = state.room_of(name, socket)?;
        let message = room.messages.iter().find(|kept| kept.id == message);
        let file = message.and_then(|message| message.file.as_ref());
        file.and_then(|file| file.data.clone())
            .ok_or(ChatError::FileGone)
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        // No call leaves the state half changed, so it is good even after a panic.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Rooms {
    fn default() -> Self {
        let permanent = |name: &str| Room::new(name, true);
        Self {
            rooms: PERMANENT_ROOMS.map(permanent).into(),
            next_message: unix_millis() * 1_000, // below 2^53: JavaScript can count it
        }
    }
}

impl Rooms {
    fn room(&mut self, name: &str) -> Result<&mut Room, ChatError> {
        let room = self.rooms.iter_mut().find(|room| room.name == name);
        room.ok_or_else(|| ChatError::UnknownRoom(shortened(name)))
    }

    /// The room, for a socket that is in it.
    fn room_of(&mut self, name: &str, socket: &str) -> Result<&mut Room, ChatError> {
        let room = self.room(name)?;
        if !room.is_member(socket) {
            return Err(ChatError::NotInRoom(name.to_owned()));
        }
        Ok(room)
    }

    /// Makes a room, in place of the one that has been empty for longest where there are too many.
    fn add_room(&mut self, name: &str) -> Result<(), ChatError> {
        if self.rooms.len() >= LIMITS.rooms {
            let rooms = self.rooms.iter().enumerate();
            let idle = rooms.filter(|(_, room)| !room.permanent && room.members.is_empty());
            let oldest = idle.min_by_key(|(_, room)| room.empty_since);
            let (index, _) = oldest.ok_or(ChatError::TooManyRooms)?;
            self.rooms.remove(index);
        }
        self.rooms.push(Room::new(name, false));
        Ok(())
    }
}

impl Room {
    fn new(name: &str, permanent: bool) -> Self {
        Self {
            name: name.to_owned(),
            permanent,
            members: Vec::new(),
            messages: VecDeque::new(),
            empty_since: Instant::now(),
        }
    }

    fn is_member(&self, socket: &str) -> bool {
        self.members.iter().any(|(member, _)| member == socket)
    }

    fn has(&self, person: &Person) -> bool {
        self.members
            .iter()
            .any(|(_, member)| member.id == person.id)
    }

    fn remove(&mut self, socket: &str) {
        self.members.retain(|(member, _)| member != socket);
        self.empty_since = Instant::now();
    }

    /// Everyone once, under the name that they came with last.
    fn people(&self) -> Vec<Person> {
        let mut people: Vec<Person> = Vec::new();
        for (_, person) in self.members.iter().rev() {
            if !people.iter().any(|known| known.id == person.id) {
                people.push(person.clone());
            }
        }
        people.reverse();
        people
    }

    fn find_nonce(&self, author: &Person, nonce: &str) -> Option<&Message> {
        let same = |message: &&Message| message.from.id == author.id && message.nonce == nonce;
        self.messages
            .iter()
            .rev()
            .find(same)
            .filter(|_| !nonce.is_empty())
    }

    /// Keeps a message, and forgets what is over the bounds, the oldest first.
    fn keep(&mut self, message: Message) {
        self.messages.push_back(message);
        if self.messages.len() > KEPT_MESSAGES {
            self.messages.pop_front();
        }
        let mut bytes = 0;
        for message in self.messages.iter_mut().rev() {
            if let Some(file) = &mut message.file {
                bytes += file.size;
                if bytes > KEPT_FILE_BYTES {
                    file.data = None;
                }
            }
        }
    }
}

impl TryFrom<NewFile> for FileOfMessage {
    type Error = ChatError;

    fn try_from(new: NewFile) -> Result<Self, ChatError> {
        let size = new.data.len();
        if size > LIMITS.file {
            return Err(ChatError::FileTooBig(size));
        }
        if size == 0 || new.name.is_empty() || new.name.len() > 300 || new.media_type.len() > 200 {
            return Err(ChatError::BadFile);
        }
        Ok(Self {
            name: new.name,
            media_type: new.media_type,
            size,
            data: Some(new.data),
        })
    }
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
fn shortened(text: &str) -> String {
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
