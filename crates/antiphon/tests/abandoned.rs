//! Sessions that are abandoned in each of their states leave nothing behind: memory is back when
//! their deadlines have passed.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::{collections::HashMap, env, net::SocketAddr, time::Duration};

use antiphon::{Recovery, Server, Socket};
use serde_json::Value;
use support::{Received, WEBSOCKET, WebSocket, http, resident, serve, sid, until};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Sessions of each state in a wave.
const SESSIONS: usize = 150;

/// The states of a session.
const STATES: usize = 8;

/// So many events of 120 KB are more than a portion of what was missed.
const FILL: usize = 4;

/// The first waves fill what allocators and the runtime keep.
const FILLED: usize = 6;

/// How many waves: `ABANDONED=100000` makes so many sessions.
fn waves() -> usize {
    let sessions = env::var("ABANDONED")
        .ok()
        .and_then(|count| count.parse().ok());
    sessions.map_or(9, |count: usize| count.div_ceil(SESSIONS * STATES).max(9))
}

async fn polling(address: SocketAddr) -> String {
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    format!("{POLLING}&sid={}", sid(&open))
}

/// The next message, which must be a text that begins with this. Pings are passed over.
async fn expect(websocket: &mut WebSocket<TcpStream>, prefix: &str) -> String {
    loop {
        match websocket.next().await {
            Received::Text(ping) if ping == "2" => {}
            Received::Text(text) if text.starts_with(prefix) => return text,
            other => panic!("{other:?} instead of {prefix}.."),
        }
    }
}

/// Opens a session and says this; gives the answer that begins with `prefix`, too.
async fn say(address: SocketAddr, connect: &str, prefix: &str) -> (WebSocket<TcpStream>, Value) {
    let mut websocket = WebSocket::connect(address, WEBSOCKET).await;
    websocket.expect_prefix("0{").await;
    websocket.send(connect).await;
    let answer = expect(&mut websocket, prefix).await;
    let answer = serde_json::from_str(&answer[prefix.len()..]);
    (websocket, answer.unwrap())
}

/// Sessions that are resumed while they are live: the middlewares are asked; what was missed is sent,
/// more than the client takes. Gives the id of the latter, too.
async fn resumed(address: SocketAddr) -> (Vec<WebSocket<TcpStream>>, String) {
    let (first, answer) = say(address, "40/back,", "40/back,").await;
    let mut asked = WebSocket::connect(address, WEBSOCKET).await;
    asked.expect_prefix("0{").await;
    let connect = format!("40/back,{{\"pid\":{}}}", answer["pid"]);
    asked.send(&connect).await;
    let (mut filled, answer) = say(address, "40", "40").await;
    filled.send(r#"42["fill"]"#).await;
    for _ in 0..FILL {
        expect(&mut filled, "42[\"full").await;
    }
    let connect = format!("40{{\"pid\":{}}}", answer["pid"]);
    let (replayed, answer) = say(address, &connect, "40").await;
    let sid = answer["sid"].as_str().unwrap().to_owned();
    (vec![first, asked, filled, replayed], sid)
}

/// Begins a request, and doesn't wait for its answer.
async fn begin(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// One session in each state. The connections are dropped when all are there.
struct Abandoned {
    /// One was still sent what it had missed.
    is_amidst: bool,
    _websockets: Vec<WebSocket<TcpStream>>,
    _waits: TcpStream,
}

async fn abandon(address: SocketAddr, io: &Server) -> Abandoned {
    let opened = WebSocket::connect(address, WEBSOCKET).await;
    let mut joined = WebSocket::connect(address, WEBSOCKET).await;
    joined.join().await;
    joined.send(r#"42["keep",1]"#).await;
    let mut asked = WebSocket::connect(address, WEBSOCKET).await;
    asked.expect_prefix("0{").await;
    asked.send("40/slow,").await;
    // Polling: opened; joined, with a GET that waits; amidst an upgrade.
    polling(address).await;
    let waits = polling(address).await;
    http(address, &format!("POST {waits}"), "40").await;
    http(address, &format!("GET {waits}"), "").await;
    let waits = begin(address, &format!("GET {waits}")).await;
    let upgrades = polling(address).await;
    let upgrades = upgrades.replace("polling", "websocket");
    let mut probing = WebSocket::connect(address, &upgrades).await;
    probing.send("2probe").await;
    probing.expect("3probe").await;
    let (mut websockets, sid) = resumed(address).await;
    websockets.extend([opened, joined, asked, probing]);
    Abandoned {
        // It enters its rooms when it has been sent all.
        is_amidst: io.of("/").socket(&sid).is_none(),
        _websockets: websockets,
        _waits: waits,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_back_when_they_have_gone() {
    const SHORT: Duration = Duration::from_millis(400);
    let io = Server::builder()
        .ping_interval(SHORT)
        .ping_timeout(SHORT)
        .connect_timeout(SHORT)
        .upgrade_timeout(SHORT)
        .recovery(Recovery::new().duration(SHORT))
        .build();
    io.of("/").on("keep", async |socket: Socket| {
        socket.insert([7_u8; 2_000]);
        socket.join("a room");
        socket.at_least_once().emit("bill", "x".repeat(1_000));
    });
    io.of("/").on("fill", async |socket: Socket| {
        for _ in 0..FILL {
            socket.emit("full", "x".repeat(120_000));
        }
    });
    io.of("/back").middleware(async |socket: Socket| {
        // Only one that comes back waits.
        if socket
            .auth::<HashMap<String, Value>>()
            .is_ok_and(|auth| auth.contains_key("pid"))
        {
            tokio::time::sleep(SHORT).await;
        }
        Ok(())
    });
    io.of("/slow").middleware(async |_: Socket| {
        tokio::time::sleep(SHORT).await;
        Ok(())
    });
    let address = serve(&io).await;
    let mut after_first = 0;
    let mut amidst = 0;
    let waves = waves();
    for wave in 0..waves {
        let mut kept = Vec::new();
        for _ in 0..SESSIONS {
            let abandoned = abandon(address, &io).await;
            amidst += usize::from(abandoned.is_amidst);
            kept.push(abandoned);
        }
        assert!(io.stats().sessions > 0);
        drop(kept);
        until("all sessions have gone", || io.stats().sessions == 0).await;
        // Parked sessions that had a bill: each is given up when its time is up.
        let bills = (SESSIONS * (wave + 1)) as u64;
        until("what was parked has expired", || {
            io.stats().undelivered == bills
        })
        .await;
        if wave + 1 == FILLED {
            after_first = resident();
        }
    }
    let at_the_end = resident();
    println!("{amidst} were amidst a recovery");
    assert!(amidst > 0);
    println!("{after_first} KiB after {FILLED} waves, {at_the_end} KiB after {waves}");
    assert!(
        at_the_end < after_first + after_first / 5,
        "{after_first} KiB, then {at_the_end} KiB"
    );
}
