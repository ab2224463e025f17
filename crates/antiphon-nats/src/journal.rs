//! The logs of namespaces with recovery, and their sessions: streams of JetStream.
//!
//! | stream | its subject | what |
//! |---|---|---|
//! | `{log}-{base}` | `antiphon.entries.{log}` | entries; JetStream publishes each under the log's topic once it is stored |
//! | `{log}-sessions` | `antiphon.session.{log}.{pid}` | the last of each session: a line with its server, and what it is |
//!
//! The place of an entry is its number in the stream and the base that the stream's name ends with: the
//! time of its creation. So no place is given twice, whatever is deleted, and whatever names the
//! stream, as what is heard does, tells the place. Two servers can't create a log twice, since a
//! subject belongs to one stream.
//!
//! Appending goes through the queue of what is published; the rest are questions to JetStream, each
//! with a deadline ([`Asks`](crate::replies::Asks)). What JetStream can't do just now is tried again
//! for some time; what it refuses is an error that says what to do.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use antiphon_cluster::{
    Topic,
    broker::Refused,
    log::{Append, Change, Extent, Journal, Kept, Placed},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{self, Ack, Config, Done, Failed, Info, NAME_IN_USE, NOT_FOUND, Names, SUBJECTS_OVERLAP},
    broker::NatsBroker,
    entries::{Queued, base, placed, stem},
    replies::Question,
    shared::Shared,
    streams::Stream,
};

/// So many entries are read at a time.
const PAGE: u64 = 256;

/// So long JetStream is waited for that elects a leader or starts.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Others may change the same at the same moment: so often it is tried again.
pub(crate) const TRIES: usize = 5;

/// Sessions are told to be kept so much longer than events, which is more than the servers ask for.
const MARGIN: Duration = Duration::from_secs(900);

/// What the headers of an entry take at the most.
pub(crate) const HEADERS: usize = 512;

/// A base behind all places that were ever given.
fn new_base(heard: u64) -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = passed.map_or(0, |passed| passed.as_millis() as u64) << 10;
    now.max(heard.saturating_add(1))
}

/// How long what passes is tried again.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Waits if it is to be tried again. Returns whether it is.
    async fn waits<T>(&self, outcome: &Result<T, Failed>) -> bool {
        let error = outcome.as_ref().err();
        let again = error.is_some_and(Failed::passes) && self.0.elapsed() < PATIENCE;
        if again {
            tokio::time::sleep(PAUSE).await;
        }
        again
    }
}

impl Shared {
    fn refused(&self, failed: Failed) -> Refused {
        match failed {
            Failed::Refused(refused) => refused,
            failed => Refused::Denied {
                reason: failed.reason(&self.asks.address()),
            },
        }
    }

    /// Asks JetStream.
    pub(crate) async fn api<R: DeserializeOwned>(
        &self,
        what: impl AsRef<str>,
        body: impl Serialize,
    ) -> Result<R, Failed> {
        let reply = self.asks.ask(question(what.as_ref(), body)).await?;
        api::response(&reply)
    }

    // Logs.

    /// The stream of a log, if there is one.
    async fn find(&self, log: &Topic) -> Result<Option<Stream>, Failed> {
        let subject = self.subjects.entries(log);
        let body = serde_json::json!({ "subject": subject });
        let names: Names = self.api("STREAM.NAMES", body).await?;
        let names = names.streams.unwrap_or_default();
        let stem = stem(log.name());
        let mine = names.iter().filter_map(|name| {
            let base = base(&stem, name)?;
            let name = name.clone();
            Some(Stream { base, name })
        });
        match (mine.min(), names.first()) {
            (Some(stream), _) => Ok(Some(stream)),
            (None, None) => Ok(None),
            (None, Some(name)) => Err(Failed::Foreign {
                name: name.clone(),
                subject,
            }),
        }
    }

