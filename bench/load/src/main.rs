//! Drives Antiphon, socketioxide and Node's socket.io in turn with the raw protocol, checks every
//! answer, and says what each cost the server. See `bench/README.md`.

mod broadcast;
mod cluster;
mod connect;
mod echo;
#[cfg(test)]
mod faults;
mod flood;
mod frame;
mod histogram;
mod http;
mod inflate;
mod machine;
mod message;
mod net;
mod polling;
mod report;
mod results;
mod scenarios;
mod server;
mod svg;
mod talk;
mod tls;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use echo::Refill;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use results::Results;
use scenarios::{SCENARIOS, Scenario};
use server::Kind;

pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
usage: bench/run [OPTIONS]
  --quick            fewer connections, shorter, one round: under 3 minutes
  --only SERVERS     of ours,tuned,socketioxide,node,floor
  --scenario NAMES   see --list; a first part takes all that begin so: talk, talk-full
  --rounds N         for each server and scenario (3)
  --tick MICROS      talk: what is due within one is sent together (5000; 0: each at its own time)
  --floods N         flood: so many connections flood (1)
  --cluster          two servers and a Redis instead, beside Node's: see bench/README.md. --only then is of
                     ours,node-wire,node,floor, and --scenario of
                     one,one32,room,room32,all,all32,latency,elsewhere,moves
  --burst            in flight: send anew when all answers are there, not one for each answer
  --out FOLDER       where results.md and plots/ go (bench for a full run, else target/bench)
  --list             the scenarios";

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Settings {
    pub rounds: usize,
    pub warm: Duration,
    pub measure: Duration,
    pub connections: usize,
    pub growth: [usize; 3],
    pub rooms: [usize; 2],
    pub refill: Refill,
    pub tick: Duration,
    pub floods: usize,
}

impl Settings {
    /// For the many points of a plot.
    fn for_growth(self) -> Self {
        Self {
            warm: self.warm / 2,
            measure: self.measure / 2,
            ..self
        }
    }
}

/// Which servers, and which scenarios.
enum What {
    OneServer(Vec<Kind>, Vec<&'static Scenario>),
    TwoServers(Vec<cluster::Kind>, Vec<cluster::Scenario>),
}

impl What {
    /// What the arguments choose of it.
    fn chosen(is_cluster: bool, only: Option<&str>, scenarios: Option<&str>) -> Result<Self> {
        if is_cluster {
            return Ok(Self::TwoServers(
                chosen(only, "server", &cluster::Kind::ALL, |it, name| {
                    it.word() == name
                })?,
                chosen(
                    scenarios,
                    "scenario",
                    &cluster::Scenario::all(),
                    |it, name| it.name() == name,
                )?,
            ));
        }
        let all: Vec<&Scenario> = SCENARIOS.iter().collect();
        Ok(Self::OneServer(
            chosen(only, "server", &Kind::ALL, |it, name| it.name() == name)?,
            chosen(scenarios, "scenario", &all, |it, name| it.is_named(name))?,
        ))
    }
}

struct Options {
    settings: Settings,
    what: What,
    out: String,
    command: String,
}

/// Descriptors that are not for connections.
const SPARE: usize = 500;

fn options(limit: usize) -> Result<Option<Options>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut quick = false;
    let mut rounds = None;
    let (mut only, mut scenarios) = (None, None);
    let mut refill = Refill::Each;
    let mut tick = 5000;
    let mut floods = 1;
    let mut out = None;
    let mut is_cluster = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| format!("{argument} wants a value\n{USAGE}"))
        };
        match argument.as_str() {
            "--quick" => quick = true,
            "--burst" => refill = Refill::Empty,
            "--cluster" => is_cluster = true,
            "--floods" => floods = value()?.parse()?,
            "--tick" => tick = value()?.parse()?,
            "--rounds" => rounds = Some(value()?.parse()?),
            "--out" => out = Some(value()?.clone()),
            "--only" => only = Some(value()?.as_str()),
            "--scenario" => scenarios = Some(value()?.as_str()),
            "--list" => {
                for scenario in SCENARIOS {
                    println!("{:<18} {}", scenario.name, scenario.about);
                }
                return Ok(None);
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(format!("unknown {argument}\n{USAGE}").into()),
        }
    }
    let is_full = !quick && only.is_none() && scenarios.is_none();
    let mut what = What::chosen(is_cluster, only, scenarios)?;
    if let (true, None, What::OneServer(_, all)) = (quick, scenarios, &mut what) {
        all.retain(|scenario| scenario.is_quick());
    }
    let tick = Duration::from_micros(tick);

    let most = limit.saturating_sub(SPARE);
    let settings = if quick {
        Settings {
            rounds: rounds.unwrap_or(1),
            warm: Duration::from_millis(250),
            measure: Duration::from_millis(400),
            connections: 2_000.min(most),
            growth: [500, 1_000, 2_000].map(|count| count.min(most)),
            rooms: [1_000, 10_000],
            refill,
            tick,
            floods,
        }
    } else {
        Settings {
            rounds: rounds.unwrap_or(3),
            warm: Duration::from_secs(1),
            measure: Duration::from_secs(2),
            connections: 10_000.min(most),
            growth: [1_000.min(most), 10_000.min(most), most.min(100_000)],
            rooms: [1_000, 100_000],
            refill,
            tick,
            floods,
        }
    };
    Ok(Some(Options {
        settings,
        what,
        out: out.unwrap_or_else(|| if is_full { "bench" } else { "target/bench" }.to_owned()),
        command: format!("bench/run {}", arguments.join(" "))
            .trim()
            .to_owned(),
    }))
}

