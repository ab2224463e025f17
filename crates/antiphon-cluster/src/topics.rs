//! Under which topic a frame goes, and so which servers hear it.
//!
//! | topic | who subscribes | what comes |
//! |---|---|---|
//! | control | all servers | heartbeats, questions |
//! | inbox | one server | answers to its questions |
//! | namespace | servers that have it | events to all and to several rooms; joins and the like |
//! | room | servers that have a socket in it | events to it |
//! | sockets | the server that the socket's id names | what concerns a single socket |
//! | log | servers that have the namespace, if its log is shared | its logged events |
//!
//! The router owns the [`Topics`] of its cluster, and each adapter the [`Routes`] of its namespace:
//! these know to which rooms events go by the namespace's topic for a while, since sockets of others
//! have just been put into them, whose servers may not have subscribed yet.
//!
//! Rooms are spread over [`TAGS`] hash tags, so that a broker of several machines (Redis Cluster)
//! spreads them over all of these, and still needs few connections to subscribe to many.

use std::collections::HashMap;
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};

use antiphon::{Room, Target};

use crate::Topic;

/// Names of rooms have so many tags.
const TAGS: u32 = 1_024;

/// Events to rooms that sockets of other servers have been put into go to the whole namespace for
/// so long: those servers may not have subscribed to them yet.
const MOVING: Duration = Duration::from_secs(3);

/// How long ids of sockets are, and the part of them that names a server.
const ID: usize = 20;
const TAG: usize = 6;

/// The names of topics of a cluster.
#[derive(Debug)]
pub(crate) struct Topics {
    prefix: Box<str>,
    pub(crate) control: Topic,
}

impl Topics {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            control: Topic::new(format!("{prefix}:control")),
        }
    }

    pub(crate) fn inbox(&self, node: &str) -> Topic {
        Topic::new(format!("{}:node:{node}", self.prefix))
    }

    pub(crate) fn namespace(&self, namespace: &str) -> Topic {
        Topic::new(format!("{}:namespace:{namespace}", self.prefix))
    }

    /// What concerns single sockets of the server with this tag.
    pub(crate) fn sockets(&self, namespace: &str, tag: &str) -> Topic {
        Topic::new(format!("{}:sockets:{tag}:{namespace}", self.prefix))
    }

    /// The log of a namespace. Its tag is that of the namespace, so that all that belongs to it is on
    /// one machine of a broker.
    pub(crate) fn log(&self, namespace: &str) -> Topic {
        let (prefix, tag) = (&self.prefix, tag(namespace, ""));
        Topic::log(format!("{prefix}:{{{tag}}}log:{namespace}"))
    }

    /// A room that is named like an id has the topic of its server's sockets.
    pub(crate) fn room(&self, namespace: &str, room: &str) -> Topic {
        if let Some(server) = server_of(room) {
            return self.sockets(namespace, server);
        }
        let (prefix, length) = (&self.prefix, namespace.len());
        // The length of the namespace says where the room begins: both may hold any character.
        let tag = tag(namespace, room);
        Topic::new(format!("{prefix}:{{{tag}}}room:{length}:{namespace}{room}"))
    }
}

/// The characters by which an id names its server. Returns `None` for names that don't have the form
/// of an id: 20 bytes, in revision 3 behind the namespace.
pub(crate) fn server_of(room: &str) -> Option<&str> {
    let id = room.rsplit_once('#').map_or(room, |(_, id)| id);
    id.get(ID - TAG..).filter(|tag| tag.len() == TAG)
}

