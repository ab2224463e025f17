//! What waits to be published: a bounded queue between the threads that emit and the one task that
//! sends.
//!
//! Whether there is a connection is decided here, under the lock of the queue: what is published
//! while there is none is refused at once, and what waits when it breaks is lost. It isn't kept,
//! since nobody knows how much of it has been sent, and an event that comes twice is worse than one
//! that is known to be missing.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::{Refused, Stamp, bundle};
use crate::Topic;

/// So many frames may wait or be unanswered, and so many bytes in them.
const FRAMES: usize = 65_536;
const BYTES: usize = 64 * 1_024 * 1_024;

/// So much is sent in one write, or a single frame that is larger.
const BATCH_FRAMES: usize = 512;
const BATCH_BYTES: usize = 256 * 1_024;

/// So long [`Queue::close`] waits for what is still to be sent.
const CLOSE: Duration = Duration::from_secs(3);

/// What waits to be published: at most 65,536 frames and 64 MiB, with those that are being sent.
///
/// It is for a [`Broker`](super::Broker): its `publish` [pushes](Self::push), and the task that has
/// the connection [takes](Self::take).
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    filled: Notify,
    /// Something has been done with. It is sent to without the lock, which those that wait take.
    settled: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    link: Link,
    is_closed: bool,
    frames: VecDeque<(Topic, Bytes)>,
    /// Those that wait and those that were taken and aren't done with yet.
    held: Size,
}

/// How much something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// So many frames.
    pub frames: usize,
    /// So many bytes in them and in the names of their topics.
    pub bytes: usize,
}

#[derive(Debug)]
enum Link {
    Up,
    Down { reason: String },
}

/// Frames that are sent together.
#[derive(Debug, Default)]
pub struct Batch {
    /// In their order.
    pub frames: Vec<(Topic, Bytes)>,
    /// How much that is.
    pub size: Size,
}

impl Batch {
    /// The same, with frames put together that follow each other under one topic: each of the fewer
    /// that are left is a message of the broker, and an [inbox](super::Inbox) takes it apart. For what
    /// goes to servers of ours alone, since those of Node don't know of it; and for brokers that say
    /// which message they have refused, so that all frames of it are counted as lost.
    ///
    /// With a stamp an inbox drops what comes late, by a node of the broker that was away meanwhile.
    #[must_use]
    pub fn bundled(mut self, stamp: Option<Stamp>) -> Self {
        self.frames = bundle::join(self.frames, stamp);
        self
    }

    /// How many frames were put together in what is left.
    #[must_use]
    pub fn frames_in(message: &Bytes) -> usize {
        bundle::count(message)
    }
}

