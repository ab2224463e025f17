//! What the broker in memory keeps: logs and sessions in the memory of one process.
//!
//! A hub owns them, under its lock, and gives what is appended to its members. Tests can have it lose
//! what it has stored.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::{
    Topic,
    log::{Append, Change, Extent, Kept, Placed},
};

/// The logs and sessions of a hub.
#[derive(Default)]
pub(super) struct Journals {
    logs: HashMap<Topic, Log>,
}

impl Journals {
    pub(super) fn log(&mut self, topic: &Topic) -> &mut Log {
        self.logs.entry(topic.clone()).or_insert_with(Log::new)
    }

    /// The sessions of all logs.
    pub(super) fn sessions(&self) -> Vec<Bytes> {
        let sessions = self.logs.values().flat_map(|log| log.sessions.values());
        sessions.map(|(kept, _)| kept.session.clone()).collect()
    }

    /// So many of the newest entries of each log are lost.
    pub(super) fn forget_newest(&mut self, count: usize) {
        for log in self.logs.values_mut() {
            let kept = log.entries.len().saturating_sub(count);
            log.entries.truncate(kept);
            log.last = log.entries.back().map_or(log.base, |last| last.place);
            log.sent.clear();
        }
    }
}

/// The log of one namespace.
pub(super) struct Log {
    base: u64,
    last: u64,
    entries: VecDeque<Placed>,
    /// The last number of each sender.
    sent: HashMap<Box<str>, u64>,
    sessions: HashMap<Box<str>, (Kept, Instant)>,
}

impl Log {
    /// A log that begins behind all places that were ever given.
    fn new() -> Self {
        let passed = SystemTime::now().duration_since(UNIX_EPOCH);
        let base = passed.map_or(0, |passed| passed.as_millis() as u64) << 10;
        Self {
            base,
            last: base,
            entries: VecDeque::new(),
            sent: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    fn push(&mut self, place: u64, entry: Bytes) -> Placed {
        let before = std::mem::replace(&mut self.last, place);
        let placed = Placed {
            place,
            before,
            entry,
        };
        self.entries.push_back(placed.clone());
        placed
    }

    /// Appends an entry, and returns it with its place. Returns `None` if it has been appended before.
    pub(super) fn append(&mut self, append: Append<'_>) -> Option<Placed> {
        let sent = self.sent.get(append.from);
        if sent.is_some_and(|sent| *sent >= append.number) {
            return None;
        }
        self.sent.insert(append.from.into(), append.number);
        let placed = self.push(self.last + 1, append.entry);
        while self.entries.len() as u64 > append.keep {
            self.entries.pop_front();
        }
        Some(placed)
    }

    /// How far it goes, and the entry that tells of a break if more has been heard of it.
    pub(super) fn open(&mut self, heard: u64) -> (Extent, Option<Placed>) {
        let broken = (heard > self.last).then(|| {
            self.base = Self::new().base.max(heard + 1);
            self.push(self.base, Bytes::new())
        });
        let extent = Extent {
            base: self.base,
            last: self.last,
        };
        (extent, broken)
    }

    /// The entries behind a place, about so many bytes.
    pub(super) fn read(&self, after: u64, bytes: usize) -> Vec<Placed> {
        let mut left = bytes;
        let behind = self.entries.iter().filter(|entry| entry.place > after);
        let page = behind.take_while(|entry| {
            let fits = left > 0;
            left = left.saturating_sub(entry.entry.len() + 64);
            fits
        });
        page.cloned().collect()
    }

    pub(super) fn session(&self, pid: &str) -> Option<Kept> {
        let (kept, until) = self.sessions.get(pid)?;
        (*until > Instant::now()).then(|| kept.clone())
    }

    pub(super) fn claim(&mut self, pid: &str, from: &str, to: &str) -> bool {
        let Some((kept, _)) = self.sessions.get_mut(pid) else {
            return false;
        };
        let is_theirs = *kept.owner == *from;
        if is_theirs {
            kept.owner = to.into();
        }
        is_theirs
    }

    pub(super) fn save(&mut self, owner: &str, changes: Vec<Change>, time: Duration) -> Vec<bool> {
        let now = Instant::now();
        self.sessions.retain(|_, (_, until)| *until > now);
        let save = |(pid, session): Change| {
            let kept = self.sessions.get(&pid);
            if kept.is_some_and(|(kept, _)| *kept.owner != *owner) {
                return false;
            }
            match session {
                None => drop(self.sessions.remove(&pid)),
                Some(session) => {
                    let kept = Kept {
                        owner: owner.into(),
                        session,
                    };
                    self.sessions.insert(pid, (kept, now + time));
                }
            }
            true
        };
        changes.into_iter().map(save).collect()
    }
}
