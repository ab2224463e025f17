//! The rooms of one namespace, and the sockets in them on this server.
//!
//! Rooms and sockets are small integers here. The room of a socket's own id is implied: it is found
//! among the ids, and costs nothing. A socket and a room know where they stand in each other's
//! list, so that joining and leaving cost the same however many there are.
//!
//! A socket is asked for by itself and not by its id: with Engine.IO 3 another one may have that by
//! now.
//!
//! One read-write lock guards all of it. `for_each` calls back under the read lock: what it calls
//! may queue packets, and must not come back here. Each change counts a version, by which a burst
//! of broadcasts sees that the members are still the same. Memory is given back when a crowd has
//! left.

pub(crate) mod broadcast;
pub(crate) mod burst;
pub(crate) mod events;
pub(crate) mod fetched;
pub(crate) mod retained;
mod target;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use slab::Slab;

use crate::server::{
    Socket, SocketId,
    adapter::{Membership, Watcher},
    recovery::Recoverable,
    rooms::events::RoomEvents,
};

pub(crate) use target::RoomNames;
pub use target::{Room, Target};

/// All sockets of a namespace and their rooms.
#[derive(Default)]
pub(crate) struct Rooms(RwLock<Index>);

#[derive(Default)]
struct Index {
    /// Counts the changes of memberships.
    version: u64,
    members: Slab<Member>,
    by_id: HashMap<SocketId, usize>,
    rooms: Slab<Occupied>,
    by_name: HashMap<Room, usize>,
    /// Hears of changes. Most servers have none.
    watcher: Option<Watcher>,
    /// Handlers of the application hear of changes. Most namespaces have none.
    events: Option<Arc<RoomEvents>>,
    /// The last logged event that has been queued for all its receivers, if there is a log: its
    /// sockets note since when they are in a room.
    delivered: Option<Arc<AtomicU64>>,
}

struct Member {
    socket: Socket,
    /// In the order in which it joined them; [`GONE`] if it has left one since.
    rooms: Vec<u32>,
    /// How many it has left.
    gone: u32,
    /// It has left the room of its own id.
    left_own: bool,
}

/// In the place of a room that its member has left.
const GONE: u32 = u32::MAX;

struct Occupied {
    name: Room,
    /// Where the room stands in the list of each member.
    members: HashMap<u32, u32>,
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

    /// The adapter hears of changes from now on.
    pub(crate) fn watch(&self, watcher: Option<Watcher>) {
        self.write().watcher = watcher;
    }

    /// The application hears of changes from now on.
    pub(crate) fn observe(&self, events: impl FnOnce() -> RoomEvents) {
        self.write()
            .events
            .get_or_insert_with(|| Arc::new(events()));
    }

    /// Sockets note their rooms together with this from now on.
    pub(crate) fn track(&self, delivered: Arc<AtomicU64>) {
        self.write().delivered = Some(delivered);
    }

    /// Adds a socket, in the room of its own id and in `rooms`.
    pub(crate) fn add(&self, socket: Socket, rooms: &[Room]) {
        // Dropped when the lock is released.
        let _replaced;
        let mut index = self.write();
        let id = socket.id().clone();
        // Clients of Engine.IO 3 come again under the same id. The one before has left, unless a
        // handler keeps its thread from letting it go.
        _replaced = index.remove(&id);
        let key = index.members.insert(Member {
            socket,
            rooms: Vec::new(),
            gone: 0,
            left_own: false,
        });
        index.note(Membership::Came { socket: &id });
        if let Some((recoverable, delivered)) = index.tracked(key) {
            recoverable.came(delivered);
            recoverable.joined(&id, id.as_shared(), delivered);
        }
        index.by_id.insert(id, key);
        rooms.iter().for_each(|room| index.join_room(room, key));
    }

    /// Removes a socket from all its rooms and from here; not another one that has its id by now.
    pub(crate) fn remove(&self, socket: &Socket) {
        if !self.contains(socket) {
            return;
        }
        // Dropped when the lock is released.
        let _removed;
        let mut index = self.write();
        if index.key_of(socket).is_some() {
            _removed = index.remove(socket.id());
            index.shrink();
        }
    }

