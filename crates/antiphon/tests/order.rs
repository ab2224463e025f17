//! Order and completeness: whatever several authors emit at once, on several threads, each receiver
//! gets from each author exactly what it is owed, in the author's order.
//!
//! A script is made from a seed. It says what each author does, and from it alone follows what each
//! receiver is owed: an author's broadcasts depend on rooms that it alone fills and empties.
//! Receivers differ in what they speak and in what becomes of them ([`RECEIVERS`]). After a failure,
//! `ORDER_SEEDS=7` plays the script of seed 7 again, and `ORDER_SEEDS=7..99` many.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use antiphon::{Data, Server, Socket};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use socket2::SockRef;
use support::{
    Received, WEBSOCKET, WebSocket, http, listener, random, serve_on, sid, until, within,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime::{Builder, Handle},
    task::{JoinSet, yield_now},
};

/// What becomes of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Its session moves from polling to a WebSocket in the middle.
    Upgrades,
    /// It reads nothing before all authors have ended.
    Stalls,
    /// The first author disconnects it.
    Disconnected,
    /// It leaves the namespace, and keeps its connection.
    Leaves,
    /// It hangs up.
    HangsUp,
}

impl Fate {
    /// Whether it gets all that is emitted.
    const fn lasts(self) -> bool {
        matches!(self, Self::Stays | Self::Upgrades | Self::Stalls)
    }
}

/// The query of a receiver's session, and its fate.
const RECEIVERS: [(&str, Fate); 13] = [
    ("EIO=4&transport=websocket", Fate::Stays),
    ("EIO=4&transport=websocket", Fate::Stalls),
    ("EIO=3&transport=websocket", Fate::Stays),
    ("EIO=3&transport=websocket", Fate::Stalls),
    ("EIO=4&transport=websocket&b64=1", Fate::Stays),
    ("EIO=4&transport=polling", Fate::Stays),
    ("EIO=3&transport=polling&b64=1", Fate::Stays),
    ("EIO=4&transport=polling", Fate::Upgrades),
    ("EIO=3&transport=polling&b64=1", Fate::Upgrades),
    ("EIO=4&transport=websocket", Fate::Disconnected),
    ("EIO=4&transport=polling", Fate::Disconnected),
    ("EIO=4&transport=websocket", Fate::Leaves),
    ("EIO=3&transport=websocket", Fate::HangsUp),
];

const AUTHORS: usize = 4;
/// Of each author.
const ROOMS: usize = 2;
/// Steps that an author does without a pause.
const PORTION: usize = 12;

/// Who an emit goes to. Receivers and rooms by number.
#[derive(Debug, Clone, Copy)]
enum To {
    All,
    Room(usize),
    AllBut(usize),
    One(usize),
}

#[derive(Debug, Clone)]
struct Emit {
    to: To,
    volatile: bool,
    asks: bool,
    /// From a thread of its own, which is waited for.
    elsewhere: bool,
    text: String,
    attachments: Vec<Bytes>,
}

#[derive(Debug, Clone)]
enum Step {
    Emit(Emit),
    Join(usize, usize),
    Leave(usize, usize),
    Disconnect(usize),
}

/// Where an author's steps are done.
#[derive(Debug, Clone, Copy)]
enum Author {
    /// In handlers, a portion for each event.
    Handler,
    Task,
    Thread,
}

