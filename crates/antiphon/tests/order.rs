//! Order and completeness: whatever several authors emit at once, on several threads, each receiver
//! gets from each author exactly what it is owed, in the author's order.
//!
//! A script is made from a seed. It says what each author does, and from it alone follows what each
//! receiver is owed: an author's broadcasts depend on rooms that it alone fills and empties.
//! Receivers differ in what they speak and in what becomes of them (`RECEIVERS`). After a failure,
//! `ORDER_SEEDS=7` plays the script of seed 7 again, and `ORDER_SEEDS=7..99` plays those from 7 to
//! 99.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "order/client.rs"]
mod client;
#[path = "order/script.rs"]
mod script;
mod support;

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use antiphon::{Data, Parser, Server, Socket, TransportKind};
use client::{Client, Message};
use script::{AUTHORS, Author, Emit, Fate, PORTION, RECEIVERS, Script, Step, To};
use socket2::SockRef;
use support::{listener, random, serve_on, until, within};
use tokio::{
    runtime::{Builder, Handle},
    task::{JoinSet, yield_now},
};

/// What the authors work on.
struct World {
    io: Server,
    parser: Parser,
    script: Script,
    /// Of the receivers, in their order.
    sockets: Mutex<Vec<Socket>>,
    /// Where answers to what asked are waited for.
    handle: Handle,
    asked: Mutex<JoinSet<()>>,
    ended: AtomicUsize,
}

impl World {
    fn new(seed: u64, parser: Parser) -> Arc<Self> {
        use TransportKind::{Polling, Streaming, WebSocket};
        let builder = Server::builder()
            .transports([Polling, Streaming, WebSocket])
            .parser(parser.clone());
        #[cfg(feature = "deflate")]
        let builder = builder.compression(200);
        let world = Arc::new(Self {
            io: builder.build(),
            parser,
            script: Script::new(seed),
            sockets: Mutex::default(),
            handle: Handle::current(),
            asked: Mutex::default(),
            ended: AtomicUsize::new(0),
        });
        let (joins, plays) = (Arc::downgrade(&world), Arc::downgrade(&world));
        world.io.of("/").on_connect(move |socket: Socket| {
            let world = joins.upgrade().unwrap();
            world.sockets.lock().unwrap().push(socket);
            std::future::ready(())
        });
        world.io.of("/script").on(
            "play",
            move |Data((author, begin)): Data<(usize, usize)>| {
                plays.upgrade().unwrap().play(author, begin);
                std::future::ready(())
            },
        );
        let calls = world.io.of("/calls");
        calls.on("call", async |Data(number): Data<usize>| number);
        world
    }