    /// Whether this socket is here.
    pub(crate) fn contains(&self, socket: &Socket) -> bool {
        self.read().key_of(socket).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().members.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Socket> {
        let index = self.read();
        let key = *index.by_id.get(id)?;
        index.members.get(key).map(|member| member.socket.clone())
    }

    /// Whether anybody may be in this room, that of an own id among them.
    pub(crate) fn has_room(&self, room: &str) -> bool {
        let index = self.read();
        index.by_name.contains_key(room) || index.by_id.contains_key(room)
    }

    /// Whether there may be sockets of this target.
    pub(crate) fn may_have(&self, target: &Target) -> bool {
        let index = self.read();
        let has =
            |room: &Room| index.by_name.contains_key(room) || index.by_id.contains_key(&**room);
        !index.members.is_empty() && (target.rooms.is_empty() || target.rooms.iter().any(has))
    }

    pub(crate) fn all(&self) -> Vec<Socket> {
        self.sockets(&Target::default())
    }

    /// The sockets of `target`, to do with them what must not be done in [`for_each`](Self::for_each).
    pub(crate) fn sockets(&self, target: &Target) -> Vec<Socket> {
        let mut sockets = Vec::new();
        self.for_each(target, |socket| sockets.push(socket.clone()));
        sockets
    }

    /// The rooms of one socket, its own id first.
    pub(crate) fn of_socket(&self, socket: &Socket) -> Vec<Room> {
        let index = self.read();
        let key = index.key_of(socket);
        let member = key.and_then(|key| index.members.get(key));
        member.map_or_else(Vec::new, |member| index.rooms_of(member))
    }

    /// The rooms that somebody is in, those of own ids aside, with how many are.
    pub(crate) fn occupied(&self) -> Vec<(Room, usize)> {
        let index = self.read();
        let rooms = index.rooms.iter();
        rooms
            .map(|(_, room)| (room.name.clone(), room.members.len()))
            .collect()
    }

    /// Puts one socket into `rooms`. Returns `false` if it isn't here.
    pub(crate) fn join_one(&self, socket: &Socket, rooms: &[Room]) -> bool {
        let mut index = self.write();
        let key = index.key_of(socket);
        if let Some(key) = key {
            rooms.iter().for_each(|room| index.join_room(room, key));
        }
        key.is_some()
    }

    /// Takes one socket out of `rooms`. Returns `false` if it isn't here.
    pub(crate) fn leave_one(&self, socket: &Socket, rooms: &[Room]) -> bool {
        let mut index = self.write();
        let key = index.key_of(socket);
        if let Some(key) = key {
            rooms.iter().for_each(|room| index.member_leaves(room, key));
            index.shrink();
        }
        key.is_some()
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
        index.shrink();
    }

    /// The sockets of `target` and the rooms of each.
    pub(crate) fn with_rooms(&self, target: &Target) -> Vec<(Socket, Vec<Room>)> {
        let index = self.read();
        let selected = index.select(target).into_iter();
        let members = selected.filter_map(|key| index.members.get(key));
        members
            .map(|member| (member.socket.clone(), index.rooms_of(member)))
            .collect()
    }

    /// Calls `each` with every socket of `target`, each once. It must not come back here.
    pub(crate) fn for_each(&self, target: &Target, each: impl FnMut(&Socket)) {
        self.read().for_each(target, each);
    }

    /// As [`for_each`](Self::for_each), to send something to each, and gives the version of the
    /// memberships. Those that another thread writes to come last: behind it, this one would wait at
    /// each, and what it sends miss each write.
    pub(crate) fn send_each(&self, target: &Target, mut send: impl FnMut(&Socket)) -> u64 {
        let index = self.read();
        let mut busy = Vec::new();
        index.for_each(target, |socket| match socket.is_being_flushed() {
            true => busy.push(socket),
            false => send(socket),
        });
        busy.into_iter().for_each(send);
        index.version
    }

    /// Does something while the memberships are those of a version. Returns `false` if they aren't,
    /// or `work` says so.
    pub(crate) fn while_at(&self, version: u64, work: impl FnOnce() -> bool) -> bool {
        let index = self.read();
        index.version == version && work()
    }
}

impl Index {
    fn for_each<'i>(&'i self, target: &Target, mut each: impl FnMut(&'i Socket)) {
        if target.is_everyone() {
            let members = self.members.iter();
            return members.for_each(|(_, member)| each(&member.socket));
        }
        let each_key = |key| {
            if let Some(member) = self.members.get(key) {
                each(&member.socket);
            }
        };
        match (&target.rooms[..], target.except.is_empty()) {
            ([room], true) => self.members_of(room).for_each(each_key),
            _ => self.select(target).into_iter().for_each(each_key),
        }
    }

