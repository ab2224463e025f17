//! Clients that wander between three servers whose connections to the broker are cut now and then, by
//! seeds: what each gets is the log, once and in its order.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use antiphon::{Data, Server, Socket};
use antiphon_cluster::{
    Cluster,
    broker::memory::{Hub, Memory},
};
use antiphon_test_cluster::{
    ready,
    recovery::{Returning, Session, builder},
};

const SERVERS: usize = 3;
const WANDERERS: usize = 4;
const STEPS: usize = 120;

/// Numbers that look random: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A client that comes and goes.
struct Wanderer {
    client: Option<Returning>,
    session: Session,
    /// What it has got since it is this socket.
    got: Vec<u64>,
}

impl Wanderer {
    async fn new(io: &Server) -> Self {
        let client = Returning::joined(io, "a").await;
        Self {
            session: client.session.clone(),
            client: Some(client),
            got: Vec::new(),
        }
    }

    /// Reads what is there, and maybe goes without a word.
    async fn read(&mut self, goes: bool) {
        let mut is_open = false;
        if let Some(client) = &mut self.client {
            let (numbers, open) = client.what_is_there().await;
            self.got.extend(numbers);
            self.session = client.session.clone();
            is_open = open;
        }
        // A server that has been passed over ends the connection.
        if goes || !is_open {
            self.client = None;
        }
    }

    /// Comes to a server. If that has no connection it may not know who this is, and the client begins
    /// anew. Else it does, once that has been saved. Returns whether it is who it was.
    async fn come(&mut self, io: &Server, may_begin: bool) -> bool {
        let back = match may_begin {
            true => self.session.back(io).await,
            false => self.session.back_at_last(io).await,
        };
        let is_same = back.sid == self.session.sid;
        if is_same {
            self.client = Some(back);
        } else {
            *self = Self::new(io).await;
        }
        is_same
    }
}

struct World {
    servers: Vec<Server>,
    clusters: Vec<Cluster>,
    brokers: Vec<Arc<Memory>>,
    cut: Option<usize>,
}

impl World {
    async fn new() -> Self {
        let hub = Hub::new();
        let brokers: Vec<_> = (0..SERVERS).map(|_| hub.broker()).collect();
        let clusters: Vec<_> = brokers.iter().map(|it| Cluster::new(it.clone())).collect();
        let servers = clusters.iter().map(|cluster| {
            let io = builder().adapter(cluster.clone()).build();
            io.of("/")
                .on("enter", async |socket: Socket, Data(room): Data<String>| {
                    socket.join(room);
                });
            io
        });
        let servers = servers.collect();
        for cluster in &clusters {
            ready(cluster).await;
        }
        Self {
            servers,
            clusters,
            brokers,
            cut: None,
        }
    }

    fn mend(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.brokers[cut].mend();
        }
    }
}

async fn wander(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::new().await;
    let mut observers = Vec::new();
    for io in &world.servers {
        observers.push(Returning::joined(io, "a").await);
    }
    let mut wanderers = Vec::new();
    for number in 0..WANDERERS {
        wanderers.push(Wanderer::new(&world.servers[number % SERVERS]).await);
    }
    let (mut emitted, mut recovered, mut begun) = (0, 0, 0);
    for _ in 0..STEPS {
        let server = random.below(SERVERS);
        let wanderer = random.below(WANDERERS);
        match random.below(12) {
            0 => {
                world.mend();
                world.brokers[server].cut();
                world.cut = Some(server);
            }
            1 | 2 => world.mend(),
            3 | 4 => wanderers[wanderer].read(true).await,
            5 => wanderers[wanderer].read(false).await,
            6 | 7 => {
                // Some come while their connection is open yet, of which they have read a part.
                let io = &world.servers[server];
                match wanderers[wanderer].come(io, world.cut.is_some()).await {
                    true => recovered += 1,
                    false => begun += 1,
                }
            }
            _ => {
                for _ in 0..=random.below(8) {
                    world.servers[server].to("a").emit("n", emitted);
                    emitted += 1;
                }
            }
        }
    }
    world.mend();
    for cluster in &world.clusters {
        ready(cluster).await;
    }
    let mut logs = Vec::new();
    for observer in &mut observers {
        logs.push(observer.numbers(emitted as usize).await);
    }
    let log = &logs[0];
    assert!(
        logs.iter().all(|other| other == log),
        "seed {seed}: one order"
    );
    let mut sorted = log.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..emitted), "seed {seed}: each once");
    for (number, wanderer) in wanderers.iter_mut().enumerate() {
        wanderer.read(false).await;
        if wanderer.client.is_none() {
            wanderer.come(&world.servers[0], false).await;
        }
        // The end of the log has come when the last event has.
        world.servers[number % SERVERS].to("a").emit("n", emitted);
        while wanderer.got.last() != Some(&emitted) {
            let client = wanderer.client.as_mut().unwrap();
            wanderer.got.extend(client.numbers(1).await);
        }
        wanderer.got.pop();
        let in_log = |number: &&u64| **number < log.len() as u64;
        let got = wanderer.got.iter().filter(in_log).count();
        assert_eq!(
            wanderer.got[..got],
            log[log.len() - got..],
            "seed {seed}: what a client gets is the end of the log"
        );
        emitted += 1;
    }
    println!("seed {seed}: {emitted} events, {recovered} recovered, {begun} begun anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_gets_is_the_log_wherever_it_is() {
    if let Ok(seed) = std::env::var("SEED") {
        return wander(seed.parse().unwrap()).await;
    }
    for seed in 1..=6 {
        wander(seed).await;
    }
}
