//! What is measured, one function for each scenario. Each gets a fresh server.

mod grow;

use std::time::{Duration, Instant};

use crate::{
    Result, Settings,
    broadcast::{Broadcast, Join},
    connect::{Connect, Poll},
    echo::{Echo, Shape},
    flood::{Flood, Water},
    histogram::Histogram,
    message::Payload,
    net::Net,
    polling::PollingEcho,
    results::{Plot, Results, Row, Sample},
    server::{Kind, Server, compresses, own_cpu, packs},
    talk::{Pace, Talk},
};

/// The text in an echo, an acknowledgement or a broadcast.
const TEXT_SIZE: usize = 64;
const BINARY_SIZE: usize = 64 * 1024;
/// The JSON of a broadcast that is compressed: servers do that from so many bytes on.
const JSON_SIZE: usize = 1024;

/// How many are in the one room.
const MEMBERS: usize = 50;

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    run: fn(&mut Run<'_>) -> Result<()>,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "connections",
        about: "idle WebSocket connections: memory, connect CPU, memory after they have gone",
        run: connections,
    },
    Scenario {
        name: "idle-compressed",
        about: "memory of WebSocket connections that have agreed on compression",
        run: idle_compressed,
    },
    Scenario {
        name: "idle-polling",
        about: "idle long-polling connections: memory",
        run: idle_polling,
    },
    Scenario {
        name: "echo",
        about: "echo, 100 connections, 1 in flight",
        run: |run| echo(run, Row::Echo, Shape::Text, 100, 1, TEXT_SIZE),
    },
    Scenario {
        name: "echo32",
        about: "echo, 100 connections, 32 in flight",
        run: |run| echo(run, Row::Echo32, Shape::Text, 100, 32, TEXT_SIZE),
    },
    Scenario {
        name: "ack32",
        about: "acknowledgement, 100 connections, 32 in flight",
        run: |run| echo(run, Row::Ack32, Shape::Ack, 100, 32, TEXT_SIZE),
    },
    Scenario {
        name: "echo-msgpack",
        about: "echo in MessagePack, 100 connections, 1 in flight",
        run: |run| echo(run, Row::EchoMsgpack, Shape::Msgpack, 100, 1, TEXT_SIZE),
    },
    Scenario {
        name: "echo32-msgpack",
        about: "echo in MessagePack, 100 connections, 32 in flight",
        run: |run| echo(run, Row::Echo32Msgpack, Shape::Msgpack, 100, 32, TEXT_SIZE),
    },
    Scenario {
        name: "broadcast",
        about: "broadcast to 1,000, one at a time",
        run: |run| broadcast(run, Row::Broadcast, 1),
    },
    Scenario {
        name: "broadcast32",
        about: "32 broadcasts back to back to 1,000",
        run: |run| broadcast(run, Row::Broadcast32, 32),
    },
    Scenario {
        name: "broadcast-json",
        about: "broadcast of 1 KB of JSON to 1,000, one at a time",
        run: |run| broadcast_json(run, Row::BroadcastJson),
    },
    Scenario {
        name: "broadcast-deflate",
        about: "the same with compression, which all connections have agreed on",
        run: broadcast_deflate,
    },
    Scenario {
        name: "room",
        about: "broadcast to a room of 50, among few and among many",
        run: room,
    },
    Scenario {
        name: "binary",
        about: "64 KiB binary echo, 16 connections, 1 in flight",
        run: |run| echo(run, Row::Binary, Shape::Binary, 16, 1, BINARY_SIZE),
    },
    Scenario {
        name: "tls-echo",
        about: "echo over TLS, 100 connections, 1 in flight",
        run: |run| echo(run, Row::TlsEcho, Shape::Text, 100, 1, TEXT_SIZE),
    },
    Scenario {
        name: "tls-echo32",
        about: "echo over TLS, 100 connections, 32 in flight",
        run: |run| echo(run, Row::TlsEcho32, Shape::Text, 100, 32, TEXT_SIZE),
    },
    Scenario {
        name: "polling",
        about: "long-polling echo, 100 sessions",
        run: polling,
    },
    Scenario {
        name: "talk-30",
        about: "a room in which 30 talk, 100 times a second each",
        run: |run| talk(run, Row::Talk30, 30, Some(100)),
    },
    Scenario {
        name: "talk-100",
        about: "a room in which 100 talk, 30 times a second each",
        run: |run| talk(run, Row::Talk100, 100, Some(30)),
    },
    Scenario {
        name: "talk-500",
        about: "a room in which 500 talk, once a second each",
        run: |run| talk(run, Row::Talk500, 500, Some(1)),
    },
    Scenario {
        name: "talk-full-30",
        about: "a room in which 30 talk, each as soon as its last has come back",
        run: |run| talk(run, Row::TalkFull30, 30, None),
    },
    Scenario {
        name: "talk-full-100",
        about: "a room in which 100 talk, each as soon as its last has come back",
        run: |run| talk(run, Row::TalkFull100, 100, None),
    },
    Scenario {
        name: "talk-full-500",
        about: "a room in which 500 talk, each as soon as its last has come back",
        run: |run| talk(run, Row::TalkFull500, 500, None),
    },
    Scenario {
        name: "flood-cheap",
        about: "another's echo, beside a flood of events whose handler does nothing",
        run: |run| flood(run, Row::FloodCheap, Water::Cheap),
    },
    Scenario {
        name: "flood-dear",
        about: "another's echo, beside a flood of events whose handler takes 12 us",
        run: |run| flood(run, Row::FloodDear, Water::Dear),
    },
    Scenario {
        name: "flood-large",
        about: "another's echo, beside a flood of events of 64 KiB",
        run: |run| flood(run, Row::FloodLarge, Water::Large),
    },
    Scenario {
        name: "flood-bombs",
        about: "another's echo, beside a flood of events of 1 KiB that inflate to almost 1 MB",
        run: |run| flood(run, Row::FloodBombs, Water::Bombs),
    },
    Scenario {
        name: "flood-broadcasts",
        about: "another's echo, beside a flood of broadcasts to a room of 20",
        run: |run| flood(run, Row::FloodBroadcasts, Water::Broadcasts),
    },
    Scenario {
        name: "flood-joins",
        about: "another's echo, beside a flood of joins",
        run: |run| flood(run, Row::FloodJoins, Water::Joins),
    },
    Scenario {
        name: "flood-panics",
        about: "another's echo, beside a flood of events whose handler panics",
        run: |run| flood(run, Row::FloodPanics, Water::Panics),
    },
    Scenario {
        name: "flood-posts",
        about: "another's echo, beside a flood of POST requests",
        run: |run| flood(run, Row::FloodPosts, Water::Posts),
    },
    Scenario {
        name: "grow-connections",
        about: "the same with ever more connections, to the file limit",
        run: grow::connections,
    },
    Scenario {
        name: "grow-rooms",
        about: "the same with ever more rooms",
        run: grow::rooms,
    },
    Scenario {
        name: "grow-payload",
        about: "echo of ever larger texts",
        run: grow::payload,
    },
];

