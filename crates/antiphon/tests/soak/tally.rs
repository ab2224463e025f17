//! What has happened so far, for the lines that the soak prints; and what was wrong.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// So many errors are enough for a reader.
const ENOUGH: usize = 10;

#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    /// Events that were emitted, volatile ones not among them.
    pub(crate) emitted: Count,
    /// Events that clients have had.
    pub(crate) had: Count,
    pub(crate) volatile_had: Count,
    /// Connections on which clients have heard that they have a new session.
    pub(crate) began: Count,
    /// As [`began`](Self::began), with the session that they had.
    pub(crate) recovered: Count,
    /// CONNECTs that were refused since another of the same session came behind them.
    pub(crate) refused: Count,
    /// Clients that stayed away for longer than the log keeps.
    pub(crate) absences: Count,
    pub(crate) expired: Count,
    pub(crate) evicted: Count,
    /// Those of the expired and the evicted that didn't stay away on purpose: faults have followed
    /// each other, and this machine was slow.
    pub(crate) too_slow: Count,
    pub(crate) rooms_changed: Count,
    /// Sessions whose connection was lost at the moment of a change of rooms.
    pub(crate) void: Count,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn fault(&self, kind: &'static str) {
        *self.faults.lock().unwrap().entry(kind).or_default() += 1;
    }

    /// How many faults there were of each kind.
    fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.faults.lock().unwrap().clone()
    }

    /// What isn't in the line that is printed from time to time.
    pub(crate) fn more(&self) -> String {
        format!(
            "{} volatile events had, {} changes of rooms ({} cut short), {} clients away for long, \
             {} refused for a later connection; faults: {:?}",
            self.volatile_had,
            self.rooms_changed,
            self.void,
            self.absences,
            self.refused,
            self.faults(),
        )
    }

    pub(crate) fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < ENOUGH {
            wrong.push(what);
        }
    }

    /// What was wrong, if anything.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let wrong = self.wrong.lock().unwrap();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("\n")),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults().values().sum();
        write!(
            f,
            "{} events, {} had; {faults} faults; {} sessions, {} recoveries, {} expired, \
             {} evicted ({} for slowness)",
            self.emitted,
            self.had,
            self.began,
            self.recovered,
            self.expired,
            self.evicted,
            self.too_slow
        )
    }
}
