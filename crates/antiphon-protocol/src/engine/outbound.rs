//! The queue in which the packets of one session wait on their way out. The session's machine owns it,
//! whatever the transport.
//!
//! Packets enter by [`push`](Outbound::push) (a message with its attachments, all or none),
//! `push_control` (heartbeat and close, never refused) and `push_noop`. They leave all at once by
//! [`take`](Outbound::take) for HTTP, or by `frames` and `advance` for a WebSocket, which may have
//! taken half a frame. Tracked (docs/protocol.md 12), what was taken is kept until it is confirmed, and
//! [`rewind`](Outbound::rewind) makes it wait again. The bounds are [`QueueLimits`], what is kept
//! included; [`QueueFull`] says that the peer reads too slowly.

use std::{cell::Cell, collections::VecDeque, io::IoSlice};

use super::{EncodedPacket, PacketType};

/// The memory of a queue for so many packets is handed from one that is empty to the next of its
/// thread.
const HANDED_ON: usize = 64;

thread_local! {
    static SPARE: Cell<VecDeque<EncodedPacket>> = const { Cell::new(VecDeque::new()) };
}

/// What a session's outbound queue holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Packets. An attachment is one; so are small messages or broadcasts of one batch of work that leave
    /// a WebSocket's session side by side, up to 16 KiB together.
    pub packets: usize,
    /// Bytes, frame headers included.
    pub bytes: usize,
}

impl Default for QueueLimits {
    /// 16,384 packets, 16 MiB.
    fn default() -> Self {
        Self {
            packets: 16_384,
            bytes: 16 << 20,
        }
    }
}

