//! One client of the crowd: it comes, reads, loses its connection and comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    pin, select,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    KEPT,
    client::{Client, MODES, Seen},
    ledger::Mark,
    proxy::{Fault, Kind, Proxy, Way},
    server::World,
    support::random,
};

/// How often a client looks at what it has got.
const LOOK: Duration = Duration::from_millis(100);

/// A client that is connected looks in vain less often than this, with all that may pause for a
/// while.
const SILENCE: usize = 150;

/// While a client connects it is sent events of its own so often, so that some fall between what it
/// has missed and what comes next.
const HAIL: Duration = Duration::from_millis(7);
const HAILS: usize = 12;

/// What clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Things happen to them.
    Faults,
    /// They only read.
    Calm,
    /// They leave.
    Leave,
}

/// One client. A test drives it by [`live`](Self::live).
pub(crate) struct Member {
    number: usize,
    world: Arc<World>,
    client: Client,
    proxy: Arc<Proxy>,
    phase: watch::Receiver<Phase>,
    random: Box<dyn FnMut(usize) -> usize + Send>,
    /// How often it has looked in vain since it had something, or began to connect.
    in_vain: usize,
}

/// What becomes of a connection.
#[derive(PartialEq, Eq)]
enum End {
    /// It was lost.
    Lost,
    /// Its client has said goodbye, or must begin anew.
    Over,
}

/// What a client does of its own accord.
enum Whim {
    /// It reads nothing for so long, and then goes on.
    Pause(Duration),
    /// It leaves the namespace, and begins anew.
    Goodbye,
    /// It loses its connection.
    Loss,
}

/// Milliseconds between two bounds.
fn between(random: &mut dyn FnMut(usize) -> usize, from: usize, to: usize) -> Duration {
    Duration::from_millis((from + random(to - from)) as u64)
}

/// The name of a fault in the summary.
const fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::CutOne => "cuts of one connection",
        Kind::CutAll => "cuts",
        Kind::Desert => "desertions",
        Kind::HalfClose => "half-closes",
        Kind::Stall(_) => "stalls",
        Kind::Delay(_) => "delays",
        Kind::Duplicate => "duplicates",
    }
}

impl Member {
    pub(crate) async fn new(
        number: usize,
        world: &Arc<World>,
        address: SocketAddr,
        seed: u64,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let direct = Client::new(address);
        let auth = [("client".to_owned(), Value::from(number))];
        direct.kept().auth.extend(auth);
        let proxy = {
            let (twin, world) = (direct.clone(), Arc::clone(world));
            let on_strike = move |kind| {
                world.tally.fault(named(kind));
                world.ledger.note(number, named(kind));
                // One that comes with what is too old ends the session.
                if kind == Kind::Duplicate && world.ledger.age(number) < KEPT / 2 {
                    let twin = twin.clone();
                    tokio::spawn(async move { twin.duplicate().await });
                }
            };
            Proxy::new(address, &[], on_strike).await
        };
        world.ledger.forget(number);
        Self {
            number,
            world: Arc::clone(world),
            client: direct.at(proxy.address),
            proxy: Arc::new(proxy),
            phase,
            random: Box::new(random(seed)),
            in_vain: 0,
        }
    }

