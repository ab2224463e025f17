//! Counting: a path is done N and 2N times, each in a process of its own under callgrind. The
//! difference is what N cost, without start and set-up.
//!
//! Counts don't depend on what else the machine does, but on the compiler, the C library and what
//! the processor can do ([`environment`]). Valgrind shows programs a processor of its own making,
//! one with AVX2 and one without, so that more than that isn't to be told apart. What is left is
//! the seed of hash maps: less than 0.2 %.

use std::{
    collections::BTreeMap,
    env,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use antiphon_micro::Path;

use crate::{Error, figures::Counts};

/// Copies must not be done by `rep movsb`: callgrind counts an instruction for each byte of them.
const TUNABLES: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM";

/// A process that takes longer, in seconds, hangs: the longest takes about 2.
const DEADLINE: &str = "120";

/// What the counts depend on besides the code.
pub(crate) fn environment() -> Result<String, Error> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc = output(Command::new(rustc).arg("--version"))?;
    let valgrind = output(Command::new("valgrind").arg("--version"))?;
    let libc = output(Command::new("getconf").arg("GNU_LIBC_VERSION"));
    let libc = libc.unwrap_or_else(|_| "another libc".into());
    let (rustc, valgrind) = (rustc.trim(), valgrind.trim());
    let (libc, arch) = (libc.trim(), env::consts::ARCH);
    Ok(format!("{rustc}, {valgrind}, {libc}, {arch}{}", vectors()))
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    match std::is_x86_feature_detected!("avx2") {
        _ if cfg!(target_feature = "sse3") => ", built with another target-cpu",
        true => " with avx2",
        false => " without avx2",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    ""
}

/// The costs of each path, once; as many paths at a time as there are processors.
pub(crate) fn count(paths: &[Path]) -> Result<Vec<(Path, Counts)>, Error> {
    let next = AtomicUsize::new(0);
    let counted = Mutex::new(BTreeMap::new());
    let worker = || -> Result<(), Error> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else {
                return Ok(());
            };
            let counts = each(path)?;
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.insert(index, (*path, counts));
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let mut ends = workers.into_iter().map(|worker| worker.join());
        ends.try_for_each(|end| end.unwrap_or_else(|_| Err("a worker panicked".into())))
    })?;
    let counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(counted.into_values().collect())
}

fn each(path: &Path) -> Result<Counts, Error> {
    let n = path.iterations;
    let (once, twice) = (totals(path, n)?, totals(path, 2 * n)?);
    Ok(Counts {
        instructions: twice.0.saturating_sub(once.0) / n,
        system_calls: twice.1.saturating_sub(once.1) as f64 / n as f64,
    })
}

/// Instructions and system calls of a process that does the path this often.
fn totals(path: &Path, times: u64) -> Result<(u64, u64), Error> {
    let mut command = Command::new("timeout");
    command
        .args([DEADLINE, "valgrind", "--command-line-only=yes"])
        .args(["--tool=callgrind", "--collect-systime=yes"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(env::current_exe()?)
        .args(["run", path.name, &times.to_string()])
        // The environment lies on the stack, and parts of it change what libraries do.
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .env("GLIBC_TUNABLES", TUNABLES);
    let said = output(&mut command)?;
    parse(&said).ok_or_else(|| format!("callgrind doesn't say what it collected:\n{said}").into())
}

/// `Collected : <instructions> <system calls> <their time>`.
fn parse(said: &str) -> Option<(u64, u64)> {
    let line = |name| said.lines().find_map(|line| Some(line.split_once(name)?.1));
    if !line("Events    : ")?.starts_with("Ir sysCount ") {
        return None;
    }
    let mut numbers = line("Collected : ")?.split(' ').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What a command says, on either stream.
fn output(command: &mut Command) -> Result<String, Error> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("{command:?}: {}\n{said}", output.status).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collected_numbers_are_read_by_their_names() {
        let said = "==7== \n==7== Events    : Ir sysCount sysTime\n==7== Collected : 271 35 99\n";
        assert_eq!(parse(said), Some((271, 35)));
        assert_eq!(parse(&said.replace("sysCount ", "")), None);
        assert_eq!(parse("==7== Events    : Ir sysCount sysTime\n"), None);
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 3"]));
        assert!(error.unwrap_err().to_string().contains("because"));
    }
}
