//! A server as a process of its own (`src/main.rs`), and what it has said.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::net::Network;

/// So long it may take to answer what it is told.
const ANSWER: Duration = Duration::from_secs(20);

/// Its memory is less than this, in MiB: what waits to be sent and to be read has 64 each, and this is
/// a debug build.
const MEMORY: u64 = 300;

/// What it has said.
#[derive(Default)]
struct Said {
    health: String,
    /// How often the health has changed.
    changes: u64,
    broken: Vec<String>,
    stat: Option<Value>,
    probed: Option<Value>,
}

/// A running server. It is killed with the value.
pub struct Server {
    pub name: String,
    child: Child,
    input: ChildStdin,
    said: Arc<Mutex<Said>>,
}

impl Server {
    pub fn start(name: &str, network: Option<&Network>, urls: &[String]) -> Self {
        let program = env!("CARGO_BIN_EXE_chaos-server");
        let mut command = match network {
            Some(network) => network.command(program),
            None => Command::new(program),
        };
        let mut child = command
            .arg(name)
            .args(urls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let (output, into) = (child.stdout.take().unwrap(), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                into.lock().unwrap().take(&line);
            }
        });
        Self {
            name: name.to_owned(),
            input: child.stdin.take().unwrap(),
            child,
            said,
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap_or_else(|_| panic!("{} has ended", self.name));
    }

    /// How often the health has changed, and what it is.
    pub fn health(&self) -> (u64, String) {
        let said = self.said();
        (said.changes, said.health.clone())
    }

    /// How it is now. Rules that it has seen broken fail the test, and so does its memory.
    pub fn stat(&mut self) -> Value {
        self.said().stat = None;
        self.tell("stat");
        let stat = self.answer(|said| said.stat.take());
        let broken = std::mem::take(&mut self.said().broken);
        assert!(broken.is_empty(), "{}: {}", self.name, broken.join("\n"));
        let memory = self.memory();
        assert!(memory < MEMORY, "{} has {memory} MiB in memory", self.name);
        stat
    }

    /// Of how many of its clients and rooms each server's probe has come to.
    pub fn probed(&mut self, number: u64) -> HashMap<String, u64> {
        self.said().probed = None;
        self.tell(&format!("probed {number}"));
        let probed = self.answer(|said| said.probed.take());
        let from = probed["from"].as_object().unwrap().iter();
        from.map(|(from, count)| (from.clone(), count.as_u64().unwrap()))
            .collect()
    }

    fn answer<T>(&self, of: impl Fn(&mut Said) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = of(&mut self.said()) {
                return answer;
            }
            assert!(start.elapsed() < ANSWER, "{} doesn't answer", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has in memory, in MiB.
    pub fn memory(&self) -> u64 {
        let path = Path::new("/proc").join(self.child.id().to_string());
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or_default() / 1_024
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.unwrap().success());
    }
}

impl Said {
    fn take(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(health) = line["health"].as_str() {
            health.clone_into(&mut self.health);
            self.changes += 1;
        } else if let Some(broken) = line["broken"].as_str() {
            self.broken.push(broken.to_owned());
        } else if line["stat"].is_object() {
            self.stat = Some(line["stat"].clone());
        } else {
            self.probed = Some(line);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
