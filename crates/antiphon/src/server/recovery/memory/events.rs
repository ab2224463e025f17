//! The events of a log, found by room and by sequence, within bounds.
//!
//! It is driven by calls and the time alone. Events lie in segments, which are dropped whole. Of
//! each room the newest event is known, and each event knows the one before it in its rooms: so
//! what a socket has missed is found by walking its rooms' chains back to where it was, and costs
//! what there is to find. A room's newest event is remembered for longer than the events
//! themselves, so that a socket of a quiet room is known to have missed nothing.

use std::collections::{HashMap, VecDeque};

use antiphon_protocol::socket::Outgoing;
use slab::Slab;

use super::segment::{Address, RoomKey, Segment};
use crate::server::{
    Room, Target,
    recovery::log::{Bounds, LogError, Missed, Offset, Page, Stay},
};

/// A log is dropped in about so many parts.
const PARTS: usize = 16;

/// The most bytes of a segment, but for one that has a single event.
const LARGEST_SEGMENT: usize = 256 << 10;

/// Rooms whose events have been dropped, of which the newest is still known.
const ROOMS_REMEMBERED: usize = 65_536;

/// Events in the order of their sequences.
#[derive(Debug)]
pub(in crate::server::recovery) struct Events {
    epoch: u32,
    bounds: Bounds,
    segments: VecDeque<Segment>,
    next: u64,
    bytes: usize,
    count: usize,
    rooms: Slab<Head>,
    by_name: HashMap<Room, RoomKey>,
    /// The newest event to everyone.
    everyone: u64,
    /// No room that isn't known has had an event above this.
    forgotten: u64,
    /// The last event that has been dropped.
    dropped: u64,
    /// Of the events up to this one, some never came to be kept: it isn't known for whom they were.
    lost: u64,
}

/// What is known of events that are no longer in a log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::recovery) struct Past {
    /// The newest event to everyone.
    pub(in crate::server::recovery) everyone: u64,
    /// No room that isn't known has had an event above this.
    pub(in crate::server::recovery) forgotten: u64,
}

/// A room that has had events.
#[derive(Debug)]
struct Head {
    name: Room,
    newest: u64,
}

impl Events {
    pub(in crate::server::recovery) fn new(epoch: u32, bounds: Bounds) -> Self {
        Self {
            epoch,
            bounds,
            segments: VecDeque::new(),
            next: 1,
            bytes: 0,
            count: 0,
            rooms: Slab::new(),
            by_name: HashMap::new(),
            everyone: 0,
            forgotten: 0,
            dropped: 0,
            lost: 0,
        }
    }

    /// The last event; 0 if there was none.
    pub(in crate::server::recovery) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// The first event that is still here: the next one, if there is none.
    pub(in crate::server::recovery) fn first(&self) -> u64 {
        self.segments.front().map_or(self.next, |first| first.first)
    }

    pub(in crate::server::recovery) fn append(
        &mut self,
        now: u64,
        event: &Outgoing,
        target: &Target,
    ) -> u64 {
        let sequence = self.next;
        let address = self.address(target, sequence);
        let size = event.len_bytes();
        if self.begins_segment(now, size) {
            if let Some(last) = self.segments.back_mut() {
                last.close();
            }
            self.segments.push_back(Segment::new(sequence, now));
        }
        if let Some(last) = self.segments.back_mut() {
            let before = last.bytes();
            last.push(sequence, now, &address, event);
            self.bytes += last.bytes() - before;
            self.count += 1;
        }
        self.next += 1;
        self.drop_old(now);
        sequence
    }

    fn begins_segment(&self, now: u64, size: usize) -> bool {
        let Some(last) = self.segments.back() else {
            return true;
        };
        let most = LARGEST_SEGMENT.min(self.bounds.bytes / PARTS);
        let part = self.bounds.duration.as_millis() as u64 / PARTS as u64;
        last.is_full(size, most)
            || last.len() >= (self.bounds.events / PARTS).max(1)
            || now.saturating_sub(last.ended) > part
    }

