//! What a log has been asked and hasn't answered yet, so that one sees when it is silent.
//!
//! A log that servers share asks its broker through an [`Asking`], which notes when each question began.
//! The events that a log has sent and not heard back are counted by the log itself; both make up its
//! [`Waiting`].

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use antiphon::{adapter::BoxFuture, recovery::Bounds};
use bytes::Bytes;

use super::{Append, Change, Extent, Journal, Kept, Placed};
use crate::{
    Topic,
    broker::{Refused, Store},
};

/// What one log waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Events of this server that the log hasn't given back yet.
    pub(crate) events: usize,
    /// Since when the oldest of them, or of the questions, has waited.
    pub(crate) since: Option<Instant>,
    /// Why the broker refuses what it is asked, if it does.
    pub(crate) refusal: Option<String>,
}

/// The questions that a log has no answer to.
#[derive(Debug, Default)]
pub(crate) struct Owed(Mutex<Questions>);

#[derive(Debug, Default)]
struct Questions {
    next: u64,
    /// When each began, by their numbers, which grow: the first is the oldest.
    began: BTreeMap<u64, Instant>,
}

impl Owed {
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the oldest question waits.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.questions().began.values().next().copied()
    }

    /// A question that begins now, and is over when what is returned is dropped.
    fn begin(self: &Arc<Self>) -> Question {
        let mut questions = self.questions();
        let number = questions.next;
        questions.next += 1;
        questions.began.insert(number, Instant::now());
        Question {
            owed: Arc::clone(self),
            number,
        }
    }

    fn until<T>(
        self: &Arc<Self>,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<T> {
        let question = self.begin();
        Box::pin(async move {
            let answer = answer.await;
            drop(question);
            answer
        })
    }
}

/// Ends with whoever waits for the answer, too.
struct Question {
    owed: Arc<Owed>,
    number: u64,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.owed.questions().began.remove(&self.number);
    }
}

/// A [`Journal`] or a [`Store`] whose questions are noted.
pub(crate) struct Asking<J: ?Sized> {
    asked: Arc<J>,
    owed: Arc<Owed>,
}

impl<J: ?Sized> Asking<J> {
    pub(crate) fn new(asked: Arc<J>, owed: &Arc<Owed>) -> Arc<Self> {
        let owed = Arc::clone(owed);
        Arc::new(Self { asked, owed })
    }
}

impl Journal for Asking<dyn Journal> {
    /// What was appended and hasn't come back is known to the log.
    fn append(&self, log: &Topic, append: Append<'_>) -> Result<(), Refused> {
        self.asked.append(log, append)
    }

    fn open(&self, log: &Topic, bounds: Bounds, heard: u64) -> BoxFuture<Result<Extent, Refused>> {
        self.owed.until(self.asked.open(log, bounds, heard))
    }

    fn read(
        &self,
        log: &Topic,
        after: u64,
        bytes: usize,
    ) -> BoxFuture<Result<Vec<Placed>, Refused>> {
        self.owed.until(self.asked.read(log, after, bytes))
    }

    fn session(&self, log: &Topic, pid: &str) -> BoxFuture<Result<Option<Kept>, Refused>> {
        self.owed.until(self.asked.session(log, pid))
    }

    fn claim(
        &self,
        log: &Topic,
        pid: &str,
        from: &str,
        to: &str,
    ) -> BoxFuture<Result<bool, Refused>> {
        self.owed.until(self.asked.claim(log, pid, from, to))
    }

    fn save(
        &self,
        log: &Topic,
        owner: &str,
        changes: Vec<Change>,
        time: Duration,
    ) -> BoxFuture<Result<Vec<bool>, Refused>> {
        self.owed.until(self.asked.save(log, owner, changes, time))
    }
}

impl Store for Asking<dyn Store> {
    fn read(
        &self,
        stream: &str,
        from: &str,
        count: usize,
    ) -> BoxFuture<Result<Vec<Bytes>, Refused>> {
        self.owed.until(self.asked.read(stream, from, count))
    }

    fn keep(&self, key: &str, value: String, time: Duration) -> BoxFuture<Result<(), Refused>> {
        self.owed.until(self.asked.keep(key, value, time))
    }

    fn take(&self, key: &str) -> BoxFuture<Result<Option<String>, Refused>> {
        self.owed.until(self.asked.take(key))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_question_waits_until_it_is_answered_or_nobody_waits_for_it() {
        let owed = Arc::<Owed>::default();
        let (first, answer) = oneshot::channel::<()>();
        let (_second, never) = oneshot::channel::<()>();
        let asked = owed.until(answer);
        let began = owed.since().unwrap();
        let abandoned = owed.until(never);
        assert_eq!(owed.since(), Some(began), "the oldest counts");
        first.send(()).unwrap();
        asked.await.unwrap();
        assert!(owed.since().unwrap() >= began);
        drop(abandoned);
        assert_eq!(owed.since(), None);
    }
}
