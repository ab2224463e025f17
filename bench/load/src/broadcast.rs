//! One sender whose messages come to many, and the joining of rooms before that.

use std::time::{Duration, Instant};

use crate::{
    Result,
    histogram::Histogram,
    message::{Payload, number_in, shown},
    net::{Load, Message, Net},
};

/// Connection 0 sends `burst` messages, which the first `receivers` connections all get, itself
/// among them; then it sends the next.
pub struct Broadcast {
    prefix: String,
    /// The first that gets them.
    from: usize,
    receivers: usize,
    burst: u64,
    keeps_order: bool,
    payload: Payload,
    /// Of each receiver: how many of the burst it has, by their numbers.
    seen: Vec<u64>,
    first: u64,
    outstanding: u64,
    sent_at: Instant,
    end: Instant,
    pub delivered: u64,
    pub reordered: u64,
    pub latency: Histogram,
}

impl Broadcast {
    /// `event` is what is sent, and what comes.
    pub fn new(event: &str, receivers: usize, burst: u64, size: usize) -> Self {
        assert!(burst <= 64, "the burst's messages are bits of a word");
        Self {
            prefix: format!("42[\"{event}\","),
            from: 0,
            receivers,
            burst,
            keeps_order: true,
            payload: Payload::new(size),
            seen: vec![0; receivers],
            first: 0,
            outstanding: 0,
            sent_at: Instant::now(),
            end: Instant::now(),
            delivered: 0,
            reordered: 0,
            latency: Histogram::default(),
        }
    }

    pub fn keeps_order(self, keeps_order: bool) -> Self {
        Self {
            keeps_order,
            ..self
        }
    }

    pub const fn receivers(&self) -> usize {
        self.receivers
    }

    /// What is sent is of this kind.
    pub fn of(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    /// The receivers are those from this connection on.
    pub fn from(self, from: usize) -> Self {
        Self { from, ..self }
    }

    /// Sends for that long, then waits for what is still due.
    pub fn run(&mut self, net: &mut Net, time: Duration) -> Result<()> {
        let now = Instant::now();
        self.end = now + time;
        self.delivered = 0;
        self.latency = Histogram::default();
        self.send(net, now);
        net.run(self)
    }

    fn send(&mut self, net: &mut Net, now: Instant) {
        for number in self.first..self.first + self.burst {
            net.send_text(0, self.payload.text(&self.prefix, 0, number));
        }
        self.seen.fill(0);
        self.sent_at = now;
        self.outstanding = self.burst * self.receivers as u64;
    }
}

impl Load for Broadcast {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        now: Instant,
    ) -> Result<()> {
        let Message::Text(got) = message else {
            return Err(format!("expected a broadcast, got {}", message.shown()).into());
        };
        let seen = id.checked_sub(self.from);
        let Some(seen) = seen.and_then(|at| self.seen.get_mut(at)) else {
            return Err(format!("expected nothing outside the room, got {}", shown(got)).into());
        };
        let due = self.first + u64::from(seen.trailing_ones());
        let number = match self.keeps_order {
            true => due,
            false => number_in(got).unwrap_or(due),
        };
        let expected = self.payload.text(&self.prefix, 0, number);
        if got != expected {
            let (got, expected) = (shown(got), shown(expected));
            return Err(format!("expected broadcast {due}, which is {expected}, got {got}").into());
        }
        let bit = match number.checked_sub(self.first) {
            Some(bit) if bit < self.burst && *seen & 1 << bit == 0 => bit,
            _ => {
                return Err(
                    format!("expected broadcast {due}, got {number} out of its turn").into(),
                );
            }
        };
        *seen |= 1 << bit;
        self.reordered += u64::from(number != due);
        self.latency.add(now - self.sent_at);
        self.delivered += 1;
        self.outstanding -= 1;
        if self.outstanding == 0 {
            self.first += self.burst;
            if now < self.end {
                self.send(net, now);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.outstanding == 0
    }

    fn waits_for(&self) -> String {
        let all = if self.burst == 64 {
            u64::MAX
        } else {
            (1 << self.burst) - 1
        };
        let missing = self.seen.iter().position(|seen| *seen != all);
        missing.map_or_else(String::new, |at| {
            let due = self.first + u64::from(self.seen[at].trailing_ones());
            let id = self.from + at;
            format!(
                "broadcast {due} on connection {id}, {} deliveries in all",
                self.outstanding
            )
        })
    }
}

/// Joins of rooms, each acknowledged with the room's name.
pub struct Join {
    /// Of each connection: the rooms that it still has to join, the last first.
    todo: Vec<Vec<String>>,
    waiting: usize,
}

impl Join {
    /// Lets each connection join its rooms, one after the other.
    pub fn run(net: &mut Net, rooms: Vec<Vec<String>>) -> Result<()> {
        let mut it = Self {
            todo: rooms,
            waiting: 0,
        };
        for rooms in &mut it.todo {
            rooms.reverse();
        }
        for id in 0..it.todo.len() {
            it.send(net, id);
        }
        net.run(&mut it)
    }

    fn send(&mut self, net: &mut Net, id: usize) {
        if let Some(room) = self.todo[id].last() {
            net.send_text(
                id,
                format!("42{}[\"join\",\"{room}\"]", self.todo[id].len()).as_bytes(),
            );
            self.waiting += 1;
        }
    }
}

impl Load for Join {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        _: Instant,
    ) -> Result<()> {
        let ack = self.todo.get(id).map_or(0, Vec::len);
        let room = self.todo.get_mut(id).and_then(Vec::pop).unwrap_or_default();
        let expected = format!("43{ack}[\"{room}\"]");
        match message {
            Message::Text(got) if got == expected.as_bytes() => {}
            got => return Err(format!("expected {expected}, got {}", got.shown()).into()),
        }
        self.waiting -= 1;
        self.send(net, id);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.waiting == 0
    }

    fn waits_for(&self) -> String {
        format!("{} joins", self.waiting)
    }
}