    /// The rooms of a target, whose newest event is this one from now on.
    fn address(&mut self, target: &Target, sequence: u64) -> Address {
        let mut address = Address {
            except: target
                .except
                .iter()
                .map(|room| Box::from(&**room))
                .collect(),
            ..Address::default()
        };
        for name in &target.rooms {
            let key = self.key(name);
            let Some(head) = self.rooms.get_mut(key as usize) else {
                continue;
            };
            // A room may be named twice.
            if head.newest != sequence {
                let before = std::mem::replace(&mut head.newest, sequence);
                address.rooms.push((key, before));
            }
        }
        if target.rooms.is_empty() {
            address.everyone_before = std::mem::replace(&mut self.everyone, sequence);
        }
        address
    }

    fn key(&mut self, name: &Room) -> RoomKey {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        let head = Head {
            name: name.clone(),
            // Its events may have been forgotten.
            newest: self.forgotten,
        };
        let key = self.rooms.insert(head) as RoomKey;
        self.by_name.insert(name.clone(), key);
        key
    }

    /// Drops what is beyond the bounds.
    pub(in crate::server::recovery) fn drop_old(&mut self, now: u64) {
        let duration = self.bounds.duration.as_millis() as u64;
        while let Some(first) = self.segments.front() {
            let is_old = first.ended.saturating_add(duration) < now;
            let is_too_much = self.bytes > self.bounds.bytes || self.count > self.bounds.events;
            // The newest event is kept whatever its size.
            if !is_old && (!is_too_much || self.count == 1) {
                break;
            }
            self.bytes -= first.bytes();
            self.count -= first.len();
            self.dropped = first.last;
            self.segments.pop_front();
        }
        self.forget_rooms();
    }

    /// Forgets rooms whose events have been dropped: those with the oldest, if they are many.
    fn forget_rooms(&mut self) {
        if self.rooms.len() <= ROOMS_REMEMBERED + self.count {
            return;
        }
        let first = self.first();
        let mut newest: Vec<u64> = self.rooms.iter().map(|(_, head)| head.newest).collect();
        newest.retain(|newest| *newest < first);
        if newest.is_empty() {
            return;
        }
        let middle = newest.len() / 2;
        let (_, middle, _) = newest.select_nth_unstable(middle);
        let middle = *middle;
        self.forgotten = self.forgotten.max(middle);
        let by_name = &mut self.by_name;
        self.rooms.retain(|_, head| {
            let stays = head.newest > middle;
            if !stays {
                by_name.remove(&head.name);
            }
            stays
        });
        by_name.shrink_to(2 * by_name.len());
    }

    fn segment(&self, sequence: u64) -> Option<&Segment> {
        let index = self
            .segments
            .partition_point(|segment| segment.last < sequence);
        self.segments.get(index)
    }

    /// Follows a chain of events, from its newest back to the first above `after`.
    fn chain(
        &self,
        newest: u64,
        after: u64,
        before: impl Fn(&Address) -> Option<u64>,
        mut each: impl FnMut(u64) -> bool,
    ) -> Result<(), LogError> {
        let first = self.first();
        let mut sequence = newest;
        while sequence > after {
            if sequence < first {
                return Err(LogError::Evicted);
            }
            if !each(sequence) {
                break;
            }
            let address = self.segment(sequence).and_then(|one| one.address(sequence));
            sequence = address
                .and_then(|it| before(&it))
                .ok_or(LogError::Evicted)?;
        }
        Ok(())
    }

    /// Follows the events to a room, or to everyone.
    fn of_room(
        &self,
        room: Option<&str>,
        after: u64,
        each: impl FnMut(u64) -> bool,
    ) -> Result<(), LogError> {
        let Some(room) = room else {
            let before = |address: &Address| Some(address.everyone_before);
            return self.chain(self.everyone, after, before, each);
        };
        let Some(key) = self.by_name.get(room) else {
            return match self.forgotten > after {
                true => Err(LogError::Evicted),
                false => Ok(()),
            };
        };
        let newest = self.rooms.get(*key as usize).map_or(0, |head| head.newest);
        let before = |address: &Address| {
            let mut rooms = address.rooms.iter();
            rooms
                .find(|(room, _)| room == key)
                .map(|(_, before)| *before)
        };
        self.chain(newest, after, before, each)
    }