struct Script {
    seed: u64,
    authors: Vec<(Author, Vec<Step>)>,
    /// What each receiver is owed by each author: the steps, and whether they must come.
    owed: Vec<Vec<Vec<(usize, bool)>>>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut below = random(seed);
        let authors: Vec<_> = (0..AUTHORS)
            .map(|author| {
                let kind = [Author::Handler, Author::Thread, Author::Task];
                let kind = kind[match author {
                    0..2 => 0,
                    _ => below(3),
                }];
                (kind, steps(author, &mut below))
            })
            .collect();
        let owed = (0..RECEIVERS.len())
            .map(|receiver| {
                authors
                    .iter()
                    .map(|(_, steps)| owed(receiver, steps))
                    .collect()
            })
            .collect();
        Self {
            seed,
            authors,
            owed,
        }
    }

    fn emit(&self, author: usize, number: usize) -> &Emit {
        match &self.authors[author].1[number] {
            Step::Emit(emit) => emit,
            other => panic!("{other:?} was never emitted"),
        }
    }

    /// The JSON of an event.
    fn json(&self, author: usize, number: usize) -> String {
        let Emit {
            text, attachments, ..
        } = self.emit(author, number);
        let places = (0..attachments.len())
            .map(|index| format!(r#"{{"_placeholder":true,"num":{index}}}"#))
            .collect::<Vec<_>>()
            .join(",");
        format!(r#"["n",{author},{number},"{text}",[{places}]]"#)
    }
}

fn steps(author: usize, below: &mut impl FnMut(usize) -> usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let end = 60 + below(60);
    let disconnects = below(end);
    while steps.len() < end {
        let (one, room) = (below(RECEIVERS.len()), below(ROOMS));
        match below(10) {
            0 | 1 => steps.push(Step::Join(one, room)),
            2 => steps.push(Step::Leave(one, room)),
            _ => {
                let emit = Step::Emit(emit(below));
                // Bursts are what can go wrong.
                steps.extend(vec![emit; 1 + below(6)]);
            }
        }
    }
    if author == 0 {
        let leaving = (0..RECEIVERS.len()).filter(|one| RECEIVERS[*one].1 == Fate::Disconnected);
        for one in leaving {
            steps.insert(disconnects, Step::Disconnect(one));
        }
    }
    // The sign that there is nothing more to come.
    steps.push(Step::Emit(Emit {
        to: To::All,
        volatile: false,
        asks: false,
        elsewhere: false,
        text: "end".to_owned(),
        attachments: Vec::new(),
    }));
    steps
}

fn emit(below: &mut impl FnMut(usize) -> usize) -> Emit {
    let one = below(RECEIVERS.len());
    let to = match below(8) {
        0..4 => To::All,
        4 | 5 => To::Room(below(ROOMS)),
        6 => To::AllBut(below(ROOMS)),
        _ => To::One(one),
    };
    let mut length = |usual| match below(40) {
        0 => 20_000,
        1 => 5_000,
        2..6 => 1_000,
        _ => below(usual),
    };
    let text = ["x", "\u{e9}"][length(2) % 2].repeat(length(80));
    let attachments = (0..length(8).saturating_sub(5).min(3))
        .map(|index| vec![index as u8; length(80)].into())
        .collect();
    let (volatile, asks) = [(false, false), (true, false), (false, true)][below(10).min(2)];
    Emit {
        to,
        volatile,
        asks: asks && below(4) == 0,
        elsewhere: below(16) == 0,
        text,
        attachments,
    }
}

/// What one author's steps owe to one receiver.
fn owed(receiver: usize, steps: &[Step]) -> Vec<(usize, bool)> {
    let mut owed = Vec::new();
    let mut rooms = [false; ROOMS];
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Join(one, room) if one == receiver => rooms[room] = true,
            Step::Leave(one, room) if one == receiver => rooms[room] = false,
            Step::Disconnect(one) if one == receiver => break,
            Step::Emit(ref emit) => {
                let meant = match emit.to {
                    To::All => true,
                    To::Room(room) => rooms[room],
                    To::AllBut(room) => !rooms[room],
                    To::One(one) => one == receiver,
                };
                owed.extend(meant.then_some((number, !emit.volatile)));
            }
            _ => {}
        }
    }
    owed
}

