//! The logs of namespaces with recovery, and their sessions: streams and hashes of Redis.
//!
//! | key | what |
//! |---|---|
//! | `{log}` | a stream of entries, whose ids are their places; the channel of this name has them, too |
//! | `{log}:state` | a hash: the log's base and last place, and the run of Redis that it was opened in |
//! | `{log}:sent:{server}` | the number of the last entry of a server |
//! | `{log}:session:{pid}` | a hash: the server that has the session, and the session |
//!
//! All keys of a log have one hash tag. An entry is appended and published by one script, so that all
//! servers hear entries in the order of their places. Appending goes through the queue of what is
//! published; the rest are questions by the connection that publishes.

use std::{sync::Arc, time::Duration};

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use antiphon_cluster::{
    Topic,
    broker::Refused,
    log::{Append, Change, Extent, Journal, Kept, Placed},
};
use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};

use crate::{
    append::{BEGIN, Queued, millis, state},
    broker::RedisBroker,
    shared::Shared,
};

const CLAIM: &str = include_str!("scripts/claim.lua");
const SAVE: &str = include_str!("scripts/save.lua");

/// So long it is known how far a log goes in which nothing happens.
const STATE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// So many entries are read at a time.
const PAGE: usize = 128;

fn open_script() -> String {
    format!("{BEGIN}{}", include_str!("scripts/open.lua"))
}

fn session(log: &str, pid: &str) -> String {
    format!("{log}:session:{pid}")
}

/// Runs a script with these keys.
fn eval(script: &str, keys: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len()).arg(keys);
    command
}

impl Shared {
    /// Which run of Redis has this log: one that begins anew may have forgotten something.
    async fn run_id(&self, log: &str) -> Result<String, Refused> {
        let mut about = redis::cmd("INFO");
        about.arg("server");
        let about: String = self.ask(log, about).await?;
        let run = about.lines().find_map(|line| line.strip_prefix("run_id:"));
        Ok(run.unwrap_or_default().trim().to_owned())
    }
}

impl Journal for RedisBroker {
    fn append(&self, log: &Topic, append: Append<'_>) -> Result<(), Refused> {
        self.check(append.entry.len())?;
        let queue = &self.0.lane_of_keys().queue;
        queue.push(&Topic::stream(log.name()), Queued::pack(&append))
    }

    fn open(&self, log: &Topic, _: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        Box::pin(async move {
            shared.keep_logs();
            let run = shared.run_id(log.name()).await?;
            let keys = [log.name().to_owned(), state(log.name())];
            let mut command = eval(&open_script(), &keys);
            command.arg(heard).arg(run).arg(millis(STATE));
            let (base, last) = shared.ask(log.name(), command).await?;
            Ok(Extent { base, last })
        })
    }

    fn read(&self, log: &Topic, after: u64, _: usize) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        Box::pin(async move {
            let mut command = redis::cmd("XRANGE");
            // The second number of an entry's id is 0.
            command.arg(log.name()).arg(format!("{after}-1")).arg("+");
            command.arg("COUNT").arg(PAGE);
            let entries: Vec<(String, Vec<Value>)> = shared.ask(log.name(), command).await?;
            // What isn't ours is passed over.
            Ok(entries.into_iter().filter_map(placed).collect())
        })
    }

    fn session(&self, log: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        let (shared, key) = (Arc::clone(&self.0), session(log.name(), pid));
        Box::pin(async move {
            let mut command = redis::cmd("HMGET");
            command.arg(&key).arg("owner").arg("session");
            let kept: (Option<String>, Option<Vec<u8>>) = shared.ask(&key, command).await?;
            let (Some(owner), Some(session)) = kept else {
                return Ok(None);
            };
            Ok(Some(Kept {
                owner: owner.into(),
                session: session.into(),
            }))
        })
    }

    fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        let shared = Arc::clone(&self.0);
        let key = session(log.name(), pid);
        let mut command = eval(CLAIM, std::slice::from_ref(&key));
        command.arg(from).arg(to);
        Box::pin(async move { shared.ask(&key, command).await })
    }

    fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        let shared = Arc::clone(&self.0);
        let mut pipeline = Pipeline::with_capacity(changes.len());
        for (pid, kept) in changes {
            let mut command = eval(SAVE, &[session(log.name(), &pid)]);
            command.arg(owner).arg(millis(time));
            if let Some(kept) = kept {
                command.arg(&kept[..]);
            }
            pipeline.add_command(command);
        }
        let log = log.clone();
        Box::pin(async move { shared.ask(log.name(), pipeline).await })
    }
}

/// An entry of a stream.
fn placed((id, fields): (String, Vec<Value>)) -> Option<Placed> {
    let (mut before, mut entry) = (None, None);
    for pair in fields.chunks_exact(2) {
        let [Value::BulkString(name), Value::BulkString(value)] = pair else {
            return None;
        };
        match name.as_slice() {
            b"b" => before = str::from_utf8(value).ok()?.parse().ok(),
            b"e" => entry = Some(Bytes::copy_from_slice(value)),
            _ => {}
        }
    }
    Some(Placed {
        place: id.strip_suffix("-0")?.parse().ok()?,
        before: before?,
        entry: entry?,
    })
}
