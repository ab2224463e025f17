//! A world that is computed 30 times a second: players steer, all see where everyone is.
//!
//! ```sh
//! cargo run --release --bin game
//! ```
//!
//! ```js
//! const game = io("http://localhost:3000");
//! game.on("world", ({ tick, players }) => draw(players)); // [{ id, x, y }]
//! game.volatile.emit("steer", 1, 0);                      // right
//! ```
//!
//! Handlers only say what a player wants; one task owns the world, so nothing waits for a lock while
//! it is computed. The state goes out with `conflate`: a player whose network is slow gets the
//! newest one, and no queue of old ones. `per_core` serves for the least cost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon::{Data, Server, Socket, State};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

const TICKS_A_SECOND: u32 = 30;
/// Of a side, with the origin in the middle.
const SIZE: f32 = 100.0;
/// In a second.
const SPEED: f32 = 20.0;

/// What the players want: a direction each, by the number that they got.
#[derive(Clone, Default)]
struct Wishes(Arc<Mutex<BTreeMap<Player, (f32, f32)>>>);

impl Wishes {
    /// Works with all of them. A panic of another thread leaves them whole.
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Player, (f32, f32)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A player's number: shorter than the socket's id, in each of 30 messages a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Player(u64);

async fn came(socket: Socket, State(wishes): State<Wishes>) {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let player = Player(NUMBERS.fetch_add(1, Ordering::Relaxed));
    socket.insert(player);
    wishes.with(|wishes| wishes.insert(player, (0.0, 0.0)));
    socket.emit("you", player);
}

/// A direction, as long as the player likes: only the direction counts, so nobody is faster.
async fn steer(socket: Socket, State(wishes): State<Wishes>, Data((x, y)): Data<(f32, f32)>) {
    let length = x.hypot(y);
    let direction = match length.is_normal() {
        true => (x / length, y / length),
        false => (0.0, 0.0), // nowhere, or no number
    };
    if let Some(player) = socket.get::<Player>() {
        wishes.with(|wishes| wishes.insert(player, direction));
    }
}

async fn left(socket: Socket, State(wishes): State<Wishes>) {
    if let Some(player) = socket.get::<Player>() {
        wishes.with(|wishes| wishes.remove(&player));
    }
}

/// What is sent of the world.
#[derive(Serialize)]
struct World {
    tick: u64,
    players: Vec<Position>,
}

#[derive(Serialize)]
struct Position {
    id: Player,
    x: f32,
    y: f32,
}

/// Computes the world, and tells all of it, for ever.
async fn play(io: Server, wishes: Wishes) {
    let mut positions: BTreeMap<Player, (f32, f32)> = BTreeMap::new();
    let mut ticks = interval(Duration::from_secs(1) / TICKS_A_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip); // after a pause it doesn't hurry
    let everyone = io.of("/").broadcast();
    let step = SPEED / TICKS_A_SECOND as f32;
    for tick in 0.. {
        ticks.tick().await;
        let wishes = wishes.with(|wishes| wishes.clone());
        positions.retain(|player, _| wishes.contains_key(player));
        let players = wishes.into_iter().map(|(id, (dx, dy))| {
            let (x, y) = positions.entry(id).or_default();
            *x = (*x + dx * step).clamp(-SIZE / 2.0, SIZE / 2.0);
            *y = (*y + dy * step).clamp(-SIZE / 2.0, SIZE / 2.0);
            Position { id, x: *x, y: *y }
        });
        let world = World {
            tick,
            players: players.collect(),
        };
        if !world.players.is_empty() {
            everyone.clone().conflate("world").emit("world", world);
        }
    }
}

fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt::init();
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());

    let wishes = Wishes::default();
    let io = Server::builder().state(wishes.clone()).build();
    io.of("/")
        .on_connect(came)
        .on("steer", steer)
        .on_disconnect(left);

    let serving = io.per_core(format!("127.0.0.1:{port}"))?;
    println!("listening on {}", serving.local_addrs()[0]);
    // The first task of the first core: it lives as long as the server.
    let playing = play(io.clone(), wishes);
    serving.run_until(async {
        tokio::select! {
            () = playing => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}
