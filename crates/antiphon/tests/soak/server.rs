//! The server's side: what its handlers note, and who emits what.

use std::{sync::Arc, time::Duration};

use antiphon::{Recovery, Server, Socket, recovery::LogError};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::interval;

use crate::{
    Emitting, KEPT,
    ledger::{ALL, Ledger, Mark},
    support::random,
    tally::Tally,
};

/// How many rooms there are: the streams 1 to this.
pub(crate) const ROOMS: usize = 24;

/// This room has attachments of so many bytes, so that what is missed comes in portions.
const FAT_ROOM: usize = 1;
const FAT: usize = 60_000;

/// From this on, rooms have an event in so many seconds only.
const QUIET_ROOMS: usize = 21;

/// How often an emitter emits.
const BEAT: Duration = Duration::from_millis(100);

/// What handlers, emitters and clients share.
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    /// Held by the values of each session that the server has.
    pub(crate) alive: Arc<()>,
}

impl World {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            ledger: Ledger::new(ROOMS + 1, clients),
            tally: Tally::default(),
            alive: Arc::default(),
        }
    }

    /// The sessions that the server has, whether their clients are there or not.
    pub(crate) fn sessions(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    /// Notes what is wrong with a client.
    pub(crate) fn check(&self, client: usize, result: Result<(), String>) {
        if let Err(error) = result {
            let trail = self.ledger.account(client).trail();
            let now = self.ledger.now();
            let what = format!("client {client}, at {now} ms: {error}\n    {trail}");
            self.tally.wrong(what);
        }
    }
}

/// What comes with a client's CONNECT. A duplicate has no number.
#[derive(Deserialize)]
struct Who {
    client: Option<usize>,
}

/// A value of each session.
#[derive(Clone)]
struct Tag {
    client: usize,
    _alive: Arc<()>,
}

fn name(room: usize) -> String {
    format!("r{room}")
}

/// A server with this world's handlers.
pub(crate) fn server(world: &Arc<World>, recovery: Recovery) -> Server {
    let io = Server::builder()
        .recovery(recovery)
        // One that was deserted is found out later than the log keeps: what it misses is evicted.
        .ping_interval(Duration::from_secs(2))
        .ping_timeout(Duration::from_secs(8))
        .close_timeout(Duration::from_secs(1))
        .build();
    let (coming, saying) = (Arc::clone(world), Arc::clone(world));
    io.of("/")
        .on_connect(move |socket: Socket| {
            if let Ok(Who { client: Some(one) }) = socket.auth() {
                arrived(&coming, one, &socket);
            }
            async {}
        })
        .on("say", move |socket: Socket| {
            if let Ok(Who { client: Some(one) }) = socket.auth() {
                say(&saying, one, &socket);
            }
            async {}
        });
    io
}

fn arrived(world: &World, client: usize, socket: &Socket) {
    let ledger = &world.ledger;
    if socket.recovered() {
        ledger.note(
            client,
            format_args!("{} is recovered", socket.id().as_str()),
        );
        world.check(client, ledger.resumed(client, socket, name));
        let tag = socket.get::<Tag>();
        if tag.is_none_or(|tag| tag.client != client) && socket.is_connected() {
            world.check(client, Err("its value was not restored".to_owned()));
        }
        return;
    }
    ledger.note(client, format_args!("{} begins", socket.id().as_str()));
    match socket.not_recovered() {
        None => {}
        Some(LogError::Expired) => world.tally.expired.add(1),
        Some(LogError::Evicted) => world.tally.evicted.add(1),
        Some(why) => world.check(client, Err(format!("not recovered: {why}"))),
    }
    if socket.not_recovered().is_some() {
        match ledger.not_recovered(client, KEPT) {
            Ok(true) => {}
            Ok(false) => world.tally.too_slow.add(1),
            Err(error) => world.check(client, Err(error)),
        }
    }
    socket.insert(Tag {
        client,
        _alive: Arc::clone(&world.alive),
    });
    ledger.begun(client, socket);
    for room in [client, client / 2 * 7] {
        change_room(world, client, socket, 1 + room % ROOMS);
    }
}

