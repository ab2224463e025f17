//! The sessions of namespaces whose log is shared: a stream that keeps the last of each.
//!
//! A session is stored behind a line with the server that has it. A server that changes one says
//! which number in the stream it has found, and JetStream stores nothing if there is another by now: so
//! one of several servers gets the session. The leader of the stream is asked for a session, and none of
//! its replicas, which may not have heard yet that it has another owner.

use std::{sync::atomic::Ordering, time::Duration};

use antiphon_cluster::{
    Topic,
    log::{Change, Kept},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use crate::{
    api::{self, Ack, Config, Done, Failed, NO_MESSAGE, NOT_DELETED, OTHER_SEQUENCE},
    entries::stem,
    journal::{HEADERS, TRIES, is_there, question},
    replies::Question,
    shared::Shared,
    wire::Message,
};

/// A session as it is stored.
pub(crate) struct Found {
    sequence: u64,
    /// `None` if it isn't understood.
    pub(crate) kept: Option<Kept>,
}

fn stored(owner: &str, session: &[u8]) -> Bytes {
    [owner.as_bytes(), b"\n", session].concat().into()
}

impl Found {
    fn of(message: &Message) -> Result<Option<Self>, Failed> {
        #[derive(Deserialize)]
        struct Response {
            message: Stored,
        }
        #[derive(Deserialize)]
        struct Stored {
            seq: u64,
            /// In base64; missing if there is none.
            #[serde(default)]
            data: String,
        }

        let Response { message } = match api::response(message) {
            Err(failed) if failed.code() == NO_MESSAGE => return Ok(None),
            response => response?,
        };
        let payload = Bytes::from(BASE64_STANDARD.decode(message.data).unwrap_or_default());
        let line = payload.iter().position(|byte| *byte == b'\n');
        let kept = line.and_then(|end| {
            Some(Kept {
                owner: str::from_utf8(&payload[..end]).ok()?.into(),
                session: payload.slice(end + 1..),
            })
        });
        let sequence = message.seq;
        Ok(Some(Self { sequence, kept }))
    }

    /// Whether it is another server's.
    fn is_others(&self, owner: &str) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| *kept.owner != *owner)
    }
}

impl Shared {
    /// The name of the stream of a log's sessions.
    pub(crate) fn sessions(log: &Topic) -> String {
        format!("{}-sessions", stem(log.name()))
    }

    /// Sees to it that sessions are kept for so long. Returns the name of their stream.
    pub(crate) async fn keep(&self, log: &Topic, time: Duration) -> Result<String, Failed> {
        let name = Self::sessions(log);
        let known = self.streams.known().sessions.get(&name).copied();
        if known.flatten().is_some_and(|known| known >= time) {
            return Ok(name);
        }
        let subject = self.subjects.session(log, None);
        let config = Config::new(name.clone(), subject, time, self.storage).sessions();
        if let Some(info) = self.info(&name).await? {
            self.update(config, info.config).await?;
        } else {
            let create = format!("STREAM.CREATE.{name}");
            match self.api::<Done>(create, config).await {
                // Another server is first, and not done yet: JetStream wouldn't answer questions to it.
                Err(failed) if is_there(&failed) => return Err(Failed::Nobody),
                created => created?,
            };
        }
        let mut known = self.streams.known();
        known.sessions.insert(name.clone(), Some(time));
        Ok(name)
    }

    /// The stream of sessions, if it is there: JetStream doesn't answer questions to others.
    async fn kept(&self, log: &Topic) -> Result<Option<String>, Failed> {
        let name = Self::sessions(log);
        if self.streams.known().sessions.contains_key(&name) {
            return Ok(Some(name));
        }
        if self.info(&name).await?.is_none() {
            return Ok(None);
        }
        let mut known = self.streams.known();
        known.sessions.entry(name.clone()).or_default();
        Ok(Some(name))
    }