    pub(crate) async fn info(&self, stream: &str) -> Result<Option<Info>, Failed> {
        match self.api(format!("STREAM.INFO.{stream}"), Nothing {}).await {
            Err(failed) if failed.code() == NOT_FOUND => Ok(None),
            info => info.map(Some),
        }
    }

    fn config(&self, log: &Topic, name: &str, bounds: Bounds) -> Config {
        let subject = self.subjects.entries(log);
        let heard = self.subjects.of(log).name;
        Config::new(name.to_owned(), subject, bounds.duration, self.storage).log(
            heard,
            bounds.events,
            bounds.bytes,
        )
    }

    async fn open(&self, log: &Topic, bounds: Bounds, heard: u64) -> Result<Extent, Failed> {
        // The first session that is saved finds it there.
        self.keep(log, bounds.duration.saturating_add(MARGIN))
            .await?;
        for _ in 0..TRIES {
            let Some(stream) = self.find(log).await? else {
                let base = new_base(heard);
                let name = format!("{}-{base}", stem(log.name()));
                let config = self.config(log, &name, bounds);
                let create = format!("STREAM.CREATE.{name}");
                match self.api::<Done>(create, config).await {
                    Ok(_) => {}
                    // Another server was first.
                    Err(failed) if is_there(&failed) => continue,
                    Err(failed) => return Err(failed),
                }
                self.streams
                    .known()
                    .logs
                    .insert(log.clone(), Stream { base, name });
                return Ok(Extent { base, last: base });
            };
            let Some(info) = self.info(&stream.name).await? else {
                continue;
            };
            let (base, last) = (stream.base, stream.base.saturating_add(info.state.last_seq));
            // A server of NATS that leads the stream since a moment may not know its end yet. What it stores
            // is behind that.
            if heard > last && heard > stream.base.saturating_add(self.probe(log).await?) {
                // Its end is lost. Places that it gives from here on have been given before.
                tracing::warn!(
                    stream = stream.name,
                    heard,
                    last,
                    "JetStream has lost the end of a log: it begins anew"
                );
                self.delete(&stream.name).await?;
                continue;
            }
            self.update(self.config(log, &stream.name, bounds), info.config)
                .await?;
            self.streams.known().logs.insert(log.clone(), stream);
            return Ok(Extent { base, last });
        }
        Err(Failed::Silent)
    }

    /// Stores an entry that says nothing. Returns its number in the stream.
    async fn probe(&self, log: &Topic) -> Result<u64, Failed> {
        let mut payload = Vec::new();
        self.subjects.of(log).write_head(log, &mut payload);
        payload.extend_from_slice(Placed::NOTHING);
        let stored = self.asks.ask(Question {
            subject: self.subjects.entries(log),
            headers: Vec::new(),
            payload: payload.into(),
        });
        Ok(Ack::of(&stored.await?)?.seq)
    }

    async fn delete(&self, stream: &str) -> Result<(), Failed> {
        match self
            .api(format!("STREAM.DELETE.{stream}"), Nothing {})
            .await
        {
            Err(failed) if failed.code() != NOT_FOUND => Err(failed),
            Ok(Done {}) | Err(_) => Ok(()),
        }
    }

    /// Makes a stream what it is to be, if it isn't. How it is stored can't be changed.
    pub(crate) async fn update(&self, wanted: Config, found: Config) -> Result<(), Failed> {
        let wanted = Config {
            storage: found.storage.clone(),
            ..wanted
        };
        if wanted != found {
            let update = format!("STREAM.UPDATE.{}", wanted.name);
            self.api::<Done>(update, wanted).await?;
        }
        Ok(())
    }

