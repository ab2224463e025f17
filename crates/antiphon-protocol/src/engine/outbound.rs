//! The queue in which the packets of one session wait on their way out. The session's machine owns
//! it, whatever the transport.
//!
//! Packets enter by [`push`](Outbound::push) (a message with its attachments, all or none),
//! `push_control` (heartbeat and close, never refused) and `push_noop`. They leave all at once by
//! [`take`](Outbound::take) for HTTP, or by `frames` and `advance` for a WebSocket, which may have
//! taken half a frame. Tracked (docs/protocol.md 12), what was taken is kept until it is confirmed,
//! and [`rewind`](Outbound::rewind) makes it wait again. The bounds are [`QueueLimits`], what is
//! kept included; beyond them [`QueuePolicy`] says what becomes of a message, and [`QueueFull`]
//! that the peer reads too slowly.
//!
//! **The tail** is the growing end of the queue of a WebSocket: small frames that leave side by
//! side, of this session alone ([`append`](Outbound::append)) or shared by many
//! ([`share`](Outbound::share)). Whatever is pushed comes behind it, and what is written includes
//! it, so callers need not know whether there is one.
//!
//! **What is held** is the end of a queue in which some messages may still be dropped or replaced
//! ([`Held`]). There is a tail or something held, never both. Before a write some of it moves to
//! the packets, about as much as a write takes, and is never dropped any more.

mod held;
mod limits;

use std::{cell::Cell, collections::VecDeque, io::IoSlice, sync::Arc};

use bytes::Bytes;

use super::{Bundle, Encoded, EncodedPacket, Form, PacketType, bundle::LARGEST};
use held::Held;
pub use limits::{ConflateKey, QueueFull, QueueLimits, QueuePolicy, Queued};

/// The memory of a queue for so many packets is handed from one that is empty to the next of its
/// thread.
const HANDED_ON: usize = 64;

/// Bytes of what is held that are put up for one write: the more, the older is what a client gets
/// after a pause.
const WRITTEN: usize = 16 << 10;

thread_local! {
    static SPARE: Cell<VecDeque<Entry>> = const { Cell::new(VecDeque::new()) };
    /// The memory of frames that have left, for the next tail.
    static SPARE_FRAMES: Cell<Option<Box<OwnFrames>>> = const { Cell::new(None) };
}

/// A client asks for packets that it has had already, or that were never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the offset {asked} is not one of {first} to {last}, of which packets are kept")]
pub struct BadOffset {
    /// What was asked for.
    pub asked: u64,
    /// The first packet that is kept.
    pub first: u64,
    /// The packet that is sent next.
    pub last: u64,
}

/// Packets in the order in which they leave, bounded in number and bytes.
///
/// If the queue is [tracked](Self::track), what was taken is kept until the client confirms it,
/// and counts in the bounds. An empty queue owns no memory beyond itself.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Those that are kept first, then those that wait.
    entries: VecDeque<Entry>,
    /// Waits behind them.
    tail: Tail,
    /// Waits behind the entries, without a tail. Boxed, since most queues never have any.
    held: Option<Box<Held>>,
    /// Bytes that wait, but for a bundle's and what is held.
    bytes: usize,
    /// Bytes of the first entry's frames that have been written, or of the tail's if there is none.
    written: usize,
    kept: Option<Box<Kept>>,
}

/// What waits for its turn.
#[derive(Debug, Clone)]
enum Entry {
    Packet(EncodedPacket),
    /// For a WebSocket alone.
    Frames(Bytes),
}

impl Entry {
    const fn frames(&self) -> &Bytes {
        match self {
            Self::Packet(packet) => packet.frame(),
            Self::Frames(frames) => frames,
        }
    }

    /// The packet. Frames are none: a session that has had a WebSocket never leaves it.
    fn packet(self) -> Option<EncodedPacket> {
        match self {
            Self::Packet(packet) => Some(packet),
            Self::Frames(_) => None,
        }
    }
}

