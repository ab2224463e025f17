//! A Postgres for tests: an instance of one's own on a free port, in a folder of its own, which ends
//! with the value that stands for it.
//!
//! ```no_run
//! # use antiphon_test_postgres::PostgresServer;
//! let postgres = PostgresServer::start();
//! println!("{}", postgres.url());
//! ```

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub use antiphon_test_cluster::free_port;

/// So long it may take to start.
const START: Duration = Duration::from_secs(30);

/// A running Postgres. Its user `postgres` may do all, with the password `secret`.
#[derive(Debug)]
pub struct PostgresServer {
    child: Child,
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

impl PostgresServer {
    /// Starts one.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with more settings, like `max_connections=5`.
    pub fn with(settings: &[&str]) -> Self {
        let options: Vec<_> = settings
            .iter()
            .map(|setting| format!("--{setting}"))
            .collect();
        // Another process may take the port that was free a moment ago.
        for _ in 0..10 {
            let port = free_port();
            let folder = env::temp_dir();
            let folder = folder.join(format!("antiphon-postgres-{}-{port}", std::process::id()));
            initialize(&folder);
            let mut server = Self {
                child: spawn(port, &folder, &options),
                port,
                folder,
                options: options.clone(),
            };
            if server.is_ready() {
                return server;
            }
        }
        panic!("Postgres doesn't start");
    }

    /// The URL of who may do all.
    pub fn url(&self) -> String {
        self.url_of("postgres:secret@", "postgres")
    }

    /// The URL with a login, as `user:password@`, and the name of a database.
    pub fn url_of(&self, login: &str, database: &str) -> String {
        format!("postgres://{login}127.0.0.1:{}/{database}", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements, and gives what they return: a line a row, with `|` between columns.
    pub fn sql(&self, statements: &str) -> String {
        let mut command = Command::new(program("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        command.args(["--set", "ON_ERROR_STOP=1", "--dbname", &self.url()]);
        let output = command.args(["--command", statements]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Ends all connections of antiphon, as somebody may.
    pub fn cut(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'antiphon'",
        );
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        // Its children notice that it is gone. The next one can't start before.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, after a [`kill`](Self::kill).
    pub fn restart(&mut self) {
        let start = Instant::now();
        while start.elapsed() < START {
            self.child = spawn(self.port, &self.folder, &self.options);
            if self.is_ready() {
                return;
            }
        }
        panic!("Postgres doesn't start again");
    }

    /// Stops it and all its processes from running, without ending them.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it run again.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// To the process and its children, which each have a session of their own. Some may be gone
    /// before it reaches them.
    fn signal(&self, signal: &str) {
        let parent = self.child.id().to_string();
        let children = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &parent])
            .output()
            .unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        Command::new("kill")
            .args([signal, &parent])
            .args(children.split_whitespace())
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }

    /// Waits until it answers. Returns whether it does: another process may have had the port.
    fn is_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let mut answers = Command::new(program("psql"));
            answers.args(["--command", "SELECT 1", "--dbname", &self.url()]);
            answers.stdout(Stdio::null()).stderr(Stdio::null());
            if answers.status().unwrap().success() {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.thaw();
        }
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes a file one that Postgres alone may read, as it wants it of its keys.
pub fn hand_over(file: &str) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((user, group)) = other_than_root() {
        std::os::unix::fs::chown(file, Some(user), Some(group)).unwrap();
    }
}

/// A program of Postgres, which Debian doesn't put into the path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.unwrap().path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// A command that runs as somebody else than root, whom Postgres refuses.
fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if let Some((user, group)) = other_than_root() {
        command.uid(user).gid(group);
    }
    command.env("LC_ALL", "C");
    command
}

/// The user `postgres`, if this one is root.
fn other_than_root() -> Option<(u32, u32)> {
    let me = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = me.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    if uid.split_whitespace().next() != Some("0") {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"))?;
    let mut fields = user.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn initialize(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let password = folder.join("password");
    fs::write(&password, "secret").unwrap();
    if let Some((user, group)) = other_than_root() {
        std::os::unix::fs::chown(folder, Some(user), Some(group)).unwrap();
    }
    let output = command("initdb")
        .args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
        ])
        .args(["--no-sync", "--no-instructions", "--pwfile"])
        .arg(&password)
        .arg("--pgdata")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .output()
        .expect("Postgres is needed: ./dev test installs it, or apt install postgresql");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    command("postgres")
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
        // What it has written outlives it without waiting for the disk: the system goes on.
        .arg("-F")
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap()
}
