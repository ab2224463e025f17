//! How far a server has read the table.
//!
//! Ids don't say it: a transaction takes its ids when it inserts, and its rows come to light when
//! it commits, which may be long after others with higher ids. A server that read behind the
//! highest id that it has seen would lose those rows; one that waited for the oldest transaction, or had
//! writers wait for each other, would be held up by anyone's long one.
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// As much of a Postgres as a reader can see.
    #[derive(Default)]
    struct Model {
        epoch: u32,
        now: Duration,
        next_xid: u64,
        next_id: i64,
        /// Transactions that go on, and their rows.
        open: BTreeMap<u64, Vec<(SystemTime, i64)>>,
        rows: Vec<(u64, SystemTime, i64)>,
        delivered: Vec<i64>,
    }

    impl Model {
        fn time(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + self.now
        }

        fn snapshot(&self) -> String {
            let open: Vec<_> = self.open.keys().map(u64::to_string).collect();
            let lowest = self.open.keys().next().unwrap_or(&self.next_xid);
            format!("{lowest}:{}:{}", self.next_xid, open.join(","))
        }

        fn open(&self, which: usize) -> Option<u64> {
            let at = which.checked_rem(self.open.len())?;
            self.open.keys().nth(at).copied()
        }

        fn write(&mut self, which: usize) {
            let (time, id) = (self.time(), self.next_id);
            if let Some(xid) = self.open(which)
                && let Some(rows) = self.open.get_mut(&xid)
            {
                rows.push((time, id));
                self.next_id += 1;
            }
        }

        fn end(&mut self, which: usize, commits: bool) {
            let Some(xid) = self.open(which) else { return };
            let rows = self.open.remove(&xid).unwrap();
            if commits {
                let rows = rows.into_iter().map(|(time, id)| (xid, time, id));
                self.rows.extend(rows);
            }
        }

        /// Numbers that left nothing behind are given again.
        fn crash(&mut self) {
            self.open.clear();
            let last = self.rows.iter().map(|(xid, ..)| *xid).max();
            self.next_xid = last.unwrap_or(0) + 1;
            self.epoch += 1;
        }

        /// Reads; with `stop`, the connection is lost after so many rows.
        fn read(&mut self, place: &mut Place, stop: Option<usize>) {
            let epoch = self.epoch.to_string();
            let from = place.from(&epoch, &self.snapshot());
            let is_new = |xid: u64, written: SystemTime| match &from {
                From::Now => false,
                From::Time(time) => written > *time,
                From::Snapshot(snapshot) => {
                    let mut parts = snapshot.split(':').skip(1);
                    let end: u64 = parts.next().unwrap().parse().unwrap();
                    let mut open = parts.next().unwrap().split(',');
                    xid >= end || open.any(|open| open == xid.to_string())
                }
            };
            let mut rows: Vec<_> = self.rows.clone();
            rows.retain(|(xid, written, _)| is_new(*xid, *written));
            rows.sort_by_key(|(.., id)| *id);
            for (_, written, id) in rows.iter().take(stop.unwrap_or(usize::MAX)) {
                if place.take(*written, *id) {
                    self.delivered.push(*id);
                }
            }
            if stop.is_none() {
                place.arrive(Head {
                    epoch,
                    snapshot: self.snapshot(),
                    swept: None,
                    now: self.time(),
                });
            }
        }
    }

    proptest! {
        /// Whatever the order in which transactions end, and however reads are cut off: each row of
        /// a transaction that has been committed is read once, and no other.
        #[test]
        fn what_was_committed_is_read_once(
            steps in prop::collection::vec((0_u8..16, 0_usize..8), 0..300),
        ) {
            let (mut model, mut place) = (Model::default(), Place::default());
            model.now = Duration::from_secs(1_000);
            model.read(&mut place, None);
            for (step, which) in steps {
                // All of it happens within the window.
                model.now += Duration::from_millis(10);
                match step {
                    0..3 => {
                        model.open.insert(model.next_xid, Vec::new());
                        model.next_xid += 1;
                    }
                    3..8 => model.write(which),
                    8..10 => model.end(which, true),
                    10 => model.end(which, false),
                    11..14 => model.read(&mut place, None),
                    14 => model.read(&mut place, Some(which)),
                    _ if which == 0 => model.crash(),
                    _ => {}
                }
            }
            model.read(&mut place, None);
            let committed: BTreeSet<_> = model.rows.iter().map(|(.., id)| *id).collect();
            let delivered: BTreeSet<_> = model.delivered.iter().copied().collect();
            prop_assert_eq!(delivered.len(), model.delivered.len(), "one came twice");
            prop_assert_eq!(delivered, committed);
        }
    }

    fn head(epoch: &str, snapshot: &str, swept: Option<&str>, seconds: u64) -> Head {
        Head {
            epoch: epoch.to_owned(),
            snapshot: snapshot.to_owned(),
            swept: swept.map(str::to_owned),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }

    #[test]
    fn what_was_deleted_before_it_could_be_read_is_told_once() {
        let mut place = Place::default();
        assert!(!place.arrive(head("a", "7:7:", Some("90:90:"), 0)));
        assert!(!place.arrive(head("a", "10:12:10", Some("5:7:"), 10)));
        assert!(place.arrive(head("a", "20:20:", Some("13:13:"), 20)));
        assert!(!place.arrive(head("a", "21:21:", Some("13:13:"), 30)));
        assert!(place.arrive(head("b", "5:5:", Some("4:4:"), 40)));
        assert!(!place.arrive(head("c", "5:5:", None, 50)));
    }

    #[test]
    fn a_database_in_the_place_of_another_is_read_by_time() {
        let mut place = Place::default();
        place.arrive(head("a", "100:100:", None, 100));
        assert!(matches!(place.from("a", "100:100:"), From::Snapshot(_)));
        assert!(matches!(place.from("a", "50:50:"), From::Time(_)));
        assert!(matches!(place.from("b", "200:200:"), From::Time(_)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_comes_twice() {
        let mut place = Place::default();
        place.arrive(head("a", "1:1:", None, 0));
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        for id in 0..SEEN + 10 {
            assert!(place.take(at(id as u64), id as i64));
        }
        place.arrive(head("a", "2:2:", None, 1));
        let known = place.0.as_ref().unwrap();
        assert_eq!(known.seen.len(), SEEN);
        assert_eq!(known.floor, at(9));
        place.arrive(head("a", "2:2:", None, 1_000));
        assert!(place.0.unwrap().seen.is_empty());
    }
}
