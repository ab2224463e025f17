//! How long an event waits to be stored, by a log in a file: `log_latency [FOLDER]`.
//!
//! Events of 100 bytes come at a steady rate, each is timed from its emit to the moment at which it
//! could be delivered. Beside it what the disk needs for one write alone. The figures are in
//! docs/performance.md.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{Seek, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use antiphon::{
    Recovery, Server, Target,
    adapter::Outgoing,
    recovery::{Appending, Log, LogFile},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};

const RATES: [u32; 3] = [100, 1_000, 10_000];
const DURATION: Duration = Duration::from_secs(10);
/// Events come in the rhythm of a clock: so many times a second at the most.
const TICKS: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).map_or_else(env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("antiphon-latency-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let measured = measure(&folder).await;
    fs::remove_dir_all(folder)?;
    measured
}

async fn measure(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut writes = writes(folder)?;
    println!("one write of 4 KiB and fsync: {}", percentiles(&mut writes));
    for rate in RATES {
        let file = LogFile::open(folder.join(format!("{rate}.redb")))?;
        let log = log(file.stored_before_delivery()).ok_or("the main namespace has a log")?;
        let (mut waits, commits) = at_rate(&*log, rate).await?;
        println!(
            "{rate} events/s: {}, {:.0} commits/s, {:.1} events a commit",
            percentiles(&mut waits),
            commits as f64 / DURATION.as_secs_f64(),
            waits.len() as f64 / commits as f64,
        );
    }
    Ok(())
}

/// The log of a server's main namespace.
fn log(file: LogFile) -> Option<Arc<dyn Log>> {
    let opened = Arc::<OnceLock<Arc<dyn Log>>>::default();
    let given = Arc::clone(&opened);
    let recovery = Recovery::new().log(move |namespace, bounds| {
        let log = file.log(namespace, bounds);
        Arc::clone(given.get_or_init(|| log))
    });
    let _server = Server::builder().recovery(recovery).build();
    opened.get().cloned()
}

/// How long each event waited, and how many commits there were: what is stored together is told
/// at once.
async fn at_rate(log: &dyn Log, rate: u32) -> Result<(Vec<Duration>, usize), Box<dyn Error>> {
    let event = Outgoing::event("message", &"x".repeat(100))?;
    let target = Target {
        rooms: vec!["lobby".into()],
        except: Vec::new(),
    };
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let measuring = tokio::spawn(async move {
        let mut waits = Vec::new();
        let mut commits = 0;
        while let Some((emitted, appending)) = receiver.recv().await {
            let emitted: Instant = emitted;
            let mut stored = match appending {
                Appending::Waiting(stored) => stored,
                Appending::Done(done) => Box::pin(std::future::ready(done)),
                Appending::Unlogged => continue,
            };
            let mut has_waited = false;
            let result = std::future::poll_fn(|context| {
                let polled = stored.as_mut().poll(context);
                has_waited |= polled.is_pending();
                polled
            });
            result.await?;
            commits += usize::from(has_waited);
            waits.push(emitted.elapsed());
        }
        Ok::<_, antiphon::recovery::LogError>((waits, commits))
    });
    let ticks = rate.min(TICKS);
    let mut clock = tokio::time::interval(Duration::from_secs(1) / ticks);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..DURATION.as_secs() * u64::from(ticks) {
        clock.tick().await;
        for _ in 0..rate / ticks {
            let emitted = Instant::now();
            sender.send((
                emitted,
                log.append(&event, &target, antiphon::adapter::Flags::default()),
            ))?;
        }
    }
    drop(sender);
    Ok(measuring.await??)
}

/// How long the disk needs for one small write, of a file that doesn't grow.
fn writes(folder: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(folder.join("write"))?;
    let mut writes = Vec::new();
    for _ in 0..500 {
        let began = Instant::now();
        file.rewind()?;
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        writes.push(began.elapsed());
    }
    Ok(writes)
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms",
        milliseconds(at(0.5)),
        milliseconds(at(0.99))
    )
}