    /// What a socket has missed.
    pub(in crate::server::recovery) fn missed(&self, missed: &Missed) -> Result<Page, LogError> {
        let Missed {
            stays, after, upto, ..
        } = missed;
        if *after > self.last() {
            return Err(LogError::Gap);
        }
        if *after < stays.known_from.max(self.lost) {
            return Err(LogError::Evicted);
        }
        let mut sequences = Vec::new();
        let lowest = stays.came.max(*after);
        self.of_room(None, lowest, |sequence| {
            sequences.push(sequence);
            true
        })?;
        for stay in &stays.stays {
            if stay.upto.is_some_and(|upto| upto <= *after) {
                continue;
            }
            self.of_room(Some(&stay.room), stay.after.max(*after), |sequence| {
                if stay.covers(sequence) {
                    sequences.push(sequence);
                }
                true
            })?;
        }
        sequences.retain(|sequence| sequence <= upto && !self.excepts(*sequence, &stays.stays));
        sequences.sort_unstable();
        sequences.dedup();
        self.page(sequences.into_iter(), missed.bytes)
    }

    /// Whether there is an event of this sequence, or may have been one that was dropped.
    pub(in crate::server::recovery) fn may_have(&self, sequence: u64) -> bool {
        let has = |segment: &Segment| segment.address(sequence).is_some();
        sequence <= self.dropped || self.segment(sequence).is_some_and(has)
    }

    /// Whether an event was not for a socket that was in one of these rooms.
    fn excepts(&self, sequence: u64, stays: &[Stay]) -> bool {
        let address = self.segment(sequence).and_then(|one| one.address(sequence));
        let except = address.map_or_else(Vec::new, |address| address.except);
        let was_in = |room: &str| {
            let mut stays = stays.iter();
            stays.any(|stay| *stay.room == *room && stay.covers(sequence))
        };
        except.iter().any(|room| was_in(room))
    }

    /// The newest events to a room, or to everyone.
    pub(in crate::server::recovery) fn newest(
        &self,
        room: Option<&str>,
        after: u64,
        limit: usize,
    ) -> Page {
        let mut sequences = Vec::new();
        let after = after.max(self.first().saturating_sub(1));
        // What isn't here any more isn't asked for.
        let _ = self.of_room(room, after, |sequence| {
            if sequences.len() < limit {
                sequences.push(sequence);
            }
            sequences.len() < limit
        });
        let page = self.page(sequences.into_iter().rev(), usize::MAX);
        page.unwrap_or_default()
    }

    /// Reads events, up to some bytes.
    fn page(
        &self,
        mut sequences: impl Iterator<Item = u64>,
        bytes: usize,
    ) -> Result<Page, LogError> {
        let mut page = Page::default();
        let mut left = bytes;
        for sequence in sequences.by_ref() {
            let offset = Offset {
                epoch: self.epoch,
                sequence,
            };
            let event = self.segment(sequence).and_then(|one| one.event(offset));
            let (event, size) = event.ok_or(LogError::Evicted)?;
            page.events.push(event);
            match left.checked_sub(size + OVERHEAD) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        page.has_more = sequences.next().is_some();
        Ok(page)
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A log of which a part was there before.
impl Events {
    /// What is known of events that it has dropped. Its events are appended again, each after
    /// [`skip_to`](Self::skip_to).
    pub(in crate::server::recovery) fn remember(
        &mut self,
        past: Past,
        rooms: impl IntoIterator<Item = (Room, u64)>,
    ) {
        self.everyone = past.everyone;
        self.forgotten = past.forgotten;
        self.dropped = self.dropped.max(past.forgotten);
        for (name, newest) in rooms {
            let key = self.rooms.insert(Head {
                name: name.clone(),
                newest,
            });
            self.by_name.insert(name, key as RoomKey);
        }
    }

    /// The next event has this sequence: those before it are known to be elsewhere, or lost.
    pub(in crate::server::recovery) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Of the events up to this one, some are not to be had.
    #[cfg(feature = "redb")]
    pub(in crate::server::recovery) fn lose(&mut self, upto: u64) {
        self.lost = self.lost.max(upto);
    }
}

/// What an event on its way counts for beyond its own bytes.
const OVERHEAD: usize = 64;

/// Events of which none is here.
#[cfg(test)]
mod tests;
