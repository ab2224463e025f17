//! The tables of a file.
//!
//! The writer commits a group at a time, all of it or nothing; opening a namespace reads what is
//! there. Functions of a database: they know no threads and no clock.

use std::{collections::HashMap, io};

use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::server::{
    Room, Target,
    recovery::{log::SavedSession, memory::events::Past},
};

/// By namespace, a [`State`] as JSON.
const NAMESPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("namespaces");
/// By namespace and sequence.
const EVENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("events");
/// By namespace and private id.
const SESSIONS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("sessions");
/// By namespace and room: the newest of its events that have been dropped.
const ROOMS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("rooms");

/// Rooms whose events have been dropped, of which the newest is still known.
const ROOMS_REMEMBERED: u64 = 65_536;

/// Why something can't be stored or read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Failed(Box<redb::Error>);

impl Failed {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self(Box::new(redb::Error::Corrupted(what.into())))
    }

    pub(super) fn into_inner(self) -> redb::Error {
        *self.0
    }
}

macro_rules! failed_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failed {
            fn from(error: $error) -> Self {
                Self(Box::new(error.into()))
            }
        }
    )*};
}

failed_from!(
    io::Error,
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

/// What is known of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) epoch: u32,
    /// The last event that is here, or was.
    pub(super) last: u64,
    /// Of the events up to this one, some are not to be had.
    pub(super) lost: u64,
    /// No client has had an event behind `last`.
    pub(super) is_exact: bool,
    /// Its place in the mark.
    pub(super) slot: u64,
    pub(super) everyone: u64,
    pub(super) forgotten: u64,
}

/// What changes of one namespace.
#[derive(Debug)]
pub(super) struct Change<'c> {
    pub(super) namespace: &'c str,
    pub(super) state: State,
    pub(super) events: Vec<(u64, &'c Entry)>,
    /// Sessions as they are now; `None` is over.
    pub(super) sessions: Vec<(&'c Room, Option<&'c SavedSession>)>,
    /// Events below this one are dropped.
    pub(super) first: u64,
}

/// What was there of a namespace.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: State,
    /// Events as they could be read, oldest first.
    pub(super) events: Vec<(u64, Option<Entry>)>,
    pub(super) rooms: Vec<(Room, u64)>,
    pub(super) sessions: Vec<SavedSession>,
}

/// Makes the tables, where they lack.
pub(super) fn prepare(database: &Database) -> Result<(), Failed> {
    let writing = database.begin_write()?;
    writing.open_table(NAMESPACES)?;
    writing.open_table(EVENTS)?;
    writing.open_table(SESSIONS)?;
    writing.open_table(ROOMS)?;
    writing.commit()?;
    Ok(())
}

/// What there is of a namespace; without it, how many others there are.
pub(super) fn find(database: &Database, namespace: &str) -> Result<Result<Found, u64>, Failed> {
    let reading = database.begin_read()?;
    let namespaces = reading.open_table(NAMESPACES)?;
    let state = match namespaces.get(namespace)? {
        None => return Ok(Err(namespaces.len()?)),
        Some(state) => serde_json::from_slice::<State>(state.value()),
    };
    let state = state.map_err(|error| Failed::damaged(error.to_string()))?;
    let mut events = Vec::new();
    let of_namespace = (namespace, 0)..=(namespace, state.last);
    for item in reading.open_table(EVENTS)?.range(of_namespace)? {
        let (key, entry) = item?;
        events.push((key.value().1, Entry::read(entry.value())));
    }
    let mut rooms = Vec::new();
    for item in reading.open_table(ROOMS)?.range((namespace, "")..)? {
        let (key, newest) = item?;
        let (owner, room) = key.value();
        if owner != namespace {
            break;
        }
        rooms.push((room.into(), newest.value()));
    }
    let mut sessions = Vec::new();
    for item in reading.open_table(SESSIONS)?.range((namespace, "")..)? {
        let (key, session) = item?;
        let (owner, pid) = key.value();
        if owner != namespace {
            break;
        }
        // One that can't be read is one that isn't known: its client begins anew.
        sessions.extend(SavedSession::from_json(pid, session.value()));
    }
    Ok(Ok(Found {
        state,
        events,
        rooms,
        sessions,
    }))
}