    /// The key of this socket, and not of another one with its id.
    fn key_of(&self, socket: &Socket) -> Option<usize> {
        let key = *self.by_id.get(socket.id())?;
        let member = self.members.get(key)?;
        (member.socket == *socket).then_some(key)
    }

    /// The rooms of a member, its own id first.
    fn rooms_of(&self, member: &Member) -> Vec<Room> {
        let own = (!member.left_own).then(|| member.socket.id().as_shared().clone());
        // Where it has left one, there is no room.
        let others = member.rooms.iter();
        let others = others.filter_map(|room| self.rooms.get(*room as usize));
        own.into_iter()
            .chain(others.map(|room| room.name.clone()))
            .collect()
    }

    /// Takes the socket with this id out of everything.
    fn remove(&mut self, id: &SocketId) -> Option<Member> {
        let key = self.by_id.remove(id)?;
        let mut member = self.members.remove(key);
        for room in std::mem::take(&mut member.rooms) {
            self.leave_room(room as usize, key, Some(id));
        }
        self.note(Membership::Gone { socket: id });
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

    /// The sockets in a room: its members, and the socket whose own room it is.
    fn members_of<'i>(&'i self, room: &str) -> impl Iterator<Item = usize> + use<'i> {
        let own = self.by_id.get(room).copied();
        let own = own.filter(|key| self.members.get(*key).is_some_and(|one| !one.left_own));
        let occupied = self.by_name.get(room).and_then(|key| self.rooms.get(*key));
        let members = occupied.into_iter().flat_map(|room| room.members.keys());
        own.into_iter().chain(
            members
                .map(|key| *key as usize)
                .filter(move |key| Some(*key) != own),
        )
    }

    /// What a socket notes of its rooms, and the last event that has been queued for it.
    fn tracked(&self, key: usize) -> Option<(&Recoverable, u64)> {
        let delivered = self.delivered.as_ref()?;
        let recoverable = self.members.get(key)?.socket.recoverable()?;
        Some((recoverable, delivered.load(Ordering::Acquire)))
    }

    fn join_room(&mut self, name: &Room, key: usize) {
        self.enter_room(name, key);
        if let Some((recoverable, delivered)) = self.tracked(key)
            && let Some(member) = self.members.get(key)
        {
            recoverable.joined(member.socket.id(), name, delivered);
        }
    }

