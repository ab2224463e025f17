//! What the clients of two servers do that those of one don't: events to rooms that are all on one
//! server, and joins and leaves at a rate.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    Result,
    histogram::Histogram,
    message::{Payload, shown},
    net::{Load, Message, Net},
};

/// When the next of a steady stream is due, as long as it lasts.
struct Steady {
    every: Duration,
    next: Instant,
    end: Instant,
}

impl Steady {
    fn start(each_second: u32, time: Duration) -> Self {
        let now = Instant::now();
        Self {
            every: Duration::from_secs(1) / each_second,
            next: now,
            end: now + time,
        }
    }

    fn due(&self) -> Option<Instant> {
        (self.next < self.end).then_some(self.next)
    }

    /// Whether one is due, which is taken.
    fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.next += self.every;
        }
        is_due
    }
}

/// Connection 0 sends events at a rate, each to the next of many rooms, of which each has one of the
/// other connections in it.
pub struct ToRooms {
    rooms: usize,
    members: usize,
    payload: Payload,
    steady: Steady,
    /// Of each member: the numbers that are due.
    due: Vec<VecDeque<u64>>,
    pub sent: u64,
    outstanding: u64,
}

impl ToRooms {
    /// The rooms that each connection is in.
    pub fn members(rooms: usize, members: usize) -> Vec<Vec<String>> {
        let of = |member| (0..rooms).filter(move |room| room % members == member);
        let of = |member| of(member).map(|room| format!("room-{room}")).collect();
        let none = Vec::new();
        [none].into_iter().chain((0..members).map(of)).collect()
    }

    pub fn new(rooms: usize, members: usize, size: usize) -> Self {
        Self {
            rooms,
            members,
            payload: Payload::new(size),
            steady: Steady::start(1, Duration::ZERO),
            due: vec![VecDeque::new(); members],
            sent: 0,
            outstanding: 0,
        }
    }

    pub fn run(&mut self, net: &mut Net, each_second: u32, time: Duration) -> Result<()> {
        self.steady = Steady::start(each_second, time);
        self.sent = 0;
        net.run(self)
    }
}

impl Load for ToRooms {
    fn message(&mut self, _: &mut Net, id: usize, message: Message<'_>, _: Instant) -> Result<()> {
        let due = id.checked_sub(1).and_then(|at| self.due.get_mut(at));
        let due = due.and_then(VecDeque::pop_front);
        let expected = due.map(|number| self.payload.text("42[\"to\",", 0, number));
        match (message, expected) {
            (Message::Text(got), Some(expected)) if got == expected => {}
            (got, due) => {
                let due = due.map_or("nothing".into(), String::from_utf8_lossy);
                return Err(format!("expected {due}, got {}", got.shown()).into());
            }
        }
        self.outstanding -= 1;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.outstanding == 0 && self.steady.due().is_none()
    }

    fn waits_for(&self) -> String {
        format!("{} events to rooms", self.outstanding)
    }

    fn due(&self) -> Option<Instant> {
        self.steady.due()
    }

    fn act(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        while self.steady.take(now) {
            let room = self.sent as usize % self.rooms;
            let prefix = format!("42[\"to\",\"room-{room}\",");
            net.send_text(0, self.payload.text(&prefix, 0, self.sent));
            self.due[room % self.members].push_back(self.sent);
            self.sent += 1;
            self.outstanding += 1;
        }
        Ok(())
    }
}

/// One connection enters rooms at a rate, and leaves each when it has entered so many others.
pub struct Moves {
    kept: u64,
    id: usize,
    steady: Steady,
    /// When it wanted to enter those that aren't confirmed.
    waiting: HashMap<u64, Instant>,
    entered: u64,
    left: u64,
    /// From the wish to enter to the confirmation that the server has subscribed to the room.
    pub lag: Histogram,
}

impl Moves {
    pub fn new(id: usize, kept: u64) -> Self {
        Self {
            kept,
            id,
            steady: Steady::start(1, Duration::ZERO),
            waiting: HashMap::new(),
            entered: 0,
            left: 0,
            lag: Histogram::default(),
        }
    }

    /// So many joins a second, and about as many leaves. Returns how many joins and leaves that was.
    pub fn run(&mut self, net: &mut Net, each_second: u32, time: Duration) -> Result<u64> {
        let before = self.entered + self.left;
        self.steady = Steady::start(each_second, time);
        self.lag = Histogram::default();
        net.run(self)?;
        Ok(self.entered + self.left - before)
    }
}

impl Load for Moves {
    fn message(&mut self, _: &mut Net, _: usize, message: Message<'_>, now: Instant) -> Result<()> {
        // They may be confirmed together, and then in any order.
        let Message::Text(got) = message else {
            return Err(format!("expected a join, got {}", message.shown()).into());
        };
        let number = std::str::from_utf8(got).ok().and_then(|got| {
            let (number, room) = got.strip_prefix("43")?.split_once("[\"moving-")?;
            (room.strip_suffix("\"]") == Some(number)).then(|| number.parse().ok())?
        });
        let since = number.and_then(|number: u64| self.waiting.remove(&number));
        let since = since.ok_or_else(|| format!("expected a join, got {}", shown(got)))?;
        self.lag.add(now - since);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.steady.due().is_none()
    }

    fn waits_for(&self) -> String {
        format!("{} joins", self.waiting.len())
    }

    fn due(&self) -> Option<Instant> {
        self.steady.due()
    }

    fn act(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        while self.steady.take(now) {
            let number = self.entered;
            let enter = format!("42{number}[\"enter\",\"moving-{number}\"]");
            net.send_text(self.id, enter.as_bytes());
            self.waiting.insert(number, now);
            self.entered += 1;
            if self.entered - self.left > self.kept {
                let leave = format!("42[\"leave\",\"moving-{}\"]", self.left);
                net.send_text(self.id, leave.as_bytes());
                self.left += 1;
            }
        }
        Ok(())
    }
}
