//! What keeps the logged events of a cluster, and its sessions: the line between the shared log and
//! Redis, or another broker that can keep something.
//!
//! A [`Journal`] is part of a [`Broker`](crate::broker::Broker). It knows bytes and places, and not
//! what an entry says. Appended entries come back to all servers as frames of the log's topic
//! ([`Placed`]), in their order; what was missed is read.

use std::time::Duration;

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use bytes::Bytes;

use crate::{Topic, broker::Refused};

/// An entry that is to be appended.
#[derive(Debug, Clone)]
pub struct Append<'a> {
    /// Who has emitted it.
    pub from: &'a str,
    /// Its number, among those of this sender. They grow: an entry whose number isn't above the
    /// sender's last has been appended already.
    pub number: u64,
    /// What it says.
    pub entry: Bytes,
    /// About so many of the newest entries are kept.
    pub keep: u64,
    /// For how long entries are kept.
    pub time: Duration,
}

/// An entry that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its place. Later ones are higher.
    pub place: u64,
    /// The place of the entry before it.
    pub before: u64,
    /// What it says. Empty where the log goes on behind a break: some of what was appended before
    /// may be lost. [`Self::NOTHING`] where it says nothing.
    pub entry: Bytes,
}

impl Placed {
    /// An entry that says nothing: the log goes on at a higher place, and nothing is lost.
    pub const NOTHING: &[u8] = b"-";

    /// Its bytes, as a frame of the log's topic: both places as decimal numbers, and the entry, with
    /// a colon between them. Brokers that run scripts write the same.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut frame = format!("{}:{}:", self.place, self.before).into_bytes();
        frame.extend_from_slice(&self.entry);
        frame.into()
    }

    /// An entry from such a frame. Returns `None` if it is none.
    ///
    /// ```
    /// use antiphon_cluster::log::Placed;
    ///
    /// let placed = Placed::decode(b"7:6:what it says".as_slice().into()).unwrap();
    /// assert_eq!((placed.place, placed.before), (7, 6));
    /// assert_eq!(placed.entry, "what it says");
    /// ```
    #[must_use]
    pub fn decode(frame: Bytes) -> Option<Self> {
        let (place, rest) = number(&frame)?;
        let (before, rest) = number(rest)?;
        // Nothing comes behind the last place that there can be.
        if before >= place || place > MOST {
            return None;
        }
        Some(Self {
            place,
            before,
            entry: frame.slice_ref(rest),
        })
    }
}

/// Places are below this.
const MOST: u64 = i64::MAX as u64;

/// A number and the colon behind it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let colon = text.iter().take(21).position(|byte| *byte == b':')?;
    let (digits, rest) = text.split_at(colon);
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, &rest[1..]))
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Nothing is known of entries up to this place: the log began behind it, or what was before
    /// may be lost.
    pub base: u64,
    /// The last entry.
    pub last: u64,
}

/// A session as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The server that has it.
    pub owner: Box<str>,
    /// What it is, in a form that servers know.
    pub session: Bytes,
}

/// A session that is saved, or `None` if it is over.
pub type Change = (Box<str>, Option<Bytes>);

/// Keeps the logged events of namespaces, and their sessions. A log is named by its topic.
pub trait Journal: Send + Sync + 'static {
    /// Appends an entry, behind what has been [published](crate::broker::Broker::publish) before. It
    /// never waits: entries are put into the broker's queue. All servers get it under the log's
    /// topic, this one too. One that the broker refuses afterwards is told by
    /// [`Inbox::refused`](crate::broker::Inbox::refused); one that gets lost with the connection is
    /// appended again by the caller.
    ///
    /// # Errors
    /// [`Refused`] if it won't be sent.
    fn append(&self, log: &Topic, append: Append<'_>) -> Result<(), Refused>;

    /// How far a log goes; one that isn't there begins, with these bounds. `heard` is the last entry that this server
    /// has heard: if the log doesn't go so far, its end has been lost, and it goes on behind a break.
    fn open(&self, log: &Topic, bounds: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>>;

    /// The entries behind a place, oldest first, about so many bytes. None if there are no more.
    fn read(
        &self,
        log: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>>;

    /// A session, if it is kept.
    fn session(&self, log: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>>;

    /// Makes a session `to`'s, if it is still `from`'s. Returns whether it was.
    fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>>;

    /// Keeps sessions of a server for so long, and forgets those that are over. Returns for each
    /// whether it was the server's: another's stays as it is.
    fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(place in 1..MOST, entry: Vec<u8>) {
            let (before, entry) = (place - 1, Bytes::from(entry));
            let placed = Placed { place, before, entry };
            prop_assert_eq!(Placed::decode(placed.encode()), Some(placed));
        }

        #[test]
        fn whatever_comes_is_an_entry_or_none(frame: Vec<u8>) {
            if let Some(placed) = Placed::decode(frame.into()) {
                prop_assert!(placed.before < placed.place);
            }
        }
    }

    #[test]
    fn places_that_nothing_can_come_behind_are_none() {
        for frame in [
            "18446744073709551615:1:x",
            "1:1:x",
            "1:2:x",
            "-1:0:x",
            "1:x",
            "",
            ":::",
        ] {
            assert_eq!(Placed::decode(Bytes::from(frame)), None, "{frame}");
        }
    }
}
