//! A room in which everyone talks: what each says comes to all, to who said it too.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    Result,
    histogram::Histogram,
    message::{Payload, STAMP, random, shown},
    net::{Load, Message, Net},
};

/// When a client says something.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// So many times a second, whatever the server does: an open loop. The times of all are spread
    /// evenly, each moved at random by up to half of the time between two of a client, and then
    /// back to the last `tick`.
    Offered { each_second: u32, tick: Duration },
    /// As soon as it has its own last one back.
    Full,
}

/// All connections of the net talk, for a time.
pub struct Talk {
    pace: Pace,
    keeps_order: bool,
    clients: usize,
    prefix: String,
    payload: Payload,
    /// What is before and behind the stamp in each message.
    head: Vec<u8>,
    tail: Vec<u8>,
    seed: u64,
    /// When who says something, from `start` on.
    schedule: VecDeque<(Duration, usize)>,
    start: Instant,
    end: Instant,
    speakers: Vec<Speaker>,
    /// Of each receiver and each speaker: the number that is due. All before it have come.
    due: Vec<u32>,
    /// Those that came before their turn: receiver, speaker, number.
    early: HashSet<(usize, usize, u32)>,
    outstanding: u64,
    last_said: Instant,
    last_heard: Instant,
    pub delivered: u64,
    pub reordered: u64,
    /// From when it should have been said to its own copy.
    pub latency: Histogram,
    /// How much later than it should the load generator itself has said it.
    pub lag: Histogram,
}

#[derive(Default)]
struct Speaker {
    said: u32,
    /// When it should have said those whose own copy is due, from number `first` on.
    times: VecDeque<Instant>,
    first: u32,
}

impl Talk {
    /// `event` is what is said, and what comes.
    pub fn new(event: &str, clients: usize, size: usize, pace: Pace) -> Self {
        let prefix = format!("42[\"{event}\",");
        let mut payload = Payload::new(size);
        let sample = payload.text(&prefix, 0, 0);
        let (head, rest) = sample.split_at(prefix.len() + 1);
        let (head, tail) = (head.to_vec(), rest[STAMP..].to_vec());
        let now = Instant::now();
        Self {
            pace,
            keeps_order: true,
            clients,
            prefix,
            payload,
            head,
            tail,
            seed: 0x9e37_79b9_7f4a_7c15,
            schedule: VecDeque::new(),
            start: now,
            end: now,
            speakers: (0..clients).map(|_| Speaker::default()).collect(),
            due: vec![0; clients * clients],
            early: HashSet::new(),
            outstanding: 0,
            last_said: now,
            last_heard: now,
            delivered: 0,
            reordered: 0,
            latency: Histogram::default(),
            lag: Histogram::default(),
        }
    }

    pub fn keeps_order(self, keeps_order: bool) -> Self {
        Self {
            keeps_order,
            ..self
        }
    }

    /// Talks for that long, then waits for what is still due.
    pub fn run(&mut self, net: &mut Net, time: Duration) -> Result<()> {
        self.delivered = 0;
        self.latency = Histogram::default();
        self.lag = Histogram::default();
        self.start = Instant::now();
        self.end = self.start + time;
        match self.pace {
            Pace::Offered { each_second, tick } => {
                self.schedule = schedule(self.clients, each_second, tick, time, &mut self.seed);
            }
            Pace::Full => (0..self.clients).for_each(|id| self.say(net, id, self.start)),
        }
        net.run(self)
    }

    /// How long after the last was said the last copy came.
    pub fn behind(&self) -> Duration {
        self.last_heard.saturating_duration_since(self.last_said)
    }

    fn say(&mut self, net: &mut Net, id: usize, due: Instant) {
        let it = &mut self.speakers[id];
        net.send_text(id, self.payload.text(&self.prefix, id, u64::from(it.said)));
        it.said += 1;
        it.times.push_back(due);
        self.outstanding += self.clients as u64;
        self.last_said = due;
    }

    /// Who said it, and the how-manieth it is.
    fn stamp(&self, got: &[u8]) -> Option<(usize, u32)> {
        let rest = got.strip_prefix(&self.head[..])?;
        let (stamp, tail) = rest.split_first_chunk::<STAMP>()?;
        let (speaker, number) = stamp.split_at(STAMP / 2);
        let (speaker, number) = (hexadecimal(speaker)?, hexadecimal(number)?);
        (tail == self.tail && (speaker as usize) < self.clients)
            .then_some((speaker as usize, number))
    }

    /// One that isn't due but may come all the same, where a server doesn't keep the order.
    fn before_its_turn(&mut self, id: usize, speaker: usize, number: u32) -> Result<()> {
        let due = self.due[id * self.clients + speaker];
        let is_new = number > due && number < self.speakers[speaker].said;
        if self.keeps_order || !is_new || !self.early.insert((id, speaker, number)) {
            return Err(format!("expected number {due} of client {speaker}, got {number}").into());
        }
        self.reordered += 1;
        Ok(())
    }
}

