//! Who is in which rooms: asked of the sockets, which alone know it, those of all servers.
//!
//! Someone is in a room of the chat as long as one of their sockets is in the Socket.IO room
//! [`here`]. So nothing is left behind by a connection that is lost, and a socket that recovers is
//! back in its rooms without anyone's doing, after a restart of the server too. What is to be told
//! of it is told by the handlers in `main.rs`.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use antiphon::{Broadcast, FetchedSocket, Namespace, Socket};
use serde::Serialize;

use crate::chat::Person;

/// The Socket.IO room that tells people in a room of the chat who comes, goes and types. With a
/// prefix, so that no room's name is a socket's id.
pub(crate) fn here(room: &str) -> String {
    format!("{HERE}{room}")
}

const HERE: &str = "here:";

/// Servers tell each other who a socket is under this name: `share_data` in `main.rs`.
pub(crate) const PERSON: &str = "person";

/// Other servers answer within this time, or their people aren't counted.
const SOON: Duration = Duration::from_secs(2);

/// The rooms of the chat that a socket is in.
pub(crate) fn rooms_of(socket: &Socket) -> Vec<String> {
    let rooms = socket.rooms();
    let names = rooms.iter().filter_map(|room| room.strip_prefix(HERE));
    names.map(str::to_owned).collect()
}

/// From now on this person has this name at each of their sockets on this server.
pub(crate) fn rename(namespace: &Namespace, person: &Person) {
    let is_theirs =
        |socket: &Socket| (socket.get::<Person>()).is_some_and(|known| known.id == person.id);
    for socket in namespace.sockets().into_iter().filter(is_theirs) {
        socket.insert(person.clone());
    }
}

/// Who was where at one moment.
pub(crate) struct People(Vec<FetchedSocket>);

impl People {
    /// Those that these sockets are of, wherever they are.
    pub(crate) async fn of(sockets: Broadcast) -> Self {
        let local = sockets.clone().local();
        let found = match sockets.timeout(SOON).sockets().await {
            Ok(found) => found,
            // The other servers can't be reached: this one's sockets are known.
            Err(_) => local.sockets().await.unwrap_or_default(),
        };
        if !found.missing.is_empty() {
            tracing::warn!(missing = ?found.missing, "servers that don't say who is there");
        }
        Self(found.sockets)
    }

    /// Everyone in a room once, under the name that they came with last.
    pub(crate) fn in_room(&self, room: &str) -> Vec<Person> {
        let room = here(room);
        let mut people: Vec<Person> = Vec::new();
        for socket in &self.0 {
            if socket.rooms.iter().any(|joined| **joined == *room)
                && let Some(person) = socket.data::<Person>(PERSON)
            {
                match people.iter_mut().find(|known| known.id == person.id) {
                    Some(known) => *known = person,
                    None => people.push(person),
                }
            }
        }
        people
    }

    /// The rooms in which this person is, by any socket.
    pub(crate) fn rooms(&self, person: &Person) -> HashSet<&str> {
        let is_theirs = |socket: &&FetchedSocket| {
            (socket.data::<Person>(PERSON)).is_some_and(|known| known.id == person.id)
        };
        let sockets = self.0.iter().filter(is_theirs);
        let rooms = sockets.flat_map(|socket| &socket.rooms);
        rooms.filter_map(|room| room.strip_prefix(HERE)).collect()
    }

    /// Whether this person is in a room, by any socket.
    pub(crate) fn has(&self, room: &str, person: &Person) -> bool {
        self.in_room(room).iter().any(|it| it.id == person.id)
    }

    /// These rooms, with how many people are in them.
    pub(crate) fn summaries(&self, rooms: Vec<String>) -> Vec<RoomSummary> {
        let counts = self.counts();
        let summary = |name: String| RoomSummary {
            people: counts.get(&name).copied().unwrap_or(0),
            name,
        };
        rooms.into_iter().map(summary).collect()
    }

    /// How many people are in the rooms that anyone is in.
    pub(crate) fn counts(&self) -> HashMap<String, usize> {
        let mut people: HashMap<String, HashSet<String>> = HashMap::new();
        for socket in &self.0 {
            let Some(person) = socket.data::<Person>(PERSON) else {
                continue;
            };
            for room in socket.rooms.iter().filter_map(|it| it.strip_prefix(HERE)) {
                let known = people.entry(room.to_owned()).or_default();
                known.insert(person.id.clone());
            }
        }
        let counted = people.into_iter().map(|(room, ids)| (room, ids.len()));
        counted.collect()
    }
}

/// A line of the list of rooms.
#[derive(Debug, Serialize)]
pub(crate) struct RoomSummary {
    name: String,
    people: usize,
}