/// The same on every server, today and tomorrow: FNV-1a.
fn tag(namespace: &str, room: &str) -> u32 {
    let bytes = namespace.bytes().chain([0]).chain(room.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash % TAGS
}

/// The topics of one namespace.
#[derive(Debug)]
pub(crate) struct Routes {
    namespace: Topic,
    moving: Mutex<HashMap<Room, Instant>>,
    has_moving: AtomicBool,
}

impl Routes {
    pub(crate) fn new(namespace: Topic) -> Self {
        Self {
            namespace,
            moving: Mutex::default(),
            has_moving: AtomicBool::new(false),
        }
    }

    pub(crate) const fn namespace(&self) -> &Topic {
        &self.namespace
    }

    /// The one room whose topic an event goes under. Returns `None` if it goes to the whole
    /// namespace.
    pub(crate) fn room<'t>(&self, target: &'t Target) -> Option<&'t Room> {
        let [room] = target.rooms.as_slice() else {
            return None;
        };
        (!self.is_moving(room)).then_some(room)
    }

    /// Sockets of other servers are put into these rooms.
    pub(crate) fn moves(&self, rooms: &[Room], now: Instant) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        moving.retain(|_, until| *until > now);
        let until = now + MOVING;
        moving.extend(rooms.iter().map(|room| (Room::clone(room), until)));
        self.has_moving.store(true, Ordering::Release);
    }

    fn is_moving(&self, room: &Room) -> bool {
        if !self.has_moving.load(Ordering::Acquire) {
            return false;
        }
        let now = Instant::now();
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let is_moving = moving.get(room).is_some_and(|until| *until > now);
        if !is_moving && moving.remove(room).is_some() && moving.is_empty() {
            self.has_moving.store(false, Ordering::Release);
        }
        is_moving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(rooms: &[&str]) -> Target {
        Target {
            rooms: rooms.iter().map(|room| Room::from(*room)).collect(),
            except: Vec::new(),
        }
    }

    #[test]
    fn rooms_of_two_namespaces_have_two_topics() {
        let topics = Topics::new("antiphon");
        assert_ne!(topics.room("/a", "bc"), topics.room("/ab", "c"));
        assert_ne!(topics.room("/a", "1:b"), topics.room("/a1:", "b"));
    }

    #[test]
    fn tags_are_those_of_every_version() {
        let topics = Topics::new("antiphon");
        let room = topics.room("/", "lobby");
        assert_eq!(room.name(), "antiphon:{106}room:1:/lobby");
    }

    #[test]
    fn an_event_to_one_room_goes_under_its_topic() {
        let routes = Routes::new(Topic::new("all"));
        assert_eq!(routes.room(&target(&["a"])).map(|room| &**room), Some("a"));
        for rooms in [&[][..], &["a", "b"]] {
            assert_eq!(routes.room(&target(rooms)), None);
        }
    }

    #[test]
    fn rooms_that_are_named_like_ids_have_the_topic_of_their_server() {
        let topics = Topics::new("antiphon");
        let of_server = topics.sockets("/chat", "7tAAAB");
        assert_eq!(of_server.name(), "antiphon:sockets:7tAAAB:/chat");
        for room in [
            "Zx81kq0vYd4mWn7tAAAB",
            "/chat#Zx81kq0vYd4mWn7tAAAB",
            "14 bytes, and 7tAAAB",
        ] {
            assert_eq!(topics.room("/chat", room), of_server, "{room}");
        }
        for room in [
            "/chat#abc",
            "lobby",
            "21 bytes, 5 and 7tAAAB",
            "13 bytes and 3 \u{20ac}\u{20ac}",
        ] {
            assert_eq!(server_of(room), None, "{room}");
        }
    }

    #[test]
    fn a_room_that_others_are_put_into_is_reached_by_the_namespace_for_a_while() {
        let (routes, now) = (Routes::new(Topic::new("all")), Instant::now());
        routes.moves(&["a".into()], now);
        assert_eq!(routes.room(&target(&["a"])), None);
        assert!(routes.room(&target(&["b"])).is_some());
        let past = now.checked_sub(2 * MOVING).unwrap();
        let routes = Routes::new(Topic::new("all"));
        routes.moves(&["a".into()], past);
        assert!(routes.room(&target(&["a"])).is_some());
        assert!(!routes.has_moving.load(Ordering::Relaxed));
    }
}