/// One scenario on one server.
pub struct Run<'a> {
    name: &'static str,
    kind: Kind,
    settings: &'a Settings,
    results: &'a mut Results,
    server: Server,
    net: Net,
}

/// What a piece of work took.
struct Cost {
    server: Duration,
    client: Duration,
    wall: Duration,
}

impl Cost {
    fn sample(&self, units: u64, latency: Option<Histogram>, reordered: u64) -> Sample {
        let units = units as f64;
        Sample {
            value: self.server.as_secs_f64() * 1e6 / units,
            client: Some(self.client.as_secs_f64() * 1e6 / units),
            client_busy: self.client.as_secs_f64() / self.wall.as_secs_f64(),
            rate: units / self.wall.as_secs_f64(),
            latency,
            reordered,
            ..Sample::default()
        }
    }
}

impl Scenario {
    /// Whether it is part of a quick run that names none: that takes under 3 minutes.
    pub fn is_quick(&self) -> bool {
        let is_long = ["talk-500", "talk-full-30", "talk-full-500"].contains(&self.name);
        !is_long && !self.name.starts_with("flood-")
    }

    /// Whether a word of the command line means it: its name, or the first part of it.
    pub fn is_named(&self, word: &str) -> bool {
        let rest = self.name.strip_prefix(word);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Runs it once on a server of a kind.
    pub fn run(&self, kind: Kind, settings: &Settings, results: &mut Results) -> Result<()> {
        let server = Server::start(kind, self.name)?;
        let net = Net::new(server.address)?.offering(compresses(self.name));
        let net = net.securing(server.tls()).packing(packs(self.name));
        (self.run)(&mut Run {
            name: self.name,
            kind,
            settings,
            results,
            server,
            net,
        })
    }
}

impl Run<'_> {
    /// Does a piece of work, from rest to rest.
    fn measured<T>(&mut self, work: impl FnOnce(&mut Net) -> Result<T>) -> Result<(T, Cost)> {
        // A running thread's share of the current tick isn't in the process' clock yet; one that
        // has gone to sleep is.
        const REST: Duration = Duration::from_millis(20);
        self.net.quiet(REST)?;
        let (server, client, start) = (self.server.cpu()?, own_cpu()?, Instant::now());
        let done = work(&mut self.net)?;
        let (client, wall) = (own_cpu()? - client, start.elapsed());
        self.net.quiet(REST)?;
        Ok((
            done,
            Cost {
                server: self.server.cpu()? - server,
                client,
                wall,
            },
        ))
    }

