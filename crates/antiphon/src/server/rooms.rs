//! Who is in which room: the sockets of one namespace on this server.
//!
//! Rooms and sockets are small integers here. The room of a socket's own id is implied: it is found
//! among the ids, and costs nothing.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use slab::Slab;

use super::{Socket, SocketId};
use crate::engine::id::RoomName;

/// The name of a room.
pub type Room = Arc<str>;

/// Which sockets: those in any of the rooms (in all where there are none), less those in any of
/// the excepted. Each counts once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Rooms, among them the ids of sockets.
    pub rooms: Vec<Room>,
    /// Rooms whose sockets are left out.
    pub except: Vec<Room>,
}

impl Target {
    /// Whether this is every socket of the namespace.
    #[must_use]
    pub const fn is_everyone(&self) -> bool {
        self.rooms.is_empty() && self.except.is_empty()
    }
}

impl fmt::Debug for Target {
    /// Names of rooms that are ids are shortened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("rooms", &RoomNames(&self.rooms))
            .field("except", &RoomNames(&self.except))
            .finish()
    }
}

/// Names of rooms as logs may show them.
pub(crate) struct RoomNames<'r>(pub(crate) &'r [Room]);

impl fmt::Debug for RoomNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|name| RoomName(name));
        f.debug_list().entries(names).finish()
    }
}

/// All sockets of a namespace and their rooms.
#[derive(Default)]
pub(crate) struct Rooms(RwLock<Index>);

#[derive(Default)]
struct Index {
    /// Counts the changes of who is where.
    version: u64,
    members: Slab<Member>,
    by_id: HashMap<SocketId, usize>,
    rooms: Slab<Occupied>,
    by_name: HashMap<Room, usize>,
}

struct Member {
    socket: Socket,
    rooms: Vec<u32>,
    /// It has left the room of its own id.
    left_own: bool,
}

struct Occupied {
    name: Room,
    members: HashSet<u32>,
}

