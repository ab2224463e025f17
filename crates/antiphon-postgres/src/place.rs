//! How far a server has read the table.
//!
//! Ids don't say it: a transaction takes its ids when it inserts, and its rows come to light when
//! it commits, which may be long after others with higher ids. Who reads behind the highest id that
//! it has seen loses those rows; who lets all wait for the oldest transaction, or has writers wait
//! for each other, is held up by anyone's long one.
//!
//! So a row holds the number of its transaction, and each read remembers its snapshot: which
//! transactions had ended by then. The next read takes the rows of those that have ended since:
//! every row once, whatever the order of commits, and none waits for another.
//!
//! ```text
//! snapshot = xmin:xmax:xip     ended: all below xmax, but for those in xip
//! the next read                xid >= xmax, or xid in xip      (both by the primary key)
//! ```
//!
//! Numbers of transactions go back when Postgres crashes or a standby takes over: those that it had
//! given away and not written down are given again. Then the epoch is another one (`setup.sql`), and
//! the next read takes the rows of the last [`WINDOW`] that haven't been seen.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

/// Rows that were written so long before a read are remembered.
const WINDOW: Duration = Duration::from_secs(10);

/// So many rows are remembered at the most.
const SEEN: usize = 65_536;

/// How far a server has read.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<Known>);

#[derive(Debug)]
struct Known {
    epoch: String,
    snapshot: String,
    /// Rows that were read, by when they were written, and their ids.
    seen: BTreeSet<(SystemTime, i64)>,
    /// All that was written after this and has been read is in `seen`.
    floor: SystemTime,
}

/// What the next read takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// Nothing: what comes from now on.
    Now,
    /// What has been committed since this snapshot.
    Snapshot(String),
    /// What was written after this.
    Time(SystemTime),
}

/// What a read says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) epoch: String,
    /// Its snapshot.
    pub(crate) snapshot: String,
    /// Rows of transactions that had ended by this one have been deleted.
    pub(crate) swept: Option<String>,
    /// The time there.
    pub(crate) now: SystemTime,
}

/// The number behind all transactions that a snapshot knows.
fn end(snapshot: &str) -> Option<u64> {
    snapshot.split(':').nth(1)?.parse().ok()
}

impl Place {
    /// What the next read takes, where the epoch is this, and the snapshot now.
    pub(crate) fn from(&self, epoch: &str, now: &str) -> From {
        match &self.0 {
            None => From::Now,
            // A database that was put in the place of another may have the epoch of that.
            Some(known) if known.epoch == epoch && end(now) >= end(&known.snapshot) => {
                From::Snapshot(known.snapshot.clone())
            }
            Some(known) => From::Time(known.floor),
        }
    }

    /// What the next read on the same connection takes.
    pub(crate) fn here(&self) -> From {
        match &self.0 {
            None => From::Now,
            Some(known) => From::Snapshot(known.snapshot.clone()),
        }
    }

    /// A row has been read. Returns whether that is the first time.
    pub(crate) fn take(&mut self, written: SystemTime, id: i64) -> bool {
        match &mut self.0 {
            Some(known) => known.seen.insert((written, id)),
            None => true,
        }
    }

    /// All rows of a read have been taken. Returns whether others may have been deleted before they
    /// could be read.
    pub(crate) fn arrive(&mut self, head: Head) -> bool {
        let Head {
            epoch,
            snapshot,
            swept,
            now,
        } = head;
        let Some(known) = &mut self.0 else {
            self.0 = Some(Known {
                epoch,
                snapshot,
                seen: BTreeSet::new(),
                floor: now,
            });
            return false;
        };
        let is_gap = swept.is_some_and(|swept| {
            // Of another epoch nothing had been swept when this server read last.
            known.epoch != epoch || end(&swept) > end(&known.snapshot)
        });
        known.epoch = epoch;
        known.snapshot = snapshot;
        let window = now.checked_sub(WINDOW).unwrap_or(now);
        known.floor = known.floor.max(window);
        while let Some((written, _)) = known.seen.first()
            && (*written <= known.floor || known.seen.len() > SEEN)
        {
            known.floor = known.floor.max(*written);
            known.seen.pop_first();
        }
        is_gap
    }
}
