//! Four servers and what they meet at: what happens to them, and what must hold when it is over.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    broker::{Broker, Trouble},
    net::{self, Network, Way},
    server::Server,
};

const SERVERS: usize = 4;

/// When a fault is over, all is well within this.
const WELL: Duration = Duration::from_secs(45);

/// What is emitted while all are well comes within this.
const COMES: Duration = Duration::from_secs(5);

/// A server emits a probe to all, which has three clients, and to two rooms with two each.
const COPIES: u64 = 3 + 2 + 2;

/// What happens at one time.
#[derive(Debug)]
pub struct Step {
    /// To which servers.
    pub servers: Vec<(usize, Harm)>,
    /// For so long at least.
    pub time: Duration,
    /// To the broker.
    pub trouble: Option<Trouble>,
}

/// What happens to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It dies, and when the time is over another one takes its place.
    Killed,
    Frozen,
    /// Its network fails. Where there are no networks of its own, it is frozen.
    Cut(Way),
}

pub struct World {
    name: &'static str,
    started: Instant,
    servers: Vec<Server>,
    broker: Broker,
    /// One for each server, or none.
    networks: Vec<Network>,
    /// How many servers have been started, and probes been emitted.
    count: usize,
    probes: u64,
    most: u64,
}

impl World {
    pub fn new(name: &'static str, has_networks: bool, broker: fn(&[Network]) -> Broker) -> Self {
        net::sweep();
        let networks: Option<Vec<_>> = (0..SERVERS)
            .filter(|_| has_networks)
            .map(|_| Network::new())
            .collect();
        if networks.is_none() {
            println!("{name}: no network of its own for each server here: none is cut off");
        }
        let networks = networks.unwrap_or_default();
        let mut it = Self {
            name,
            started: Instant::now(),
            servers: Vec::new(),
            broker: broker(&networks),
            networks,
            count: 0,
            probes: 0,
            most: 0,
        };
        for at in 0..SERVERS {
            let server = it.start(at);
            it.servers.push(server);
        }
        it.is_well();
        it
    }