    async fn read(&self, log: &Topic, after: u64, bytes: usize) -> Result<Vec<Placed>, Failed> {
        let known = self.streams.known().logs.get(log).cloned();
        let stream = match known {
            Some(stream) => stream,
            None => self.find(log).await?.ok_or(Failed::Nobody)?,
        };
        let Some(Info { state, .. }) = self.info(&stream.name).await? else {
            self.streams.known().logs.remove(log);
            return Err(Failed::Nobody);
        };
        let next = after.saturating_sub(stream.base).saturating_add(1);
        let first = next.max(state.first_seq);
        if first > state.last_seq {
            return Ok(Vec::new());
        }
        let mean = (state.bytes / state.messages.max(1)).max(1);
        let count = (bytes as u64 / mean).clamp(1, PAGE);
        let last = state.last_seq.min(first.saturating_add(count - 1));
        let get = format!("DIRECT.GET.{}", stream.name);
        let gets = (first..=last)
            .map(|sequence| question(&get, serde_json::json!({ "seq": sequence })))
            .collect();
        let messages = self.asks.ask_all(gets).await?;
        let subject = self.subjects.of(log);
        let mut page = Vec::with_capacity(messages.len());
        for (sequence, message) in (first..).zip(messages) {
            match message.headers.status() {
                None => {}
                // It has just been dropped, or this replica hasn't got it yet.
                Some(404) => break,
                _ => return Err(Failed::Garbage("no message".to_owned())),
            }
            let place = stream.base.saturating_add(sequence);
            let entry = subject.frame(log.name(), message.payload);
            page.push(placed((place, place.saturating_sub(1)), entry));
        }
        match page.is_empty() {
            // It is known that there are some.
            true => Err(Failed::Silent),
            false => Ok(page),
        }
    }
}

/// Whether a stream wasn't made since it is there already.
pub(crate) fn is_there(failed: &Failed) -> bool {
    [SUBJECTS_OVERLAP, NAME_IN_USE].contains(&failed.code())
}

/// The body of a request that says nothing.
#[derive(Serialize)]
struct Nothing {}

pub(crate) fn question(what: &str, body: impl Serialize) -> Question {
    Question {
        subject: format!("$JS.API.{what}"),
        headers: Vec::new(),
        // Texts and numbers in memory can be written.
        payload: serde_json::to_vec(&body).unwrap_or_default().into(),
    }
}

impl Journal for NatsBroker {
    fn append(&self, log: &Topic, append: Append<'_>) -> Result<(), Refused> {
        self.check(log, append.entry.len(), HEADERS)?;
        self.0
            .line
            .queue()
            .push(&Topic::stream(log.name()), Queued::pack(&append))
    }

    fn open(&self, log: &Topic, bounds: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        Box::pin(async move {
            let patience = Patience::new();
            let mut opened = shared.open(&log, bounds, heard).await;
            while patience.waits(&opened).await {
                opened = shared.open(&log, bounds, heard).await;
            }
            opened.map_err(|failed| shared.refused(failed))
        })
    }

    fn read(
        &self,
        log: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        Box::pin(async move {
            let patience = Patience::new();
            let mut read = shared.read(&log, after, bytes).await;
            while patience.waits(&read).await {
                read = shared.read(&log, after, bytes).await;
            }
            read.map_err(|failed| shared.refused(failed))
        })
    }

    fn session(&self, log: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        let (shared, log, pid) = (Arc::clone(&self.0), log.clone(), pid.to_owned());
        Box::pin(async move {
            let found = shared.session(&log, &pid).await;
            let found = found.map_err(|failed| shared.refused(failed))?;
            Ok(found.and_then(|found| found.kept))
        })
    }

    fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        let (shared, log) = (Arc::clone(&self.0), log.clone());
        let [pid, from, to] = [pid, from, to].map(str::to_owned);
        Box::pin(async move {
            let claimed = shared.claim(&log, &pid, &from, &to).await;
            claimed.map_err(|failed| shared.refused(failed))
        })
    }

    fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        let (shared, log, owner) = (Arc::clone(&self.0), log.clone(), owner.to_owned());
        Box::pin(async move {
            let saved = shared.save(&log, &owner, changes, time).await;
            saved.map_err(|failed| {
                // It may have been deleted.
                let name = Shared::sessions(&log);
                shared.streams.known().sessions.remove(&name);
                shared.refused(failed)
            })
        })
    }
}
