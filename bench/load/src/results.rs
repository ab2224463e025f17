//! What was measured, and what it should have been.

use std::{collections::BTreeMap, time::Duration};

use crate::{histogram::Histogram, server::Kind};

/// A line of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    Idle,
    IdleCompressed,
    IdlePolling,
    Connect,
    Echo,
    Echo32,
    Ack32,
    EchoMsgpack,
    Echo32Msgpack,
    Broadcast,
    Broadcast32,
    BroadcastJson,
    BroadcastDeflate,
    RoomFew,
    RoomMany,
    Binary,
    TlsEcho,
    TlsEcho32,
    Polling,
    Talk30,
    Talk100,
    Talk500,
    TalkFull30,
    TalkFull100,
    TalkFull500,
    FloodCheap,
    FloodDear,
    FloodLarge,
    FloodBombs,
    FloodBroadcasts,
    FloodJoins,
    FloodPanics,
    FloodPosts,
    Gone,
}

/// What a line says, and the goal of our share in it.
pub struct About {
    pub title: &'static str,
    pub unit: &'static str,
    /// At most this part of socketioxide's.
    pub to_socketioxide: Option<f64>,
    /// At most this part of Node's.
    pub to_node: Option<f64>,
    /// At most this part of the floor's.
    pub to_floor: Option<f64>,
    /// Units a second: at least this part of socketioxide's.
    pub rate_to_socketioxide: Option<f64>,
    /// At most this by itself.
    pub absolute: Option<f64>,
    /// At most this part of what our same server takes for another line.
    pub to_row: Option<(Row, f64)>,
    /// The order of magnitude on the machine where the goals were set.
    pub reference: &'static str,
}

impl Row {
    pub const ALL: [Self; 34] = [
        Self::Idle,
        Self::IdleCompressed,
        Self::IdlePolling,
        Self::Connect,
        Self::Echo,
        Self::Echo32,
        Self::Ack32,
        Self::EchoMsgpack,
        Self::Echo32Msgpack,
        Self::Broadcast,
        Self::Broadcast32,
        Self::BroadcastJson,
        Self::BroadcastDeflate,
        Self::RoomFew,
        Self::RoomMany,
        Self::Binary,
        Self::TlsEcho,
        Self::TlsEcho32,
        Self::Polling,
        Self::Talk30,
        Self::Talk100,
        Self::Talk500,
        Self::TalkFull30,
        Self::TalkFull100,
        Self::TalkFull500,
        Self::FloodCheap,
        Self::FloodDear,
        Self::FloodLarge,
        Self::FloodBombs,
        Self::FloodBroadcasts,
        Self::FloodJoins,
        Self::FloodPanics,
        Self::FloodPosts,
        Self::Gone,
    ];

    /// The rooms in which everyone talks.
    pub const TALK: [Self; 6] = [
        Self::Talk30,
        Self::Talk100,
        Self::Talk500,
        Self::TalkFull30,
        Self::TalkFull100,
        Self::TalkFull500,
    ];

