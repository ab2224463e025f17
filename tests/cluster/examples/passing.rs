//! What it costs that a request comes to another server than its session's: time and CPU of a POST,
//! of a poll and of an echo over WebSocket, passed on and direct, in turns in one run. Both servers
//! and the client are in this process, on one machine.
//!
//! `cargo run --release --package antiphon-test-cluster --example passing`

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use antiphon::{Args, Server};
use antiphon_cluster::{Address, Cluster, broker::memory::Hub};
use antiphon_test_cluster::support::{WebSocket, http, listener, serve_on, sid, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const ROUNDS: usize = 10;
const TIMES: usize = 1_000;
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Times of many, and the CPU that they took.
#[derive(Default)]
struct Cost {
    times: Vec<Duration>,
    cpu: Duration,
}

impl Cost {
    async fn measure(&mut self, mut once: impl AsyncFnMut()) {
        let before = cpu();
        for _ in 0..TIMES {
            let begun = Instant::now();
            once().await;
            self.times.push(begun.elapsed());
        }
        self.cpu += cpu() - before;
    }

    fn median(&mut self) -> Duration {
        self.times.sort_unstable();
        self.times[self.times.len() / 2]
    }

    fn cpu(&self) -> Duration {
        self.cpu / u32::try_from(self.times.len()).unwrap()
    }
}

/// What this process has used of the processor: nanoseconds of all threads.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// A connection of HTTP that is used again and again.
struct Connection(TcpStream, Vec<u8>);

impl Connection {
    async fn open(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream, Vec::new())
    }

    async fn exchange(&mut self, request: &str, body: &str) -> String {
        let length = body.len();
        let request =
            format!("{request} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.1.clear();
        loop {
            assert_ne!(self.0.read_buf(&mut self.1).await.unwrap(), 0);
            let read = std::str::from_utf8(&self.1).unwrap();
            let Some((head, body)) = read.split_once("\r\n\r\n") else {
                continue;
            };
            let (_, length) = head.split_once("content-length: ").unwrap();
            if body.len() == length.lines().next().unwrap().parse::<usize>().unwrap() {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                return body.to_owned();
            }
        }
    }
}

/// A session of the first server, whose requests come to this one.
struct Session {
    id: String,
    post: Connection,
    poll: Connection,
    websocket: WebSocket<TcpStream>,
}

impl Session {
    async fn open(owner: SocketAddr, at: SocketAddr) -> Self {
        let open = async || {
            let (_, open) = http(owner, &format!("GET {POLLING}"), "").await;
            sid(&open).to_owned()
        };
        let upgraded = open().await;
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={upgraded}");
        let mut websocket = WebSocket::connect(at, &path).await;
        websocket.send("2probe").await;
        websocket.expect("3probe").await;
        websocket.send("5").await;
        websocket.send("40").await;
        websocket.expect_prefix("40{").await;
        let mut session = Self {
            id: open().await,
            post: Connection::open(at).await,
            poll: Connection::open(at).await,
            websocket,
        };
        session.post("40").await;
        session.poll().await;
        session
    }

    async fn post(&mut self, body: &str) {
        let request = format!("POST {POLLING}&sid={}", self.id);
        assert_eq!(self.post.exchange(&request, body).await, "ok");
    }

    async fn poll(&mut self) -> String {
        let request = format!("GET {POLLING}&sid={}", self.id);
        self.poll.exchange(&request, "").await
    }
}

#[tokio::main]
async fn main() {
    let hub = Hub::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let (listener, at) = listener().await;
        let address = Address::new(&format!("http://{at}"));
        let cluster = Cluster::builder(hub.broker()).advertise(address).start();
        // No ping comes between.
        let builder = Server::builder().ping_interval(Duration::from_secs(3_600));
        let io = builder.adapter(cluster.clone()).build();
        io.of("/").on("echo", async |args: Args| args);
        drop(serve_on(&io, listener));
        servers.push((cluster, at));
    }
    let (first, owner) = &servers[0];
    let (second, other) = &servers[1];
    until("both", || {
        [first, second].iter().all(|one| one.servers().len() == 2)
    })
    .await;
    let mut sessions = [
        Session::open(*owner, *owner).await,
        Session::open(*owner, *other).await,
    ];
    let mut costs = <[[Cost; 2]; 3]>::default();
    for _ in 0..ROUNDS {
        for (way, session) in sessions.iter_mut().enumerate() {
            costs[0][way]
                .measure(async || session.post(r#"42["nobody",1]"#).await)
                .await;
            costs[1][way]
                .measure(async || {
                    session.post(r#"421["echo","hello"]"#).await;
                    assert_eq!(session.poll().await, r#"431["hello"]"#);
                })
                .await;
            costs[2][way]
                .measure(async || {
                    session.websocket.send(r#"421["echo","hello"]"#).await;
                    session.websocket.expect(r#"431["hello"]"#).await;
                })
                .await;
        }
    }
    assert!(second.stats().passed_on as usize > 3 * ROUNDS * TIMES);
    println!(
        "{:28} {:>22} {:>24}",
        "", "p50 direct, passed on", "CPU direct, passed on"
    );
    for (what, [direct, passed]) in ["POST", "POST and GET", "echo over WebSocket"]
        .into_iter()
        .zip(&mut costs)
    {
        println!(
            "{what:28} {:>10.1?} {:>10.1?}   {:>10.1?} {:>10.1?}",
            direct.median(),
            passed.median(),
            direct.cpu(),
            passed.cpu(),
        );
    }
}
