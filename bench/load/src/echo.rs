//! Messages that come back to who sent them: text, binary, or as an acknowledgement.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    Result,
    histogram::Histogram,
    message::{Payload, number_in, shown},
    net::{Load, Message, Net},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Text,
    Binary,
    Ack,
    /// In MessagePack.
    Msgpack,
}

/// When a connection sends again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refill {
    /// One for each answer, as soon as it is read: a window that slides.
    Each,
    /// All anew when the last answer is there.
    Empty,
}

/// Keeps `in_flight` messages on their way on each connection, for a time.
pub struct Echo {
    shape: Shape,
    in_flight: u64,
    refill: Refill,
    keeps_order: bool,
    payload: Payload,
    lanes: Vec<Lane>,
    end: Instant,
    outstanding: u64,
    pub answered: u64,
    pub reordered: u64,
    pub latency: Histogram,
}

#[derive(Default)]
struct Lane {
    sent: u64,
    /// All before this one have been answered.
    due: u64,
    /// When those from `due` on were sent, or that they have been answered before their turn.
    times: VecDeque<Option<Instant>>,
    /// The head of a binary event has come, its attachment is due.
    has_head: bool,
}

const TEXT: &str = "42[\"echo\",";
const ACK: &str = "[\"ack\",";
/// The start and the end of an event as `socket.io-msgpack-parser` writes it for a stock client, and
/// the start of ours.
const PACKED: &[u8] = b"\x84\xa4type\x02\xa4data\x92\xa4echo";
const PACKED_END: &[u8] = b"\xa7options\x81\xa8compress\xc3\xa3nsp\xa1/";
const PACKED_BACK: &[u8] = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa4echo";
const HEAD: &[u8] = b"451-[\"binary\",{\"_placeholder\":true,\"num\":0}]";

impl Echo {
    pub fn new(shape: Shape, connections: usize, in_flight: u64, size: usize) -> Self {
        Self {
            shape,
            in_flight,
            refill: Refill::Each,
            keeps_order: true,
            payload: Payload::new(size),
            lanes: (0..connections).map(|_| Lane::default()).collect(),
            end: Instant::now(),
            outstanding: 0,
            answered: 0,
            reordered: 0,
            latency: Histogram::default(),
        }
    }

    pub fn refill(self, refill: Refill) -> Self {
        Self { refill, ..self }
    }

    pub fn keeps_order(self, keeps_order: bool) -> Self {
        Self {
            keeps_order,
            ..self
        }
    }

    /// Sends for that long, then waits for what is still due.
    pub fn run(&mut self, net: &mut Net, time: Duration) -> Result<()> {
        let now = Instant::now();
        self.end = now + time;
        self.answered = 0;
        self.latency = Histogram::default();
        for id in 0..self.lanes.len() {
            for _ in 0..self.in_flight {
                self.send(net, id, now);
            }
        }
        net.run(self)
    }

    fn send(&mut self, net: &mut Net, id: usize, now: Instant) {
        let lane = &mut self.lanes[id];
        match self.shape {
            Shape::Text => net.send_text(id, self.payload.text(TEXT, id, lane.sent)),
            Shape::Ack => net.send_text(id, self.payload.with_id("42", ACK, id, lane.sent)),
            Shape::Msgpack => {
                let packed = self.payload.packed(PACKED, PACKED_END, id, lane.sent);
                net.send_binary(id, packed);
            }
            Shape::Binary => {
                net.send_text(id, HEAD);
                net.send_binary(id, self.payload.binary(id, lane.sent));
            }
        }
        lane.times.push_back(Some(now));
        lane.sent += 1;
        self.outstanding += 1;
    }

    /// Which of its messages an answer is to, where the order isn't kept.
    fn number(&self, id: usize, text: &[u8]) -> u64 {
        number_in(text).unwrap_or(self.lanes[id].due)
    }
}

impl Load for Echo {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        now: Instant,
    ) -> Result<()> {
        let due = self.lanes[id].due;
        let mut number = due;
        let (got, expected) = match (self.shape, message) {
            (Shape::Text, Message::Text(text)) => {
                if !self.keeps_order {
                    number = self.number(id, text);
                }
                (text, self.payload.text(TEXT, id, number))
            }
            (Shape::Ack, Message::Text(text)) => {
                if !self.keeps_order {
                    number = self.number(id, text);
                }
                (text, self.payload.with_id("43", "[", id, number))
            }
            (Shape::Msgpack, Message::Binary(bytes)) => {
                (bytes, self.payload.packed(PACKED_BACK, b"", id, number))
            }
            (Shape::Binary, Message::Text(text)) if !self.lanes[id].has_head && text == HEAD => {
                self.lanes[id].has_head = true;
                return Ok(());
            }
            (Shape::Binary, Message::Binary(bytes)) if self.lanes[id].has_head => {
                self.lanes[id].has_head = false;
                (bytes, self.payload.binary(id, number))
            }
            (shape, message) => {
                let got = message.shown();
                return Err(format!("expected {shape:?} number {due}, got {got}").into());
            }
        };
        if got != expected {
            let (got, expected) = (shown(got), shown(expected));
            return Err(format!("expected number {due}, which is {expected}, got {got}").into());
        }

        let lane = &mut self.lanes[id];
        let sent = number
            .checked_sub(due)
            .and_then(|at| lane.times.get_mut(at as usize)?.take())
            .ok_or_else(|| {
                format!("expected number {due}, got {number} again or before it was sent")
            })?;
        self.latency.add(now - sent);
        self.answered += 1;
        self.outstanding -= 1;
        self.reordered += u64::from(number != due);
        while let Some(None) = lane.times.front() {
            lane.times.pop_front();
            lane.due += 1;
        }
        if now < self.end {
            match self.refill {
                Refill::Each => self.send(net, id, now),
                Refill::Empty if self.lanes[id].times.is_empty() => {
                    (0..self.in_flight).for_each(|_| self.send(net, id, now));
                }
                Refill::Empty => {}
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.outstanding == 0
    }

    fn waits_for(&self) -> String {
        let lane = self
            .lanes
            .iter()
            .enumerate()
            .find(|(_, lane)| lane.due < lane.sent);
        lane.map_or_else(String::new, |(id, lane)| {
            format!("number {} of {} on connection {id}", lane.due, lane.sent)
        })
    }
}
