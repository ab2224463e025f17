//! A server of a cluster that is broken on purpose, with clients of its own: it emits, joins and asks
//! all the time, and its clients check what comes.
//!
//! `chaos-server NAME BROKER_URL [SENTINEL_URL]`. It says what happens in lines of JSON: its health, each rule that
//! was broken, and the answers to what it is told on its input:
//!
//! * `stat`: how it is now;
//! * `probe N`: emits probe N to all, and to two rooms; `probed N`: whose probes N have come here;
//! * `large on|off`: now and then an event is larger than what Redis may be told to hold;
//! * `moves off`: joins and leaves end.
//!
//! It ends with its input.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use antiphon::{Server, Socket, adapter::AdapterFactory};
use antiphon_cluster::{Cluster, Health};
use antiphon_nats::Nats;
use antiphon_postgres::Postgres;
use antiphon_redis::Redis;
use antiphon_test_cluster::{
    Client,
    support::{Received, WEBSOCKET, random, serve, sid},
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Clients, and the rooms that they are in.
const CLIENTS: [&str; 3] = ["r0", "r0,r1", "r1"];

/// An event so often, a question so often.
const TICK: Duration = Duration::from_millis(10);
const ASK: Duration = Duration::from_millis(250);

/// How long a server must have been known for its answer to be owed: it may have begun just now.
const KNOWN: Duration = Duration::from_secs(3);

/// Within this, what is wanted when the health is `Ready` is subscribed to.
const SUBSCRIBED: Duration = Duration::from_secs(2);

/// More than `client-output-buffer-limit` is set to.
const LARGE: usize = 600 * 1_024;

/// Rooms that one of the clients enters and leaves.
const ROOMS: usize = 200;

/// What the tasks have in common.
#[derive(Default)]
struct Shared {
    is_large: AtomicBool,
    is_still: AtomicBool,
    received: AtomicU64,
    asked: AtomicU64,
    missing: AtomicU64,
    /// Probes that have come to any of the clients: by number and server.
    probes: Mutex<HashMap<(u64, String), u64>>,
}

fn tell(line: &Value) {
    println!("{line}");
}

/// A rule was broken.
fn broken(what: impl std::fmt::Display) {
    tell(&json!({"broken": what.to_string()}));
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (name, url, sentinels) = (&arguments[0], &arguments[1], &arguments[2..]);
    if url.starts_with("postgres:") {
        let postgres = Postgres::builder(url).wait().connect().await.unwrap();
        run(name, postgres.clone(), (*postgres).clone()).await;
    } else if url.starts_with("nats:") {
        let nats = Nats::builder(url).wait().connect().await.unwrap();
        run(name, nats.clone(), (*nats).clone()).await;
    } else {
        let redis = Redis::builder(url).sentinels(sentinels).wait();
        let redis = redis.connect().await.unwrap();
        run(name, redis.clone(), (*redis).clone()).await;
    }
}

async fn run(name: &str, adapter: impl AdapterFactory, cluster: Cluster) {
    let io = Server::builder()
        .adapter(adapter)
        .ack_timeout(Duration::from_secs(3))
        // A client that hears nothing for long is taken for lost.
        .ping_interval(Duration::from_secs(5))
        .build();
    let namespace = io.of("/");
    namespace.on_connect(async |socket: Socket| {
        let rooms = socket.handshake().query("rooms").unwrap();
        socket.join(rooms.split(',').map(str::to_owned).collect::<Vec<_>>());
    });
    namespace.on_server_side("who", async |()| ());
    let shared = Arc::new(Shared::default());
    let address = serve(&io).await;
    for rooms in CLIENTS {
        let path = format!("{WEBSOCKET}&rooms={rooms}");
        let mut client = Client::connect(address, &path).await;
        client.expect_prefix("0{").await;
        client.send("40").await;
        let id = sid(&client.expect_prefix("40{").await).to_owned();
        tokio::spawn(listen(client, Arc::clone(&shared)));
        if rooms.contains(',') {
            tokio::spawn(moves(io.clone(), id, Arc::clone(&shared)));
        }
    }
    tokio::spawn(watch(cluster.clone()));
    tokio::spawn(emits(io.clone(), name.to_owned(), Arc::clone(&shared)));
    tokio::spawn(asks(io.clone(), cluster.clone(), Arc::clone(&shared)));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        obey(&line, name, &io, &cluster, &shared).await;
    }
}

async fn obey(line: &str, name: &str, io: &Server, cluster: &Cluster, shared: &Shared) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "stat" => tell(&stat(cluster, shared)),
        "probe" => {
            let number: u64 = rest.parse().unwrap();
            cluster.subscribed().await;
            // What isn't sent doesn't come, which is seen.
            io.emit("probe", (name, number));
            io.to("r0").emit("probe", (name, number));
            io.to("r1").emit("probe", (name, number));
        }
        "probed" => {
            let number: u64 = rest.parse().unwrap();
            let probes = shared.probes.lock().unwrap();
            let of = probes.iter().filter(|((of, _), _)| *of == number);
            let of: BTreeMap<_, _> = of.map(|((_, from), count)| (from, count)).collect();
            tell(&json!({"probed": number, "from": of}));
        }
        "large" => shared.is_large.store(rest == "on", Relaxed),
        "moves" => shared.is_still.store(rest == "off", Relaxed),
        _ => panic!("told {line:?}"),
    }
}

