//! A `nats-server` for tests: an instance of one's own on a free port, which ends with the value that
//! stands for it, and with it what it has stored.
//!
//! ```no_run
//! # use antiphon_test_nats::NatsServer;
//! let nats = NatsServer::start();
//! println!("{}", nats.url());
//! ```

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub use antiphon_test_cluster::free_port;

/// So long it may take to start.
const START: Duration = Duration::from_secs(20);

/// The line of a configuration by which it stores. `FOLDER` is its own.
pub const JETSTREAM: &str = "jetstream { store_dir: \"FOLDER\" }";

/// A running `nats-server`.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    port: u16,
    /// Where it tells how it is.
    monitor: u16,
    folder: PathBuf,
}

impl NatsServer {
    /// Starts one.
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts one with more lines of its configuration.
    pub fn with(config: &str) -> Self {
        // Another process may take the port that was free a moment ago.
        for _ in 0..10 {
            let (port, monitor) = (free_port(), free_port());
            let folder = std::env::temp_dir();
            let folder = folder.join(format!("antiphon-nats-{}-{port}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            configure(&folder, port, monitor, config);
            let mut server = Self {
                child: spawn(&folder),
                port,
                monitor,
                folder,
            };
            if server.is_ready() {
                return server;
            }
        }
        panic!("nats-server doesn't start");
    }

    /// Starts one with JetStream, which stores in files.
    pub fn jetstream() -> Self {
        Self::with(JETSTREAM)
    }

    /// Starts several with JetStream that are one cluster, which agree on what is stored.
    pub fn cluster(servers: usize) -> Vec<Self> {
        let ports: Vec<_> = (0..servers).map(|_| free_port()).collect();
        let routes: Vec<_> = ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let routes = routes.join(", ");
        let start = |port| {
            let listen = format!("listen: \"127.0.0.1:{port}\"");
            let cluster = format!("cluster {{ name: c, {listen}, routes: [{routes}] }}");
            Self::with(&format!("server_name: s{port}\n{JETSTREAM}\n{cluster}"))
        };
        let servers: Vec<_> = ports.iter().map(start).collect();
        let begun = Instant::now();
        while !servers.iter().all(Self::has_leader) {
            assert!(begun.elapsed() < START, "the servers of NATS don't agree");
            thread::sleep(Duration::from_millis(50));
        }
        servers
    }

    /// Whether it knows who leads the JetStream of its cluster.
    fn has_leader(&self) -> bool {
        let answer = self.monitor("/jsz");
        answer.contains("\"leader\"")
    }

    /// Whether it has all that it has to have.
    pub fn is_current(&self) -> bool {
        self.monitor("/healthz").contains("\"ok\"")
    }

    /// Deletes what JetStream has stored, while it doesn't run.
    pub fn forget(&self) {
        fs::remove_dir_all(self.folder.join("jetstream")).unwrap();
    }

    /// Where JetStream keeps the streams of users without an account.
    fn stored(&self) -> PathBuf {
        self.folder.join("jetstream/jetstream/$G/streams")
    }

    /// The names of the streams of JetStream.
    pub fn streams(&self) -> Vec<String> {
        let entries = fs::read_dir(self.stored()).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// The subject of the one stream that JetStream publishes again, and where it does so.
    pub fn republished(&self) -> Option<[String; 2]> {
        let streams = self.streams().into_iter();
        // One that is being made has none yet.
        let configs = streams
            .filter_map(|name| fs::read_to_string(self.stored().join(name).join("meta.inf")).ok());
        let subjects = |config: String| {
            let (_, behind) = config.split_once("\"republish\":{\"src\":\"")?;
            let mut words = behind.split('"');
            Some([words.next()?.to_owned(), words.nth(3)?.to_owned()])
        };
        configs.filter_map(subjects).next()
    }

    /// The URL without a login.
    pub fn url(&self) -> String {
        self.url_of("")
    }

    /// The URL with a login, as `user:password@`.
    pub fn url_of(&self, login: &str) -> String {
        format!("nats://{login}127.0.0.1:{}", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The configuration from the next start or [`reload`](Self::reload) on.
    pub fn configure(&self, config: &str) {
        configure(&self.folder, self.port, self.monitor, config);
    }

    /// Makes it read its configuration.
    pub fn reload(&self) {
        self.signal("-HUP");
    }

    /// What it says of itself under a path of its monitoring port, as JSON.
    fn monitor(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A number that it says of itself, like `slow_consumers`.
    pub fn number(&self, path: &str, field: &str) -> usize {
        let answer = self.monitor(path);
        let (_, behind) = answer.split_once(&format!("\"{field}\":")).unwrap();
        let digits = behind.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap();
        digits[..end].parse().unwrap()
    }

    /// How many subscriptions there are, without those that it makes for itself.
    pub fn subscriptions(&self) -> usize {
        let answer = self.monitor("/connz?subs=1");
        let lists = answer.split("\"subscriptions_list\":").skip(1);
        lists
            .map(|list| list.split(']').next().unwrap().matches('"').count() / 2)
            .sum()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.number("/varz", "connections")
    }

    /// Publishes as anybody could, by a connection of its own.
    pub fn publish(&self, subject: &str, payload: &[u8]) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut words = format!("CONNECT {{}}\r\nPUB {subject} {}\r\n", payload.len()).into_bytes();
        words.extend(payload);
        words.extend(b"\r\nPING\r\n");
        (&stream).write_all(&words).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "PONG"));
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, after a [`kill`](Self::kill).
    pub fn restart(&mut self) {
        // A connection of somebody's may have its port for a moment.
        for _ in 0..10 {
            self.child = spawn(&self.folder);
            if self.is_ready() {
                return;
            }
            thread::sleep(Duration::from_millis(500));
        }
        panic!("nats-server doesn't start again");
    }

    /// Stops it from running, without ending it.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it run again.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits until it answers. Returns whether it does: another process may have had the port.
    fn is_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if greets(self.port) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a NATS server listens at a port.
fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line);
    read.is_ok() && line.starts_with("INFO ")
}

fn configure(folder: &Path, port: u16, monitor: u16, config: &str) {
    let stored = folder.join("jetstream");
    let config = config.replace("FOLDER", stored.to_str().unwrap());
    let config =
        format!("host: 127.0.0.1\nport: {port}\nhttp: \"127.0.0.1:{monitor}\"\n{config}\n");
    fs::write(folder.join("config"), config).unwrap();
}

fn spawn(folder: &Path) -> Child {
    Command::new("nats-server")
        .arg("--config")
        .arg(folder.join("config"))
        .arg("--log")
        .arg(folder.join("log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is needed: ./dev test installs it, or apt install nats-server")
}
