//! The soak: many clients, random faults for a long time; nothing is lost, nothing comes twice, and
//! memory stays flat.
//!
//! Every client has a proxy of its own which breaks its connections (`faults/proxy.rs`), and whims of
//! its own (`soak/member.rs`). The server emits to everyone, to rooms and to single sessions all the
//! time, and rooms change (`soak/server.rs`). What each client is owed is noted, and what it gets is
//! checked as it comes (`soak/ledger.rs`): each event once and in order, or a new session if it has
//! been away for longer than the log keeps.
//!
//! A crowd of the same kind comes and goes before: what is left in memory then is what must be left in
//! the end. `./dev soak` runs it for 20 minutes. `SOAK_SECONDS`, `SOAK_CLIENTS` and
//! `SOAK_SEED` set what they say; `SOAK_LOG` is the path of a file, which the log is kept in then. A
//! seed gives the same faults to the same clients, but not the same interleaving.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

#[path = "faults/client.rs"]
mod client;
#[path = "soak/ledger.rs"]
mod ledger;
#[path = "soak/member.rs"]
mod member;
#[path = "faults/proxy.rs"]
mod proxy;
#[path = "soak/server.rs"]
mod server;
mod support;
#[path = "soak/tally.rs"]
mod tally;

use std::{env, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use antiphon::{Recovery, Server, engine::Stats};
use member::{Member, Phase};
use proxy::Proxy;
use server::World;
use support::{random, resident, serve};
use tally::Tally;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep},
};

/// How long the log keeps an event, and the server a session whose client is away.
const KEPT: Duration = Duration::from_secs(8);

/// Emitters, which get in each other's way.
const EMITTERS: usize = 4;

/// The crowd before lives for a third of the time, and no longer than so many seconds.
const WARM_UP: u64 = 60;

/// When the faults are over, each client has all within this, and when they have left the server has
/// nothing of them.
const SETTLING: Duration = Duration::from_secs(60);

/// A line is printed so often.
const TOLD: u64 = 10;

/// All connections are lost so often.
const RESTARTED: u64 = 15;

/// Whether emitters go on.
type Emitting = watch::Receiver<bool>;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

/// A client has a listener, and three files for each of its connections: of two polls, or of a poll
/// and the WebSocket that it upgrades to.
const FILES: usize = 10;

/// How many files this process may open.
fn allowed_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

/// In memory, or with the log in a file.
fn recovery() -> Recovery {
    let recovery = Recovery::new().duration(KEPT);
    #[cfg(feature = "redb")]
    if let Some(path) = setting::<String>("SOAK_LOG") {
        let file = antiphon::recovery::LogFile::open(path).unwrap();
        return recovery.durable(file);
    }
    recovery
}

/// A server and its clients.
struct Soak {
    io: Server,
    address: SocketAddr,
    world: Arc<World>,
    clients: usize,
    seed: u64,
}

impl Soak {
    /// Lets a crowd of clients come, be broken for so long, catch up, and leave. Gives what was in
    /// memory at each second.
    async fn crowd(&self, time: Duration) -> Vec<usize> {
        let (phase, watching) = watch::channel(Phase::Faults);
        let mut members = JoinSet::new();
        let mut proxies = Vec::new();
        for number in 0..self.clients {
            let seed = self.seed.wrapping_add(number as u64 + 1);
            let watching = watching.clone();
            let member = Member::new(number, &self.world, self.address, seed, watching).await;
            proxies.push(Arc::clone(member.proxy()));
            members.spawn(member.live());
        }
        let (emitting, is_on) = watch::channel(true);
        let mut emitters = JoinSet::new();
        for number in 0..EMITTERS {
            let seed = self.seed.wrapping_mul(31).wrapping_add(number as u64);
            let (io, world) = (self.io.clone(), Arc::clone(&self.world));
            emitters.spawn(server::emit(io, world, self.clients, seed, is_on.clone()));
        }
        let samples = self.watch(time, &proxies).await;
        emitting.send_replace(false);
        emitters.join_all().await;
        proxies.iter().for_each(|proxy| proxy.calm());
        phase.send_replace(Phase::Calm);
        self.settle().await;
        phase.send_replace(Phase::Leave);
        drop(proxies);
        members.join_all().await;
        self.gone().await;
        samples
    }