    fn get(&self, stream: &str, log: &Topic, pid: &str) -> Question {
        let subject = self.subjects.session(log, Some(pid));
        let body = serde_json::json!({ "last_by_subj": subject });
        question(&format!("STREAM.MSG.GET.{stream}"), body)
    }

    /// Stores a session if nobody has done so since it was found.
    fn put(&self, log: &Topic, pid: &str, found: u64, payload: Bytes) -> Question {
        Question {
            subject: self.subjects.session(log, Some(pid)),
            headers: vec![("Nats-Expected-Last-Subject-Sequence", found.to_string())],
            payload,
        }
    }

    pub(crate) async fn session(&self, log: &Topic, pid: &str) -> Result<Option<Found>, Failed> {
        let Some(stream) = self.kept(log).await? else {
            return Ok(None);
        };
        let message = self.asks.ask(self.get(&stream, log, pid)).await?;
        Found::of(&message)
    }

    pub(crate) async fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> Result<bool, Failed> {
        let Some(found) = self.session(log, pid).await? else {
            return Ok(false);
        };
        let Some(kept) = found.kept.filter(|kept| *kept.owner == *from) else {
            return Ok(false);
        };
        let put = self.put(log, pid, found.sequence, stored(to, &kept.session));
        is_first(Ack::of(&self.asks.ask(put).await?))
    }

    /// Whether a session may be stored. One that is too large is forgotten, rather than known as it
    /// was.
    fn fits(&self, session: &Bytes) -> bool {
        let limit = self.max_payload.load(Ordering::Relaxed);
        let bytes = session.len();
        let fits = bytes + HEADERS <= limit;
        if !fits {
            tracing::warn!(
                bytes,
                limit,
                "a session is too large for max_payload of NATS: its client can't come back to another server"
            );
        }
        fits
    }

    pub(crate) async fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> Result<Vec<bool>, Failed> {
        let stream = self.keep(log, time).await?;
        let mut saved = vec![true; changes.len()];
        let mut left: Vec<_> = changes.iter().enumerate().collect();
        for _ in 0..TRIES {
            if left.is_empty() {
                return Ok(saved);
            }
            let gets = left.iter().map(|(_, (pid, _))| self.get(&stream, log, pid));
            let found = self.asks.ask_all(gets.collect()).await?;
            let (mut questions, mut asked) = (Vec::new(), Vec::new());
            for ((index, change), message) in left.into_iter().zip(found) {
                let (pid, session) = change;
                let found = Found::of(&message)?;
                if found.as_ref().is_some_and(|found| found.is_others(owner)) {
                    saved[index] = false;
                    continue;
                }
                let sequence = found.map(|found| found.sequence);
                let session = session.as_ref().filter(|session| self.fits(session));
                questions.push(match (session, sequence) {
                    (Some(session), sequence) => {
                        let sequence = sequence.unwrap_or(0);
                        self.put(log, pid, sequence, stored(owner, session))
                    }
                    (None, Some(sequence)) => {
                        // Once another server has stored it, it has another number.
                        let body = serde_json::json!({ "seq": sequence, "no_erase": true });
                        question(&format!("STREAM.MSG.DELETE.{stream}"), body)
                    }
                    (None, None) => continue,
                });
                asked.push((index, change));
            }
            let outcomes = self.asks.ask_all(questions).await?;
            left = Vec::new();
            for (change, message) in asked.into_iter().zip(outcomes) {
                if !is_first(Ack::of(&message))? {
                    left.push(change);
                }
            }
        }
        match left.is_empty() {
            true => Ok(saved),
            false => Err(Failed::Silent),
        }
    }
}

/// Whether something was stored, and nothing else before it.
fn is_first(stored: Result<Ack, Failed>) -> Result<bool, Failed> {
    match stored {
        Ok(_) => Ok(true),
        Err(failed) if OTHER_SEQUENCE.contains(&failed.code()) => Ok(false),
        Err(failed) if failed.code() == NOT_DELETED => Ok(false),
        Err(failed) => Err(failed),
    }
}
