//! Counts the instructions of each hot path under callgrind and compares them with the figures in
//! `bench/instructions.txt`.
//!
//! A path is done N and 2N times, each in a process of its own: the difference is what N cost,
//! without start and set-up. Instructions don't depend on what else the machine does, but on the
//! compiler, the C library and what the processor can do. Where those are not the ones of the
//! figures, nothing fails.

use std::{
    collections::BTreeMap,
    env, fs,
    process::{Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use antiphon_micro::{Path, paths};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How much more a path may cost, in percent.
const TOLERANCE: f64 = 3.0;

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../instructions.txt");
const HEAD: &str = "\
# Instructions of each hot path, once. Written by `./dev instructions --accept`.
# They hold for this compiler, C library and processor; with others they are only a hint.
";
const ENVIRONMENT: &str = "environment: ";

const USAGE: &str = "usage: antiphon-micro [--accept] [WORD]
  WORD      only the paths whose name contains it
  --accept  write what is counted as the new figures";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Error> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["run", name, times] => {
            let path = paths().find(|path| path.name == name);
            path.ok_or("no such path")?.run(times.parse()?);
            Ok(true)
        }
        [] => check(""),
        ["--accept"] => accept(""),
        ["--accept", word] | [word, "--accept"] if !word.starts_with('-') => accept(word),
        [word] if !word.starts_with('-') => check(word),
        _ => Err(USAGE.into()),
    }
}

/// The committed figures, and what they were counted with.
#[derive(Default)]
struct Figures {
    environment: String,
    instructions: BTreeMap<String, u64>,
}

impl Figures {
    fn read() -> Result<Self, Error> {
        let mut figures = Self::default();
        for line in fs::read_to_string(FIGURES)?.lines() {
            if let Some(environment) = line.strip_prefix(ENVIRONMENT) {
                figures.environment = environment.to_owned();
            } else if let Some((name, count)) = line.split_once(' ')
                && name != "#"
            {
                let count = count.trim().parse();
                let count = count.map_err(|_| format!("{FIGURES}: no number in {line:?}"))?;
                figures.instructions.insert(name.to_owned(), count);
            }
        }
        Ok(figures)
    }

    fn write(&self) -> Result<(), Error> {
        let mut text = format!("{HEAD}{ENVIRONMENT}{}\n", self.environment);
        for path in paths() {
            if let Some(count) = self.instructions.get(path.name) {
                text += &format!("{:<28}{count:>10}\n", path.name);
            }
        }
        Ok(fs::write(FIGURES, text)?)
    }
}

fn accept(word: &str) -> Result<bool, Error> {
    let environment = environment()?;
    let mut figures = Figures::read().unwrap_or_default();
    if !word.is_empty() && figures.environment != environment {
        let was = figures.environment;
        return Err(format!("the other figures are of {was}: accept all, without {word}").into());
    }
    for (path, count) in count_all(word)? {
        println!("{:<28}{count:>10}", path.name);
        figures.instructions.insert(path.name.to_owned(), count);
    }
    figures.environment = environment;
    figures.write()?;
    Ok(true)
}

fn check(word: &str) -> Result<bool, Error> {
    let figures = Figures::read()?;
    let environment = environment()?;
    let binding = figures.environment == environment;
    let (mut passed, mut failed) = (0, 0);
    println!(
        "{:<28}{:>10}{:>10}{:>9}",
        "instructions", "accepted", "now", "change"
    );
    for (path, now) in count_all(word)? {
        let name = path.name;
        let Some(&accepted) = figures.instructions.get(name) else {
            println!("{name:<28}{:>10}{now:>10}{:>9}  NO FIGURE", "-", "-");
            failed += 1;
            continue;
        };
        let change = (now as f64 / accepted.max(1) as f64 - 1.0) * 100.0;
        let verdict = match change {
            change if change > TOLERANCE => "  MORE",
            change if change < -TOLERANCE => "  less",
            _ => "",
        };
        println!("{name:<28}{accepted:>10}{now:>10}{change:>+8.1}%{verdict}");
        if change > TOLERANCE {
            failed += 1;
        } else {
            passed += 1;
        }
    }
    for name in figures.instructions.keys() {
        if paths().all(|path| path.name != name) {
            println!("{name:<28} has a figure, but is counted no more: take its line out");
            failed += 1;
        }
    }
    if !binding {
        println!("\nwarning: the figures are of {}", figures.environment);
        println!("warning: this is        {environment}");
        println!("warning: instruction counts were not compared: {failed} would have failed");
        println!("0 passed, 0 failed");
        return Ok(true);
    }
    if failed > 0 {
        println!(
            "\nMORE: more than {TOLERANCE} % above the accepted figure. If that is the price of \
             what\nyou have changed, run `./dev instructions --accept`, commit {}\nand say why.",
            "bench/instructions.txt"
        );
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// What the counts depend on besides the code.
fn environment() -> Result<String, Error> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc = output(Command::new(rustc).arg("--version"))?;
    let libc = output(Command::new("getconf").arg("GNU_LIBC_VERSION"));
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "no avx2"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "no avx2";
    let libc = libc.unwrap_or_else(|_| "another libc".into());
    Ok(format!("{rustc}, {libc}, {} {vectors}", env::consts::ARCH))
}

fn output(command: &mut Command) -> Result<String, Error> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed:\n{said}").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The instructions of each path, once; as many at a time as there are processors.
fn count_all(word: &str) -> Result<Vec<(Path, u64)>, Error> {
    let paths: Vec<Path> = paths().filter(|path| path.name.contains(word)).collect();
    if paths.is_empty() {
        return Err(format!("no path has {word} in its name").into());
    }
    let next = AtomicUsize::new(0);
    let counted = Mutex::new(BTreeMap::new());
    let worker = || -> Result<(), Error> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else {
                return Ok(());
            };
            let once = instructions(path, path.iterations)?;
            let twice = instructions(path, 2 * path.iterations)?;
            let each = twice.saturating_sub(once) / path.iterations;
            let mut counted = counted.lock().map_err(|_| "another worker panicked")?;
            counted.insert(index, (*path, each));
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| worker.join());
        results
            .map(|result| result.unwrap_or_else(|_| Err("a worker panicked".into())))
            .collect::<Result<(), Error>>()
    })?;
    let counted = counted
        .into_inner()
        .map_err(|_| "another worker panicked")?;
    Ok(counted.into_values().collect())
}

/// The instructions of a process that does the path this often.
fn instructions(path: &Path, times: u64) -> Result<u64, Error> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["run", path.name, &times.to_string()]);
    let output = command
        .output()
        .map_err(|error| format!("valgrind: {error}; is it installed?"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{command:?} failed:\n{said}").into());
    }
    said.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .ok_or_else(|| format!("callgrind doesn't say what it collected:\n{said}").into())
}