impl Rooms {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        index.version += 1;
        index
    }

    /// Adds a socket, in the room of its own id.
    pub(crate) fn add(&self, socket: Socket) {
        // Dropped when the lock is released.
        let _replaced;
        let mut index = self.write();
        let id = socket.id().clone();
        // Clients of Engine.IO 3 come again under the same id; whom they replace may not have left.
        _replaced = index.remove(&id);
        let key = index.members.insert(Member {
            socket,
            rooms: Vec::new(),
            left_own: false,
        });
        index.by_id.insert(id, key);
    }

    /// Removes a socket from all its rooms and from here; not another one that has its id by now.
    pub(crate) fn remove(&self, socket: &Socket) {
        let mut index = self.write();
        let id = socket.id();
        let member = index.by_id.get(id).and_then(|key| index.members.get(*key));
        if member.is_some_and(|member| member.socket == *socket) {
            index.remove(id);
            index.shrink();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.read().members.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Socket> {
        let index = self.read();
        let key = *index.by_id.get(id)?;
        index.members.get(key).map(|member| member.socket.clone())
    }

    pub(crate) fn all(&self) -> Vec<Socket> {
        let index = self.read();
        index
            .members
            .iter()
            .map(|(_, member)| member.socket.clone())
            .collect()
    }

    /// The rooms of one socket, its own id first.
    pub(crate) fn of_socket(&self, id: &SocketId) -> Vec<Room> {
        let index = self.read();
        let Some(member) = index.by_id.get(id).and_then(|key| index.members.get(*key)) else {
            return Vec::new();
        };
        let own = (!member.left_own).then(|| id.as_shared().clone());
        let others = member.rooms.iter();
        own.into_iter()
            .chain(others.filter_map(|room| Some(index.rooms.get(*room as usize)?.name.clone())))
            .collect()
    }

    /// The rooms that somebody is in, those of own ids aside, with how many are.
    pub(crate) fn occupied(&self) -> Vec<(Room, usize)> {
        let index = self.read();
        let rooms = index.rooms.iter();
        rooms
            .map(|(_, room)| (room.name.clone(), room.members.len()))
            .collect()
    }

    /// Puts one socket into `rooms`.
    pub(crate) fn join_one(&self, id: &SocketId, rooms: &[Room]) {
        let mut index = self.write();
        if let Some(key) = index.by_id.get(id).copied() {
            rooms.iter().for_each(|room| index.join_room(room, key));
        }
    }

    /// Takes one socket out of `rooms`.
    pub(crate) fn leave_one(&self, id: &SocketId, rooms: &[Room]) {
        let mut index = self.write();
        if let Some(key) = index.by_id.get(id).copied() {
            rooms.iter().for_each(|room| index.member_leaves(room, key));
        }
    }

    /// Puts the sockets of `target` into `rooms`.
    pub(crate) fn join(&self, target: &Target, rooms: &[Room]) {
        let mut index = self.write();
        for key in index.select(target) {
            rooms.iter().for_each(|room| index.join_room(room, key));
        }
    }

    /// Takes the sockets of `target` out of `rooms`.
    pub(crate) fn leave(&self, target: &Target, rooms: &[Room]) {
        let mut index = self.write();
        for key in index.select(target) {
            rooms.iter().for_each(|room| index.member_leaves(room, key));
        }
    }

    /// Calls `each` with every socket of `target`, each once, and gives the version of who is where.
    /// It must not come back here.
    pub(crate) fn for_each(&self, target: &Target, mut each: impl FnMut(&Socket)) -> u64 {
        let index = self.read();
        if target.is_everyone() {
            index
                .members
                .iter()
                .for_each(|(_, member)| each(&member.socket));
            return index.version;
        }
        for key in index.select(target) {
            if let Some(member) = index.members.get(key) {
                each(&member.socket);
            }
        }
        index.version
    }

    /// Does something while everyone is where they were at a version. False: they aren't, or it says so.
    pub(crate) fn while_at(&self, version: u64, work: impl FnOnce() -> bool) -> bool {
        let index = self.read();
        index.version == version && work()
    }
}

impl Index {
    /// Takes the socket with this id out of everything.
    fn remove(&mut self, id: &SocketId) -> Option<Member> {
        let key = self.by_id.remove(id)?;
        let mut member = self.members.remove(key);
        for room in std::mem::take(&mut member.rooms) {
            self.leave_room(room as usize, key);
        }
        Some(member)
    }

    /// The keys of the sockets in any of the target's rooms (or of all), less the excepted.
    fn select(&self, target: &Target) -> Vec<usize> {
        let mut selected: Vec<usize> = if target.rooms.is_empty() {
            self.members.iter().map(|(key, _)| key).collect()
        } else {
            target
                .rooms
                .iter()
                .flat_map(|room| self.members_of(room))
                .collect()
        };
        if target.rooms.len() > 1 {
            selected.sort_unstable();
            selected.dedup();
        }
        if !target.except.is_empty() {
            let excepted: HashSet<usize> = target
                .except
                .iter()
                .flat_map(|room| self.members_of(room))
                .collect();
            selected.retain(|key| !excepted.contains(key));
        }
        selected
    }

    /// Who is in a room: its members, and the socket whose own room it is.
    fn members_of<'i>(&'i self, room: &str) -> impl Iterator<Item = usize> + use<'i> {
        let own = self.by_id.get(room).copied();
        let own = own.filter(|key| self.members.get(*key).is_some_and(|one| !one.left_own));
        let occupied = self.by_name.get(room).and_then(|key| self.rooms.get(*key));
        let members = occupied.into_iter().flat_map(|room| &room.members);
        own.into_iter().chain(
            members
                .map(|key| *key as usize)
                .filter(move |key| Some(*key) != own),
        )
    }

    fn join_room(&mut self, name: &Room, key: usize) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        if **member.socket.id().as_shared() == **name {
            member.left_own = false;
            return;
        }
        let room = *self.by_name.entry(name.clone()).or_insert_with(|| {
            self.rooms.insert(Occupied {
                name: name.clone(),
                members: HashSet::new(),
            })
        });
        if let Some(occupied) = self.rooms.get_mut(room)
            && occupied.members.insert(key as u32)
        {
            member.rooms.push(room as u32);
        }
    }

    /// A socket leaves a room, maybe that of its own id.
    fn member_leaves(&mut self, name: &Room, key: usize) {
        let room = self.by_name.get(name).copied();
        if let Some(member) = self.members.get_mut(key) {
            if **member.socket.id().as_shared() == **name {
                member.left_own = true;
            }
            member.rooms.retain(|one| Some(*one as usize) != room);
        }
        if let Some(room) = room {
            self.leave_room(room, key);
        }
    }

    /// Takes a member out of a room, which ends with its last.
    fn leave_room(&mut self, room: usize, key: usize) {
        let Some(occupied) = self.rooms.get_mut(room) else {
            return;
        };
        occupied.members.remove(&(key as u32));
        if occupied.members.is_empty() {
            let occupied = self.rooms.remove(room);
            self.by_name.remove(&occupied.name);
        }
    }

    /// Gives memory back when most of a crowd has left. The slabs keep theirs up to the last entry that
    /// is in use, so once more when all have left.
    fn shrink(&mut self) {
        let capacity = self.by_id.capacity();
        let most_left = capacity > FEW && self.by_id.len() < capacity / 4;
        if most_left || self.by_id.is_empty() && self.members.capacity() > FEW {
            self.by_id.shrink_to_fit();
            self.members.shrink_to_fit();
            self.by_name.shrink_to_fit();
            self.rooms.shrink_to_fit();
        }
    }
}

/// Memory for so many sockets is kept.
const FEW: usize = 1_024;
