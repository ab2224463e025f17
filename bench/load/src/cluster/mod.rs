//! Two servers and the Redis between them: what an event costs that is emitted on one and delivered
//! by the other, how much later it comes for that, and what rooms cost that are elsewhere.
//!
//! Connection 0 is the publisher's, at the first server; the receivers are at the second. Each
//! scenario gets a fresh Redis and two fresh servers.

mod loads;
mod redis;
mod report;

use std::{
    fmt,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Result, Settings,
    broadcast::{Broadcast, Join},
    connect::Connect,
    net::Net,
    server::{Process, Server, aside, set_aside},
};
use loads::{Moves, ToRooms};
use redis::Redis;
use report::Results;
pub use report::{HEADING, document};

const TEXT_SIZE: usize = 64;

/// Receivers at the second server.
const RECEIVERS: usize = 1_000;

/// Rooms whose members are all at the first server, members, and events to them a second.
const ROOMS: usize = 10_000;
const MEMBERS: usize = 100;
const EVENTS: u32 = 2_000;

/// Joins a second, and as many leaves: 100,000 a minute.
const JOINS: u32 = 834;
/// Rooms that are left when there are more.
const KEPT: u64 = 5_000;

/// Round trips of the broker that are measured before and after a latency.
const ROUND_TRIPS: usize = 2_000;

/// Which servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Two of ours, by our own wire.
    Ours,
    /// Two of ours, by the wire of Node's classic adapter.
    NodeWire,
    /// Two of Node, by `@socket.io/redis-adapter`, classic.
    Node,
    /// Two that only do with the bytes what has to be done: see `bench/floor`.
    Floor,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Ours, Self::NodeWire, Self::Node, Self::Floor];

    /// What `--only` calls it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NodeWire => "node-wire",
            _ => self.name(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::NodeWire => "ours, Node's wire",
            Self::Node => "node",
            Self::Floor => "floor",
        }
    }

    fn command(self, redis: &Redis) -> Command {
        let wire = match self {
            Self::Ours => "ours",
            Self::NodeWire => "classic",
            Self::Node => {
                let mut command = Command::new("node");
                command.args(["bench/node/server.js", "0", &redis.url()]);
                command.env("NODE_ENV", "production");
                return command;
            }
            Self::Floor => {
                let mut command = Command::new(aside(FLOOR));
                command.args(["0", "redis", &redis.url()]);
                return command;
            }
        };
        let mut command = Command::new(aside(BINARY));
        command.args(["0", &redis.url(), wire]);
        command
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const BINARY: &str = "bench-cluster";
const FLOOR: &str = "bench-floor";

/// A line of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    /// CPU of an event: which load, whose.
    Event(Event, Who),
    /// From the emit to the client: at the other server, at the same server, by Redis alone.
    Hop,
    NoHop,
    RoundTrip,
    /// What of a hop is beyond the round trip of Redis.
    Added,
    /// CPU of the second server in a second: with nothing to do, and with events to rooms that it
    /// has nobody in.
    Idle,
    Elsewhere,
    /// Joins and leaves: CPU of one, how far the subscriptions lag, memory.
    Move,
    Lag,
    LagTail,
    MemoryBefore,
    MemoryAfter,
}

/// What is emitted, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Event {
    One,
    One32,
    Room,
    Room32,
    All,
    All32,
}

impl Event {
    const ALL: [Self; 6] = [
        Self::One,
        Self::One32,
        Self::Room,
        Self::Room32,
        Self::All,
        Self::All32,
    ];

    /// The event, how many are in the room at the other server, how many are emitted at a time.
    const fn load(self) -> (&'static str, usize, u64) {
        match self {
            Self::One => ("room", 1, 1),
            Self::One32 => ("room", 1, 32),
            Self::Room => ("room", RECEIVERS, 1),
            Self::Room32 => ("room", RECEIVERS, 32),
            Self::All => ("broadcast", RECEIVERS, 1),
            Self::All32 => ("broadcast", RECEIVERS, 32),
        }
    }
}

/// Whose CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    Publisher,
    Receiver,
    Redis,
}

/// What is measured with fresh servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    Events(Event),
    Latency,
    Elsewhere,
    Moves,
}

impl Scenario {
    pub fn all() -> Vec<Self> {
        let events = Event::ALL.into_iter().map(Self::Events);
        let others = [Self::Latency, Self::Elsewhere, Self::Moves];
        events.chain(others).collect()
    }

