//! What a broker has heard, until the router reads it: a bounded queue that never makes the broker
//! wait.
//!
//! Whoever starts a broker owns its [`Inbox`]: mostly the link. The broker's tasks put frames into
//! it, and what becomes of the connection; the link's task takes both, in order. If more waits than
//! the bounds say, frames are dropped and counted. Only entries of streams wait for room, since a
//! broker can read them later.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Stamp, bundle};
use crate::Topic;

/// So many frames may wait, and so many bytes in them.
const FRAMES: usize = 65_536;
const BYTES: usize = 64 * 1_024 * 1_024;

/// What a broker gives to the router.
///
/// Frames that find it full are dropped and counted, and the router is told: it knows then that
/// something was missed. What says how the connection is always gets in.
pub struct Inbox {
    state: Mutex<State>,
    filled: Notify,
    /// Something was taken.
    taken: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    frames: usize,
    bytes: usize,
    /// Since the router was told the last time.
    dropped: u64,
    /// The newest connections that something has come by, of those that say which it was.
    senders: HashMap<u64, Sender>,
}

/// Who sends, and by which connection.
struct Sender {
    connection: u64,
    heard: Instant,
}

/// So many senders are known. No cluster has as many; if there are more, all are forgotten.
const SENDERS: usize = 4_096;

/// What a node of a broker holds back so long it holds no more: its clients have given it up long ago.
const LATE: Duration = Duration::from_secs(3_600);

impl State {
    const fn has_room(&self, bytes: &Bytes) -> bool {
        self.frames < FRAMES && self.bytes + bytes.len() <= BYTES
    }

    /// Whether something is behind what its sender has sent by a newer connection: then it counts as
    /// lost there, and others have heard what came after it.
    fn is_late(&mut self, stamp: Stamp, now: Instant) -> bool {
        let newest = self.senders.get(&stamp.sender);
        if newest.is_some_and(|newest| stamp.connection < newest.connection) {
            return true;
        }
        if newest.is_none() && self.senders.len() >= SENDERS {
            let is_recent = |sender: &Sender| now.duration_since(sender.heard) < LATE;
            self.senders.retain(|_, sender| is_recent(sender));
            if self.senders.len() >= SENDERS {
                self.senders.clear();
            }
        }
        let sender = Sender {
            connection: stamp.connection,
            heard: now,
        };
        self.senders.insert(stamp.sender, sender);
        false
    }

    fn frame(&mut self, topic: Arc<str>, bytes: Bytes, came: Instant) {
        if !self.has_room(&bytes) {
            self.dropped += 1;
            return;
        }
        self.frames += 1;
        self.bytes += bytes.len();
        self.events.push_back(Event::Frame { topic, bytes, came });
    }
}

