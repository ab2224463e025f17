//! The servers, each a child process: how they are started, and what the kernel says they used.

use std::{
    env, fmt, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    ops::Deref,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{prctl, signal::Signal},
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

use rustls::ClientConfig;

use crate::{Result, tls::Identity};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Under plain `axum::serve`, with the C library's allocator.
    Ours,
    /// Ours as a binary of its own can be.
    Tuned,
    Socketioxide,
    Node,
    /// The same bytes without a protocol.
    Floor,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Ours,
        Self::Tuned,
        Self::Socketioxide,
        Self::Node,
        Self::Floor,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Tuned => "tuned",
            Self::Floor => "floor",
            Self::Socketioxide => "socketioxide",
            Self::Node => "node",
        }
    }

    /// Whether a scenario is for it.
    pub fn takes_part_in(self, scenario: &str) -> bool {
        match self {
            _ if is_secured(scenario) => matches!(self, Self::Tuned | Self::Floor),
            Self::Ours => true,
            Self::Node if scenario == DEFLATE => true,
            Self::Socketioxide | Self::Node => {
                !scenario.starts_with("flood-") && !compresses(scenario) && !packs(scenario)
            }
            Self::Tuned => !matches!(scenario, "grow-rooms" | "grow-payload"),
            // It knows no namespaces and no HTTP, and no room but one where all talk.
            Self::Floor => {
                matches!(
                    scenario,
                    "connections"
                        | "echo"
                        | "echo32"
                        | "broadcast"
                        | "broadcast32"
                        | "grow-connections"
                ) || scenario.starts_with("talk-")
            }
        }
    }

    pub const fn has_rooms(self) -> bool {
        !matches!(self, Self::Floor)
    }

    /// Whether it promises that a socket's events are handled in the order in which they came.
    ///
    /// socketioxide runs each handler in a task of its own, and so promises none. What it swaps is
    /// counted and reported; lost, doubled or changed messages are failures with it as well.
    pub const fn keeps_order(self) -> bool {
        !matches!(self, Self::Socketioxide)
    }

    /// Whether a message that a client sends as soon as it is told that it is connected is handled.
    ///
    /// socketioxide tells the client before it calls the connect handler, in which its users
    /// register their events: what comes in between is lost. The load waits a moment with it.
    pub const fn is_ready_when_connected(self) -> bool {
        !matches!(self, Self::Socketioxide)
    }

    /// What a server is told where all in a room talk.
    const fn argument_for_talk(self) -> Option<&'static str> {
        match self {
            Self::Floor => Some("gather"),
            // Stock, it drops what is for a socket that 128 packets wait for: some hundred clients
            // that talk as fast as they can lose messages within a second, and stop.
            Self::Socketioxide => Some("100000"),
            Self::Ours | Self::Tuned | Self::Node => None,
        }
    }

    /// What cargo built for it.
    const fn binary(self) -> Option<&'static str> {
        match self {
            Self::Ours => Some("bench_server"),
            Self::Tuned => Some("bench-tuned"),
            Self::Socketioxide => Some("bench-socketioxide"),
            Self::Floor => Some("bench-floor"),
            Self::Node => None,
        }
    }

    /// Sets what was built aside.
    pub fn set_aside(self) -> Result<()> {
        match self.binary() {
            Some(binary) => set_aside(binary, self.name()),
            None => Ok(()),
        }
    }

    fn command(self) -> Command {
        if self.binary().is_some() {
            let mut command = Command::new(aside(self.name()));
            if self == Self::Tuned {
                command.env("_RJEM_MALLOC_CONF", JEMALLOC);
            }
            return command;
        }
        let mut command = Command::new("node");
        command
            .arg("bench/node/server.js")
            .env("NODE_ENV", "production");
        command
    }
}

/// What is free goes back to the system after a second at most, and not only when the program next
/// asks for memory.
const JEMALLOC: &str = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0";

/// Sets what was built aside, so that a build meanwhile doesn't change what is measured.
pub fn set_aside(binary: &str, name: &str) -> Result<()> {
    let (from, to) = (target().join("release").join(binary), aside(name));
    fs::create_dir_all(target().join("bench"))?;
    // Another name first: what runs under the old one stays as it is.
    let new = to.with_extension("new");
    fs::copy(&from, &new).map_err(|error| format!("{}: {error}", from.display()))?;
    Ok(fs::rename(new, to)?)
}

/// Where something was set aside.
pub fn aside(name: &str) -> PathBuf {
    target().join("bench").join(name)
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether the server of a scenario compresses, and its clients offer that.
pub fn compresses(scenario: &str) -> bool {
    matches!(scenario, "flood-bombs" | "idle-compressed" | DEFLATE)
}

/// The scenario with compression in which peers take part.
const DEFLATE: &str = "broadcast-deflate";

/// Whether packets are in MessagePack.
pub fn packs(scenario: &str) -> bool {
    scenario.ends_with("-msgpack")
}

/// Whether it is over TLS. axum has none, and its peers are measured without.
pub fn is_secured(scenario: &str) -> bool {
    scenario.starts_with("tls-")
}

/// A process; it ends with this value, and with this process whatever ends that.
pub struct Process {
    child: Child,
    clock: ClockId,
}

/// A running server.
pub struct Server {
    process: Process,
    pub address: SocketAddr,
    /// It speaks TLS with it.
    identity: Option<Identity>,
}

impl Server {
    /// The server for a scenario.
    pub fn start(kind: Kind, scenario: &str) -> Result<Self> {
        let identity = is_secured(scenario).then(Identity::new).transpose()?;
        let mut command = kind.command();
        command.arg("0");
        if scenario.starts_with("talk-") {
            command.args(kind.argument_for_talk());
        } else if compresses(scenario) {
            command.arg("compress");
        } else if packs(scenario) {
            command.arg("msgpack");
        } else if let Some(identity) = &identity {
            command.arg("tls").args(identity.files());
        }
        Ok(Self {
            identity,
            ..Self::spawn(command)?
        })
    }

    /// What its clients have to know if it speaks TLS.
    pub fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.identity.as_ref().map(Identity::client)
    }

    /// One that says where it listens, by its first line.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let mut process = Process::spawn(command.stdout(Stdio::piped()))?;
        let mut line = String::new();
        if let Some(stdout) = process.child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix("listening on ");
        let address = address.and_then(|it| it.parse().ok());
        let address =
            address.ok_or_else(|| format!("expected \"listening on ADDRESS\", got {line:?}"))?;
        Ok(Self {
            process,
            address,
            identity: None,
        })
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Process {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null());
        // SAFETY: the closure makes one system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let child = command
            .spawn()
            .map_err(|error| format!("can't start {command:?}: {error}"))?;
        let clock = clock_getcpuclockid(Pid::from_raw(child.id() as i32))?;
        Ok(Self { child, clock })
    }

    /// The processor time of all its threads since it was started, also of those that have ended.
    ///
    /// It is the process' CPU clock, in nanoseconds and of the scheduler's own accounting, where
    /// `utime` and `stime` in `/proc` are rounded to ticks and `schedstat` forgets ended threads.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    /// Its resident memory in bytes, counted page by page.
    ///
    /// `VmRSS` of `/proc/PID/status` is kept in counters of each processor and is inexact.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path)?;
        let kilobytes: Option<u64> = text.lines().find_map(|line| {
            line.strip_prefix("Rss:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        });
        Ok(kilobytes.ok_or("smaps_rollup has no Rss")? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time of this process.
pub fn own_cpu() -> Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into())
}
