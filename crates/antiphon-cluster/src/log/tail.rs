//! The end of a shared log, as one server has heard it: which entry is next, and when some have been
//! missed.
//!
//! The shared log owns one. It is driven by what is heard and read, and does nothing itself. Entries
//! that are heard are taken if each is the next. Else those in between are read, and what is heard
//! meanwhile is left alone, since it will be read, too.

use super::Placed;

/// What a server has heard of a log.
#[derive(Debug)]
pub(super) struct Tail {
    last: u64,
    /// The highest place that was heard of.
    seen: u64,
    state: State,
    /// How often it was asked for that all is read.
    asked: u64,
}

/// One reading of what was missed, from its beginning on. What is asked for later needs another one:
/// it may have been missed by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing can be read now.
    Cut,
    /// What was missed is being read.
    Reading,
    /// Entries are taken as they are heard.
    Following,
}

/// What becomes of an entry that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is the next.
    Next,
    /// It has been taken before, or will be read.
    Leave,
    /// Entries before it were missed: they are to be read now.
    Read,
}

impl Tail {
    pub(super) const fn new() -> Self {
        Self {
            last: 0,
            seen: 0,
            state: State::Cut,
            asked: 0,
        }
    }

    /// The last entry that has been taken.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// An entry was heard.
    pub(super) fn heard(&mut self, placed: &Placed) -> Heard {
        self.seen = self.seen.max(placed.place);
        if self.state != State::Following || placed.place <= self.last {
            return Heard::Leave;
        }
        if placed.before <= self.last {
            return Heard::Next;
        }
        self.state = State::Reading;
        Heard::Read
    }

    /// The connection is there, or something that was heard has been dropped: what may have been
    /// missed is to be read. Returns whether nobody reads yet.
    pub(super) fn read(&mut self) -> bool {
        self.asked += 1;
        std::mem::replace(&mut self.state, State::Reading) != State::Reading
    }

    /// Nothing can be read.
    pub(super) fn cut(&mut self) {
        self.state = State::Cut;
    }

    /// A reading that begins now. Returns `None` if nothing is to be read.
    pub(super) fn begin(&self) -> Option<Pass> {
        (self.state == State::Reading).then_some(Pass(self.asked))
    }

    /// A reading has failed. Returns `false` if it is to be read again at once: the connection is a new
    /// one by now, and the failure that of the one before.
    pub(super) fn failed(&mut self, pass: Pass) -> bool {
        let is_last = pass.0 == self.asked;
        if is_last {
            self.cut();
        }
        is_last
    }

    /// An entry has been taken, or there is nothing up to this place.
    pub(super) fn took(&mut self, place: u64) {
        self.last = self.last.max(place);
    }

    /// All has been read that there is. Returns whether it is known that nothing lacks: else it is
    /// to be read on.
    pub(super) fn has_read_all(&mut self, pass: Pass) -> bool {
        let is_whole = self.seen <= self.last && pass.0 == self.asked;
        if is_whole && self.state == State::Reading {
            self.state = State::Following;
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn placed(place: u64, before: u64) -> Placed {
        Placed {
            place,
            before,
            entry: Bytes::new(),
        }
    }

    #[test]
    fn nothing_is_taken_before_it_was_read_how_far_the_log_goes() {
        let mut tail = Tail::new();
        assert_eq!(tail.heard(&placed(5, 4)), Heard::Leave);
        assert!(tail.read() && !tail.read());
        tail.took(4);
        let pass = tail.begin().unwrap();
        // What was heard meanwhile is still to be read.
        assert!(!tail.has_read_all(pass));
        tail.took(5);
        assert!(tail.has_read_all(pass));
        assert_eq!(tail.heard(&placed(6, 5)), Heard::Next);
    }

    /// A task that reads may be late: the connection that it reads by is gone, and the next one there.
    #[test]
    fn what_a_reading_can_have_missed_is_read_again() {
        let mut tail = Tail::new();
        tail.read();
        let pass = tail.begin().unwrap();
        tail.cut();
        assert_eq!(tail.begin(), None);
        tail.read();
        assert!(!tail.has_read_all(pass) && !tail.failed(pass));
        let next = tail.begin().unwrap();
        assert!(tail.has_read_all(next));
        tail.read();
        let next = tail.begin().unwrap();
        assert!(tail.failed(next));
        assert_eq!(tail.begin(), None);
    }

    proptest! {
        /// Whatever is lost, doubled or cut off on the way: each entry is taken once, in order.
        #[test]
        fn each_entry_is_taken_once_and_in_order(
            steps in prop::collection::vec((0..8_u8, 1..4_u64), 1..200),
        ) {
            let mut log: Vec<Placed> = Vec::new();
            let (mut tail, mut taken) = (Tail::new(), Vec::new());
            let read = |tail: &mut Tail, taken: &mut Vec<u64>, log: &[Placed]| {
                let pass = tail.begin().unwrap();
                while !{
                    let behind = tail.last();
                    for entry in log.iter().filter(|entry| entry.place > behind).take(3) {
                        tail.took(entry.place);
                        taken.push(entry.place);
                    }
                    tail.last() == behind && tail.has_read_all(pass)
                } {}
            };
            for (step, distance) in steps {
                let last = log.last().map_or(0, |entry| entry.place);
                let entry = placed(last + distance, last);
                match step {
                    0 => tail.cut(),
                    1 if tail.read() => read(&mut tail, &mut taken, &log),
                    // It is appended, and not heard.
                    2 => log.push(entry),
                    // An old one comes again.
                    3 => if let Some(old) = log.get(log.len() / 2)
                        && tail.heard(old) == Heard::Next
                    {
                        tail.took(old.place);
                        taken.push(old.place);
                    },
                    _ => {
                        log.push(entry.clone());
                        match tail.heard(&entry) {
                            Heard::Next => {
                                tail.took(entry.place);
                                taken.push(entry.place);
                            }
                            Heard::Read => read(&mut tail, &mut taken, &log),
                            Heard::Leave => {}
                        }
                    }
                }
            }
            tail.read();
            read(&mut tail, &mut taken, &log);
            let places: Vec<_> = log.iter().map(|entry| entry.place).collect();
            prop_assert_eq!(taken, places);
        }
    }
}
