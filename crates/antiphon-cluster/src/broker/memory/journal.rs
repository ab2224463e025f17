//! The journal of the broker in memory: logs and sessions in the memory of one process.
//!
//! A [`Hub`] owns them, under its lock. A cut connection refuses, as a broker's does, and tests can
//! have the hub lose what it has stored.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use bytes::Bytes;

use super::{Hub, Link, Memory, Refused};
use crate::{
    Topic,
    log::{Append, Change, Extent, Journal, Kept, Placed},
};

/// The logs and sessions of a hub.
#[derive(Default)]
pub(super) struct Journals {
    logs: HashMap<Topic, Log>,
}

struct Log {
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
}

impl Journals {
    fn log(&mut self, topic: &Topic) -> &mut Log {
        self.logs.entry(topic.clone()).or_insert_with(Log::new)
    }
}

impl Hub {
    /// All logs and sessions are lost, as those of a broker that begins anew.
    pub fn forget(&self) {
        self.state().journals = Journals::default();
    }

    /// The sessions of all logs, in the form in which servers have saved them.
    #[must_use]
    pub fn sessions(&self) -> Vec<Bytes> {
        let state = self.state();
        let sessions = state
            .journals
            .logs
            .values()
            .flat_map(|log| log.sessions.values());
        sessions.map(|(kept, _)| kept.session.clone()).collect()
    }

    /// The newest entries of all logs are lost, as those of a broker that has not stored them.
    pub fn forget_newest(&self, count: usize) {
        for log in self.state().journals.logs.values_mut() {
            let kept = log.entries.len().saturating_sub(count);
            log.entries.truncate(kept);
            log.last = log.entries.back().map_or(log.base, |last| last.place);
            log.sent.clear();
        }
    }
}

impl Memory {
    fn is_up(&self) -> Result<(), Refused> {
        match *self.link.borrow() {
            Link::Up => Ok(()),
            Link::Cut => Err(Refused::Down {
                reason: "the connection was cut".to_owned(),
            }),
            Link::Closed => Err(Refused::Closed),
        }
    }

    /// Does something with a log, if the connection is there.
    fn with_log<R: Send + 'static>(
        &self,
        topic: &Topic,
        work: impl FnOnce(&mut Log) -> R,
    ) -> BoxFuture<Result<R, Refused>> {
        let done = self
            .is_up()
            .map(|()| work(self.hub.state().journals.log(topic)));
        Box::pin(std::future::ready(done))
    }
}

impl Journal for Memory {
    fn append(&self, topic: &Topic, append: Append<'_>) -> Result<(), Refused> {
        self.is_up()?;
        // Frames are given in the order of the places.
        let mut state = self.hub.state();
        let log = state.journals.log(topic);
        if log
            .sent
            .get(append.from)
            .is_some_and(|sent| *sent >= append.number)
        {
            return Ok(());
        }
        log.sent.insert(append.from.into(), append.number);
        let placed = log.push(log.last + 1, append.entry);
        while log.entries.len() as u64 > append.keep {
            log.entries.pop_front();
        }
        state.publish(topic, &placed.encode());
        Ok(())
    }

    fn open(&self, topic: &Topic, _: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        let hub = self.hub.clone();
        let topic = topic.clone();
        let is_up = self.is_up();
        Box::pin(async move {
            is_up?;
            let mut state = hub.state();
            let log = state.journals.log(&topic);
            if heard > log.last {
                let place = Log::new().base.max(heard + 1);
                log.base = place;
                let placed = log.push(place, Bytes::new());
                let extent = Extent {
                    base: log.base,
                    last: log.last,
                };
                state.publish(&topic, &placed.encode());
                return Ok(extent);
            }
            Ok(Extent {
                base: log.base,
                last: log.last,
            })
        })
    }

    fn read(
        &self,
        topic: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        self.with_log(topic, |log| {
            let mut left = bytes;
            let behind = log.entries.iter().filter(|entry| entry.place > after);
            let page = behind.take_while(|entry| {
                let fits = left > 0;
                left = left.saturating_sub(entry.entry.len() + 64);
                fits
            });
            page.cloned().collect()
        })
    }

    fn session(&self, topic: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        self.with_log(topic, |log| {
            let (kept, until) = log.sessions.get(pid)?;
            (*until > Instant::now()).then(|| kept.clone())
        })
    }

    fn claim(
        &self,
        topic: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        self.with_log(topic, |log| {
            let Some((kept, _)) = log.sessions.get_mut(pid) else {
                return false;
            };
            let is_theirs = *kept.owner == *from;
            if is_theirs {
                kept.owner = to.into();
            }
            is_theirs
        })
    }

    fn save(
        &self,
        topic: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        self.with_log(topic, |log| {
            let now = Instant::now();
            log.sessions.retain(|_, (_, until)| *until > now);
            let save = |(pid, session): Change| {
                let kept = log.sessions.get(&pid);
                if kept.is_some_and(|(kept, _)| *kept.owner != *owner) {
                    return false;
                }
                match session {
                    None => drop(log.sessions.remove(&pid)),
                    Some(session) => {
                        let kept = Kept {
                            owner: owner.into(),
                            session,
                        };
                        log.sessions.insert(pid, (kept, now + time));
                    }
                }
                true
            };
            changes.into_iter().map(save).collect()
        })
    }
}