    /// The server's memory once it has come to rest: an allocator may take a second to give back.
    fn resident(&mut self, mut wait: impl FnMut(&mut Net, Duration) -> Result<()>) -> Result<u64> {
        const CALM: u32 = 15;
        let mut last = self.server.resident()?;
        let mut calm = 0;
        for _ in 0..60 {
            wait(&mut self.net, Duration::from_millis(100))?;
            let now = self.server.resident()?;
            calm = if now.abs_diff(last) * 500 < now {
                calm + 1
            } else {
                0
            };
            last = now;
            if calm == CALM {
                break;
            }
        }
        Ok(last)
    }

    /// The server's memory at the start: after a few came and went, so that what a server takes
    /// once doesn't count as the connections'.
    fn resident_at_start(&mut self) -> Result<u64> {
        Connect::run(&mut self.net, 100)?;
        self.net.close_all()?;
        self.resident(Net::quiet)
    }

    /// Opens connections up to a number.
    fn open(&mut self, count: usize) -> Result<()> {
        Connect::run(&mut self.net, count)?;
        if !self.kind.is_ready_when_connected() {
            self.net.quiet(Duration::from_millis(300))?;
        }
        Ok(())
    }

    /// Opens connections up to a number and says what that cost; the first tenth is the warm-up.
    fn connect(&mut self, count: usize) -> Result<Sample> {
        Connect::run(&mut self.net, count / 10)?;
        let (latency, cost) = self.measured(|net| Connect::run(net, count))?;
        Ok(cost.sample((count - count / 10) as u64, Some(latency), 0))
    }

    /// Broadcasts to `receivers` by an event, after a warm-up.
    fn broadcast(&mut self, event: &str, receivers: usize, burst: u64) -> Result<Sample> {
        self.broadcast_by(Broadcast::new(event, receivers, burst, TEXT_SIZE))
    }

    /// Broadcasts by a load, after a warm-up.
    fn broadcast_by(&mut self, load: Broadcast) -> Result<Sample> {
        let mut load = load.keeps_order(self.kind.keeps_order());
        let Settings { warm, measure, .. } = *self.settings;
        load.run(&mut self.net, warm)?;
        load.reordered = 0;
        let ((), cost) = self.measured(|net| load.run(net, measure))?;
        Ok(cost.sample(load.delivered, Some(load.latency), load.reordered))
    }

    fn echo(
        &mut self,
        shape: Shape,
        connections: usize,
        in_flight: u64,
        size: usize,
    ) -> Result<Sample> {
        let mut load = Echo::new(shape, connections, in_flight, size)
            .refill(self.settings.refill)
            .keeps_order(self.kind.keeps_order());
        let Settings { warm, measure, .. } = *self.settings;
        load.run(&mut self.net, warm)?;
        load.reordered = 0;
        let ((), cost) = self.measured(|net| load.run(net, measure))?;
        Ok(cost.sample(load.answered, Some(load.latency), load.reordered))
    }

    /// Lets the first ones join the room.
    fn join_members(&mut self, count: usize) -> Result<()> {
        Join::run(&mut self.net, vec![vec!["r".to_owned()]; count])
    }

    fn add(&mut self, row: Row, sample: Sample) {
        self.results.add(row, self.kind, sample);
    }

    fn point(&mut self, plot: Plot, x: usize, value: f64) {
        self.results.point(plot, self.kind, x, value);
    }
}

fn connections(run: &mut Run<'_>) -> Result<()> {
    let count = run.settings.connections;
    let start = run.resident_at_start()?;
    let connect = run.connect(count)?;
    let full = run.resident(Net::quiet)?;
    run.net.close_all()?;
    let gone = run.resident(Net::quiet)?;
    run.add(
        Row::Idle,
        Sample::of(full.saturating_sub(start) as f64 / count as f64),
    );
    run.add(Row::Connect, connect);
    run.add(Row::Gone, Sample::of(gone as f64 / start as f64));
    run.results.memory(run.kind, [start, full, gone]);
    Ok(())
}

fn idle_compressed(run: &mut Run<'_>) -> Result<()> {
    let count = run.settings.connections;
    let start = run.resident_at_start()?;
    run.connect(count)?;
    let full = run.resident(Net::quiet)?;
    run.add(
        Row::IdleCompressed,
        Sample::of(full.saturating_sub(start) as f64 / count as f64),
    );
    Ok(())
}

fn idle_polling(run: &mut Run<'_>) -> Result<()> {
    let count = run.settings.connections;
    Poll::run(&mut run.net, 100)?;
    run.net.close_all()?;
    let start = run.resident(Net::quiet)?;
    let mut sessions = Poll::run(&mut run.net, count)?;
    let full = run.resident(|net, time| net.idle(&mut sessions, time))?;
    run.add(
        Row::IdlePolling,
        Sample::of(full.saturating_sub(start) as f64 / count as f64),
    );
    Ok(())
}

