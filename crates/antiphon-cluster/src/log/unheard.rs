//! What a server has appended to a shared log and has not heard back.
//!
//! The shared log owns it, under its lock. An entry is promised to whoever has emitted it until it
//! comes back, or is refused. It is sent when it is known how far the log goes, in order, and again by
//! each new connection: the journal knows by its number what it has already.

use std::{collections::BTreeMap, time::Instant};

use antiphon::recovery::LogError;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::broker::Refused;

/// So many entries may wait to come back, and so many bytes in them.
const ENTRIES: usize = 16_384;
const BYTES: usize = 64 * 1_024 * 1_024;

/// A place, once it is known.
pub(super) type Promise = oneshot::Receiver<Result<u64, LogError>>;

#[derive(Debug)]
pub(super) struct Unheard {
    /// By their numbers.
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    /// The number of the next.
    next: u64,
    /// The first that has to be sent.
    unsent: u64,
    /// Whether it is known, by this connection, how far the log goes: before, nothing is sent.
    is_open: bool,
    /// Why nothing can be stored, if the broker says so.
    denied: Option<String>,
    failures: u64,
}

#[derive(Debug)]
struct Entry {
    began: Instant,
    bytes: Bytes,
    done: oneshot::Sender<Result<u64, LogError>>,
}

impl Unheard {
    pub(super) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            bytes: 0,
            next: 1,
            unsent: 1,
            is_open: false,
            denied: None,
            failures: 0,
        }
    }

    /// What could not be stored so far.
    pub(super) const fn failures(&self) -> u64 {
        self.failures
    }

    /// Something else could not be stored.
    pub(super) const fn failed(&mut self) {
        self.failures += 1;
    }

    /// How many entries wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Since when the oldest waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.entries.values().next().map(|entry| entry.began)
    }

    /// Why nothing can be stored, if the broker says so.
    pub(super) const fn denied(&self) -> Option<&String> {
        self.denied.as_ref()
    }

    /// An entry waits from now on, which `write` writes, given its number.
    pub(super) fn push(
        &mut self,
        now: Instant,
        write: impl FnOnce(u64) -> Vec<u8>,
    ) -> Result<Promise, LogError> {
        let refused = match &self.denied {
            Some(reason) => Some(reason.clone()),
            None if self.entries.len() >= ENTRIES || self.bytes >= BYTES => Some(FULL.to_owned()),
            None => None,
        };
        if let Some(reason) = refused {
            self.failures += 1;
            return Err(LogError::Failed(reason));
        }
        let bytes = Bytes::from(write(self.next));
        let (done, promise) = oneshot::channel();
        self.bytes += bytes.len();
        let began = now;
        self.entries.insert(self.next, Entry { began, bytes, done });
        self.next += 1;
        Ok(promise)
    }

    /// Sends what has not been sent, in its order, as far as it is taken. Returns whether some of it
    /// has to be tried again.
    pub(super) fn send(
        &mut self,
        mut append: impl FnMut(u64, Bytes) -> Result<(), Refused>,
    ) -> bool {
        if !self.is_open {
            return false;
        }
        let mut refused = Vec::new();
        for (number, entry) in self.entries.range(self.unsent..) {
            match append(*number, entry.bytes.clone()) {
                Ok(()) => {}
                // It is sent when the connection is there again, or there is room.
                Err(Refused::Down { .. } | Refused::Full) => break,
                Err(error) => refused.push((*number, error)),
            }
            self.unsent = number + 1;
        }
        for (number, error) in refused {
            self.fail(number, &error.to_string());
        }
        self.entries.range(self.unsent..).next().is_some()
    }

    /// An entry has come back, as this place. Returns whether somebody waited for it.
    pub(super) fn heard(&mut self, number: u64, place: u64) -> bool {
        let Some(entry) = self.remove(number) else {
            return false;
        };
        // Whoever waited may have gone with its namespace.
        let _ = entry.done.send(Ok(place));
        true
    }

    /// An entry is not stored.
    pub(super) fn fail(&mut self, number: u64, reason: &str) {
        if let Some(entry) = self.remove(number) {
            self.failures += 1;
            let _ = entry.done.send(Err(LogError::Failed(reason.to_owned())));
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.bytes.len();
        Some(entry)
    }

    /// It is known how far the log goes.
    pub(super) const fn opened(&mut self) {
        self.is_open = true;
    }

    /// The log can be read: what is appended will come back.
    pub(super) fn allowed(&mut self) {
        self.denied = None;
    }

    /// The connection is lost, and what was sent by it may be.
    pub(super) fn cut(&mut self) {
        self.is_open = false;
        self.unsent = self.entries.keys().next().copied().unwrap_or(self.next);
    }

    /// The broker says no: what waits won't be stored. Returns whether it says so for the first time
    /// since the log could be read, or for another reason.
    pub(super) fn deny(&mut self, reason: String) -> bool {
        while let Some((number, _)) = self.entries.first_key_value() {
            let number = *number;
            self.fail(number, &reason);
        }
        let is_new = self.denied.as_ref() != Some(&reason);
        self.denied = Some(reason);
        is_new
    }
}

