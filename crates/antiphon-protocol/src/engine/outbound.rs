//! The one queue in which packets wait on their way out of a session.

use std::{collections::VecDeque, io::IoSlice};

use super::EncodedPacket;

/// What a session's outbound queue holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Packets (an attachment is one).
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

/// Packets in the order in which they leave, bounded in number and bytes.
///
/// An empty queue owns no memory beyond itself.
#[derive(Debug, Default)]
pub struct Outbound {
    packets: VecDeque<EncodedPacket>,
    bytes: usize,
    /// Bytes of the first packet's frame that have been written.
    written: usize,
}

impl Outbound {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes that wait, frame headers included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the packets of a message can be queued: [`QueueFull`] where they would exceed a limit.
    /// An empty queue takes any message.
    pub fn room_for(
        &self,
        packet: &EncodedPacket,
        attachments: &[EncodedPacket],
        limits: QueueLimits,
    ) -> Result<(), QueueFull> {
        let full = self.packets.len() + 1 + attachments.len() > limits.packets
            || self.bytes + length(packet, attachments) > limits.bytes;
        if full && !self.is_empty() {
            return Err(QueueFull {
                packets: self.packets.len(),
                bytes: self.bytes,
            });
        }
        Ok(())
    }

    /// Queues the packets of one message side by side, so that nothing comes between a header and
    /// its attachments.
    ///
    /// # Errors
    /// [`QueueFull`] where there is no [room](Self::room_for); none of it is queued then.
    pub fn push(
        &mut self,
        packet: EncodedPacket,
        attachments: &[EncodedPacket],
        limits: QueueLimits,
    ) -> Result<(), QueueFull> {
        self.room_for(&packet, attachments, limits)?;
        self.bytes += length(&packet, attachments);
        self.packets.push_back(packet);
        self.packets.extend(attachments.iter().cloned());
        Ok(())
    }

    /// Queues a packet of the engine itself (heartbeat, close), whatever waits already.
    pub fn push_control(&mut self, packet: EncodedPacket) {
        self.bytes += packet.frame().len();
        self.packets.push_back(packet);
    }

    /// Takes all that waits, for the answer of one poll.
    pub fn take(&mut self) -> VecDeque<EncodedPacket> {
        self.bytes = 0;
        self.written = 0;
        std::mem::take(&mut self.packets)
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
            *self = Self::default();
        }
    }
}

/// The length of a message's frames, in bytes.
fn length(packet: &EncodedPacket, attachments: &[EncodedPacket]) -> usize {
    let attachments = attachments.iter().map(|one| one.frame().len());
    packet.frame().len() + attachments.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PacketType;

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
}
