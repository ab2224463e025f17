//! What comes back of a question to many: answers one by one, and what is known of those that owe
//! some.
//!
//! The asking side holds an [`Answered`], the answering sides clones of [`Answers`]. A question is
//! over when the last of these has been dropped, or when its time is up, whichever is first. So a
//! socket that leaves, or a server that is known to be dead, ends nothing but its own part: whoever
//! waited for it drops its clone. An adapter says beforehand which servers it asks
//! ([`Answers::missing`]), and that one has answered ([`Answers::heard`]), so that what is missing
//! when the time is up is known, and not guessed.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon_protocol::socket::OwnedArgs;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::{AdapterError, BoxFuture, NodeId};
use crate::{engine::LONGEST, server::SocketId};

/// The acknowledgement of a socket.
pub type SocketAnswer = (SocketId, OwnedArgs);

/// The answer of a server to an event of another.
pub type ServerAnswer = (NodeId, OwnedArgs);

/// Where the answers to one question go. A cheap handle: the question is over when the last is
/// dropped.
///
/// An adapter gets it with a question, and makes one of its own ([`Answers::channel`]) when another
/// server asks:
///
/// ```
/// use std::time::Duration;
/// use antiphon::adapter::{Answers, NodeId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (answers, mut answered) = Answers::channel(Duration::from_secs(5));
/// let (near, far) = (NodeId::new("near"), NodeId::new("far"));
/// answers.missing(near.clone());
/// answers.missing(far.clone());
///
/// answers.give(7); // near has answered
/// answers.heard(&near);
/// drop(answers); // far is known to be dead
///
/// assert_eq!(answered.next().await, Some(7));
/// assert_eq!(answered.next().await, None);
/// assert_eq!(answered.missing(), [far]);
/// # }
/// ```
pub struct Answers<T>(Arc<Asking<T>>);

struct Asking<T> {
    sender: mpsc::UnboundedSender<T>,
    told: Arc<Mutex<Told>>,
    deadline: Instant,
    /// Ends with the asking side.
    asked: watch::Receiver<()>,
}

/// What is known beside the answers.
#[derive(Debug, Default)]
struct Told {
    expected: Option<usize>,
    missing: BTreeSet<NodeId>,
    /// Servers that are missing, too, whose names nobody knows.
    unnamed: usize,
    /// The most that they were: all that were asked.
    asked: usize,
    error: Option<AdapterError>,
}

impl<T> Answers<T> {
    /// A question whose answers may take so long, and both its sides. The time begins now.
    #[must_use]
    pub fn channel(timeout: Duration) -> (Self, Answered<T>) {
        Self::channel_until(Instant::now() + timeout.min(LONGEST))
    }

    pub(crate) fn channel_until(deadline: Instant) -> (Self, Answered<T>) {
        // As many answers as were asked for, each for no longer than the time of the question.
        let (sender, receiver) = mpsc::unbounded_channel();
        let told = Arc::default();
        let (asks, asked) = watch::channel(());
        let answered = Answered {
            _asks: asks,
            receiver,
            told: Arc::clone(&told),
            deadline,
            is_late: false,
        };
        let asking = Asking {
            sender,
            told,
            deadline,
            asked,
        };
        (Self(Arc::new(asking)), answered)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an answer. Nothing happens if nobody waits for it any more. Each answer is given once:
    /// a broker that delivers twice is the adapter's to see through.
    pub fn give(&self, answer: T) {
        // The receiver has stopped waiting.
        let _ = self.0.sender.send(answer);
    }

    /// Adds to how many answers are expected. A question of which this is never called has no known
    /// count.
    pub fn expect(&self, count: usize) {
        let mut told = self.told();
        let expected = told.expected.unwrap_or(0);
        told.expected = Some(expected.saturating_add(count));
    }

    /// This server owes an answer from now on: it has been asked, or it died after it was heard.
    pub fn missing(&self, node: NodeId) {
        self.told().missing.insert(node);
    }

    /// This server has said all that is waited for: its answers, or how many will come.
    pub fn heard(&self, node: &NodeId) {
        self.told().missing.remove(node);
    }

    /// So many servers owe an answer now, whose names the adapter doesn't know. Those that still do
    /// at the end are [`AdapterError::Missing`].
    pub fn unnamed(&self, count: usize) {
        let mut told = self.told();
        told.unnamed = count;
        told.asked = told.asked.max(count);
    }

    /// The question could not be asked. What has come counts all the same.
    pub fn fail(&self, error: AdapterError) {
        self.told().error = Some(error);
    }

    /// How long is left for answers.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let now = Instant::now();
        self.0.deadline.saturating_duration_since(now)
    }

    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.sender.is_closed()
    }

    /// Resolves when nobody waits any more: its time is up, or the asking side has been dropped.
    /// For adapters, which forget the question then. The future itself doesn't keep the question
    /// open.
    #[must_use]
    pub fn closed(&self) -> BoxFuture<()> {
        let (mut asked, deadline) = (self.0.asked.clone(), self.0.deadline);
        Box::pin(async move {
            // Nothing is ever sent: it ends with its sender.
            let _ = timeout_at(deadline, asked.changed()).await;
        })
    }
}

impl<T> Clone for Answers<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Answers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

/// The asking side of a question: gives the answers as they come.
pub struct Answered<T> {
    receiver: mpsc::UnboundedReceiver<T>,
    told: Arc<Mutex<Told>>,
    deadline: Instant,
    is_late: bool,
    /// Dropped, nobody waits.
    _asks: watch::Sender<()>,
}

impl<T> Answered<T> {
    /// The next answer. Returns `None` when no more can come: all [`Answers`] have been dropped, or
    /// the time is up. What had come by then is still given. Nothing is lost if the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<T> {
        match timeout_at(self.deadline, self.receiver.recv()).await {
            Ok(answer) => answer,
            Err(_) => {
                self.is_late = true;
                self.receiver.try_recv().ok()
            }
        }
    }

    /// Whether the time was up before all had answered.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        self.is_late
    }

    /// How many answers are expected. Returns `None` if that was never said.
    #[must_use]
    pub fn expected(&self) -> Option<usize> {
        self.told().expected
    }

    /// The servers that owe an answer.
    #[must_use]
    pub fn missing(&self) -> Vec<NodeId> {
        self.told().missing.iter().cloned().collect()
    }

    /// Takes the error of the question, if it has failed, or servers without names are missing.
    pub fn take_error(&mut self) -> Option<AdapterError> {
        let mut told = self.told();
        let count = std::mem::take(&mut told.unnamed);
        let of = told.asked;
        let missing = (count > 0).then_some(AdapterError::Missing { count, of });
        told.error.take().or(missing)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all. Returns the answers, the servers that are missing by name, and the error of the
    /// question: an adapter that has neither ended it in time nor named a server that it waits for is
    /// one.
    pub(crate) async fn collect(mut self) -> (Vec<T>, Vec<NodeId>, Option<AdapterError>) {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await {
            answers.push(answer);
        }
        let missing = self.missing();
        let is_silent = self.is_late && missing.is_empty();
        let silence = is_silent.then_some(AdapterError::NoAnswer);
        let error = self.take_error().or(silence);
        (answers, missing, error)
    }
}

impl<T> fmt::Debug for Answered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered")
            .field("told", &self.told())
            .field("is_late", &self.is_late)
            .finish_non_exhaustive()
    }
}