    /// Where the portions of an author begin.
    fn portions(&self, author: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.script.authors[author].1.len()).step_by(PORTION)
    }

    /// Does one portion.
    fn play(self: &Arc<Self>, author: usize, begin: usize) {
        let steps = &self.script.authors[author].1;
        let end = steps.len().min(begin + PORTION);
        for number in begin..end {
            self.step(author, number);
        }
        if end == steps.len() {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn step(self: &Arc<Self>, author: usize, number: usize) {
        let socket = |one: usize| self.sockets.lock().unwrap()[one].clone();
        let room = |room| format!("{author}-{room}");
        match &self.script.authors[author].1[number] {
            Step::Join(one, name) => socket(*one).join(room(*name)),
            Step::Leave(one, name) => socket(*one).leave(room(*name)),
            Step::Disconnect(one) => socket(*one).disconnect(),
            Step::Emit(emit) if emit.elsewhere => thread::scope(|scope| {
                let sends = scope.spawn(|| self.send(author, number, emit));
                sends.join().unwrap();
            }),
            Step::Emit(emit) => self.send(author, number, emit),
        }
    }

    fn send(self: &Arc<Self>, author: usize, number: usize, emit: &Emit) {
        let args = (author, number, &emit.text, &emit.attachments);
        let room = |room| format!("{author}-{room}");
        let all = self.io.to(Vec::<String>::new());
        let broadcast = match emit.to {
            To::All => all,
            To::Room(name) => all.to(room(name)),
            To::AllBut(name) => all.except(room(name)),
            To::One(one) => {
                let socket = self.sockets.lock().unwrap()[one].clone();
                if emit.asks {
                    let answer = socket.emit_with_ack::<usize>("n", args);
                    self.wait(async move {
                        match answer.await {
                            Ok(answer) => assert_eq!(answer, number),
                            Err(error) => assert!(!RECEIVERS[one].1.lasts(), "{one}: {error}"),
                        }
                    });
                } else if emit.volatile {
                    let _ = socket.volatile().emit("n", args);
                } else {
                    let _ = socket.emit("n", args);
                }
                return;
            }
        };
        if emit.asks {
            let answers = broadcast.emit_with_ack::<usize>("n", args);
            let world = Arc::clone(self);
            self.wait(async move {
                let answers = answers.await.unwrap().answers;
                let sockets = world.sockets.lock().unwrap().clone();
                for (one, socket) in sockets.iter().enumerate() {
                    let owed = world.script.owed[one][author].contains(&(number, true));
                    let answers = answers.iter().filter(|(id, _)| id == socket.id());
                    let answers: Vec<_> = answers
                        .map(|(_, answer)| *answer.as_ref().unwrap())
                        .collect();
                    let is_missing = answers.is_empty() && !RECEIVERS[one].1.lasts();
                    let expected = vec![number; usize::from(owed && !is_missing)];
                    assert_eq!(answers, expected, "answers of {one} to {author}");
                }
            });
        } else if emit.volatile {
            let _ = broadcast.volatile().emit("n", args);
        } else {
            let _ = broadcast.emit("n", args);
        }
    }

    fn wait(&self, answers: impl Future<Output = ()> + Send + 'static) {
        self.asked.lock().unwrap().spawn_on(answers, &self.handle);
    }
}

/// One receiver, and what it has got.
struct Receiver {
    world: Arc<World>,
    number: usize,
    client: Client,
    /// The steps of each author, in the order in which they came.
    got: Vec<Vec<usize>>,
    /// How many calls it has made, and how many of them were answered.
    calls: Range<usize>,
    /// It answers what asks. An answer that comes when its socket has left ends its connection.
    answers: bool,
    /// It has been told that it is disconnected, or has left and knows it.
    gone: bool,
}

impl Receiver {
    fn count(&self) -> usize {
        self.got.iter().map(Vec::len).sum()
    }

    async fn call(&mut self) {
        let id = self.calls.end;
        self.calls.end += 1;
        self.client
            .send(&format!(r#"2/calls,{id}["call",{id}]"#))
            .await;
    }

    /// Takes the next message with its attachments. Returns `false` if the connection has ended.
    async fn take(&mut self) -> bool {
        let text = match self.client.next().await {
            Some(Message::Text(text)) => text,
            Some(other) => panic!("{other:?} without a header"),
            None => return false,
        };
        if let Some(answer) = text.strip_prefix("3/calls,") {
            let id = self.calls.start;
            self.calls.start += 1;
            assert_eq!(answer, format!("{id}[{id}]"), "answers come in order");
            return true;
        }
        assert!(!self.gone, "behind its leave: {text}");
        if text == "1" {
            self.gone = true;
            return true;
        }
        let at = text
            .find('[')
            .unwrap_or_else(|| panic!("{text} is no event"));
        let (head, json) = text.split_at(at);
        let mut args = json
            .split(',')
            .skip(1)
            .map(|number| number.parse().unwrap());
        let (author, number) = (args.next().unwrap(), args.next().unwrap());
        let world = Arc::clone(&self.world);
        let emit = world.script.emit(author, number);
        assert_eq!(json, world.script.json(author, number));
        let kind = match emit.attachments.len() {
            0 => "2".to_owned(),
            count => format!("5{count}-"),
        };
        let id = head
            .strip_prefix(&kind)
            .unwrap_or_else(|| panic!("{head} is not {kind}"));
        assert_eq!(id.is_empty(), !emit.asks, "{text}");
        for attachment in &emit.attachments {
            let came = self.client.next().await;
            assert_eq!(
                came,
                Some(Message::Binary(attachment.to_vec())),
                "behind {text}"
            );
        }
        self.got[author].push(number);
        if !id.is_empty() && self.answers {
            self.client.send(&format!("3{id}[{number}]")).await;
        }
        if self.count().is_multiple_of(16) {
            self.call().await;
        }
        true
    }

    /// Takes all that comes before the answer of a call that is made now.
    async fn take_up_to_a_call(&mut self) {
        self.call().await;
        while !self.calls.is_empty() {
            assert!(
                self.take().await,
                "the connection of {} has ended",
                self.number
            );
        }
    }

    fn has_all(&self) -> bool {
        let lasts = self
            .world
            .script
            .authors
            .iter()
            .map(|(_, steps)| steps.len() - 1);
        self.got
            .iter()
            .zip(lasts)
            .all(|(got, last)| got.last() == Some(&last))
    }

    async fn run(mut self) {
        let fate = RECEIVERS[self.number].1;
        let turning_point = 5 + random(self.world.script.seed + self.number as u64)(60);
        if fate == Fate::Stalls {
            let world = Arc::clone(&self.world);
            until("the end of all authors", || {
                world.ended.load(Ordering::Relaxed) == AUTHORS
            })
            .await;
        }
        let mut has_turned = false;
        while !self.has_all() && !self.gone {
            assert!(
                self.take().await,
                "the connection of {} has ended",
                self.number
            );
            if !has_turned && self.count() >= turning_point {
                has_turned = true;
                match fate {
                    Fate::Upgrades => self.client.upgrade().await,
                    Fate::Streams => self.client.upgrade_to_stream().await,
                    Fate::HangsUp => break,
                    Fate::Leaves => {
                        self.answers = false;
                        self.client.send("1").await;
                        self.take_up_to_a_call().await;
                        self.gone = true;
                    }
                    Fate::Stays | Fate::Stalls | Fate::Disconnected => {}
                }
            }
        }
        if fate != Fate::HangsUp {
            // What comes behind all that is owed comes before this.
            let count = self.count();
            self.take_up_to_a_call().await;
            assert_eq!(self.count(), count, "it got more than all");
        }
        self.client.send_packet("1").await;
        for author in 0..AUTHORS {
            self.compare(author);
        }
    }

    /// Compares what came of an author with what is owed.
    fn compare(&self, author: usize) {
        let owed = &self.world.script.owed[self.number][author];
        // The author that disconnects a receiver knows what it has sent before.
        let fate = RECEIVERS[self.number].1;
        let is_whole = fate.lasts() || (fate == Fate::Disconnected && author == 0);
        let got = &self.got[author];
        let mut left = got.iter().peekable();
        for (number, must) in owed {
            if left.next_if_eq(&number).is_none() && *must {
                let ends = !is_whole && left.peek().is_none();
                assert!(
                    ends,
                    "step {number} of {author} is missing in {got:?}: {owed:?}"
                );
            }
        }
        assert_eq!(
            left.next(),
            None,
            "of {author}, not owed or not in order: {got:?}: {owed:?}"
        );
    }
}

/// Plays the script.
async fn play(world: &Arc<World>, address: SocketAddr) {
    let mut receivers = Vec::new();
    for (number, (query, _)) in RECEIVERS.iter().enumerate() {
        let client = Client::connect(address, query, world.parser.clone()).await;
        until("its handler", || {
            world.sockets.lock().unwrap().len() > number
        })
        .await;
        receivers.push(Receiver {
            world: Arc::clone(world),
            number,
            client,
            got: vec![Vec::new(); AUTHORS],
            calls: 0..0,
            answers: RECEIVERS[number].1 != Fate::Disconnected,
            gone: false,
        });
    }
    let mut tasks = JoinSet::new();
    for (author, (kind, _)) in world.script.authors.iter().enumerate() {
        let world = Arc::clone(world);
        let portions = world.portions(author);
        match kind {
            Author::Handler => {
                let query = "EIO=4&transport=websocket";
                let mut client = Client::open(address, query, world.parser.clone()).await;
                client.join("/script").await;
                tasks.spawn(async move {
                    for begin in portions {
                        client
                            .send(&format!(r#"2/script,["play",{author},{begin}]"#))
                            .await;
                    }
                    let all = || world.ended.load(Ordering::Relaxed) == AUTHORS;
                    until("the end of all authors", all).await;
                });
            }
            Author::Task => drop(tasks.spawn(async move {
                for begin in portions {
                    world.play(author, begin);
                    yield_now().await;
                }
            })),
            Author::Thread => drop(tasks.spawn_blocking(move || {
                for begin in portions {
                    world.play(author, begin);
                    thread::yield_now();
                }
            })),
        }
    }
    for receiver in receivers {
        tasks.spawn(receiver.run());
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let asked = std::mem::take(&mut *world.asked.lock().unwrap());
    within("the answers", asked.join_all()).await;
}

/// Says which script it was, if it fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("again: ORDER_SEEDS={}", self.0);
        }
    }
}

/// Those of the environment, or else these.
fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var("ORDER_SEEDS") else {
        return default;
    };
    let (first, last) = asked.split_once("..").unwrap_or((&asked, &asked));
    first.parse().unwrap()..last.parse::<u64>().unwrap() + 1
}

fn check(seed: u64, parser: Parser, runtime: &mut Builder) {
    let _replay = Replay(seed);
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(seed, parser);
        let (listener, address) = listener().await;
        // So that writes are taken in part.
        SockRef::from(&listener)
            .set_send_buffer_size(48 << 10)
            .unwrap();
        let serves = serve_on(&world.io, listener);
        play(&world, address).await;
        world.io.close().await;
        within("the end", serves).await.unwrap();
    });
    runtime.shutdown_timeout(Duration::ZERO);
}