    fn start(&mut self, at: usize) -> Server {
        self.count += 1;
        let network = self.networks.get(at);
        let name = format!("s{}", self.count);
        Server::start(&name, network, &self.broker.urls(network))
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn say(&self, what: &str) {
        println!("{:>7.1} s  {}: {what}", self.age().as_secs_f64(), self.name);
    }

    /// It happens, is over, and all is well again.
    pub fn suffers(&mut self, step: &Step) {
        self.say(&format!("{step:?}"));
        let begun = Instant::now();
        let is_large = matches!(
            step.trouble,
            Some(Trouble::Overflows(_) | Trouble::Frozen(_))
        );
        if is_large {
            self.tell("large on");
        }
        for (at, harm) in &step.servers {
            self.begins(*at, *harm);
        }
        if let Some(trouble) = step.trouble {
            self.broker.suffers(trouble);
        }
        self.are_missed(step, begun);
        thread::sleep(step.time.saturating_sub(begun.elapsed()));
        for (at, harm) in &step.servers {
            self.is_over(*at, *harm);
        }
        if is_large {
            self.tell("large off");
        }
        let healed = Instant::now();
        self.is_well();
        self.say(&format!(
            "well after {:.1} s",
            healed.elapsed().as_secs_f64()
        ));
        self.broker.recovers();
    }

    fn tell(&mut self, line: &str) {
        for server in &mut self.servers {
            server.tell(line);
        }
    }

    fn begins(&mut self, at: usize, harm: Harm) {
        match harm {
            Harm::Killed => self.servers[at].kill(),
            Harm::Cut(way) if !self.networks.is_empty() => self.networks[at].cut(way),
            Harm::Frozen | Harm::Cut(_) => self.servers[at].freeze(),
        }
    }

    fn is_over(&mut self, at: usize, harm: Harm) {
        match harm {
            Harm::Killed => self.servers[at] = self.start(at),
            Harm::Cut(_) if !self.networks.is_empty() => self.networks[at].heal(),
            Harm::Frozen | Harm::Cut(_) => self.servers[at].thaw(),
        }
    }

    /// Those that nothing happens to count the others as dead within the time, if it is long enough
    /// for that and nobody can still be heard.
    fn are_missed(&mut self, step: &Step, begun: Instant) {
        let is_silent = |(_, harm): &(usize, Harm)| !matches!(harm, Harm::Cut(Way::In));
        if step.time < crate::DEATH || step.trouble.is_some() || !step.servers.iter().all(is_silent)
        {
            return;
        }
        let well: Vec<_> = (0..SERVERS)
            .filter(|at| !step.servers.iter().any(|(harmed, _)| harmed == at))
            .collect();
        loop {
            let knows = |at: &usize| self.servers[*at].stat()["servers"] == well.len();
            if well.iter().all(knows) {
                return;
            }
            let waited = begun.elapsed();
            assert!(
                waited < step.time,
                "servers that died are counted after {waited:?}"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until all are `Ready` and know each other. Then what one of them emits comes to all, each
    /// once, for as long as all say so.
    fn is_well(&mut self) {
        let start = Instant::now();
        loop {
            let before = self.healths();
            if self.are_ready() {
                if self.probe() {
                    return;
                }
                let has_changed = before != self.healths();
                assert!(
                    has_changed,
                    "all are ready, and an event doesn't come: {}",
                    self.shown()
                );
            }
            let waited = start.elapsed();
            assert!(waited < WELL, "not well after {waited:?}: {}", self.shown());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn healths(&self) -> Vec<(u64, String)> {
        self.servers.iter().map(Server::health).collect()
    }

    fn are_ready(&mut self) -> bool {
        let stats: Vec<_> = self.servers.iter_mut().map(Server::stat).collect();
        let memory = self.servers.iter().map(Server::memory).max();
        self.most = self.most.max(memory.unwrap_or_default());
        let is_ready = |stat: &Value| stat["health"] == "ready" && stat["servers"] == SERVERS;
        stats.iter().all(is_ready)
    }

    /// Each server emits, and it comes to all clients of all, each once.
    fn probe(&mut self) -> bool {
        self.probes += 1;
        let number = self.probes;
        self.tell(&format!("probe {number}"));
        let start = Instant::now();
        loop {
            let probed: Vec<_> = self
                .servers
                .iter_mut()
                .map(|it| it.probed(number))
                .collect();
            let counts = || probed.iter().flat_map(|from| from.values().copied());
            assert!(
                counts().all(|count| count <= COPIES),
                "more than once: {probed:?}"
            );
            if counts().count() == SERVERS * SERVERS && counts().all(|count| count == COPIES) {
                return true;
            }
            if start.elapsed() > COMES {
                self.say(&format!("probe {number} came to {probed:?}"));
                return false;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn shown(&mut self) -> String {
        let shown = |server: &mut Server| {
            let stat = server.stat();
            format!("\n{}: {stat}", server.name)
        };
        self.servers.iter_mut().map(shown).collect()
    }

    /// When nothing changes any more, the broker has the subscriptions that servers want, and nothing
    /// that isn't understood has come.
    pub fn ends(mut self) {
        self.tell("moves off");
        let start = Instant::now();
        loop {
            let stats: Vec<_> = self.servers.iter_mut().map(Server::stat).collect();
            assert!(stats.iter().all(|stat| stat["malformed"] == 0), "{stats:?}");
            let topics = stats
                .iter()
                .map(|stat| stat["topics"].as_u64().unwrap() as usize);
            // A connection that was cut may be known to the broker for longer.
            let Some(mut subscriptions) = self.broker.subscriptions() else {
                break;
            };
            let are_all = topics.clone().all(|topics| {
                let at = subscriptions.iter().position(|count| *count == topics);
                at.map(|at| subscriptions.swap_remove(at)).is_some()
            });
            if are_all {
                break;
            }
            assert!(
                start.elapsed() < WELL,
                "servers want {:?}, and beside them there are {subscriptions:?}",
                topics.collect::<Vec<_>>()
            );
            thread::sleep(Duration::from_millis(200));
        }
        let shown = self.shown();
        self.say(&format!("up to {} MiB a server{shown}", self.most));
    }
}