const FULL: &str = "too much waits for the broker";

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(unheard: &mut Unheard, most: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        unheard.send(|number, _| {
            if numbers.len() == most {
                return Err(Refused::Full);
            }
            numbers.push(number);
            Ok(())
        });
        numbers
    }

    #[test]
    fn entries_are_sent_in_order_and_again_by_another_connection() {
        let (mut unheard, now) = (Unheard::new(), Instant::now());
        let mut promises: Vec<_> = (0..5)
            .map(|_| unheard.push(now, |_| vec![0; 3]).unwrap())
            .collect();
        assert!(sent(&mut unheard, 9).is_empty(), "it isn't open");
        unheard.opened();
        assert_eq!(sent(&mut unheard, 3), [1, 2, 3]);
        assert_eq!(sent(&mut unheard, 9), [4, 5]);
        assert!(unheard.heard(1, 11) && !unheard.heard(1, 12));
        assert_eq!(promises[0].try_recv(), Ok(Ok(11)));
        unheard.cut();
        assert!(sent(&mut unheard, 9).is_empty());
        unheard.opened();
        assert_eq!(sent(&mut unheard, 9), [2, 3, 4, 5]);
        assert!(unheard.deny("no".to_owned()));
        // It can be opened, and not read.
        unheard.opened();
        assert!(!unheard.deny("no".to_owned()), "it is said once");
        assert!(matches!(promises[4].try_recv(), Ok(Err(_))));
        assert!(unheard.push(now, |_| Vec::new()).is_err());
        assert_eq!((unheard.bytes, unheard.failures()), (0, 5));
        unheard.allowed();
        assert!(unheard.push(now, |_| Vec::new()).is_ok());
        assert!(unheard.deny("no".to_owned()));
    }

    #[test]
    fn what_waits_is_bounded() {
        for (size, most) in [(1, ENTRIES), (BYTES / 4, 4)] {
            let (mut unheard, now) = (Unheard::new(), Instant::now());
            let pushed = (0..=ENTRIES).take_while(|_| unheard.push(now, |_| vec![0; size]).is_ok());
            assert_eq!(pushed.count(), most);
        }
    }

    #[test]
    fn the_oldest_that_waits_is_known() {
        let (mut unheard, now) = (Unheard::new(), Instant::now());
        let later = now + std::time::Duration::from_secs(1);
        assert_eq!((unheard.len(), unheard.since()), (0, None));
        let _promises = [now, later].map(|at| unheard.push(at, |_| Vec::new()).unwrap());
        // Also while the connection is lost.
        unheard.cut();
        assert_eq!((unheard.len(), unheard.since()), (2, Some(now)));
        unheard.heard(1, 11);
        assert_eq!((unheard.len(), unheard.since()), (1, Some(later)));
    }
}