    /// What `--scenario` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events(Event::One) => "one",
            Self::Events(Event::One32) => "one32",
            Self::Events(Event::Room) => "room",
            Self::Events(Event::Room32) => "room32",
            Self::Events(Event::All) => "all",
            Self::Events(Event::All32) => "all32",
            Self::Latency => "latency",
            Self::Elsewhere => "elsewhere",
            Self::Moves => "moves",
        }
    }

    fn run(self, kind: Kind, settings: &Settings, results: &mut Results) -> Result<()> {
        match self {
            Self::Events(event) => events(event, kind, settings, results),
            Self::Latency => latency(kind, settings, results),
            Self::Elsewhere => elsewhere(kind, settings, results),
            Self::Moves => moves(kind, settings, results),
        }
    }
}

/// Measures these, and returns what there is to say.
pub fn run(settings: &Settings, kinds: &[Kind], scenarios: &[Scenario]) -> Result<Results> {
    set_aside(BINARY, BINARY)?;
    set_aside(FLOOR, FLOOR)?;
    let mut results = Results::default();
    for round in 1..=settings.rounds {
        for scenario in scenarios {
            for kind in kinds {
                if let Err(error) = scenario.run(*kind, settings, &mut results) {
                    let failure = format!("{kind}, {}, round {round}: {error}", scenario.name());
                    eprintln!("FAILED: {failure}");
                    results.failures.push(failure);
                }
            }
        }
    }
    Ok(results)
}

/// A Redis, two servers, and connections to them.
struct Cluster {
    net: Net,
    servers: [Server; 2],
    redis: Redis,
}

/// What the three processes took of a time.
#[derive(Clone, Copy)]
struct Cost {
    cpu: [Duration; 3],
    wall: Duration,
}

impl Cost {
    /// Microseconds of a process for one of some units, without what it takes with nothing to do.
    fn each(self, who: Who, idle: Self, units: u64) -> f64 {
        let of = |cost: Self| cost.cpu[who as usize].as_secs_f64();
        let idle = of(idle) / idle.wall.as_secs_f64() * self.wall.as_secs_f64();
        (of(self) - idle).max(0.0) * 1e6 / units as f64
    }

    /// Milliseconds of a process in a second.
    fn each_second(self, who: Who) -> f64 {
        self.cpu[who as usize].as_secs_f64() * 1e3 / self.wall.as_secs_f64()
    }
}

impl Cluster {
    /// With one connection to the first server, and so many to the one and the other.
    fn start(kind: Kind, first: usize, second: usize) -> Result<Self> {
        let redis = Redis::start()?;
        let servers = [
            Server::spawn(kind.command(&redis))?,
            Server::spawn(kind.command(&redis))?,
        ];
        let mut net = Net::new(servers[0].address)?;
        Connect::run(&mut net, 1 + first)?;
        net.goes_to(servers[1].address);
        Connect::run(&mut net, 1 + first + second)?;
        let mut it = Self {
            net,
            servers,
            redis,
        };
        it.settle()?;
        Ok(it)
    }

    /// Lets those behind the first connection join rooms.
    fn join(&mut self, members: Vec<Vec<String>>) -> Result<()> {
        Join::run(&mut self.net, members)?;
        self.settle()
    }

    /// Until the servers have subscribed to what they want.
    fn settle(&mut self) -> Result<()> {
        self.net.quiet(Duration::from_millis(500))
    }

    fn cpu(&self) -> Result<[Duration; 3]> {
        let [one, two] = &self.servers;
        let all: [&Process; 3] = [one, two, &self.redis];
        let [one, two, redis] = all.map(Process::cpu);
        Ok([one?, two?, redis?])
    }

    /// What a piece of work costs, from rest to rest.
    fn measured<T>(&mut self, work: impl FnOnce(&mut Net) -> Result<T>) -> Result<(T, Cost)> {
        const REST: Duration = Duration::from_millis(20);
        self.net.quiet(REST)?;
        let (before, start) = (self.cpu()?, Instant::now());
        let done = work(&mut self.net)?;
        self.net.quiet(REST)?;
        let (after, wall) = (self.cpu()?, start.elapsed());
        let cpu = std::array::from_fn(|at| after[at] - before[at]);
        Ok((done, Cost { cpu, wall }))
    }

    /// What nothing costs.
    fn idle(&mut self, time: Duration) -> Result<Cost> {
        Ok(self.measured(|net| net.quiet(time))?.1)
    }
}

/// One room, which everyone but the publisher is in.
fn in_one_room(members: usize) -> Vec<Vec<String>> {
    let rooms = std::iter::repeat_n(vec!["r".to_owned()], members);
    [Vec::new()].into_iter().chain(rooms).collect()
}

