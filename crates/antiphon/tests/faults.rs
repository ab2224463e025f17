//! Faults: whatever becomes of its connections, a client gets each logged event once and in order.
//!
//! A script is played (`faults/script.rs`) to a client that keeps what a stock client keeps
//! (`faults/client.rs`), through a proxy that breaks the conversation at one of its bytes
//! (`faults/proxy.rs`). A WebSocket is cut at every byte; other ways, and by other faults, at some.
//! `FAULTS=all` makes all of them at every byte.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "faults/client.rs"]
mod client;
#[path = "faults/proxy.rs"]
mod proxy;
#[path = "faults/script.rs"]
mod script;
mod support;

use std::{env, sync::Arc, time::Duration};

use client::{MODES, Mode};
use proxy::{Fault, Kind, Way};
use script::{Case, Played, play};
use support::random;
use tokio::{sync::Semaphore, task::JoinSet};

/// How long what is delayed or stalls takes.
const PAUSE: Duration = Duration::from_millis(15);

/// Conversations at a time.
const PARALLEL: usize = 32;

fn everything() -> bool {
    env::var("FAULTS").is_ok_and(|which| which == "all")
}

/// Plays many conversations side by side.
async fn play_all(cases: Vec<Case>) -> Vec<Played> {
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let mut playing = JoinSet::new();
    for case in cases {
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        playing.spawn(async move {
            let played = play(&case).await;
            drop(permit);
            played
        });
    }
    playing.join_all().await
}

/// How many bytes go each way if nothing happens.
async fn whole(modes: &[Mode]) -> Played {
    let case = Case {
        modes: modes.to_vec(),
        faults: Vec::new(),
    };
    play(&case).await
}

fn summary(what: &str, played: &[Played]) {
    let sum = |of: fn(&Played) -> usize| played.iter().map(of).sum::<usize>();
    println!(
        "{what}: {} conversations, {} connections, {} recoveries",
        played.len(),
        sum(|it| it.connections),
        sum(|it| it.recoveries)
    );
}

/// A fault at every `step`th byte of the whole conversation, both ways.
async fn at_every(modes: &[Mode], kind: Kind, step: usize, first: usize) {
    let began = std::time::Instant::now();
    let Played {
        to_server,
        to_client,
        ..
    } = whole(modes).await;
    println!(
        "{modes:?}: {to_server} {to_client} bytes, {:?}",
        began.elapsed()
    );
    let positions = |way, bytes| (first..bytes).step_by(step).map(move |at| (way, at));
    let positions = positions(Way::ToServer, to_server).chain(positions(Way::ToClient, to_client));
    let cases = positions.map(|(way, at)| Case {
        modes: modes.to_vec(),
        faults: vec![Fault { way, at, kind }],
    });
    let played = play_all(cases.collect()).await;
    summary(&format!("{kind:?} {modes:?}"), &played);
}

macro_rules! cuts {
    ($($name:ident: $modes:expr, $step:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let step = if everything() { 1 } else { $step };
            at_every($modes, Kind::CutAll, step, 0).await;
        }
    )*};
}

// Heads of HTTP are most of what polling is: with a prime step, cuts fall everywhere in them.
cuts! {
    cut_at_every_byte_of_a_web_socket: &[Mode::WebSocket], 1;
    cut_in_the_course_of_polling: &[Mode::Polling], 7;
    cut_in_the_course_of_an_upgrade: &[Mode::Upgrade], 3;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_faults_at_some_bytes() {
    const KINDS: [Kind; 6] = [
        Kind::CutOne,
        Kind::Desert,
        Kind::HalfClose,
        Kind::Stall(PAUSE),
        Kind::Delay(PAUSE),
        Kind::Duplicate,
    ];
    let mut random = random(7);
    for kind in KINDS {
        for mode in MODES {
            // Another mode afterwards.
            let modes = [mode, MODES[random(MODES.len())]];
            let (step, first) = match everything() {
                true => (1, 0),
                false => (29, random(29)),
            };
            at_every(&modes, kind, step, first).await;
        }
    }
}

/// Cuts at every `step`th byte of the connection that recovers a session; with `again`, then
/// somewhere in the one after that, too.
async fn at_every_of_a_recovery(modes: [Mode; 2], step: usize, again: bool) {
    let [way, back] = [Way::ToClient, Way::ToServer];
    let whole = whole(&modes[..1]).await;
    let first = Fault {
        way,
        at: whole.to_client * 3 / 4,
        kind: Kind::CutAll,
    };
    let mut random = random(step as u64);
    let mut cases = Vec::new();
    for (way, bytes) in [(way, RECOVERY), (back, RECOVERY)] {
        for at in (0..bytes).step_by(step) {
            let second = Fault { way, at, ..first };
            let mut faults = vec![first, second];
            if again {
                let at = random(RECOVERY);
                faults.push(Fault { at, ..first });
            }
            let modes = modes.to_vec();
            cases.push(Case { modes, faults });
        }
    }
    summary(&format!("recovery {modes:?}"), &play_all(cases).await);
}

/// More bytes than go either way until a session has been recovered.
const RECOVERY: usize = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recoveries_cut_at_every_byte() {
    for from in [Mode::WebSocket, Mode::Polling] {
        for to in MODES {
            let step = if everything() || to == Mode::WebSocket {
                1
            } else {
                3
            };
            at_every_of_a_recovery([from, to], step, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recoveries_cut_again_and_again() {
    for to in MODES {
        let step = if everything() { 1 } else { 5 };
        at_every_of_a_recovery([Mode::WebSocket, to], step, true).await;
    }
}