/// Those of `all` that the list names, in their own order; all if there is no list.
fn chosen<T: Copy>(
    names: Option<&str>,
    what: &str,
    all: &[T],
    is_named: impl Fn(&T, &str) -> bool,
) -> Result<Vec<T>> {
    let Some(names) = names else {
        return Ok(all.to_vec());
    };
    let names: Vec<&str> = names.split(',').collect();
    for name in &names {
        if !all.iter().any(|it| is_named(it, name)) {
            return Err(format!("there is no {what} {name:?}\n{USAGE}").into());
        }
    }
    let of_those = |it: &&T| names.iter().any(|name| is_named(it, name));
    Ok(all.iter().filter(of_those).copied().collect())
}

/// Allows as many descriptors as this user may have, here and in the servers.
fn raise_file_limit() -> Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard)?)
}

fn run() -> Result<bool> {
    let limit = raise_file_limit()?;
    let Some(options) = options(limit)? else {
        return Ok(true);
    };
    let Options {
        settings,
        what,
        out,
        command,
    } = options;
    let path = Path::new(&out).join("results.md");
    let (kinds, scenarios) = match what {
        What::OneServer(kinds, scenarios) => (kinds, scenarios),
        What::TwoServers(kinds, scenarios) => {
            let machine = machine::Watch::start(limit)?;
            let results = cluster::run(&settings, &kinds, &scenarios)?;
            let section = cluster::document(&results, &settings, &machine.stop()?, &command);
            println!("{section}");
            let (servers, _) = written(&path);
            return written_to(&path, &[&servers, &section], &results.failures);
        }
    };
    kinds.iter().try_for_each(|kind| kind.set_aside())?;
    let machine = machine::Watch::start(limit)?;

    let mut results = Results::default();
    for scenario in scenarios {
        eprintln!("{}: {}", scenario.name, scenario.about);
        let settings = if scenario.name.starts_with("grow-") {
            settings.for_growth()
        } else {
            settings
        };
        for round in 1..=settings.rounds {
            for kind in kinds.iter().filter(|it| it.takes_part_in(scenario.name)) {
                if let Err(error) = scenario.run(*kind, &settings, &mut results) {
                    let name = scenario.name;
                    let failure = format!("{kind}, scenario {name}, round {round}: {error}");
                    eprintln!("FAILED: {failure}");
                    results.failures.push(failure);
                }
            }
        }
    }

    let machine = machine.stop()?;
    println!("{}", report::table(&results, &kinds));
    if let Some(talk) = report::talk(&results, &kinds) {
        println!("{talk}");
    }
    let plots = Path::new(&out).join("plots");
    fs::create_dir_all(&plots)?;
    let drawn = svg::draw_all(&results, &kinds, &plots)?;
    let document = report::document(&results, &kinds, &settings, &machine, &command, &drawn);
    // What two servers cost is measured by itself.
    let (_, cluster) = written(&path);
    written_to(&path, &[&document, &cluster], &results.failures)
}

/// What earlier runs have written: of one server, and of two.
fn written(path: &Path) -> (String, String) {
    let mut servers = fs::read_to_string(path).unwrap_or_default();
    let start = servers.find(cluster::HEADING).unwrap_or(servers.len());
    let cluster = servers.split_off(start);
    (servers, cluster)
}

fn written_to(path: &Path, parts: &[&str], failures: &[String]) -> Result<bool> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let parts = parts.iter().map(|part| part.trim_end());
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    fs::write(path, parts.join("\n\n") + "\n")?;
    println!("written to {}", path.display());
    for failure in failures {
        println!("FAILED: {failure}");
    }
    Ok(failures.is_empty())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