/// The queue has no room: the peer reads more slowly than it is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the outbound queue is full: {packets} packets, {bytes} bytes wait for a slow reader")]
pub struct QueueFull {
    /// Packets that wait.
    pub packets: usize,
    /// Bytes that wait.
    pub bytes: usize,
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
    packets: VecDeque<EncodedPacket>,
    /// Bytes that wait.
    bytes: usize,
    /// Bytes of the first packet's frame that have been written.
    written: usize,
    kept: Option<Box<Kept>>,
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
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.kept {
            None => self.packets.is_empty(),
            Some(kept) => self.packets.len() == kept.count && !kept.noop,
        }
    }

    /// Bytes that wait, frame headers included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so many packets of so many bytes together can be queued. An empty queue takes any
    /// message, and so does one that keeps no more than half of the limits.
    ///
    /// # Errors
    /// [`QueueFull`] if they would exceed a limit.
    pub fn room(&self, count: usize, length: usize, limits: QueueLimits) -> Result<(), QueueFull> {
        let bytes = self.bytes + self.kept.as_ref().map_or(0, |kept| kept.bytes);
        let full = self.packets.len() + count > limits.packets || bytes + length > limits.bytes;
        if full && !(self.is_empty() && self.keeps_little(limits)) {
            return Err(QueueFull {
                packets: self.packets.len(),
                bytes,
            });
        }
        Ok(())
    }

    /// Whether what is kept takes no more than half of the limits.
    #[must_use]
    pub fn keeps_little(&self, limits: QueueLimits) -> bool {
        self.kept
            .as_ref()
            .is_none_or(|kept| kept.count <= limits.packets / 2 && kept.bytes <= limits.bytes / 2)
    }

    /// Queues the packets of one message side by side, so that nothing comes between a header and
    /// its attachments.
    ///
    /// # Errors
    /// [`QueueFull`] if there is no [room](Self::room); none of it is queued then.
    pub fn push(
        &mut self,
        packet: EncodedPacket,
        attachments: &[EncodedPacket],
        limits: QueueLimits,
    ) -> Result<(), QueueFull> {
        let length = length(&packet, attachments);
        self.room(1 + attachments.len(), length, limits)?;
        if self.packets.capacity() == 0 {
            self.packets = SPARE.take();
        }
        self.bytes += length;
        self.packets.push_back(packet);
        self.packets.extend(attachments.iter().cloned());
        Ok(())
    }

    /// Queues a packet of the engine itself (heartbeat, close), whatever waits already.
    pub fn push_control(&mut self, packet: EncodedPacket) {
        self.bytes += packet.frame().len();
        self.packets.push_back(packet);
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
        let Some(kept) = &mut self.kept else {
            self.bytes = 0;
            self.written = 0;
            return std::mem::take(&mut self.packets);
        };
        let mut taken: VecDeque<_> = self.packets.range(kept.count..).cloned().collect();
        if std::mem::take(&mut kept.noop) && taken.is_empty() {
            taken.push_back(EncodedPacket::text(PacketType::Noop, ""));
        }
        kept.count = self.packets.len();
        kept.bytes += std::mem::take(&mut self.bytes);
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
            self.packets.drain(..kept.count);
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

    /// The client has all packets before `offset`: they are forgotten. Nothing happens if the
    /// queue isn't tracked.
    ///
    /// # Errors
    /// [`BadOffset`] if it is before what is kept, or after what was taken.
    pub fn confirm(&mut self, offset: u64) -> Result<(), BadOffset> {
        let Some(kept) = &mut self.kept else {
            return Ok(());
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
        for packet in self.packets.drain(..confirmed) {
            kept.bytes -= packet.frame().len();
        }
        kept.count -= confirmed;
        kept.offset = offset;
        if self.packets.is_empty() {
            self.packets = VecDeque::new();
        }
        Ok(())
    }

    /// What is kept waits again: it hasn't come.
    pub fn rewind(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.count = 0;
            self.bytes += std::mem::take(&mut kept.bytes);
        }
    }

    /// Fills `slices` with the frames that wait, for one vectored write; returns how many it filled.
    pub fn frames<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut skip = self.written;
        for (slot, packet) in slices.iter_mut().zip(&self.packets) {
            *slot = IoSlice::new(&packet.frame()[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// Notes that `count` bytes of the frames have been written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.packets.front() {
            let length = first.frame().len();
            if self.written < length {
                break;
            }
            self.written -= length;
            self.bytes -= length;
            self.packets.pop_front();
        }
        if self.packets.is_empty() {
            self.written = 0;
            let packets = std::mem::take(&mut self.packets);
            if packets.capacity() <= HANDED_ON {
                SPARE.set(packets);
            }
        }
    }
}

/// The length of a message's frames, in bytes.
pub(super) fn length(packet: &EncodedPacket, attachments: &[EncodedPacket]) -> usize {
    let attachments = attachments.iter().map(|one| one.frame().len());
    packet.frame().len() + attachments.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> EncodedPacket {
        EncodedPacket::text(PacketType::Message, text)
    }

    #[test]
    fn frames_leave_in_order_whatever_the_writes_cut() {
        let mut queue = Outbound::default();
        let packets = [message("first"), message("second"), message("third")];
        let [first, attachments @ ..] = &packets;
        queue
            .push(first.clone(), attachments, QueueLimits::default())
            .unwrap();
        let expected: Vec<u8> = packets.iter().flat_map(|p| p.frame().to_vec()).collect();
        let mut written = Vec::new();
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = queue.frames(&mut slices);
            let chunk: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
            let count = chunk.len().min(5);
            written.extend_from_slice(&chunk[..count]);
            queue.advance(count);
        }
        assert_eq!(written, expected);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_full_queue_takes_none_of_a_message() {
        let limits = QueueLimits {
            packets: 3,
            bytes: 1_000,
        };
        let mut queue = Outbound::default();
        queue.push(message("a"), &[message("b")], limits).unwrap();
        let full = queue.push(message("c"), &[message("d")], limits);
        let full = full.unwrap_err();
        assert_eq!(full.packets, 2);
        assert_eq!(queue.take().len(), 2);
    }

    #[test]
    fn an_empty_queue_takes_a_message_over_the_limit() {
        let limits = QueueLimits {
            packets: 1,
            bytes: 10,
        };
        let mut queue = Outbound::default();
        let large = message(&"x".repeat(100));
        assert_eq!(queue.push(large, &[message("y")], limits), Ok(()));
    }

    fn texts(packets: &VecDeque<EncodedPacket>) -> Vec<String> {
        let text = |packet: &EncodedPacket| String::from_utf8_lossy(packet.payload()).into_owned();
        packets.iter().map(text).collect()
    }

    #[test]
    fn what_was_taken_comes_again_until_it_is_confirmed() {
        let limits = QueueLimits::default();
        let mut queue = Outbound::default();
        queue.track();
        for text in ["a", "b", "c"] {
            queue.push(message(text), &[], limits).unwrap();
        }
        assert_eq!(texts(&queue.take()), ["4a", "4b", "4c"]);
        assert!(queue.is_empty());
        queue.confirm(1).unwrap();
        queue.rewind();
        assert_eq!(queue.offset(), 1);
        assert_eq!(texts(&queue.take()), ["4b", "4c"]);
        queue.confirm(3).unwrap();
        queue.rewind();
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn an_offset_of_something_else_is_refused() {
        let mut queue = Outbound::default();
        queue.track();
        for text in ["a", "b"] {
            queue
                .push(message(text), &[], QueueLimits::default())
                .unwrap();
        }
        queue.take();
        queue.confirm(1).unwrap();
        let bad = |asked| BadOffset {
            asked,
            first: 1,
            last: 2,
        };
        assert_eq!(queue.confirm(0), Err(bad(0)));
        assert_eq!(queue.confirm(3), Err(bad(3)));
        assert_eq!(queue.confirm(u64::MAX), Err(bad(u64::MAX)));
        assert_eq!(queue.confirm(2), Ok(()));
    }

    #[test]
    fn a_noop_is_sent_alone_and_never_kept() {
        let mut queue = Outbound::default();
        queue.track();
        queue.push_noop();
        assert!(!queue.is_empty());
        assert_eq!(texts(&queue.take()), ["6"]);
        assert_eq!(queue.offset(), 0);
        queue.push_noop();
        queue
            .push(message("a"), &[], QueueLimits::default())
            .unwrap();
        assert_eq!(texts(&queue.take()), ["4a"]);
    }

    #[test]
    fn what_is_never_confirmed_fills_the_queue() {
        let limits = QueueLimits {
            packets: 10,
            bytes: 1_000,
        };
        let mut queue = Outbound::default();
        queue.track();
        let sent = (0..100).take_while(|_| {
            queue.take();
            queue.push(message("a"), &[], limits).is_ok()
        });
        assert_eq!(sent.count(), 10);
        queue.track();
        let large = message(&"x".repeat(400));
        let sent = (0..100).take_while(|_| {
            queue.take();
            queue.push(large.clone(), &[], limits).is_ok()
        });
        assert_eq!(sent.count(), 2);
    }

    proptest! {
        /// However often a client comes again, from whatever it has, it gets each packet once.
        #[test]
        fn nothing_is_lost_or_doubled(steps in prop::collection::vec((0..4u8, 0..8usize), 0..100)) {
            let mut queue = Outbound::default();
            queue.track();
            let (mut sent, mut received) = (0_u64, 0_u64);
            for (step, part) in steps {
                if step == 0 {
                    queue.push(message(&sent.to_string()), &[], QueueLimits::default()).unwrap();
                    sent += 1;
                    continue;
                }
                if step == 1 {
                    queue.confirm(received).unwrap();
                    queue.rewind();
                }
                // A part of what is sent arrives; after a cut the client comes again.
                let mut number = queue.offset();
                let taken = queue.take();
                for packet in taken.iter().take(if step == 2 { usize::MAX } else { part }) {
                    let expected = format!("4{number}");
                    prop_assert_eq!(packet.payload(), expected.as_bytes());
                    number += 1;
                    received += u64::from(number > received);
                }
                queue.confirm(received).unwrap();
                queue.rewind();
            }
            let number = queue.offset();
            prop_assert_eq!(number, received);
            prop_assert_eq!(queue.take().len() as u64, sent - received);
        }
    }
}