/// A client says something to the others of its first room.
fn say(world: &World, client: usize, socket: &Socket) {
    let sid = socket.id().as_str();
    let rooms = {
        let mut account = world.ledger.account(client);
        let session = account.sessions.get_mut(sid);
        session.map_or_else(Vec::new, |session| session.rooms())
    };
    if let Some(room) = rooms.first() {
        let send = |mark| drop(socket.to(name(*room)).emit("said", (mark,)));
        world.tally.emitted.add(1);
        world.ledger.emit(&[*room], Some((client, sid)), send);
    }
}

fn change_room(world: &World, client: usize, socket: &Socket, room: usize) {
    let ledger = &world.ledger;
    let change = ledger.change_room(client, socket, room, &name(room));
    world.tally.rooms_changed.add(1);
    ledger.note(client, format_args!("room {room}: {change:?}"));
}

/// Emits events until it is told to end, and changes rooms, with an event right before and behind.
pub(crate) async fn emit(
    io: Server,
    world: Arc<World>,
    clients: usize,
    seed: u64,
    is_on: Emitting,
) {
    let mut random = random(seed);
    let mut beat = interval(BEAT);
    let all = io.of("/");
    while *is_on.borrow() {
        beat.tick().await;
        let client = random(clients);
        let times = 1 + random(3);
        match random(100) {
            0..2 => world.emit(&[ALL], times, |mark| drop(all.emit("all", (mark,)))),
            2..4 => drop(
                all.broadcast()
                    .volatile()
                    .emit("volatile", (random(1_000),)),
            ),
            4..44 => world.emit_own(client, random(4) == 0),
            44..60 => {
                let sid = world.ledger.account(client).sid.clone();
                if let Some(socket) = sid.and_then(|sid| all.socket(&sid)) {
                    let room = 1 + random(ROOMS);
                    let tell = || {
                        let send = |mark| drop(all.to(name(room)).emit("change", (mark,)));
                        world.emit(&[room], 1, send);
                    };
                    tell();
                    change_room(&world, client, &socket, room);
                    tell();
                }
            }
            60..65 => {
                let one = 1 + random(QUIET_ROOMS - 2);
                let rooms = [one, one + 1];
                let names = rooms.map(name);
                world.emit(&rooms, times, |mark| {
                    drop(all.to(names.clone()).emit("two", (mark,)));
                });
            }
            65 => {
                let fat = Bytes::from(vec![7; FAT]);
                let send = |mark| drop(all.to(name(FAT_ROOM)).emit("fat", (mark, fat.clone())));
                world.emit(&[FAT_ROOM], 1, send);
            }
            66 => {
                let room = QUIET_ROOMS + random(ROOMS + 1 - QUIET_ROOMS);
                world.emit(&[room], 1, |mark| {
                    drop(all.to(name(room)).emit("rare", (mark,)));
                });
            }
            _ => {
                let room = 1 + random(QUIET_ROOMS - 1);
                let send = |mark| drop(all.to(name(room)).emit("room", (mark, "some text")));
                world.emit(&[room], times, send);
            }
        }
    }
}

impl World {
    /// Emits events to streams, one behind the other.
    fn emit(&self, to: &[usize], times: usize, mut send: impl FnMut(Mark)) {
        for _ in 0..times {
            self.tally.emitted.add(1);
            self.ledger.emit(to, None, &mut send);
        }
    }

    /// Emits to the session that a client has: to its room, or by a socket whose connection may have
    /// gone.
    pub(crate) fn emit_own(&self, client: usize, by_room: bool) {
        self.ledger.emit_own(client, |socket, mark| {
            self.tally.emitted.add(1);
            let emitted = match by_room {
                true => socket
                    .namespace()
                    .to(socket.id())
                    .emit("own", (mark, Bytes::from_static(b"12"))),
                false => socket.emit("own", (mark,)),
            };
            emitted.is_queued()
        });
    }
}