/// The growing end of a queue.
#[derive(Debug, Default)]
enum Tail {
    #[default]
    Empty,
    /// Frames of this session. Boxed, so that a queue without any keeps no room for them.
    Own(Box<OwnFrames>),
    /// Frames that it shares with others, in its form.
    Shared(Arc<Bundle>, Form),
    /// The same, to which nothing is appended any more.
    Sealed(Bytes),
}

impl Tail {
    /// The frames, of which some may have been written.
    fn frames(&self) -> Option<&[u8]> {
        match self {
            Self::Empty | Self::Shared(..) => None,
            Self::Own(frames) => Some(&frames.0),
            Self::Sealed(frames) => Some(frames),
        }
    }
}

/// Frames side by side.
#[derive(Debug, Default)]
struct OwnFrames(Vec<u8>);

impl OwnFrames {
    /// Hands the memory on: they have left.
    fn hand_on(mut self: Box<Self>) {
        self.0.clear();
        // Where the thread ends, nobody wants it any more.
        let _ = SPARE_FRAMES.try_with(|spare| spare.set(Some(self)));
    }
}

/// What a client may ask for again.
#[derive(Debug, Default)]
struct Kept {
    /// The number of the first packet of the queue.
    offset: u64,
    /// How many packets were taken and not confirmed.
    count: usize,
    bytes: usize,
    /// A noop is to be sent if nothing else is. It has no number.
    noop: bool,
}

