//! Chaos: servers and brokers that are killed, frozen and cut off from each other while events go
//! between them, and what must hold all the same.
//!
//! Each server is a process with clients of its own (`src/main.rs`), which check what comes: no event
//! twice, those of each sender in order; who doesn't answer is missing by name; what is wanted is
//! subscribed to when the health is `Ready`. After each fault all servers are `Ready` again by
//! themselves and know each other, and then what one of them emits comes to all: exactly once.
//! Memory is bounded throughout.
//!
//! Each test has a broker of its own and goes through a few faults, in an order and with times that a
//! seed gives. `./dev chaos --minutes 5` goes on for so long. `CHAOS_SECONDS` and `CHAOS_SEED` set what
//! they say. A seed gives the same faults, but not the same interleaving.

#![allow(clippy::unwrap_used, unreachable_pub, missing_debug_implementations)]
#![cfg(target_os = "linux")]

mod broker;
mod net;
mod server;
mod world;

use std::time::Duration;

use antiphon_test_cluster::support::random;
use antiphon_test_postgres::PostgresServer;
use broker::{Broker, Trouble};
use net::Way;
use world::{Harm, Step, World};

/// A random number below a bound.
type Random<'r> = &'r mut dyn FnMut(usize) -> usize;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Goes through the steps once, in any order, or through such steps for as long as it is told to.
fn chaos(
    name: &'static str,
    has_networks: bool,
    broker: fn(&[net::Network]) -> Broker,
    steps: &[fn(Random<'_>) -> Step],
) {
    let seed = setting("CHAOS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_millis() as u64 % 1_000_000
    });
    println!("{name}: CHAOS_SEED={seed}");
    // The first numbers of neighbouring seeds are alike.
    let mut random = random(seed + 1);
    for _ in 0..20 {
        random(2);
    }
    let mut world = World::new(name, has_networks, broker);
    let mut order: Vec<_> = (0..steps.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, random(at + 1));
    }
    let time = setting("CHAOS_SECONDS").map(Duration::from_secs);
    let mut number = 0;
    while number < order.len() || time.is_some_and(|time| world.age() < time) {
        let step = match order.get(number) {
            Some(at) => steps[*at](&mut random),
            None => steps[random(steps.len())](&mut random),
        };
        world.suffers(&step);
        number += 1;
    }
    world.ends();
}

fn millis(random: Random<'_>, from: usize, to: usize) -> Duration {
    Duration::from_millis((from + random(to - from)) as u64)
}

/// Longer than it takes to count as dead.
const DEATH: Duration = Duration::from_secs(9);

fn way(random: Random<'_>) -> Way {
    [Way::In, Way::Out, Way::Both][random(3)]
}

/// One server is killed, one is frozen beyond its death and woken, one is cut off.
fn all_at_once(random: Random<'_>) -> Step {
    let first = random(3);
    let harms = [Harm::Killed, Harm::Frozen, Harm::Cut(way(random))];
    let harms = harms.into_iter().enumerate();
    Step {
        servers: harms.map(|(at, harm)| ((first + at) % 4, harm)).collect(),
        time: DEATH,
        trouble: None,
    }
}

/// One server, for a shorter time or a longer one.
fn one_server(random: Random<'_>) -> Step {
    let harm = [Harm::Killed, Harm::Frozen, Harm::Cut(way(random))][random(3)];
    Step {
        servers: vec![(random(4), harm)],
        time: millis(random, 1_000, 12_000),
        trouble: None,
    }
}

fn alone(trouble: Trouble) -> Step {
    Step {
        servers: Vec::new(),
        time: Duration::ZERO,
        trouble: Some(trouble),
    }
}

fn broker_killed(random: Random<'_>) -> Step {
    alone(Trouble::Killed(millis(random, 0, 3_000)))
}

fn broker_frozen(random: Random<'_>) -> Step {
    alone(Trouble::Frozen(millis(random, 500, 9_000)))
}

fn subscribers_closed(random: Random<'_>) -> Step {
    alone(Trouble::Closes(millis(random, 1_000, 2_500)))
}

fn buffers_overflow(random: Random<'_>) -> Step {
    alone(Trouble::Overflows(millis(random, 1_000, 2_500)))
}

fn primary_fails(_: Random<'_>) -> Step {
    alone(Trouble::FailsOver)
}

/// A server is killed while the broker is.
fn both_killed(random: Random<'_>) -> Step {
    Step {
        servers: vec![(random(4), Harm::Killed)],
        ..broker_killed(random)
    }
}

#[test]
fn servers_at_a_redis_find_each_other_after_whatever_happens_to_them() {
    chaos(
        "redis, servers",
        true,
        Broker::redis,
        &[all_at_once, one_server],
    );
}

#[test]
fn servers_find_each_other_after_whatever_happens_to_their_redis() {
    let steps = &[
        subscribers_closed,
        buffers_overflow,
        both_killed,
        broker_frozen,
    ];
    chaos("redis, itself", false, Broker::redis, steps);
}

#[test]
fn servers_follow_a_primary_that_fails() {
    let broker = |_: &[net::Network]| Broker::sentinel();
    chaos("sentinel", false, broker, &[primary_fails, one_server]);
}

#[test]
fn servers_at_a_redis_cluster_go_on_while_its_masters_die_and_freeze() {
    let broker = |_: &[net::Network]| Broker::cluster();
    let steps = &[primary_fails, broker_frozen, one_server];
    chaos("redis cluster", false, broker, steps);
}

#[test]
fn servers_at_a_nats_server_find_each_other_after_whatever_happens() {
    let steps = &[all_at_once, both_killed, broker_frozen];
    chaos("nats", true, Broker::nats, steps);
}

#[test]
fn servers_at_a_postgres_find_each_other_after_whatever_happens() {
    let broker = |_: &[net::Network]| Broker::Postgres(PostgresServer::start());
    let steps = &[subscribers_closed, both_killed, broker_frozen, one_server];
    chaos("postgres", false, broker, steps);
}
