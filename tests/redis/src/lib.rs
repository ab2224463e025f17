//! A `redis-server` for tests: an instance of one's own on a free port, in a folder of its own,
//! which keeps nothing on disk and ends with the value that stands for it.
//!
//! ```no_run
//! # use antiphon_test_redis::RedisServer;
//! let redis = RedisServer::start();
//! println!("{}", redis.url());
//! ```

#![allow(missing_docs, clippy::unwrap_used)]

mod cluster;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub use antiphon_test_cluster::free_port;
pub use cluster::RedisCluster;
use redis::{Connection, Value};

/// So long it may take to start.
const START: Duration = Duration::from_secs(20);

/// A running `redis-server`.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    /// What comes before the host in the URL of who may do all.
    login: String,
}

impl RedisServer {
    /// Starts one.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with options of the command line. With `--requirepass` the password is `secret`.
    pub fn with(options: &[&str]) -> Self {
        let login = match options.contains(&"--requirepass") {
            true => ":secret@".to_owned(),
            false => String::new(),
        };
        // Of two with one name the last counts.
        let options = [&["--save", "", "--appendonly", "no"], options].concat();
        Self::begin(&options, "", &login)
    }

    /// Starts a Sentinel that watches this server under a name. What it knows its replicas to be is
    /// what it is told at the start.
    pub fn sentinel(&self, name: &str) -> Self {
        let port = self.port;
        let config = format!(
            "sentinel monitor {name} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {name} 500\n\
             sentinel failover-timeout {name} 3000\n"
        );
        Self::begin(&["--sentinel"], &config, "")
    }

    fn begin(options: &[&str], config: &str, login: &str) -> Self {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        // Another process may take the port that was free a moment ago.
        for _ in 0..10 {
            let port = free_port();
            let folder = std::env::temp_dir();
            let folder = folder.join(format!("antiphon-redis-{}-{port}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("config"), config).unwrap();
            let child = spawn(port, &folder, &options);
            let mut server = Self {
                child,
                port,
                folder,
                options: options.clone(),
                login: login.to_owned(),
            };
            if server.is_ready() {
                return server;
            }
        }
        panic!("redis-server doesn't start");
    }

    /// The URL of who may do all.
    pub fn url(&self) -> String {
        self.url_of(&self.login)
    }

    /// The URL with another login, as `user:password@`.
    pub fn url_of(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Does a command, like `["CLIENT", "KILL", "TYPE", "pubsub"]`.
    pub fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).unwrap()
    }

    /// As [`command`](Self::command), of a server that may be gone.
    pub fn try_command(&self, words: &[&str]) -> redis::RedisResult<Value> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut self.connect()?)
    }

    /// The value of a field of `INFO`.
    pub fn info(&self, field: &str) -> String {
        let Value::BulkString(info) = self.command(&["INFO"]) else {
            panic!("no info");
        };
        let info = String::from_utf8(info).unwrap();
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(name, _)| *name == field).unwrap();
        value.to_owned()
    }

    /// What `CLIENT LIST` says of connections of a type.
    pub fn clients(&self, kind: &str) -> Vec<String> {
        let Value::BulkString(list) = self.command(&["CLIENT", "LIST", "TYPE", kind]) else {
            panic!("no list");
        };
        let list = String::from_utf8(list).unwrap();
        list.lines().map(str::to_owned).collect()
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let timeout = Duration::from_secs(5);
        redis::Client::open(self.url())?.get_connection_with_timeout(timeout)
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, after a [`kill`](Self::kill).
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options);
        assert!(self.is_ready(), "redis-server doesn't start again");
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
            let answers = |mut connection: Connection| {
                redis::cmd("PING").query::<Value>(&mut connection).is_ok()
            };
            if self.connect().is_ok_and(answers) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    Command::new("redis-server")
        .arg(folder.join("config"))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--logfile", "log", "--dir"])
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed: ./dev test installs it, or apt install redis-server")
}
