//! The machine and the versions, and how much of it others used meanwhile.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

use crate::Result;

/// Watches the processors from the start to the end of a run.
pub struct Watch {
    started: Instant,
    busy: Duration,
    facts: Vec<(&'static str, String)>,
}

/// What the report says of the machine.
pub struct Machine {
    /// Names and values.
    pub facts: Vec<(&'static str, String)>,
    /// The part of the processors that other processes had, 0 to 1.
    pub others: f64,
    pub took: Duration,
}

impl Watch {
    pub fn start(limit: usize) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let facts = vec![
            ("processor", format!("{cores} cores of {}", processor())),
            ("memory", memory()),
            ("kernel", first_line("/proc/sys/kernel/osrelease")),
            ("open files a process", limit.to_string()),
            (
                "C library, and so the allocator of both Rust servers",
                output("ldd", &["--version"]),
            ),
            ("Rust", output("rustc", &["--version"])),
            (
                "antiphon",
                format!(
                    "{} at {}",
                    crate_version(),
                    output("git", &["describe", "--always", "--dirty"])
                ),
            ),
            (
                "socketioxide",
                locked(&[
                    "socketioxide",
                    "engineioxide",
                    "tungstenite",
                    "axum",
                    "tokio",
                ]),
            ),
            ("Node", output("node", &["--version"])),
            ("socket.io", installed(&["socket.io", "engine.io", "ws"])),
            (
                "with several servers",
                format!(
                    "{}; {}",
                    installed(&["@socket.io/redis-adapter", "redis"]),
                    output("redis-server", &["--version"])
                ),
            ),
        ];
        Ok(Self {
            started: Instant::now(),
            busy: busy()?,
            facts,
        })
    }

    pub fn stop(self) -> Result<Machine> {
        let took = self.started.elapsed();
        let cores = std::thread::available_parallelism()?.get();
        let own = used(UsageWho::RUSAGE_SELF)? + used(UsageWho::RUSAGE_CHILDREN)?;
        let others = (busy()? - self.busy).saturating_sub(own);
        Ok(Machine {
            facts: self.facts,
            others: others.as_secs_f64() / took.as_secs_f64() / cores as f64,
            took,
        })
    }
}

/// The time that all processors were busy since the machine started.
fn busy() -> Result<Duration> {
    let line = first_line("/proc/stat");
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|it| it.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, ..
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else {
        return Err(format!("can't read /proc/stat: {line:?}").into());
    };
    Ok(Duration::from_millis(
        (user + nice + system + irq + softirq) * 10,
    ))
}

fn used(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who)?;
    let time = |it: TimeVal| Duration::from_micros((it.tv_sec() * 1_000_000 + it.tv_usec()) as u64);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    text.ok()
        .and_then(|it| Some(it.lines().next()?.to_owned()))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("an unnamed model", |(_, name)| name).to_owned()
}

fn memory() -> String {
    let kilobytes = first_line("/proc/meminfo")
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok());
    format!(
        "{:.0} GiB",
        kilobytes.unwrap_or(0.0_f64) / f64::from(1 << 20)
    )
}

fn crate_version() -> String {
    let manifest = fs::read_to_string("Cargo.toml").unwrap_or_default();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""));
    version
        .map_or("?", |it| it.trim_end_matches('"'))
        .to_owned()
}

/// The versions of some packages in `bench/Cargo.lock`.
fn locked(names: &[&str]) -> String {
    let lock = include_str!("../../Cargo.lock");
    versions(names, |name| {
        let after = lock
            .split_once(&format!("name = \"{name}\"\nversion = \""))?
            .1;
        Some(after.split_once('"')?.0.to_owned())
    })
}

/// The versions of some packages in `bench/node/node_modules`.
fn installed(names: &[&str]) -> String {
    versions(names, |name| {
        let text =
            fs::read_to_string(format!("bench/node/node_modules/{name}/package.json")).ok()?;
        let after = text.split_once("\"version\": \"")?.1;
        Some(after.split_once('"')?.0.to_owned())
    })
}

fn versions(names: &[&str], version: impl Fn(&str) -> Option<String>) -> String {
    let all: Vec<String> = names
        .iter()
        .map(|name| format!("{name} {}", version(name).as_deref().unwrap_or("?")))
        .collect();
    all.join(", ")
}