/// Stores a group. The states of its namespaces are what they have become when this returns.
pub(super) fn commit(database: &Database, changes: &mut [Change<'_>]) -> Result<(), Failed> {
    let writing = database.begin_write()?;
    {
        let mut namespaces = writing.open_table(NAMESPACES)?;
        let mut events = writing.open_table(EVENTS)?;
        let mut sessions = writing.open_table(SESSIONS)?;
        let mut rooms = writing.open_table(ROOMS)?;
        for change in changes {
            let namespace = change.namespace;
            for (sequence, entry) in &change.events {
                events.insert((namespace, *sequence), entry.write().as_slice())?;
            }
            for (pid, session) in &change.sessions {
                match session {
                    Some(session) => {
                        let session = session.to_json();
                        sessions.insert((namespace, &***pid), session.as_slice())?;
                    }
                    None => {
                        sessions.remove((namespace, &***pid))?;
                    }
                }
            }
            let mut dropped = Dropped::default();
            let old = (namespace, 0)..(namespace, change.first);
            for item in events.extract_from_if(old, |_, _| true)? {
                let (key, entry) = item?;
                dropped.add(key.value().1, Entry::read_target(entry.value()));
            }
            let state = &mut change.state;
            state.everyone = state.everyone.max(dropped.everyone);
            for (room, newest) in &dropped.rooms {
                rooms.insert((namespace, &**room), newest)?;
            }
            if !dropped.rooms.is_empty() && rooms.len()? > ROOMS_REMEMBERED {
                state.forgotten = state.forgotten.max(forget_rooms(&mut rooms, namespace)?);
            }
            let state = serde_json::to_vec(state).unwrap_or_default();
            namespaces.insert(namespace, state.as_slice())?;
        }
    }
    writing.commit()?;
    Ok(())
}

/// Drops all that there is of a namespace: it begins anew.
pub(super) fn clear(database: &Database, namespace: &str) -> Result<(), Failed> {
    let writing = database.begin_write()?;
    writing.open_table(NAMESPACES)?.remove(namespace)?;
    let all = (namespace, 0)..=(namespace, u64::MAX);
    writing.open_table(EVENTS)?.retain_in(all, |_, _| false)?;
    writing
        .open_table(SESSIONS)?
        .retain(|(owner, _), _| owner != namespace)?;
    writing
        .open_table(ROOMS)?
        .retain(|(owner, _), _| owner != namespace)?;
    writing.commit()?;
    Ok(())
}

/// Drops what a commit that was taken for failed has left behind the last event.
pub(super) fn drop_behind(database: &Database, namespace: &str, last: u64) -> Result<(), Failed> {
    let writing = database.begin_write()?;
    let behind = (namespace, last + 1)..=(namespace, u64::MAX);
    writing
        .open_table(EVENTS)?
        .retain_in(behind, |_, _| false)?;
    writing.commit()?;
    Ok(())
}

/// Forgets the half of a namespace's rooms that have been quiet for longest. Gives the newest event
/// of those.
fn forget_rooms(
    rooms: &mut redb::Table<'_, (&'static str, &'static str), u64>,
    namespace: &str,
) -> Result<u64, Failed> {
    let mut newest = Vec::new();
    for item in rooms.range((namespace, "")..)? {
        let (key, sequence) = item?;
        if key.value().0 != namespace {
            break;
        }
        newest.push(sequence.value());
    }
    if newest.is_empty() {
        return Ok(0);
    }
    let middle = newest.len() / 2;
    let (_, middle, _) = newest.select_nth_unstable(middle);
    let middle = *middle;
    rooms.retain(|(owner, _), newest| owner != namespace || newest > middle)?;
    Ok(middle)
}

/// For whom the events were that are dropped.
#[derive(Default)]
struct Dropped {
    everyone: u64,
    rooms: HashMap<Room, u64>,
}

impl Dropped {
    fn add(&mut self, sequence: u64, target: Option<Target>) {
        match target {
            Some(target) if !target.rooms.is_empty() => {
                let rooms = target.rooms.into_iter();
                self.rooms.extend(rooms.map(|room| (room, sequence)));
            }
            // To everyone, or nobody knows.
            _ => self.everyone = sequence,
        }
    }
}

impl State {
    pub(super) const fn past(&self) -> Past {
        Past {
            everyone: self.everyone,
            forgotten: self.forgotten,
        }
    }
}

/// Puts something in the place of an event that can't be read.
#[cfg(test)]
pub(super) fn spoil(database: &Database, namespace: &str, sequence: u64) {
    let writing = database.begin_write().expect("writable");
    {
        let mut events = writing.open_table(EVENTS).expect("events");
        let spoiled = events.insert((namespace, sequence), b"?".as_slice());
        assert!(spoiled.expect("written").is_some(), "it was there");
    }
    writing.commit().expect("stored");
}