#[test]
fn each_receiver_gets_what_it_is_owed_on_many_threads() {
    for seed in seeds(1..13) {
        let runtime = &mut Builder::new_multi_thread();
        check(seed, Parser::Json, runtime.worker_threads(4));
    }
}

#[test]
fn each_receiver_gets_what_it_is_owed_in_messagepack() {
    for seed in seeds(301..305) {
        let runtime = &mut Builder::new_multi_thread();
        check(seed, Parser::Msgpack, runtime.worker_threads(4));
    }
}

#[test]
fn each_receiver_gets_what_it_is_owed_on_one_thread() {
    for seed in seeds(101..107) {
        check(seed, Parser::Json, &mut Builder::new_current_thread());
    }
}

#[test]
fn each_receiver_gets_what_it_is_owed_with_a_runtime_for_each_core() {
    for seed in seeds(201..207) {
        let _replay = Replay(seed);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(seed, Parser::Json);
            let cores = world.io.per_core("127.0.0.1:0").unwrap().threads(3);
            let address = cores.local_addrs()[0];
            let serves = thread::spawn(move || cores.run());
            play(&world, address).await;
            world.io.close().await;
            serves.join().unwrap().unwrap();
        });
    }
}

#[test]
fn nothing_comes_behind_a_disconnect_though_other_threads_emit() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(0, Parser::Json);
        let (listener, address) = listener().await;
        drop(serve_on(&world.io, listener));
        for round in 0..300 {
            let mut client = Client::connect(address, RECEIVERS[0].0, world.parser.clone()).await;
            until("its handler", || {
                world.sockets.lock().unwrap().len() > round
            })
            .await;
            let socket = world.sockets.lock().unwrap()[round].clone();
            let emits = (0..2).map(|_| {
                let socket = socket.clone();
                thread::spawn(move || {
                    while socket.is_connected() {
                        let _ = socket.emit("n", ());
                    }
                })
            });
            let emits: Vec<_> = emits.collect();
            assert!(client.next().await.is_some());
            socket.disconnect();
            emits.into_iter().for_each(|emits| emits.join().unwrap());
            client.send(r#"2/calls,7["call",7]"#).await;
            while client.next().await != Some(Message::Text("1".to_owned())) {}
            let last = client.next().await;
            assert_eq!(
                last,
                Some(Message::Text("3/calls,7[7]".to_owned())),
                "in round {round}"
            );
        }
    });
}
