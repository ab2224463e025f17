//! What leaves over HTTP: the responses of a handshake, of a poll and of a stream.
//!
//! These are outputs: each takes what waits for it, and is asked for after an output that says so.

use std::collections::VecDeque;

use super::{ServerSession, Transport};
use crate::engine::{EncodedPacket, PacketType};

/// What a streamed response carries next.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamStep {
    /// These packets.
    Packets(VecDeque<EncodedPacket>),
    /// Nothing for now.
    Wait,
    /// It ends.
    End,
}

impl ServerSession {
    /// The response of a handshake by polling: all that was queued at the opening.
    pub fn take_handshake(&mut self) -> VecDeque<EncodedPacket> {
        self.outbound.take()
    }

    /// The response of the poll that waits. Returns `None` if it waits on: nothing is queued, and
    /// the session goes on. A poll of a session that has left polling gets a noop. One that is
    /// closed gives all that is left, since no poll follows.
    pub fn take_response(&mut self) -> Option<VecDeque<EncodedPacket>> {
        let is_closed = self.closed().is_some();
        let is_due = !self.outbound.is_empty() || is_closed;
        let most = match is_closed {
            true => usize::MAX,
            false => self.config.packets_per_poll,
        };
        match &mut self.transport {
            Transport::Http(requests) if !requests.streaming => {
                requests.get &= !is_due;
                is_due.then(|| self.take(most))
            }
            _ => Some([EncodedPacket::text(PacketType::Noop, "")].into()),
        }
    }

    /// What the streamed response carries next, which the session's packets leave by.
    pub fn stream_step(&mut self) -> StreamStep {
        let requests = self.transport.requests();
        if !requests.is_some_and(|requests| requests.streaming) {
            return StreamStep::End;
        }
        if !self.outbound.is_empty() {
            return StreamStep::Packets(self.take(usize::MAX));
        }
        // A client that goes on to WebSocket waits for the end of the stream.
        if self.closed().is_some() || self.upgrade.is_probed() {
            return StreamStep::End;
        }
        StreamStep::Wait
    }

    fn take(&mut self, most: usize) -> VecDeque<EncodedPacket> {
        let packets = self.outbound.take_up_to(most);
        self.note_caught_up();
        packets
    }

    /// The number of the packet that a streamed response carries next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.outbound.offset()
    }

    /// Whether so much is kept that the client should confirm some, by coming again.
    #[must_use]
    pub fn keeps_much(&self) -> bool {
        !self.outbound.keeps_little(self.config.queue)
    }
}