    fn enter_room(&mut self, name: &Room, key: usize) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        if **member.socket.id().as_shared() == **name {
            member.left_own = false;
            return;
        }
        let room = *self.by_name.entry(name.clone()).or_insert_with(|| {
            note(
                &self.watcher,
                &self.events,
                Membership::Created { room: name },
            );
            self.rooms.insert(Occupied {
                name: name.clone(),
                members: HashMap::new(),
            })
        });
        if let Some(occupied) = self.rooms.get_mut(room)
            && let Entry::Vacant(place) = occupied.members.entry(key as u32)
        {
            place.insert(member.rooms.len() as u32);
            member.rooms.push(room as u32);
            let socket = member.socket.id();
            note(
                &self.watcher,
                &self.events,
                Membership::Joined { room: name, socket },
            );
        }
    }

    fn note(&self, change: Membership<'_>) {
        note(&self.watcher, &self.events, change);
    }

    /// Whether anybody hears of changes.
    const fn is_watched(&self) -> bool {
        self.watcher.is_some() || self.events.is_some()
    }

    /// A socket leaves a room, maybe that of its own id.
    fn member_leaves(&mut self, name: &Room, key: usize) {
        if let Some((recoverable, delivered)) = self.tracked(key)
            && let Some(member) = self.members.get(key)
        {
            recoverable.left(member.socket.id(), name, delivered);
        }
        let is_watched = self.is_watched();
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        if **member.socket.id().as_shared() == **name {
            member.left_own = true;
        }
        let Some(room) = self.by_name.get(name).copied() else {
            return;
        };
        let id = member.socket.id();
        let id = is_watched.then(|| id.clone());
        if let Some(place) = self.leave_room(room, key, id.as_ref()) {
            self.strike(key, place as usize);
        }
    }

    /// Takes a member out of a room, which ends with its last. Gives the room's place in the list
    /// of the member. `socket` is the member's id, for the watcher.
    fn leave_room(&mut self, room: usize, key: usize, socket: Option<&SocketId>) -> Option<u32> {
        let occupied = self.rooms.get_mut(room)?;
        let place = occupied.members.remove(&(key as u32))?;
        if let Some(socket) = socket {
            let room = &occupied.name;
            note(
                &self.watcher,
                &self.events,
                Membership::Left { room, socket },
            );
        }
        let (count, capacity) = (occupied.members.len(), occupied.members.capacity());
        if count == 0 {
            let occupied = self.rooms.remove(room);
            self.by_name.remove(&occupied.name);
            self.note(Membership::Deleted {
                room: &occupied.name,
            });
        } else if capacity > FEW_IN_A_LIST && count < capacity / 8 {
            occupied.members.shrink_to(2 * count);
        }
        Some(place)
    }

    /// Strikes a room off the list of a member. The places are used again when most have been
    /// struck off: each then moves once, so that leaving many costs no more for each than leaving
    /// one.
    fn strike(&mut self, key: usize, place: usize) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let Some(room) = member.rooms.get_mut(place) else {
            return;
        };
        *room = GONE;
        member.gone += 1;
        while member.rooms.last() == Some(&GONE) {
            member.rooms.pop();
            member.gone -= 1;
        }
        let gone = member.gone as usize;
        if gone > FEW_IN_A_LIST && gone > member.rooms.len() / 2 {
            member.rooms.retain(|room| *room != GONE);
            member.gone = 0;
            for (place, room) in member.rooms.iter().enumerate() {
                if let Some(occupied) = self.rooms.get_mut(*room as usize) {
                    occupied.members.insert(key as u32, place as u32);
                }
            }
        }
        let (count, capacity) = (member.rooms.len(), member.rooms.capacity());
        if capacity > FEW_IN_A_LIST && count < capacity / 4 {
            member.rooms.shrink_to(2 * count);
        }
    }

    /// Gives memory back when most sockets or most rooms have gone. Those that stay move together.
    fn shrink(&mut self) {
        if self.members.capacity() > FEW && self.members.len() < self.members.capacity() / 4 {
            let (by_id, rooms) = (&mut self.by_id, &mut self.rooms);
            self.members.compact(|member, from, to| {
                if let Some(key) = by_id.get_mut(member.socket.id()) {
                    *key = to;
                }
                for room in &member.rooms {
                    if let Some(occupied) = rooms.get_mut(*room as usize)
                        && let Some(place) = occupied.members.remove(&(from as u32))
                    {
                        occupied.members.insert(to as u32, place);
                    }
                }
                true
            });
            self.by_id.shrink_to_fit();
        }
        if self.rooms.capacity() > FEW && self.rooms.len() < self.rooms.capacity() / 4 {
            let (by_name, members) = (&mut self.by_name, &mut self.members);
            self.rooms.compact(|occupied, _, to| {
                if let Some(key) = by_name.get_mut(&occupied.name) {
                    *key = to;
                }
                for (member, place) in &occupied.members {
                    let member = members.get_mut(*member as usize);
                    let room = member.and_then(|member| member.rooms.get_mut(*place as usize));
                    room.into_iter().for_each(|room| *room = to as u32);
                }
                true
            });
            self.by_name.shrink_to_fit();
        }
    }
}

/// Tells those who hear of changes.
fn note(watcher: &Option<Watcher>, events: &Option<Arc<RoomEvents>>, change: Membership<'_>) {
    if let Some(watcher) = watcher {
        watcher.note(change);
    }
    if let Some(events) = events {
        events.note(change);
    }
}

/// Memory for so many sockets and rooms is kept.
const FEW: usize = 1_024;

/// So much is kept for the members of a room, or for the rooms of a member.
const FEW_IN_A_LIST: usize = 32;

#[cfg(test)]
mod tests;
