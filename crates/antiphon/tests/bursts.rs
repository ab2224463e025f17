//! Broadcasts back to back leave in bundles, and nobody can tell: whatever happens in between, each
//! client gets what a list of all emits says, in its order.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use antiphon::{Args, Data, QueueLimits, Server, Socket};
use antiphon_protocol::websocket::{Opcode, masked_frame};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use support::{
    Received, WEBSOCKET, WebSocket, http, listener, random, serve, serve_on, sid, until,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

const CLIENTS: usize = 4;

/// One thing that a handler does. Numbers of clients, names of rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Step {
    ToAll,
    ToAllVolatile,
    ToRoom(String),
    ToAllBut(String),
    ToOne(usize),
    /// Too large to be written in the thread's buffer.
    ToOneLarge(usize),
    /// From another thread, which the handler waits for.
    ToOneFromElsewhere(usize),
    ToAllFromElsewhere,
    Join(usize, String),
    Leave(usize, String),
    Disconnect(usize),
}

/// Does the steps, numbering what is emitted.
fn play(io: &Server, sockets: &[Socket], steps: &[Step]) {
    for (number, step) in steps.iter().enumerate() {
        match step.clone() {
            Step::ToAll => drop(io.emit("n", number)),
            Step::ToAllVolatile => drop(io.to(Vec::<String>::new()).volatile().emit("n", number)),
            Step::ToRoom(room) => drop(io.to(room).emit("n", number)),
            Step::ToAllBut(room) => drop(io.except(room).emit("n", number)),
            Step::ToOne(one) => drop(sockets[one].emit("n", number)),
            Step::ToOneLarge(one) => drop(sockets[one].emit("n", (number, large()))),
            Step::ToOneFromElsewhere(one) => {
                let socket = sockets[one].clone();
                elsewhere(move || drop(socket.emit("n", number)));
            }
            Step::ToAllFromElsewhere => {
                let io = io.clone();
                elsewhere(move || drop(io.emit("n", number)));
            }
            Step::Join(one, room) => sockets[one].join(room.as_str()),
            Step::Leave(one, room) => sockets[one].leave(room.as_str()),
            Step::Disconnect(one) => sockets[one].disconnect(),
        }
    }
}

fn large() -> String {
    "x".repeat(5_000)
}

fn elsewhere(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work).join().unwrap();
}