    pub(crate) const fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// Connects again and again, until it is to leave.
    pub(crate) async fn live(mut self) {
        // They don't come all at once, as if the server had been restarted.
        sleep(between(&mut self.random, 0, 2_000)).await;
        while self.phase() != Phase::Leave {
            if self.phase() == Phase::Faults && self.proxy.to_come() == 0 {
                let fault = self.fault();
                self.proxy.add(fault);
            }
            let end = self.connection().await;
            if end == End::Over {
                self.begin_anew();
            }
            self.stay_away(end).await;
        }
        self.world.ledger.forget(self.number);
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn fault(&mut self) -> Fault {
        let random = &mut self.random;
        let kind = match random(8) {
            0 => Kind::CutOne,
            1 => Kind::Desert,
            2 => Kind::HalfClose,
            3 => Kind::Stall(between(random, 100, 3_000)),
            4 => Kind::Delay(between(random, 50, 1_500)),
            5 => Kind::Duplicate,
            _ => Kind::CutAll,
        };
        // Most are to come in the course of reading; some while it connects.
        let (way, at) = match random(8) {
            0 => (Way::ToServer, random(900)),
            1 => (Way::ToClient, random(900)),
            2 => (Way::ToServer, random(3_000)),
            _ => (Way::ToClient, random(30_000)),
        };
        Fault { way, at, kind }
    }

    /// One connection, until it ends for whatever reason.
    async fn connection(&mut self) -> End {
        let mode = MODES[(self.random)(MODES.len())];
        self.world
            .ledger
            .note(self.number, format_args!("connects by {mode:?}"));
        let opened = self.world.ledger.now();
        self.in_vain = 0;
        let (said, mut outgoing) = mpsc::channel(4);
        let client = self.client.clone();
        let connecting = client.connect(mode, &mut outgoing);
        pin!(connecting);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut whim = Instant::now() + self.until_whim();
        let mut phase = self.phase.clone();
        let mut hail = interval(HAIL);
        hail.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hailed = 0;
        let mut end = loop {
            select! {
                () = &mut connecting => break End::Lost,
                _ = hail.tick(), if hailed < HAILS && self.phase() == Phase::Faults => {
                    hailed += 1;
                    self.world.emit_own(self.number, false);
                }
                _ = phase.changed() => if self.phase() == Phase::Leave {
                    break End::Lost;
                },
                _ = looks.tick() => {
                    if self.look(opened) == End::Over {
                        break End::Over;
                    }
                    if self.phase() == Phase::Faults && (self.random)(200) == 0 {
                        let _ = said.try_send("42[\"say\"]".to_owned());
                    }
                }
                () = sleep_until(whim), if self.phase() == Phase::Faults => match self.whim() {
                    Whim::Pause(time) => {
                        sleep(time).await;
                        whim = Instant::now() + self.until_whim();
                    }
                    Whim::Goodbye => {
                        let _ = said.try_send("41".to_owned());
                        let _ = timeout(LOOK, &mut connecting).await;
                        break End::Over;
                    }
                    Whim::Loss => break End::Lost,
                },
            }
        };
        if self.look(opened) == End::Over {
            end = End::Over;
        }
        end
    }

    fn until_whim(&mut self) -> Duration {
        between(&mut self.random, 1_000, 40_000)
    }

    fn whim(&mut self) -> Whim {
        let random = &mut self.random;
        let (whim, what) = match random(4) {
            0 => (Whim::Pause(between(random, 500, 3_000)), "pauses"),
            1 => (Whim::Goodbye, "goodbyes"),
            _ => (Whim::Loss, "losses at the client"),
        };
        self.world.tally.fault(what);
        self.world.ledger.note(self.number, what);
        whim
    }

    /// Checks what it has got.
    fn look(&mut self, opened: u64) -> End {
        let world = &self.world;
        let (number, tally) = (self.number, &world.tally);
        let (seen, sid, is_connected) = {
            let mut kept = self.client.kept();
            let seen = std::mem::take(&mut kept.seen);
            (
                seen,
                kept.sid.clone().unwrap_or_default(),
                kept.is_connected,
            )
        };
        self.in_vain = match seen.is_empty() && is_connected {
            true => self.in_vain + 1,
            false => 0,
        };
        if self.in_vain > SILENCE {
            world.check(number, Err("is connected, and nothing comes".to_owned()));
        }
        for seen in seen {
            match seen {
                Seen::Connected { recovered } => {
                    world
                        .ledger
                        .note(number, format_args!("has heard of {sid}"));
                    let count = if recovered {
                        &tally.recovered
                    } else {
                        &tally.began
                    };
                    count.add(1);
                    let result = world.ledger.connected(number, &sid, recovered, opened);
                    world.check(number, result);
                }
                Seen::Event(name, _, _) if name == "volatile" => tally.volatile_had.add(1),
                Seen::Event(name, mark, attachments) => {
                    tally.had.add(1);
                    let is_whole = attachments == 0 || ["fat", "own"].contains(&&*name);
                    let mark = serde_json::from_value::<Mark>(mark);
                    let result = match mark {
                        Ok(mark) if is_whole => world.ledger.had(number, &mark),
                        _ => Err(format!("a damaged event: {name}")),
                    };
                    world.check(number, result);
                }
                Seen::Disconnected => world.ledger.note(number, "is disconnected"),
                Seen::Refused(_) => {
                    world.ledger.note(number, "is refused");
                    tally.refused.add(1);
                }
            }
        }
        let mut account = world.ledger.account(number);
        match account.session().is_some_and(|session| session.is_void) {
            true => {
                tally.void.add(1);
                End::Over
            }
            false => End::Lost,
        }
    }

    fn begin_anew(&self) {
        let mut kept = self.client.kept();
        kept.pid = None;
        kept.sid = None;
        drop(kept);
        self.world.ledger.forget(self.number);
    }

    /// Mostly a moment; sometimes for longer than the log keeps.
    async fn stay_away(&mut self, end: End) {
        let random = &mut self.random;
        let kept = KEPT.as_millis() as usize;
        let pause = match (*self.phase.borrow(), random(40)) {
            (Phase::Faults, 0) if end == End::Lost => {
                self.world.tally.absences.add(1);
                self.world.ledger.note(self.number, "stays away for long");
                self.world.ledger.leaves(self.number);
                between(random, kept + kept / 4, kept * 2)
            }
            (Phase::Faults, 1..4) => between(random, 500, kept / 2),
            _ => between(random, 5, 200),
        };
        select! {
            () = sleep(pause) => {}
            // Whoever is to catch up comes at once.
            _ = self.phase.changed() => {}
        }
    }
}