fn events(event: Event, kind: Kind, settings: &Settings, results: &mut Results) -> Result<()> {
    let (name, receivers, burst) = event.load();
    let mut cluster = Cluster::start(kind, 0, receivers)?;
    cluster.join(in_one_room(receivers))?;
    let idle = cluster.idle(settings.measure)?;
    // What all get, the publisher's own client gets, too.
    let mut load = match name {
        "broadcast" => Broadcast::new(name, 1 + receivers, burst, TEXT_SIZE),
        _ => Broadcast::new(name, receivers, burst, TEXT_SIZE).from(1),
    };
    // Node's compiler needs a second.
    load.run(&mut cluster.net, settings.warm.max(Duration::from_secs(1)))?;
    let ((), cost) = cluster.measured(|net| load.run(net, settings.measure))?;
    let count = load.delivered / load.receivers() as u64;
    for who in [Who::Publisher, Who::Receiver, Who::Redis] {
        results.add(Row::Event(event, who), kind, cost.each(who, idle, count));
    }
    Ok(())
}

/// The median time from the emit to one client, in microseconds.
fn median(net: &mut Net, settings: &Settings) -> Result<f64> {
    let mut load = Broadcast::new("room", 1, 1, TEXT_SIZE).from(1);
    load.run(net, settings.warm)?;
    load.run(net, settings.measure)?;
    Ok(micros(load.latency.at(0.5)))
}

fn micros(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64() * 1e6
}

fn latency(kind: Kind, settings: &Settings, results: &mut Results) -> Result<()> {
    let mut near = Cluster::start(kind, 1, 0)?;
    near.join(in_one_room(1))?;
    let without = median(&mut near.net, settings)?;
    drop(near);
    let mut far = Cluster::start(kind, 0, 1)?;
    far.join(in_one_room(1))?;
    let mut trips = far.redis.round_trips(ROUND_TRIPS)?;
    let hop = median(&mut far.net, settings)?;
    trips.merge(&far.redis.round_trips(ROUND_TRIPS)?);
    let trip = micros(trips.at(0.5));
    results.add(Row::Hop, kind, hop);
    results.add(Row::NoHop, kind, without);
    results.add(Row::RoundTrip, kind, trip);
    results.add(Row::Added, kind, hop - without - trip);
    Ok(())
}

/// Events to rooms that the second server has nobody in.
fn elsewhere(kind: Kind, settings: &Settings, results: &mut Results) -> Result<()> {
    if kind == Kind::Floor {
        // It knows one room.
        return Ok(());
    }
    let mut cluster = Cluster::start(kind, MEMBERS, 1)?;
    cluster.join(ToRooms::members(ROOMS, MEMBERS))?;
    let time = 2 * settings.measure;
    let mut load = ToRooms::new(ROOMS, MEMBERS, TEXT_SIZE);
    load.run(&mut cluster.net, EVENTS, settings.warm)?;
    let idle = cluster.idle(time)?;
    let ((), cost) = cluster.measured(|net| load.run(net, EVENTS, time))?;
    results.add(Row::Idle, kind, idle.each_second(Who::Receiver));
    results.add(Row::Elsewhere, kind, cost.each_second(Who::Receiver));
    Ok(())
}

/// Joins and leaves at a rate, where servers subscribe to rooms.
fn moves(kind: Kind, settings: &Settings, results: &mut Results) -> Result<()> {
    if kind != Kind::Ours {
        return Ok(());
    }
    let mut cluster = Cluster::start(kind, 0, 1)?;
    let mut load = Moves::new(1, KEPT);
    let idle = cluster.idle(settings.measure)?;
    // Until there are as many rooms as there will be, and as many changes of them as a server
    // remembers.
    load.run(&mut cluster.net, 4 * JOINS, Duration::from_secs(12))?;
    let before = cluster.servers[1].resident()?;
    let time = 10 * settings.measure;
    let (moves, cost) = cluster.measured(|net| load.run(net, JOINS, time))?;
    let after = cluster.servers[1].resident()?;
    results.add(Row::Move, kind, cost.each(Who::Receiver, idle, moves));
    results.add(Row::Lag, kind, micros(load.lag.at(0.5)));
    results.add(Row::LagTail, kind, micros(load.lag.at(0.99)));
    results.add(Row::MemoryBefore, kind, before as f64 / 1e6);
    results.add(Row::MemoryAfter, kind, after as f64 / 1e6);
    Ok(())
}