    pub const fn about(self) -> About {
        const fn about(
            title: &'static str,
            unit: &'static str,
            to_socketioxide: Option<f64>,
            to_node: Option<f64>,
            reference: &'static str,
        ) -> About {
            About {
                title,
                unit,
                to_socketioxide,
                to_node,
                to_floor: None,
                rate_to_socketioxide: None,
                absolute: None,
                to_row: None,
                reference,
            }
        }
        const fn talk(
            title: &'static str,
            to_floor: Option<f64>,
            rate_to_socketioxide: Option<f64>,
        ) -> About {
            About {
                to_floor,
                rate_to_socketioxide,
                ..about(title, "us", None, None, "")
            }
        }
        const fn over_tls(title: &'static str) -> About {
            About {
                to_floor: Some(1.3),
                ..about(title, "us", None, None, "")
            }
        }
        const fn flood(title: &'static str) -> About {
            About {
                absolute: Some(50.0),
                ..about(title, "ms", None, None, "")
            }
        }
        const fn beside(
            title: &'static str,
            to_row: Row,
            part: f64,
            of_node: Option<f64>,
        ) -> About {
            About {
                to_row: Some((to_row, part)),
                ..about(title, "us", None, of_node, "")
            }
        }
        const fn part(of: f64) -> Option<f64> {
            Some(1.0 / of)
        }
        match self {
            Self::Idle => about(
                "idle WebSocket connection",
                "bytes",
                part(10.0),
                part(7.0),
                "2,500",
            ),
            Self::IdleCompressed => about(
                "idle WebSocket connection, compression agreed on",
                "bytes",
                None,
                None,
                "",
            ),
            Self::IdlePolling => about("idle long-polling connection", "bytes", None, None, ""),
            Self::Connect => about(
                "connect + namespace handshake",
                "us",
                part(2.0),
                part(10.0),
                "30",
            ),
            Self::Echo => about("echo, 1 in flight", "us", Some(0.56), part(3.0), "4.5"),
            Self::Echo32 => about("echo, 32 in flight", "us", part(5.0), part(18.0), "0.6"),
            Self::Ack32 => about("ack, 32 in flight", "us", part(5.0), part(17.0), "0.65"),
            Self::EchoMsgpack => beside("echo in MessagePack, 1 in flight", Self::Echo, 1.0, None),
            Self::Echo32Msgpack => {
                beside("echo in MessagePack, 32 in flight", Self::Echo32, 1.0, None)
            }
            Self::Broadcast => about(
                "broadcast to 1,000, a delivery",
                "us",
                Some(0.75),
                Some(0.37),
                "3.3",
            ),
            Self::Broadcast32 => about(
                "32 broadcasts to 1,000, a delivery",
                "us",
                part(4.0),
                part(25.0),
                "0.22",
            ),
            Self::BroadcastJson => about("1 KB of JSON to 1,000, a delivery", "us", None, None, ""),
            Self::BroadcastDeflate => beside(
                "1 KB of JSON to 1,000, deflated, a delivery",
                Self::BroadcastJson,
                1.3,
                part(5.0),
            ),
            Self::RoomFew => about("room of 50 among 100, a delivery", "us", None, None, ""),
            Self::RoomMany => about("room of 50 among all, a delivery", "us", None, None, ""),
            Self::Binary => about("64 KiB binary echo", "us", None, part(6.0), "30"),
            Self::TlsEcho => over_tls("echo over TLS, 1 in flight"),
            Self::TlsEcho32 => over_tls("echo over TLS, 32 in flight"),
            Self::Polling => about("long-polling echo", "us", Some(0.7), part(5.0), "12"),
            Self::Talk30 => talk("30 talk, 100/s each, a delivery", Some(2.0), None),
            Self::Talk100 => talk("100 talk, 30/s each, a delivery", Some(2.0), None),
            Self::Talk500 => talk("500 talk, 1/s each, a delivery", Some(1.1), None),
            Self::TalkFull30 => talk("30 talk, 1 in flight, a delivery", None, None),
            Self::TalkFull100 => talk("100 talk, 1 in flight, a delivery", None, Some(1.0)),
            Self::TalkFull500 => talk("500 talk, 1 in flight, a delivery", None, Some(1.0)),
            Self::FloodCheap => flood("echo beside a flood of cheap events, p99"),
            Self::FloodDear => flood("echo beside a flood of events of 12 us, p99"),
            Self::FloodLarge => flood("echo beside a flood of events of 64 KiB, p99"),
            Self::FloodBombs => flood("echo beside a flood of 1 KiB that inflate to 1 MB, p99"),
            Self::FloodBroadcasts => flood("echo beside a flood of broadcasts, p99"),
            Self::FloodJoins => flood("echo beside a flood of joins, p99"),
            Self::FloodPanics => flood("echo beside a flood of panics, p99"),
            Self::FloodPosts => flood("echo beside a flood of POST requests, p99"),
            Self::Gone => About {
                absolute: Some(1.2),
                ..about("memory after all have gone / before", "", None, None, "")
            },
        }
    }
}

/// A plot of how a cost grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Plot {
    Idle,
    Connect,
    Broadcast,
    Room,
    Join,
    RoomMemory,
    RoomsBroadcast,
    Payload,
}

impl Plot {
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Connect,
        Self::Broadcast,
        Self::Room,
        Self::Join,
        Self::RoomMemory,
        Self::RoomsBroadcast,
        Self::Payload,
    ];

    /// Its file, its title with the unit of what goes up, and what goes to the right.
    pub const fn about(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Idle => ("idle", "bytes an idle connection", "connections"),
            Self::Connect => ("connect", "connect, us CPU each", "connections"),
            Self::Broadcast => (
                "broadcast",
                "broadcast to all, us CPU a delivery",
                "connections",
            ),
            Self::Room => ("room", "room of 50, us CPU a delivery", "connections"),
            Self::Join => ("join", "join of a room, us CPU each", "rooms"),
            Self::RoomMemory => ("room-memory", "bytes a room with one member", "rooms"),
            Self::RoomsBroadcast => ("rooms", "room of 50, us CPU a delivery", "rooms"),
            Self::Payload => ("payload", "text echo, us CPU each", "bytes of text"),
        }
    }
}