/// What a broker has heard.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody has published this.
    Frame {
        topic: Arc<str>,
        bytes: Bytes,
        came: Instant,
    },
    /// What is wanted as of this version has been subscribed to.
    Subscribed { version: u64 },
    /// The connection is there.
    Up,
    /// The connection is lost.
    Down { reason: String },
    /// So many frames found the inbox full.
    Dropped { frames: u64 },
    /// So many frames that the broker had taken weren't sent.
    Lost { frames: u64 },
    /// Frames are refused, or taken again.
    Refusing { reason: Option<String> },
    /// An entry wasn't appended to a log.
    Refused {
        log: Topic,
        from: Arc<str>,
        number: u64,
        reason: String,
    },
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            taken: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame has come, under a topic of this name, or several that were
    /// [put together](super::Batch::bundled).
    pub fn frame(&self, topic: Arc<str>, bytes: Bytes) {
        let came = Instant::now();
        let mut state = self.state();
        match bundle::split(&bytes) {
            Some((Some(stamp), frames)) if state.is_late(stamp, came) => {
                tracing::debug!(frames = frames.len(), "dropped what came late");
            }
            Some((_, frames)) => {
                for bytes in frames {
                    state.frame(Arc::clone(&topic), bytes, came);
                }
            }
            None => state.frame(topic, bytes, came),
        }
        drop(state);
        self.filled.notify_one();
    }

    /// A frame has come that can be read again, under a topic of this name: it waits until there is
    /// room. For one reader at a time.
    ///
    /// One that is larger than the inbox is dropped.
    pub async fn read(&self, topic: Arc<str>, bytes: Bytes) {
        while bytes.len() <= BYTES && !self.state().has_room(&bytes) {
            self.taken.notified().await;
        }
        self.frame(topic, bytes);
    }

    /// What is wanted as of this version has been subscribed to: frames that are published from now
    /// on come.
    pub fn subscribed(&self, version: u64) {
        self.signal(Event::Subscribed { version });
    }

    /// The connection is there, and all that is wanted is subscribed to.
    pub fn up(&self) {
        self.signal(Event::Up);
    }

    /// The connection is lost: what has failed, and what to do about it.
    pub fn down(&self, reason: impl Into<String>) {
        self.signal(Event::Down {
            reason: reason.into(),
        });
    }

    /// The broker has dropped so many frames by itself.
    pub fn dropped(&self, frames: u64) {
        self.state().dropped += frames;
        self.filled.notify_one();
    }

    /// So many frames that the broker had taken to publish were, or may have been, lost.
    pub fn lost(&self, frames: u64) {
        self.signal(Event::Lost { frames });
    }

    /// Frames that were to be published are refused while the connection holds: why, and what to do about
    /// it. It counts for 10 s, so it is to be said again while it is so, and not for each frame.
    pub fn refusing(&self, reason: impl Into<String>) {
        let reason = Some(reason.into());
        self.signal(Event::Refusing { reason });
    }

    /// Such frames are taken again.
    pub fn taking(&self) {
        self.signal(Event::Refusing { reason: None });
    }

    /// An entry that the broker had taken to [append](crate::log::Journal::append) to a log was
    /// refused: it isn't there.
    pub fn refused(&self, log: Topic, from: Arc<str>, number: u64, reason: impl Into<String>) {
        let reason = reason.into();
        self.signal(Event::Refused {
            log,
            from,
            number,
            reason,
        });
    }

    fn signal(&self, event: Event) {
        self.state().events.push_back(event);
        self.filled.notify_one();
    }

    /// Drops what comes until the connection is there.
    pub(crate) async fn connected(&self) {
        let mut events = Vec::new();
        while !events.iter().any(|event| matches!(event, Event::Up)) {
            events.clear();
            self.take(usize::MAX, &mut events).await;
        }
    }

    /// Takes up to `limit` events, at least one: waits for it. The second is how long the oldest
    /// frame of these has waited.
    pub(crate) async fn take(&self, limit: usize, into: &mut Vec<Event>) -> Duration {
        loop {
            if let Some(waited) = self.try_take(limit, into) {
                return waited;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self, limit: usize, into: &mut Vec<Event>) -> Option<Duration> {
        let mut state = self.state();
        if state.dropped > 0 {
            let frames = std::mem::take(&mut state.dropped);
            into.push(Event::Dropped { frames });
        }
        let count = state.events.len().min(limit);
        let mut oldest = None;
        let State {
            events,
            frames,
            bytes: held,
            ..
        } = &mut *state;
        for event in events.drain(..count) {
            if let Event::Frame { bytes, came, .. } = &event {
                *frames -= 1;
                *held -= bytes.len();
                oldest.get_or_insert(*came);
            }
            into.push(event);
        }
        self.taken.notify_one();
        let waited = oldest.map(|came| came.elapsed()).unwrap_or_default();
        (!into.is_empty()).then_some(waited)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Inbox")
            .field("frames", &state.frames)
            .field("bytes", &state.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Batch;

    fn frames(events: &[Event]) -> usize {
        let frames = events
            .iter()
            .filter(|event| matches!(event, Event::Frame { .. }));
        frames.count()
    }

    #[tokio::test]
    async fn frames_beyond_the_bound_are_dropped_and_told_and_signals_are_not() {
        let inbox = Inbox::new();
        let large = Bytes::from(vec![0; BYTES / 4]);
        for _ in 0..6 {
            inbox.frame("a".into(), large.clone());
        }
        inbox.up();
        let mut events = Vec::new();
        inbox.take(100, &mut events).await;
        assert!(matches!(events[0], Event::Dropped { frames: 2 }));
        assert!(matches!(events.last(), Some(Event::Up)));
        assert_eq!(frames(&events), 4);
        // There is room again.
        inbox.frame("a".into(), large);
        events.clear();
        inbox.take(100, &mut events).await;
        assert_eq!(events.len(), 1);
    }

    #[tokio::test]
    async fn what_can_be_read_again_waits_for_room() {
        let inbox = Inbox::new();
        let large = Bytes::from(vec![0; BYTES]);
        inbox.read("a".into(), large.clone()).await;
        let (mut events, mut before) = (Vec::new(), Vec::new());
        let reads = inbox.read("a".into(), large);
        let takes = async {
            inbox.take(100, &mut before).await;
            inbox.take(100, &mut events).await;
        };
        tokio::join!(reads, takes);
        assert_eq!((frames(&before), frames(&events)), (1, 1));
        inbox
            .read("a".into(), Bytes::from(vec![0; BYTES + 1]))
            .await;
        events.clear();
        inbox.take(100, &mut events).await;
        assert!(matches!(events[..], [Event::Dropped { frames: 1 }]));
    }

    #[tokio::test]
    async fn what_comes_behind_a_newer_connection_is_dropped_in_silence() {
        let inbox = Inbox::new();
        let says = |sender, connection, text: &'static str| {
            let batch = Batch {
                frames: vec![(Topic::new("a"), Bytes::from_static(text.as_bytes()))],
                ..Batch::default()
            };
            let batch = batch.bundled(Some(Stamp { sender, connection }));
            inbox.frame("a".into(), batch.frames[0].1.clone());
        };
        says(7, 1, "old");
        says(7, 2, "new");
        says(7, 1, "late");
        says(8, 1, "another's");
        says(7, 2, "more");
        let mut events = Vec::new();
        inbox.take(100, &mut events).await;
        let texts: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Frame { bytes, .. } => bytes.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["old", "new", "another's", "more"]);
    }

    #[test]
    fn senders_that_are_remembered_are_bounded() {
        let inbox = Inbox::new();
        for sender in 0..3 * SENDERS as u64 {
            let stamp = Stamp {
                sender,
                connection: 1,
            };
            assert!(!inbox.state().is_late(stamp, Instant::now()));
        }
        assert!(inbox.state().senders.len() <= SENDERS);
    }

    #[tokio::test]
    async fn many_small_frames_are_bounded_too() {
        let inbox = Inbox::new();
        for _ in 0..FRAMES + 3 {
            inbox.frame("a".into(), Bytes::new());
        }
        let (mut events, mut all) = (Vec::new(), 0);
        while all < FRAMES {
            events.clear();
            inbox.take(1_000, &mut events).await;
            all += frames(&events);
        }
        assert_eq!(all, FRAMES);
        assert_eq!(inbox.state().frames, 0);
    }
}