fn stat(cluster: &Cluster, shared: &Shared) -> Value {
    let stats = cluster.stats();
    json!({"stat": {
        "health": cluster.health().to_string(),
        "servers": cluster.servers().len(),
        "topics": stats.topics,
        "published": stats.published,
        "refused": stats.refused,
        "lost": stats.lost,
        "dropped": stats.dropped,
        "malformed": stats.malformed,
        "received": shared.received.load(Relaxed),
        "asked": shared.asked.load(Relaxed),
        "missing": shared.missing.load(Relaxed),
    }})
}

/// A client: what comes to it comes once, and in the order of its sender.
async fn listen(mut client: Client, shared: Arc<Shared>) {
    let mut last: HashMap<String, u64> = HashMap::new();
    loop {
        let text = match client.next().await {
            Received::Text(text) if text == "2" => {
                client.send("3").await;
                continue;
            }
            Received::Text(text) => text,
            other => return broken(format!("a client got {other:?}")),
        };
        let Some(event) = text.strip_prefix("42") else {
            return broken(format!("a client got {text:.100}"));
        };
        let event: Vec<Value> = serde_json::from_str(event).unwrap();
        let from = event[1].as_str().unwrap().to_owned();
        let number = event[2].as_u64().unwrap();
        if event[0] == "probe" {
            *shared
                .probes
                .lock()
                .unwrap()
                .entry((number, from))
                .or_default() += 1;
            continue;
        }
        shared.received.fetch_add(1, Relaxed);
        let before = last.insert(from.clone(), number);
        if before.is_some_and(|before| before >= number) {
            broken(format!("{number} of {from} came after {before:?}"));
        }
    }
}

/// Emits to all and to rooms in turn, numbered.
async fn emits(io: Server, name: String, shared: Arc<Shared>) {
    let small = "x".repeat(100);
    let large = "x".repeat(LARGE);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0_u64.. {
        ticks.tick().await;
        let is_large = number.is_multiple_of(20) && shared.is_large.load(Relaxed);
        let text = if is_large { &large } else { &small };
        let event = (&name, number, text);
        // Those that are refused are missing, and nothing else is asked of them.
        let _ = match number % 3 {
            0 => io.emit("n", event),
            1 => io.to("r0").emit("n", event),
            _ => io.to("r1").emit("n", event),
        }
        .into_result();
    }
}

/// A client's socket enters rooms and leaves them.
async fn moves(io: Server, id: String, shared: Arc<Shared>) {
    let mut random = random(u64::from(std::process::id()));
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let socket = io.to(&*id).local();
        let room = format!("moving {}", random(ROOMS));
        if shared.is_still.load(Relaxed) {
            return;
        }
        match random(2) {
            0 => drop(socket.join(room)),
            _ => drop(socket.leave(room)),
        }
    }
}

/// Asks all servers: each that is there answers, or is missing by name.
async fn asks(io: Server, cluster: Cluster, shared: Arc<Shared>) {
    let mut known = HashMap::new();
    loop {
        tokio::time::sleep(ASK).await;
        let (me, now) = (cluster.node().clone(), Instant::now());
        let servers = cluster.servers();
        known.retain(|node, _| servers.contains(node));
        for node in servers.into_iter().filter(|node| *node != me) {
            known.entry(node).or_insert(now);
        }
        let asked = io.of("/").server_side_emit_with_ack::<()>("who", ());
        // Without a connection it is an error at once, and no guess.
        let Ok(answered) = asked.await else {
            continue;
        };
        shared.asked.fetch_add(1, Relaxed);
        shared
            .missing
            .fetch_add(answered.missing.len() as u64, Relaxed);
        for (node, since) in &known {
            let has_answered = answered.answers.iter().any(|(of, _)| of == node);
            let is_owed = now.duration_since(*since) > KNOWN;
            if is_owed && !has_answered && !answered.missing.contains(node) {
                broken(format!(
                    "{node} has neither answered nor is it missing: {answered:?}"
                ));
            }
        }
    }
}

/// Says each change of the health. What is wanted is subscribed to when it is `Ready`.
async fn watch(cluster: Cluster) {
    let mut health = cluster.watch_health();
    loop {
        let now = health.borrow_and_update().clone();
        tell(&json!({"health": now.to_string()}));
        if now == Health::Ready {
            let subscribed = tokio::time::timeout(SUBSCRIBED, cluster.subscribed()).await;
            if subscribed.is_err() && !health.has_changed().unwrap_or(true) {
                broken("it says that it is ready, and what it wants isn't subscribed to");
            }
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}