/// One measurement.
#[derive(Clone, Default)]
pub struct Sample {
    pub value: f64,
    /// The load generator's own CPU for a unit, in microseconds.
    pub client: Option<f64>,
    /// How much of the time the load generator was at work, 0 to 1.
    pub client_busy: f64,
    /// Units a second.
    pub rate: f64,
    pub latency: Option<Histogram>,
    /// Units that came before their turn.
    pub reordered: u64,
    /// How long after the end of what was offered the last answer came.
    pub behind: Duration,
    /// How late the load generator itself was with what it offered.
    pub lag: Option<Histogram>,
}

impl Sample {
    /// Whether the server kept up with what was offered.
    pub fn keeps_up(&self) -> bool {
        self.lag.is_none() || self.behind < Duration::from_millis(100)
    }

    pub fn of(value: f64) -> Self {
        Self {
            value,
            ..Self::default()
        }
    }
}

/// Everything measured so far.
#[derive(Default)]
pub struct Results {
    rows: BTreeMap<(Row, Kind), Vec<Sample>>,
    plots: BTreeMap<(Plot, Kind), BTreeMap<usize, Vec<f64>>>,
    memory: BTreeMap<Kind, Vec<[u64; 3]>>,
    pub failures: Vec<String>,
}

/// The middle of some measurements, and the lowest and highest.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, low, high })
    }
}

impl Results {
    pub fn add(&mut self, row: Row, kind: Kind, sample: Sample) {
        let about = row.about();
        let value = sample.value;
        eprint!(
            "    {kind:<13} {:<38} {value:>10.3} {}",
            about.title, about.unit
        );
        if sample.latency.is_some() {
            let at = |part| sample.latency.as_ref().and_then(|it| it.at(part));
            let millis = |part| at(part).unwrap_or_default().as_secs_f64() * 1e3;
            eprint!(
                ", {:.0}/s, p50 {:.2} p99 {:.2} max {:.2} ms, load {:.0} %",
                sample.rate,
                millis(0.5),
                millis(0.99),
                millis(1.0),
                sample.client_busy * 100.0
            );
            if !sample.keeps_up() {
                eprint!(", falls behind by {:.1} s", sample.behind.as_secs_f64());
            }
        }
        eprintln!();
        self.rows.entry((row, kind)).or_default().push(sample);
    }

    pub fn point(&mut self, plot: Plot, kind: Kind, x: usize, value: f64) {
        let (_, title, of) = plot.about();
        eprintln!("    {kind:<13} {title:<38} {value:>10.3} at {x} {of}");
        self.plots
            .entry((plot, kind))
            .or_default()
            .entry(x)
            .or_default()
            .push(value);
    }

    pub fn memory(&mut self, kind: Kind, start_full_gone: [u64; 3]) {
        self.memory.entry(kind).or_default().push(start_full_gone);
    }

    pub fn samples(&self, row: Row, kind: Kind) -> &[Sample] {
        self.rows.get(&(row, kind)).map_or(&[], Vec::as_slice)
    }

    pub fn spread(&self, row: Row, kind: Kind) -> Option<Spread> {
        Spread::of(self.samples(row, kind).iter().map(|sample| sample.value))
    }

    /// The median of units a second.
    pub fn rate(&self, row: Row, kind: Kind) -> Option<f64> {
        let rates = self.samples(row, kind).iter().map(|sample| sample.rate);
        Some(Spread::of(rates)?.median)
    }

    /// The latencies of all rounds together.
    pub fn latency(&self, row: Row, kind: Kind) -> Option<Histogram> {
        self.merged(row, kind, |sample| sample.latency.as_ref())
    }

    /// How late the load generator was, of all rounds together.
    pub fn lag(&self, row: Row, kind: Kind) -> Option<Histogram> {
        self.merged(row, kind, |sample| sample.lag.as_ref())
    }

    fn merged(
        &self,
        row: Row,
        kind: Kind,
        of: impl Fn(&Sample) -> Option<&Histogram>,
    ) -> Option<Histogram> {
        let mut all: Option<Histogram> = None;
        for one in self.samples(row, kind).iter().filter_map(of) {
            all.get_or_insert_default().merge(one);
        }
        all
    }

    /// The medians of a plot's line, from left to right.
    pub fn line(&self, plot: Plot, kind: Kind) -> Vec<(usize, f64)> {
        let points = self.plots.get(&(plot, kind)).into_iter().flatten();
        points
            .filter_map(|(x, values)| Some((*x, Spread::of(values.iter().copied())?.median)))
            .collect()
    }

    /// The median memory at the start, with all connections, and after them.
    pub fn memory_of(&self, kind: Kind) -> Option<[f64; 3]> {
        let all = self.memory.get(&kind)?;
        let median = |at: usize| Spread::of(all.iter().map(|it| it[at] as f64)).map(|it| it.median);
        Some([median(0)?, median(1)?, median(2)?])
    }
}