impl Outbound {
    /// Whether nothing waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let waits = match &self.kept {
            None => !self.entries.is_empty(),
            Some(kept) => self.entries.len() != kept.count || kept.noop,
        };
        !waits && matches!(self.tail, Tail::Empty) && self.held.is_none()
    }

    /// Bytes that wait, frame headers included.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.bytes());
        match &self.tail {
            Tail::Shared(bundle, form) => self.bytes + bundle.len(*form),
            Tail::Empty | Tail::Own(_) | Tail::Sealed(_) => self.bytes + held,
        }
    }

    /// Packets and bytes that wait or are kept.
    fn size(&self) -> (usize, usize) {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.bytes);
        let held = self.held.as_ref().map_or(0, |held| held.packets());
        let tail = usize::from(!matches!(self.tail, Tail::Empty));
        (self.entries.len() + tail + held, self.bytes() + kept)
    }

    /// Bytes that wait or are kept.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        self.size().1
    }

    /// The frames that wait or are kept, but for a tail. Messages of many sessions share theirs.
    pub fn buffers(&self) -> impl Iterator<Item = &Bytes> {
        let held = self.held.iter().flat_map(|held| held.buffers());
        self.entries.iter().map(Entry::frames).chain(held)
    }

    /// Whether there is no more than the limits say.
    #[must_use]
    pub fn is_within(&self, limits: QueueLimits) -> bool {
        let (packets, bytes) = self.size();
        limits.hold(packets, bytes)
    }

    /// Whether there is no more than half of what the limits say.
    #[must_use]
    pub fn is_half_empty(&self, limits: QueueLimits) -> bool {
        self.is_within(limits.half())
    }

    /// Whether so many packets of so many bytes together are within the limits. An empty queue
    /// takes any message, and so does one that keeps no more than half of the limits.
    #[must_use]
    pub fn has_room(&self, count: usize, length: usize, limits: QueueLimits) -> bool {
        let (packets, bytes) = self.size();
        limits.hold(packets + count, bytes + length)
            || (self.is_empty() && self.keeps_little(limits))
    }

    /// Whether what is kept takes no more than half of the limits.
    #[must_use]
    pub fn keeps_little(&self, limits: QueueLimits) -> bool {
        self.kept
            .as_ref()
            .is_none_or(|kept| kept.count <= limits.packets / 2 && kept.bytes <= limits.bytes / 2)
    }

    /// Whether something was taken that isn't confirmed yet.
    pub(super) fn keeps_any(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.count > 0)
    }

    /// Queues the packets of one message side by side, so that nothing comes between a header and
    /// its attachments. Beyond the limits messages are dropped, this one maybe among them, as far
    /// as their policies say so.
    ///
    /// # Errors
    /// [`QueueFull`] if that isn't enough, and even a [burst](QueueLimits::burst) has no room; none
    /// of it is queued then.
    pub fn push(
        &mut self,
        message: Encoded,
        policy: QueuePolicy,
        limits: QueueLimits,
    ) -> Result<Queued, QueueFull> {
        let (count, length) = (message.count(), message.len_bytes());
        let mut queued = Queued::default();
        if length == 0 {
            // There is nothing to write.
            return Ok(queued);
        }
        if let QueuePolicy::Conflate(key) = policy {
            queued.conflated = usize::from(self.drop_held(|held| held.drop_key(key)));
        }
        if !self.has_room(count, length, limits) {
            if policy == QueuePolicy::DropNewest {
                queued.is_dropped = true;
                return Ok(queued);
            }
            while !self.has_room(count, length, limits) && self.drop_held(Held::drop_oldest) {
                queued.dropped += 1;
            }
            queued.is_behind = !self.has_room(count, length, limits);
            if queued.is_behind && policy == QueuePolicy::DropOldest {
                queued.is_dropped = true;
                queued.is_behind = false;
                return Ok(queued);
            }
            if queued.is_behind && !self.has_room(count, length, limits.of_burst()) {
                let (packets, bytes) = self.size();
                return Err(QueueFull { packets, bytes });
            }
        }
        self.settle();
        let may_go = matches!(policy, QueuePolicy::DropOldest | QueuePolicy::Conflate(_));
        match &mut self.held {
            Some(held) => held.push(message, policy),
            None if may_go => self.held.insert(Box::default()).push(message, policy),
            None => self.enqueue_message(message),
        }
        Ok(queued)
    }

    /// Drops something of what is held. Returns whether there was something.
    fn drop_held(&mut self, drop: impl FnOnce(&mut Held) -> bool) -> bool {
        let dropped = self.held.as_mut().is_some_and(|held| drop(held));
        self.held.take_if(|held| held.is_empty());
        dropped
    }

    fn enqueue_message(&mut self, message: Encoded) {
        self.bytes += message.len_bytes();
        match message {
            Encoded::Message(message) => {
                let (first, attachments) = message.into_parts();
                self.enqueue(Entry::Packet(first));
                let attachments = attachments.iter().flat_map(|all| all.iter().cloned());
                self.entries.extend(attachments.map(Entry::Packet));
            }
            Encoded::Frames(frames) => self.enqueue(Entry::Frames(frames)),
        }
    }

    /// Of what is held, so much is not to be dropped any more that so many bytes wait.
    fn commit(&mut self, bytes: usize) {
        while self.bytes - self.written < bytes
            && let Some(message) = self.held.as_mut().and_then(|held| held.pop())
        {
            self.enqueue_message(message);
        }
        self.held.take_if(|held| held.is_empty());
    }

    /// Appends a frame to the tail, for a WebSocket. Returns `false` if it is too large for that,
    /// something is held, or there is no room: it is for [`push`](Self::push).
    pub fn append(&mut self, frame: &[u8], limits: QueueLimits) -> bool {
        match &mut self.tail {
            Tail::Own(frames) if frames.0.len() + frame.len() <= LARGEST => {
                frames.0.extend_from_slice(frame);
            }
            _ => {
                self.settle();
                if frame.len() > LARGEST || !self.takes_tail(limits) {
                    return false;
                }
                let mut frames = SPARE_FRAMES
                    .try_with(Cell::take)
                    .ok()
                    .flatten()
                    .unwrap_or_default();
                frames.0.extend_from_slice(frame);
                self.tail = Tail::Own(frames);
            }
        }
        self.bytes += frame.len();
        true
    }

    /// Makes a bundle the tail, for a WebSocket: what is appended to it waits here, too. It must
    /// have a row of this form. Returns `false` if there is no room for the largest.
    pub fn share(&mut self, bundle: &Arc<Bundle>, form: Form, limits: QueueLimits) -> bool {
        self.settle();
        let takes = self.takes_tail(limits);
        if takes {
            self.tail = Tail::Shared(Arc::clone(bundle), form);
        }
        takes
    }

    /// Whether a new tail has room, whatever it grows to.
    fn takes_tail(&self, limits: QueueLimits) -> bool {
        let is_free = self.entries.is_empty() && self.kept.is_none();
        self.held.is_none() && (is_free || self.has_room(1, LARGEST, limits))
    }

    /// Ends the tail: nothing is appended before what comes next.
    #[inline]
    pub fn settle(&mut self) {
        if !matches!(self.tail, Tail::Empty) {
            self.end_tail();
        }
    }

    fn end_tail(&mut self) {
        self.seal();
        let frames = match std::mem::take(&mut self.tail) {
            Tail::Empty | Tail::Shared(..) => return,
            Tail::Sealed(frames) => frames,
            Tail::Own(frames) => {
                let copied = Bytes::copy_from_slice(&frames.0);
                frames.hand_on();
                copied
            }
        };
        self.enqueue(Entry::Frames(frames));
    }

    /// Nothing is appended to the bundle in the tail any more.
    #[inline]
    fn seal(&mut self) {
        if let Tail::Shared(bundle, form) = &self.tail {
            let frames = bundle.seal(*form);
            self.bytes += frames.len();
            // Nothing waits where there is nothing to write: some writers take an empty write for a
            // failure.
            self.tail = match frames.is_empty() {
                true => Tail::Empty,
                false => Tail::Sealed(frames),
            };
        }
    }

    fn enqueue(&mut self, entry: Entry) {
        if self.entries.capacity() == 0 {
            self.entries = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        self.entries.push_back(entry);
    }

    /// Queues a packet of the engine itself (heartbeat, close), whatever waits already.
    pub fn push_control(&mut self, packet: EncodedPacket) {
        self.settle();
        if let Some(held) = &mut self.held {
            return held.push(packet.into(), QueuePolicy::Close);
        }
        self.bytes += packet.frame().len();
        self.enqueue(Entry::Packet(packet));
    }

    /// Queues a noop, which is never kept.
    pub fn push_noop(&mut self) {
        match &mut self.kept {
            Some(kept) => kept.noop = true,
            None => self.push_control(EncodedPacket::text(PacketType::Noop, "")),
        }
    }

    /// Takes all that waits, for the answer of one poll.
    pub fn take(&mut self) -> VecDeque<EncodedPacket> {
        self.take_up_to(usize::MAX)
    }

    /// Takes up to `most` packets, for the answer of one poll; the others go on waiting.
    pub fn take_up_to(&mut self, most: usize) -> VecDeque<EncodedPacket> {
        self.settle();
        let first = self.kept.as_ref().map_or(0, |kept| kept.count);
        while self.entries.len() - first < most
            && let Some(message) = self.held.as_mut().and_then(|held| held.pop())
        {
            self.enqueue_message(message);
        }
        self.held.take_if(|held| held.is_empty());
        let end = self.entries.len().min(first.saturating_add(most));
        let takes_all = end == self.entries.len();
        let length = match takes_all {
            true => self.bytes,
            false => {
                let taken = self.entries.range(first..end);
                taken.map(|entry| entry.frames().len()).sum()
            }
        };
        self.bytes -= length;
        let Some(kept) = &mut self.kept else {
            self.written = 0;
            if takes_all {
                let entries = std::mem::take(&mut self.entries);
                return entries.into_iter().filter_map(Entry::packet).collect();
            }
            return self
                .entries
                .drain(..end)
                .filter_map(Entry::packet)
                .collect();
        };
        let waiting = self.entries.range(first..end);
        let mut taken: VecDeque<_> = waiting.cloned().filter_map(Entry::packet).collect();
        if std::mem::take(&mut kept.noop) && taken.is_empty() {
            taken.push_back(EncodedPacket::text(PacketType::Noop, ""));
        }
        kept.count = end;
        kept.bytes += length;
        taken
    }

    /// Keeps from now on what is taken, until it is confirmed. The packet that is sent next has the
    /// number 0; what was kept so far is forgotten.
    pub fn track(&mut self) {
        self.untrack();
        self.kept = Some(Box::default());
    }

    /// Forgets what is kept, and keeps no more.
    pub fn untrack(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.entries.drain(..kept.count);
        }
    }

    /// Whether what is taken is kept.
    #[must_use]
    pub const fn is_tracked(&self) -> bool {
        self.kept.is_some()
    }

    /// The number of the packet that is taken next, if the queue is tracked.
    #[must_use]
    pub fn offset(&self) -> u64 {
        let kept = self.kept.as_ref();
        kept.map_or(0, |kept| kept.offset + kept.count as u64)
    }

    /// The client has all packets before `offset`: they are forgotten. Returns how many these are.
    /// Nothing happens if the queue isn't tracked.
    ///
    /// # Errors
    /// [`BadOffset`] if it is before what is kept, or after what was taken.
    pub fn confirm(&mut self, offset: u64) -> Result<usize, BadOffset> {
        let Some(kept) = &mut self.kept else {
            return Ok(0);
        };
        let last = kept.offset + kept.count as u64;
        if !(kept.offset..=last).contains(&offset) {
            return Err(BadOffset {
                asked: offset,
                first: kept.offset,
                last,
            });
        }
        let confirmed = (offset - kept.offset) as usize;
        for entry in self.entries.drain(..confirmed) {
            kept.bytes -= entry.frames().len();
        }
        kept.count -= confirmed;
        kept.offset = offset;
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
        Ok(confirmed)
    }

    /// What is kept waits again: it hasn't come.
    pub fn rewind(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.count = 0;
            self.bytes += std::mem::take(&mut kept.bytes);
        }
    }

    /// What is about to be written neither grows nor is dropped.
    #[inline]
    fn settle_for_write(&mut self) {
        self.seal();
        if self.held.is_some() {
            self.commit(WRITTEN);
        }
    }

    /// The frames that wait, if they lie side by side.
    #[inline]
    pub fn contiguous(&mut self) -> Option<&[u8]> {
        self.settle_for_write();
        match (self.entries.len(), self.tail.frames()) {
            (0, Some(frames)) => Some(&frames[self.written..]),
            (1, None) => Some(&self.entries[0].frames()[self.written..]),
            _ => None,
        }
    }

    /// Fills `slices` with the frames that wait, for one vectored write; returns how many it
    /// filled.
    pub fn frames<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.settle_for_write();
        let entries = self.entries.iter().map(|entry| &entry.frames()[..]);
        let mut filled = 0;
        let mut skip = self.written;
        for (slot, frames) in slices.iter_mut().zip(entries.chain(self.tail.frames())) {
            *slot = IoSlice::new(&frames[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// Notes that `count` bytes of the frames have been written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.entries.front() {
            let length = first.frames().len();
            if self.written < length {
                return;
            }
            self.written -= length;
            self.bytes -= length;
            self.entries.pop_front();
        }
        if self.entries.capacity() > 0 {
            let entries = std::mem::take(&mut self.entries);
            if entries.capacity() <= HANDED_ON {
                let _ = SPARE.try_with(|spare| spare.set(entries));
            }
        }
        let Some(length) = self.tail.frames().map(<[u8]>::len) else {
            self.written = 0;
            return;
        };
        if self.written < length {
            return;
        }
        self.written = 0;
        self.bytes -= length;
        if let Tail::Own(frames) = std::mem::take(&mut self.tail) {
            frames.hand_on();
        }
    }
}

#[cfg(test)]
mod tests;