impl Queue {
    /// An empty one, without a connection.
    #[must_use]
    pub fn new() -> Self {
        let reason = "it is being connected to".to_owned();
        Self {
            state: Mutex::new(State {
                link: Link::Down { reason },
                is_closed: false,
                frames: VecDeque::new(),
                held: Size::default(),
            }),
            filled: Notify::new(),
            settled: watch::Sender::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame behind the others.
    ///
    /// # Errors
    /// [`Refused`] if there is no connection, too much waits, or it has been closed.
    pub fn push(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if let Link::Down { reason } = &state.link {
            let reason = reason.clone();
            return Err(Refused::Down { reason });
        }
        let bytes = size(topic, &frame);
        if state.held.frames >= FRAMES || state.held.bytes + bytes > BYTES {
            return Err(Refused::Full);
        }
        state.held.frames += 1;
        state.held.bytes += bytes;
        state.frames.push_back((topic.clone(), frame));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes what comes next, at least one frame: waits for it. What is taken is to be
    /// [done](Self::done) with, or [lost](Self::down).
    pub async fn take(&self) -> Batch {
        loop {
            let batch = self.try_take();
            if !batch.frames.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self) -> Batch {
        let mut state = self.state();
        let mut batch = Batch::default();
        while batch.size.frames < BATCH_FRAMES && batch.size.bytes < BATCH_BYTES {
            let Some((topic, frame)) = state.frames.pop_front() else {
                break;
            };
            batch.size.frames += 1;
            batch.size.bytes += size(&topic, &frame);
            batch.frames.push((topic, frame));
        }
        batch
    }

    /// So much of what was taken has been sent.
    pub fn done(&self, sent: Size) {
        let mut state = self.state();
        let held = &mut state.held;
        held.frames = held.frames.saturating_sub(sent.frames);
        held.bytes = held.bytes.saturating_sub(sent.bytes);
        drop(state);
        self.settled.send_replace(());
    }

    /// There is a connection.
    pub fn up(&self) {
        self.state().link = Link::Up;
    }

    /// There is none any more. Returns how many frames are lost by that.
    pub fn down(&self, reason: String) -> usize {
        let mut state = self.state();
        let lost = std::mem::take(&mut state.held).frames;
        state.frames = VecDeque::new();
        state.link = Link::Down { reason };
        drop(state);
        self.settled.send_replace(());
        lost
    }

    /// Refuses what comes from now on, and waits until what is there has been sent.
    pub async fn close(&self) {
        self.state().is_closed = true;
        let mut settled = self.settled.subscribe();
        let settled = settled.wait_for(|()| self.state().held.frames == 0);
        if tokio::time::timeout(CLOSE, settled).await.is_err() {
            tracing::warn!("closed the connection with frames unsent: it doesn't answer");
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

/// What a frame counts.
fn size(topic: &Topic, frame: &Bytes) -> usize {
    topic.name().len() + frame.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        let queue = Queue::new();
        queue.up();
        queue
    }

    fn push(queue: &Queue, frame: impl Into<Bytes>) -> Result<(), Refused> {
        queue.push(&Topic::new("t"), frame.into())
    }

    #[test]
    fn what_comes_without_a_connection_is_refused_with_the_reason() {
        let queue = Queue::new();
        assert!(matches!(push(&queue, "a"), Err(Refused::Down { .. })));
        queue.up();
        assert_eq!(push(&queue, "a"), Ok(()));
        queue.down("pulled".to_owned());
        let reason = "pulled".to_owned();
        assert_eq!(push(&queue, "a"), Err(Refused::Down { reason }));
    }

    #[test]
    fn frames_and_bytes_are_bounded_and_there_is_room_again() {
        let queue = queue();
        for _ in 0..FRAMES {
            assert_eq!(push(&queue, "a"), Ok(()));
        }
        assert_eq!(push(&queue, "a"), Err(Refused::Full));
        let taken = queue.try_take();
        assert_eq!(taken.frames.len(), BATCH_FRAMES);
        // What is being sent has its place yet.
        assert_eq!(push(&queue, "a"), Err(Refused::Full));
        queue.done(taken.size);
        assert_eq!(push(&queue, "a"), Ok(()));
        queue.down(String::new());
        queue.up();
        let half = vec![0; BYTES / 2];
        assert_eq!(push(&queue, half.clone()), Ok(()));
        assert_eq!(push(&queue, half), Err(Refused::Full));
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_has_at_least_one_frame() {
        let queue = queue();
        for _ in 0..3 {
            push(&queue, vec![0; BATCH_BYTES + 1]).unwrap();
        }
        for _ in 0..3 {
            let batch = queue.try_take();
            assert_eq!(batch.frames.len(), 1);
            queue.done(batch.size);
        }
        assert_eq!(queue.state().held, Size::default());
    }

    #[test]
    fn what_waits_and_what_was_taken_is_lost_with_the_connection() {
        let queue = queue();
        for _ in 0..BATCH_FRAMES + 3 {
            push(&queue, "a").unwrap();
        }
        queue.try_take();
        queue.done(Size {
            frames: 1,
            bytes: 2,
        });
        assert_eq!(queue.down(String::new()), BATCH_FRAMES + 2);
        queue.up();
        assert!(queue.try_take().frames.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_what_is_being_sent_and_not_for_ever() {
        let queue = queue();
        push(&queue, "a").unwrap();
        let sends = async {
            let batch = queue.take().await;
            assert_eq!(batch.frames.len(), 1);
            queue.done(batch.size);
        };
        let start = tokio::time::Instant::now();
        tokio::join!(queue.close(), sends);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(push(&queue, "a"), Err(Refused::Closed));
        queue.state().held.frames = 1;
        queue.close().await;
        assert_eq!(start.elapsed(), CLOSE);
    }
}