    /// Samples memory, prints a line from time to time, and breaks all connections at times.
    async fn watch(&self, time: Duration, proxies: &[Arc<Proxy>]) -> Vec<usize> {
        let tally = &self.world.tally;
        let mut random = random(self.seed);
        let began = Instant::now();
        let mut samples = Vec::new();
        let mut second = interval(Duration::from_secs(1));
        second.tick().await;
        while began.elapsed() < time {
            second.tick().await;
            let memory = resident();
            samples.push(memory);
            let seconds = samples.len() as u64;
            if seconds.is_multiple_of(TOLD) {
                let (connected, kept) = (self.io.of("/").sockets_count(), self.world.sessions());
                println!(
                    "{seconds} s: {tally}; {connected} connected of {kept}; {} MiB",
                    memory >> 10
                );
            }
            if seconds.is_multiple_of(RESTARTED) {
                tally.fault("restarts of the proxy");
                let deserted = random(3) == 0;
                proxies.iter().for_each(|proxy| proxy.end_all(deserted));
            }
            tally.verdict().unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        samples
    }

    /// Waits until each client has had what it is owed.
    async fn settle(&self) {
        let ledger = &self.world.ledger;
        let began = Instant::now();
        let mut owed = (0..self.clients).collect::<Vec<_>>();
        while !owed.is_empty() && began.elapsed() < SETTLING {
            sleep(Duration::from_millis(100)).await;
            owed.retain(|client| ledger.owed(*client).is_some());
        }
        for client in owed {
            let owed = ledger.owed(client).unwrap_or_default();
            self.world.check(client, Err(format!("still owed: {owed}")));
        }
        self.world
            .tally
            .verdict()
            .unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    /// Waits until the server has nothing of them any more.
    async fn gone(&self) {
        let began = Instant::now();
        let left = || {
            let namespace = self.io.of("/");
            let sessions = self.io.stats().sessions;
            let rooms = namespace.rooms().len();
            (
                sessions,
                namespace.sockets_count(),
                rooms,
                self.world.sessions(),
            )
        };
        while left() != (0, 0, 0, 0) {
            let left = left();
            assert!(
                began.elapsed() < SETTLING,
                "sessions of the engine, sockets, rooms, sessions of sockets: {left:?} are left"
            );
            sleep(Duration::from_millis(50)).await;
        }
        // What the log has goes with the next look at it.
        sleep(KEPT / 4).await;
    }
}

/// The middle one.
fn median(samples: &[usize]) -> usize {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// What the server has counted, which must fit what its clients have heard.
fn check_stats(io: &Server, tally: &Tally) {
    let stats = io.stats();
    println!("{stats:?}");
    // Nothing here is the clients' fault, and nothing is dropped.
    let Stats {
        handler_panics: 0,
        undecodable: 0,
        events_rejected: 0,
        messages_dropped: 0,
        messages_conflated: 0,
        slow_readers_closed: 0,
        recoveries_unknown: 0,
        recoveries_gap: 0,
        log_failures: 0,
        ..
    } = stats
    else {
        panic!("{stats:?}");
    };
    // A client that is cut meanwhile doesn't hear of it.
    assert!(
        tally.recovered.get() <= stats.sessions_recovered,
        "{stats:?}"
    );
    assert!(tally.refused.get() <= stats.connects_refused, "{stats:?}");
    assert!(tally.expired.get() <= stats.recoveries_expired, "{stats:?}");
    assert!(tally.evicted.get() <= stats.recoveries_evicted, "{stats:?}");
    // Each that is not recovered has a cause (`Ledger::not_recovered`). That clients are too slow is
    // one as long as it is seldom.
    let too_slow = tally.too_slow.get();
    assert!(too_slow < stats.sessions_recovered, "{tally}");
}

/// `later` may be so much above `before`: a part of it, and what an allocator rounds.
fn check_memory(what: &str, before: usize, later: usize, part: usize) {
    println!("{what}: {} MiB, then {} MiB", before >> 10, later >> 10);
    let bound = before + before / part + (4 << 10);
    assert!(later <= bound, "{what}: {before} KiB, then {later} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_memory_is_flat() {
    let seconds = setting("SOAK_SECONDS").unwrap_or(60);
    let clients = setting("SOAK_CLIENTS").unwrap_or(500);
    let seed = setting("SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{clients} clients for {seconds} s, SOAK_SEED={seed}");
    let files = allowed_files();
    assert!(
        files >= clients * FILES,
        "{files} files are too few: raise `ulimit -n`"
    );
    let world = Arc::new(World::new(clients));
    let io = server::server(&world, recovery());
    let address = serve(&io).await;
    let soak = Soak {
        io,
        address,
        world,
        clients,
        seed,
    };
    let warm_up = (seconds / 3).min(WARM_UP);
    println!("warming up for {warm_up} s");
    soak.crowd(Duration::from_secs(warm_up)).await;
    let before = resident();
    println!("soaking for {} s", seconds - warm_up);
    let samples = soak.crowd(Duration::from_secs(seconds - warm_up)).await;
    let after = resident();
    let tally = &soak.world.tally;
    println!("{tally}\n{}", tally.more());
    check_stats(&soak.io, tally);
    let third = samples.len() / 3;
    let [middle, last] = [third..2 * third, 2 * third..samples.len()];
    let [middle, last] = [middle, last].map(|range| median(&samples[range]));
    check_memory("in the middle and the last third", middle, last, 6);
    check_memory("without clients, before and after", before, after, 4);
    soak.io.close().await;
}
