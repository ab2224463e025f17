//! Who is in which rooms: asked of the sockets, which alone know it.
//!
//! Someone is in a room of the chat as long as one of their sockets is in the Socket.IO room
//! [`here`]. So nothing is left behind by a connection that is lost, and a socket that recovers is
//! back in its rooms without anyone's doing, after a restart of the server too. What is to be told
//! of it is told by the handlers in `main.rs`.

use std::collections::HashMap;

use antiphon::{Namespace, Socket};
use serde::Serialize;

use crate::chat::Person;

/// The Socket.IO room that tells people in a room of the chat who comes, goes and types. With a
/// prefix, so that no room's name is a socket's id.
pub(crate) fn here(room: &str) -> String {
    format!("{HERE}{room}")
}

const HERE: &str = "here:";

/// The rooms of the chat that a socket is in.
pub(crate) fn rooms_of(socket: &Socket) -> Vec<String> {
    let rooms = socket.rooms();
    let names = rooms.iter().filter_map(|room| room.strip_prefix(HERE));
    names.map(str::to_owned).collect()
}

/// Everyone in a room once, under the name that they came with last.
pub(crate) fn people(namespace: &Namespace, room: &str) -> Vec<Person> {
    let room = here(room);
    let mut people: Vec<Person> = Vec::new();
    for socket in connected(namespace) {
        if socket.rooms().iter().any(|joined| **joined == *room)
            && let Some(person) = socket.get::<Person>()
        {
            match people.iter_mut().find(|known| known.id == person.id) {
                Some(known) => *known = person,
                None => people.push(person),
            }
        }
    }
    people
}

/// A line of the list of rooms.
#[derive(Debug, Serialize)]
pub(crate) struct RoomSummary {
    name: String,
    people: usize,
}

/// These rooms, with how many people are in them.
pub(crate) fn summaries(namespace: &Namespace, rooms: Vec<String>) -> Vec<RoomSummary> {
    let counts = counts(namespace);
    let summary = |name: String| RoomSummary {
        people: counts.get(&name).copied().unwrap_or(0),
        name,
    };
    rooms.into_iter().map(summary).collect()
}

/// How many people are in the rooms that anyone is in.
pub(crate) fn counts(namespace: &Namespace) -> HashMap<String, usize> {
    let mut people: HashMap<String, Vec<String>> = HashMap::new();
    for socket in connected(namespace) {
        let Some(person) = socket.get::<Person>() else {
            continue;
        };
        for room in rooms_of(&socket) {
            let known = people.entry(room).or_default();
            if !known.contains(&person.id) {
                known.push(person.id.clone());
            }
        }
    }
    let counted = people.into_iter().map(|(room, ids)| (room, ids.len()));
    counted.collect()
}

/// Without those that are about to leave.
fn connected(namespace: &Namespace) -> impl Iterator<Item = Socket> {
    namespace.sockets().into_iter().filter(Socket::is_connected)
}