/// What each client gets by the steps.
fn expected(steps: &[Step]) -> Vec<Vec<String>> {
    let mut rooms = vec![BTreeSet::new(); CLIENTS];
    let mut gets = vec![Vec::new(); CLIENTS];
    let mut here = [true; CLIENTS];
    for (number, step) in steps.iter().enumerate() {
        let event = match step {
            Step::ToOneLarge(_) => format!(r#"42["n",{number},"{}"]"#, large()),
            _ => format!(r#"42["n",{number}]"#),
        };
        for client in (0..CLIENTS).filter(|client| here[*client]) {
            let meant = match step {
                Step::ToAll | Step::ToAllVolatile | Step::ToAllFromElsewhere => true,
                Step::ToRoom(room) => rooms[client].contains(room),
                Step::ToAllBut(room) => !rooms[client].contains(room),
                Step::ToOne(one) | Step::ToOneLarge(one) | Step::ToOneFromElsewhere(one) => {
                    *one == client
                }
                Step::Join(..) | Step::Leave(..) | Step::Disconnect(_) => false,
            };
            // Who polls isn't writable while a handler runs for what others sent.
            let taken = client != POLLS || !matches!(step, Step::ToAllVolatile);
            if meant && taken {
                gets[client].push(event.clone());
            }
        }
        match step {
            Step::Join(one, room) if here[*one] => drop(rooms[*one].insert(room.clone())),
            Step::Leave(one, room) => drop(rooms[*one].remove(room)),
            Step::Disconnect(one) if here[*one] => {
                here[*one] = false;
                gets[*one].push("41".to_owned());
            }
            _ => {}
        }
    }
    for client in (0..CLIENTS).filter(|client| here[*client]) {
        gets[client].push(r#"42["end"]"#.to_owned());
    }
    gets
}

/// The client that polls; one of the others speaks revision 3.
const POLLS: usize = 2;

enum Client {
    WebSocket(WebSocket<TcpStream>),
    Polling(SocketAddr, String),
}

impl Client {
    async fn connect(address: SocketAddr, number: usize) -> Self {
        match number {
            POLLS => {
                let url = "/socket.io/?EIO=4&transport=polling";
                let (_, open) = http(address, &format!("GET {url}"), "").await;
                let url = format!("{url}&sid={}", sid(&open));
                http(address, &format!("POST {url}"), "40").await;
                let (_, joined) = http(address, &format!("GET {url}"), "").await;
                assert!(joined.starts_with("40{"), "{joined}");
                Self::Polling(address, url)
            }
            3 => {
                let url = WEBSOCKET.replace("EIO=4", "EIO=3");
                let mut client = WebSocket::connect(address, &url).await;
                assert!(
                    matches!(client.next().await, Received::Text(open) if open.starts_with("0{"))
                );
                client.expect("40").await;
                Self::WebSocket(client)
            }
            _ => {
                let mut client = WebSocket::connect(address, WEBSOCKET).await;
                client.join().await;
                Self::WebSocket(client)
            }
        }
    }

    /// All that comes up to the end.
    async fn all(&mut self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let is_end = |last: &String| last == r#"42["end"]"# || last == "41";
        while !all.last().is_some_and(is_end) {
            match self {
                Self::WebSocket(client) => match client.next().await {
                    Received::Text(text) => all.push(text),
                    other => panic!("{other:?} after {all:?}"),
                },
                Self::Polling(address, url) => {
                    let (status, body) = http(*address, &format!("GET {url}"), "").await;
                    assert_eq!(status, 200, "{body} after {all:?}");
                    all.extend(body.split('\x1e').map(str::to_owned));
                }
            }
        }
        all
    }
}

/// A server that plays what is asked for on one namespace, with the sockets of the other.
async fn server() -> (Server, SocketAddr) {
    let io = Server::new();
    let sockets = Arc::new(Mutex::new(Vec::new()));
    let joined = Arc::clone(&sockets);
    io.of("/").on_connect(move |socket: Socket| {
        joined.lock().unwrap().push(socket);
        std::future::ready(())
    });
    io.of("/script")
        .on("play", move |io: Server, Data(steps): Data<Vec<Step>>| {
            let sockets = sockets.lock().unwrap().clone();
            play(&io, &sockets, &steps);
            std::future::ready(())
        })
        .on("end", async |io: Server| drop(io.emit("end", ())));
    let address = serve(&io).await;
    (io, address)
}

async fn check(steps: Vec<Step>) {
    let (_io, address) = server().await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(Client::connect(address, number).await);
    }
    let mut author = WebSocket::connect(address, WEBSOCKET).await;
    author.send("40/script,").await;
    assert!(matches!(author.next().await, Received::Text(open) if open.starts_with("0{")));
    assert!(matches!(author.next().await, Received::Text(text) if text.starts_with("40/script,")));
    let play = serde_json::to_string(&("play", &steps)).unwrap();
    let frames = [&*format!("42/script,{play}"), r#"42/script,["end"]"#].map(frame);
    author.stream().write_all(&frames.concat()).await.unwrap();
    for (number, expected) in expected(&steps).into_iter().enumerate() {
        assert_eq!(
            clients[number].all().await,
            expected,
            "client {number}, {steps:?}"
        );
    }
}

fn room(name: &str) -> String {
    name.to_owned()
}

#[tokio::test]
async fn a_burst_arrives_in_order() {
    check(vec![Step::ToAll; 300]).await;
}

#[tokio::test]
async fn what_is_sent_to_one_stays_in_its_place() {
    let step = [Step::ToAll, Step::ToAll, Step::ToAll];
    let one = [
        Step::ToOne(0),
        Step::ToOneFromElsewhere(1),
        Step::ToOne(POLLS),
    ];
    check([&step[..], &one, &step, &[Step::ToAllFromElsewhere], &step].concat()).await;
}

#[tokio::test]
async fn who_comes_or_goes_within_a_burst_gets_its_part() {
    let to = || {
        [
            Step::ToRoom(room("a")),
            Step::ToRoom(room("a")),
            Step::ToRoom(room("a")),
        ]
    };
    let join = |one| [Step::Join(one, room("a"))];
    check(
        [
            &join(0)[..],
            &to(),
            &join(1),
            &to(),
            &[Step::Leave(0, room("a"))],
            &to(),
            &[Step::Disconnect(1)],
            &to(),
            &join(3),
            &to(),
        ]
        .concat(),
    )
    .await;
}

/// Steps of every kind in any order.
#[tokio::test]
async fn any_steps_do_as_the_list_says() {
    let (mut below, mut repeat) = (random(1), random(2));
    for _ in 0..60 {
        let mut step = || {
            let (one, name) = (below(CLIENTS), room(["a", "b"][below(2)]));
            match below(26) {
                0..9 => Step::ToAll,
                9..13 => Step::ToRoom(name),
                13 => Step::ToAllBut(name),
                14 | 24 => Step::ToOne(one),
                25 => Step::ToOneLarge(one),
                15 => Step::ToOneFromElsewhere(one),
                16 => Step::ToAllFromElsewhere,
                17 => Step::ToAllVolatile,
                18..21 => Step::Join(one, name),
                21 | 22 => Step::Leave(one, name),
                _ => Step::Disconnect(one),
            }
        };
        let mut steps = Vec::new();
        while steps.len() < 40 {
            let step = step();
            // Bursts are what this is about.
            let times = 1 + repeat(4);
            let emits = !matches!(step, Step::Join(..) | Step::Leave(..) | Step::Disconnect(_));
            steps.extend(vec![step; if emits { times } else { 1 }]);
        }
        check(steps).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_a_burst_gets_no_more_of_it() {
    leaves_within_a_burst(&server().await).await;
}

/// It stays in its rooms for as long as its connect handler runs.
#[tokio::test]
async fn a_client_that_leaves_within_a_burst_gets_no_more_of_it_while_it_is_still_in_its_rooms() {
    let server = server().await;
    server.0.of("/").on_connect(std::future::pending::<()>);
    leaves_within_a_burst(&server).await;
}

async fn leaves_within_a_burst((_io, address): &(Server, SocketAddr)) {
    let address = *address;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client.join().await;
    client.send("40/script,").await;
    assert!(matches!(client.next().await, Received::Text(text) if text.starts_with("40/script,")));
    let play = |steps: &[Step]| {
        let play = serde_json::to_string(&("play", steps)).unwrap();
        format!("42/script,{play}")
    };
    let [three, one] = [play(&[const { Step::ToAll }; 3]), play(&[Step::ToAll])];
    // In one write, so that it is one batch of work.
    let frames = [&*three, "41", &one, r#"42/script,7["end"]"#].map(frame);
    client.stream().write_all(&frames.concat()).await.unwrap();
    for number in 0..3 {
        client.expect(&format!(r#"42["n",{number}]"#)).await;
    }
    client.expect("43/script,7[]").await;
}

fn frame(text: &str) -> Vec<u8> {
    masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]).to_vec()
}

#[tokio::test]
async fn readers_that_stall_get_all_of_it_in_order() {
    /// Of several lengths, so that the network takes a part of one here and there.
    fn text(reader: usize, number: usize) -> String {
        "x".repeat((reader * 997 + number * 37) % 1_500)
    }
    const READERS: usize = 30;
    const EMITS: usize = 600;
    let io = Server::new();
    io.of("/").on(
        "go",
        async |socket: Socket, Data((reader, part)): Data<(usize, usize)>| {
            let emit = move |numbers: std::ops::Range<usize>| {
                for number in numbers {
                    socket.emit("n", (number, text(reader, number)));
                }
            };
            // First from a thread without a cork, while none has noted the session: written at
            // once.
            let first = emit.clone();
            elsewhere(move || first(part..part + 5));
            // Then inside this batch of work.
            emit(part + 5..part + 10);
        },
    );
    let (listener, address) = listener().await;
    let buffers = SockRef::from(&listener);
    buffers.set_send_buffer_size(48 << 10).unwrap();
    drop(serve_on(&io, listener));
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let mut client = WebSocket::connect(address, WEBSOCKET).await;
        client.join().await;
        // Nothing is read before all is sent, which is more than the network takes.
        for part in (0..EMITS).step_by(10) {
            let frames = [&*format!(r#"42["go",{reader},{part}]"#), r#"42["gone"]"#].map(frame);
            let unknown = io.stats().events_rejected;
            client.stream().write_all(&frames.concat()).await.unwrap();
            until("the end of a batch", || {
                io.stats().events_rejected > unknown
            })
            .await;
        }
        readers.spawn(async move {
            for number in 0..EMITS {
                let text = text(reader, number);
                let event = format!(r#"42["n",{number},"{text}"]"#);
                client.expect(&event).await;
            }
        });
    }
    readers.join_all().await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_closed_in_a_burst_too() {
    let io = Server::builder()
        .outbound(QueueLimits::new().packets(1_000).bytes(64 << 10))
        .build();
    io.of("/").on("burst", async |io: Server, args: Args| {
        for _ in 0..20_000 {
            io.emit("burst", args.clone());
        }
    });
    let address = serve(&io).await;
    let mut silent = WebSocket::connect(address, WEBSOCKET).await;
    silent.join().await;
    let mut author = WebSocket::connect(address, WEBSOCKET).await;
    author.join().await;
    author
        .send(&format!(r#"42["burst","{}"]"#, "x".repeat(1_000)))
        .await;
    until("the end of both", || io.stats().slow_readers_closed >= 2).await;
}
