//! Sessions that are abandoned in each of their states leave nothing behind: memory is back when
//! their deadlines have passed.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::{env, fs, net::SocketAddr, time::Duration};

use antiphon::{Recovery, Server, Socket};
use support::{WEBSOCKET, WebSocket, http, serve, sid, until};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Sessions of each state in a wave.
const SESSIONS: usize = 150;

/// The states of a session.
const STATES: usize = 6;

/// How many waves: `ABANDONED=100000` makes so many sessions.
fn waves() -> usize {
    let sessions = env::var("ABANDONED")
        .ok()
        .and_then(|count| count.parse().ok());
    sessions.map_or(9, |count: usize| count.div_ceil(SESSIONS * STATES).max(9))
}

/// What the process has in memory, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn polling(address: SocketAddr) -> String {
    let (_, open) = http(address, &format!("GET {POLLING}"), "").await;
    format!("{POLLING}&sid={}", sid(&open))
}

/// Begins a request, and doesn't wait for its answer.
async fn begin(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// One session in each state. The connections are dropped when all are there.
async fn abandon(address: SocketAddr) -> (Vec<WebSocket<TcpStream>>, Vec<TcpStream>) {
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
    (vec![opened, joined, asked, probing], vec![waits])
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
    io.of("/slow").middleware(async |_: Socket| {
        tokio::time::sleep(SHORT).await;
        Ok(())
    });
    let address = serve(&io).await;
    let mut after_first = 0;
    let waves = waves();
    for wave in 0..waves {
        let mut kept = Vec::new();
        for _ in 0..SESSIONS {
            kept.push(abandon(address).await);
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
        if wave == 2 {
            // The first waves have filled what allocators and the runtime keep.
            after_first = resident();
        }
    }
    let at_the_end = resident();
    println!("{after_first} KiB after three waves, {at_the_end} KiB after {waves}");
    assert!(
        at_the_end < after_first + after_first / 5,
        "{after_first} KiB, then {at_the_end} KiB"
    );
}