/// When each client says something, in the order of time.
fn schedule(
    clients: usize,
    each_second: u32,
    tick: Duration,
    time: Duration,
    seed: &mut u64,
) -> VecDeque<(Duration, usize)> {
    let period = 1.0 / f64::from(each_second);
    let mut times = Vec::new();
    for client in 0..clients {
        // The one before the first: it may be moved into the time.
        let mut turn = client as f64 / clients as f64 - 1.0;
        while turn * period < time.as_secs_f64() {
            let moved = (random(seed) >> 11) as f64 / (1_u64 << 53) as f64 / 2.0;
            let at = (turn + moved) * period;
            if at >= 0.0 && at < time.as_secs_f64() {
                times.push((Duration::from_secs_f64(at), client));
            }
            turn += 1.0;
        }
    }
    times.sort_unstable();
    for (at, _) in &mut times {
        let rest = at.as_nanos().checked_rem(tick.as_nanos()).unwrap_or(0);
        *at -= Duration::from_nanos(rest as u64);
    }
    times.into()
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    const NONE: u8 = 0x80;
    const VALUES: [u8; 256] = {
        let mut values = [NONE; 256];
        let mut value = 0;
        while value < 16 {
            values[b"0123456789abcdef"[value as usize] as usize] = value;
            value += 1;
        }
        values
    };
    let (mut value, mut all) = (0, 0);
    for digit in digits {
        let digit = VALUES[usize::from(*digit)];
        all |= digit;
        value = value << 4 | u32::from(digit);
    }
    (all & NONE == 0).then_some(value)
}

impl Load for Talk {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        now: Instant,
    ) -> Result<()> {
        let Message::Text(got) = message else {
            return Err(format!("expected what was said, got {}", message.shown()).into());
        };
        let Some((speaker, number)) = self.stamp(got) else {
            let expected = shown(self.payload.text(&self.prefix, 0, 0));
            return Err(format!("expected one as {expected}, got {}", shown(got)).into());
        };
        let at = id * self.clients + speaker;
        if number == self.due[at] && number < self.speakers[speaker].said {
            self.due[at] += 1;
            while !self.early.is_empty() && self.early.remove(&(id, speaker, self.due[at])) {
                self.due[at] += 1;
            }
        } else {
            self.before_its_turn(id, speaker, number)?;
        }
        self.delivered += 1;
        self.outstanding -= 1;
        self.last_heard = now;
        if id == speaker {
            let due = self.due[at];
            let it = &mut self.speakers[id];
            let said = it.times[(number - it.first) as usize];
            self.latency.add(now.saturating_duration_since(said));
            while it.first < due {
                it.times.pop_front();
                it.first += 1;
            }
            if self.pace == Pace::Full && now < self.end {
                self.say(net, id, now);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.outstanding == 0 && self.schedule.is_empty()
    }

    fn waits_for(&self) -> String {
        let missing = self.due.iter().enumerate().find_map(|(at, due)| {
            let (id, speaker) = (at / self.clients, at % self.clients);
            (*due < self.speakers[speaker].said)
                .then(|| format!("number {due} of client {speaker} on connection {id}, "))
        });
        let outstanding = self.outstanding;
        format!(
            "{}{outstanding} deliveries in all",
            missing.unwrap_or_default()
        )
    }

    fn due(&self) -> Option<Instant> {
        self.schedule.front().map(|(at, _)| self.start + *at)
    }

    fn act(&mut self, net: &mut Net, now: Instant) -> Result<()> {
        while let Some((at, id)) = self.schedule.front() {
            let (due, id) = (self.start + *at, *id);
            if due > now {
                break;
            }
            self.schedule.pop_front();
            self.lag.add(now - due);
            self.say(net, id, due);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_schedule_has_the_rate_of_each_client_and_is_spread_over_the_time() {
        let mut seed = 1;
        let times = schedule(30, 100, Duration::ZERO, SECOND, &mut seed);
        for client in 0..30 {
            let count = times.iter().filter(|(_, it)| *it == client).count();
            assert!((99..=101).contains(&count), "{count}");
        }
        for tenth in 0..10 {
            let from = SECOND * tenth / 10;
            let inside = from..from + SECOND / 10;
            let count = times.iter().filter(|(at, _)| inside.contains(at)).count();
            assert!((270..=330).contains(&count), "{count}");
        }
        assert!(times.iter().is_sorted());
    }

    #[test]
    fn one_seed_gives_one_schedule() {
        let of = |mut seed| schedule(5, 10, Duration::ZERO, SECOND, &mut seed);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn ticks_bring_those_together_that_are_due_within_one() {
        let tick = Duration::from_millis(1);
        let times = schedule(30, 100, tick, SECOND, &mut 1);
        assert!(
            times
                .iter()
                .all(|(at, _)| at.subsec_nanos() % 1_000_000 == 0)
        );
        assert!(times.iter().is_sorted_by_key(|(at, _)| at));
        let ticks: HashSet<_> = times.iter().map(|(at, _)| at).collect();
        assert!(ticks.len() * 2 < times.len(), "about three come together");
    }

    #[test]
    fn only_digits_are_a_number() {
        assert_eq!(hexadecimal(b"00001f0a"), Some(0x1f0a));
        assert_eq!(hexadecimal(b"00001F0a"), None);
        assert_eq!(hexadecimal(b"0000 f0a"), None);
    }
}