fn echo(
    run: &mut Run<'_>,
    row: Row,
    shape: Shape,
    connections: usize,
    in_flight: u64,
    size: usize,
) -> Result<()> {
    run.open(connections)?;
    let sample = run.echo(shape, connections, in_flight, size)?;
    run.add(row, sample);
    Ok(())
}

/// How many get what is sent to all.
const RECEIVERS: usize = 1000;

fn broadcast(run: &mut Run<'_>, row: Row, burst: u64) -> Result<()> {
    run.open(RECEIVERS)?;
    let sample = run.broadcast("broadcast", RECEIVERS, burst)?;
    run.add(row, sample);
    Ok(())
}

fn broadcast_json(run: &mut Run<'_>, row: Row) -> Result<()> {
    run.open(RECEIVERS)?;
    let load = Broadcast::new("broadcast", RECEIVERS, 1, JSON_SIZE);
    let sample = run.broadcast_by(load.of(Payload::json(JSON_SIZE)))?;
    run.add(row, sample);
    Ok(())
}

fn broadcast_deflate(run: &mut Run<'_>) -> Result<()> {
    broadcast_json(run, Row::BroadcastDeflate)?;
    match run.net.uncompressed() {
        0 => Ok(()),
        count => Err(format!("expected compressed messages, got {count} that aren't").into()),
    }
}

fn room(run: &mut Run<'_>) -> Result<()> {
    let count = run.settings.connections;
    run.open(2 * MEMBERS)?;
    run.join_members(MEMBERS)?;
    let few = run.broadcast("room", MEMBERS, 1)?;
    run.open(count)?;
    // The numbers go on where they were only within a load: the room's next starts anew.
    let many = run.broadcast("room", MEMBERS, 1)?;
    run.add(Row::RoomFew, few);
    run.add(Row::RoomMany, many);
    Ok(())
}

/// All in one room talk: at a rate that is offered, or as fast as it goes.
fn talk(run: &mut Run<'_>, row: Row, clients: usize, each_second: Option<u32>) -> Result<()> {
    let Settings {
        warm,
        measure,
        tick,
        ..
    } = *run.settings;
    run.open(clients)?;
    run.join_members(clients)?;
    let pace = each_second.map_or(Pace::Full, |each_second| Pace::Offered {
        each_second,
        tick,
    });
    let mut load = Talk::new("room", clients, TEXT_SIZE, pace).keeps_order(run.kind.keeps_order());
    load.run(&mut run.net, warm)?;
    load.reordered = 0;
    let ((), cost) = run.measured(|net| load.run(net, measure))?;
    let behind = load.behind();
    let sample = cost.sample(load.delivered, Some(load.latency), load.reordered);
    run.add(
        row,
        Sample {
            behind,
            lag: each_second.map(|_| load.lag),
            ..sample
        },
    );
    Ok(())
}

/// One sends a message each 5 ms and gets it back, while another floods the server.
fn flood(run: &mut Run<'_>, row: Row, water: Water) -> Result<()> {
    let Settings {
        warm,
        measure,
        floods,
        ..
    } = *run.settings;
    run.open(1)?;
    let pace = Pace::Offered {
        each_second: 200,
        tick: Duration::ZERO,
    };
    let mut load = Talk::new("echo", 1, TEXT_SIZE, pace);
    let flood = Flood::start(run.server.address, water, floods)?;
    load.run(&mut run.net, warm)
        .map_err(|error| format!("beside the flood: {error}"))?;
    let (before, server, client, start) =
        (flood.sent(), run.server.cpu()?, own_cpu()?, Instant::now());
    load.run(&mut run.net, measure)
        .map_err(|error| format!("beside the flood: {error}"))?;
    let cost = Cost {
        server: run.server.cpu()? - server,
        client: own_cpu()? - client,
        wall: start.elapsed(),
    };
    let sent = flood.sent() - before;
    match flood.closed() {
        0 => {}
        count => eprintln!("    the server closed {count} connections of the flood"),
    }
    drop(flood);
    let p99 = load.latency.at(0.99).unwrap_or_default();
    let sample = cost.sample(sent, Some(load.latency), 0);
    run.add(
        row,
        Sample {
            value: p99.as_secs_f64() * 1e3,
            ..sample
        },
    );
    Ok(())
}

fn polling(run: &mut Run<'_>) -> Result<()> {
    let Settings { warm, measure, .. } = *run.settings;
    let mut load = PollingEcho::open(&mut run.net, 100, TEXT_SIZE)?;
    load.run(&mut run.net, warm)?;
    let ((), cost) = run.measured(|net| load.run(net, measure))?;
    run.add(
        Row::Polling,
        cost.sample(load.answered, Some(load.latency), 0),
    );
    Ok(())
}
