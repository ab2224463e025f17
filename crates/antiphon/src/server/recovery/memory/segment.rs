//! Records of events side by side: the unit in which a log is dropped.
//!
//! The log owns a queue of segments. A record has the time, the rooms with the event before it in
//! each (so that the events of one room are a chain, newest first), the exceptions, the event and
//! its attachments. Numbers take as many bytes as they need, so that an event costs some 15 bytes
//! beyond its own. The log alone writes records, so reading one can't fail; what isn't there is
//! `None`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_protocol::{
    record::{Reader, write, write_bytes, write_event},
    socket::Outgoing,
};

use crate::server::recovery::log::{LoggedEvent, Offset};

/// The key of a room among those of its log.
pub(super) type RoomKey = u32;

/// Events in the order of their sequences.
#[derive(Debug)]
pub(super) struct Segment {
    /// The sequence of the first.
    pub(super) first: u64,
    /// The sequence of the last.
    pub(super) last: u64,
    /// The sequences, if they aren't one behind the other.
    sequences: Vec<u64>,
    /// When the first was emitted, in ms since the epoch of UNIX.
    began: u64,
    /// When the last was.
    pub(super) ended: u64,
    records: Vec<u8>,
    starts: Vec<u32>,
}

/// What an event is for, as its record has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// The rooms, each with the event before this one; none is everyone.
    pub(super) rooms: Vec<(RoomKey, u64)>,
    /// The event to everyone before this one.
    pub(super) everyone_before: u64,
    pub(super) except: Vec<Box<str>>,
}

impl Segment {
    pub(super) const fn new(first: u64, now: u64) -> Self {
        Self {
            first,
            last: first,
            sequences: Vec::new(),
            began: now,
            ended: now,
            records: Vec::new(),
            starts: Vec::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.starts.len()
    }

    /// What it takes in memory.
    pub(super) const fn bytes(&self) -> usize {
        self.records.len()
            + size_of_val(self.starts.as_slice())
            + size_of_val(self.sequences.as_slice())
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.records.capacity()
            + self.starts.capacity() * size_of::<u32>()
            + self.sequences.capacity() * size_of::<u64>()
    }

    /// Whether an event of so many bytes begins another one instead.
    pub(super) const fn is_full(&self, bytes: usize, most: usize) -> bool {
        self.records.len() + bytes > most || self.records.len() + bytes > u32::MAX as usize
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) {
        self.records.shrink_to_fit();
        self.starts.shrink_to_fit();
        self.sequences.shrink_to_fit();
    }

    /// Adds an event behind the last.
    pub(super) fn push(&mut self, sequence: u64, now: u64, address: &Address, event: &Outgoing) {
        let is_dense = self.sequences.is_empty();
        let next = self.first + self.starts.len() as u64;
        if is_dense && sequence != next {
            self.sequences.extend(self.first..next);
        }
        if !is_dense || sequence != next {
            self.sequences.push(sequence);
        }
        self.last = sequence;
        // The clock may have been set back.
        self.ended = self.ended.max(now);
        self.starts.push(self.records.len() as u32);
        let records = &mut self.records;
        write(records, now.saturating_sub(self.began));
        write(records, address.rooms.len() as u64);
        for (room, before) in &address.rooms {
            write(records, u64::from(*room));
            write(records, distance(sequence, *before));
        }
        if address.rooms.is_empty() {
            write(records, distance(sequence, address.everyone_before));
        }
        write(records, address.except.len() as u64);
        for room in &address.except {
            write_bytes(records, room.as_bytes());
        }
        write_event(records, event);
    }

    fn record(&self, sequence: u64) -> Option<Reader<'_>> {
        let index = match self.sequences.as_slice() {
            [] => usize::try_from(sequence.checked_sub(self.first)?).ok()?,
            sequences => sequences.binary_search(&sequence).ok()?,
        };
        let start = *self.starts.get(index)? as usize;
        Some(Reader::new(self.records.get(start..)?))
    }

    /// What an event is for.
    pub(super) fn address(&self, sequence: u64) -> Option<Address> {
        address(&mut self.record(sequence)?, sequence).map(|(_, it)| it)
    }

    /// An event, and how many bytes it has.
    pub(super) fn event(&self, offset: Offset) -> Option<(LoggedEvent, usize)> {
        let mut record = self.record(offset.sequence)?;
        let (after, _) = address(&mut record, offset.sequence)?;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(self.began + after))?;
        let event = record.event()?;
        let bytes = event.len_bytes();
        Some((LoggedEvent::new(offset, at, event), bytes))
    }
}

/// Now, in ms since the epoch of UNIX.
pub(in crate::server::recovery) fn now() -> u64 {
    millis(SystemTime::now())
}

/// A time, in ms since the epoch of UNIX.
pub(super) fn millis(time: SystemTime) -> u64 {
    let passed = time.duration_since(UNIX_EPOCH);
    passed.map_or(0, |passed| passed.as_millis() as u64)
}

/// How far back an event is; 0 if there is none.
const fn distance(sequence: u64, before: u64) -> u64 {
    if before == 0 { 0 } else { sequence - before }
}

/// When the event came after the segment's first, and what it is for.
fn address(record: &mut Reader<'_>, sequence: u64) -> Option<(u64, Address)> {
    let mut address = Address::default();
    let after = record.number()?;
    for _ in 0..record.number()? {
        let room = record.number()? as RoomKey;
        address.rooms.push((room, before(record, sequence)?));
    }
    if address.rooms.is_empty() {
        address.everyone_before = before(record, sequence)?;
    }
    for _ in 0..record.number()? {
        address.except.push(record.text()?.into());
    }
    Some((after, address))
}

/// The event before one, from the record of this.
fn before(record: &mut Reader<'_>, sequence: u64) -> Option<u64> {
    match record.number()? {
        0 => Some(0),
        distance => sequence.checked_sub(distance),
    }
}