/// What the authors work on.
struct World {
    io: Server,
    script: Script,
    /// Of the receivers, in their order.
    sockets: Mutex<Vec<Socket>>,
    /// Where answers to what asked are waited for.
    handle: Handle,
    asked: Mutex<JoinSet<()>>,
    ended: AtomicUsize,
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        let world = Arc::new(Self {
            io: Server::new(),
            script: Script::new(seed),
            sockets: Mutex::default(),
            handle: Handle::current(),
            asked: Mutex::default(),
            ended: AtomicUsize::new(0),
        });
        let (joins, plays) = (Arc::downgrade(&world), Arc::downgrade(&world));
        world.io.of("/").on_connect(move |socket: Socket| {
            joins
                .upgrade()
                .unwrap()
                .sockets
                .lock()
                .unwrap()
                .push(socket);
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

/// A message of Socket.IO, or a part of one.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Text(String),
    Binary(Vec<u8>),
}

enum Transport {
    WebSocket(Box<WebSocket<TcpStream>>),
    Polling(String),
}

/// A client that knows how its messages are written.
struct Client {
    address: SocketAddr,
    is_v3: bool,
    transport: Transport,
    came: VecDeque<Message>,
}

impl Client {
    async fn connect(address: SocketAddr, query: &str) -> Self {
        let path = format!("/socket.io/?{query}");
        let mut client = Self {
            address,
            is_v3: query.contains("EIO=3"),
            transport: Transport::Polling(path.clone()),
            came: VecDeque::new(),
        };
        if query.contains("transport=websocket") {
            // Such a client takes little of what it doesn't read.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(64 << 10).unwrap();
            let stream = socket.connect(address).await.unwrap();
            let mut websocket = Box::new(WebSocket::over(stream, &path).await);
            websocket.expect_prefix("0{").await;
            client.transport = Transport::WebSocket(websocket);
        } else {
            let (_, open) = http(address, &format!("GET {path}"), "").await;
            client.transport = Transport::Polling(format!("{path}&sid={}", sid(&open)));
            // Of revision 3, it may have come with that already.
            if open.contains("}2:40") {
                client.came.push_back(Message::Text("0".to_owned()));
            }
        }
        if !client.is_v3 {
            client.send("0").await;
        }
        assert!(matches!(client.next().await, Some(Message::Text(text)) if text.starts_with('0')));
        client.send("0/calls").await;
        let calls = client.next().await;
        assert!(matches!(calls, Some(Message::Text(text)) if text.starts_with("0/calls")));
        client
    }

    async fn send(&mut self, text: &str) {
        self.send_packet(&format!("4{text}")).await;
    }

    /// Sends a packet of Engine.IO.
    async fn send_packet(&mut self, packet: &str) {
        match &mut self.transport {
            Transport::WebSocket(websocket) => websocket.send(packet).await,
            Transport::Polling(path) => {
                let body = match self.is_v3 {
                    true => format!("{}:{packet}", packet.len()),
                    false => packet.to_owned(),
                };
                let (status, answer) = http(self.address, &format!("POST {path}"), &body).await;
                assert_eq!(status, 200, "{answer}");
            }
        }
    }

    /// The next message. `None` if the connection has ended.
    async fn next(&mut self) -> Option<Message> {
        while self.came.is_empty() {
            match &mut self.transport {
                Transport::WebSocket(websocket) => match websocket.next().await {
                    Received::Text(text) => self.take(&text),
                    Received::Binary(data) => {
                        let data = if self.is_v3 {
                            data.strip_prefix(&[4]).unwrap()
                        } else {
                            &data
                        };
                        self.came.push_back(Message::Binary(data.to_vec()));
                    }
                    Received::Closed(_) => return None,
                },
                Transport::Polling(path) => {
                    let request = format!("GET {path}");
                    let (status, body) = http(self.address, &request, "").await;
                    assert_eq!(status, 200, "{body}");
                    self.take_payload(&body);
                }
            }
        }
        self.came.pop_front()
    }

    /// Takes a packet of Engine.IO.
    fn take(&mut self, packet: &str) {
        let binary = if self.is_v3 { "b4" } else { "b" };
        if let Some(text) = packet.strip_prefix('4') {
            self.came.push_back(Message::Text(text.to_owned()));
        } else if let Some(data) = packet.strip_prefix(binary) {
            let data = BASE64_STANDARD.decode(data).unwrap();
            self.came.push_back(Message::Binary(data));
        } else {
            assert_eq!(packet, "6", "neither a message nor a noop");
        }
    }

    fn take_payload(&mut self, body: &str) {
        if !self.is_v3 {
            return body.split('\x1e').for_each(|packet| self.take(packet));
        }
        let mut rest = body;
        while let Some((length, behind)) = rest.split_once(':') {
            let length = length.parse().unwrap();
            let end = behind
                .char_indices()
                .nth(length)
                .map_or(behind.len(), |(at, _)| at);
            self.take(&behind[..end]);
            rest = &behind[end..];
        }
        assert_eq!(rest, "");
    }

    /// Moves to a WebSocket, while a poll is under way.
    async fn upgrade(&mut self) {
        let Transport::Polling(path) = &self.transport else {
            panic!("it has been upgraded already");
        };
        let poll = format!("GET {path}");
        let path = path.replace("transport=polling", "transport=websocket");
        let probe = async {
            let mut websocket = Box::new(WebSocket::connect(self.address, &path).await);
            websocket.send("2probe").await;
            websocket.expect("3probe").await;
            websocket
        };
        let ((status, body), mut websocket) = tokio::join!(http(self.address, &poll, ""), probe);
        assert_eq!(status, 200, "{body}");
        self.take_payload(&body);
        websocket.send("5").await;
        self.transport = Transport::WebSocket(websocket);
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
        let client = Client::connect(address, query).await;
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
                let mut client = WebSocket::connect(address, WEBSOCKET).await;
                client.expect_prefix("0{").await;
                client.send("40/script,").await;
                client.expect_prefix("40/script,").await;
                tasks.spawn(async move {
                    for begin in portions {
                        client
                            .send(&format!(r#"42/script,["play",{author},{begin}]"#))
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

fn check(seed: u64, runtime: &mut Builder) {
    let _replay = Replay(seed);
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(seed);
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
        check(seed, Builder::new_multi_thread().worker_threads(4));
    }
}

#[test]
fn each_receiver_gets_what_it_is_owed_on_one_thread() {
    for seed in seeds(101..107) {
        check(seed, &mut Builder::new_current_thread());
    }
}

#[test]
fn each_receiver_gets_what_it_is_owed_with_a_runtime_for_each_core() {
    for seed in seeds(201..207) {
        let _replay = Replay(seed);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(seed);
            let cores = world.io.per_core("127.0.0.1:0").unwrap().threads(3);
            let address = cores.local_addr();
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
        let world = World::new(0);
        let (listener, address) = listener().await;
        drop(serve_on(&world.io, listener));
        for round in 0..300 {
            let mut client = Client::connect(address, RECEIVERS[0].0).await;
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
