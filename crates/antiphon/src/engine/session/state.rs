//! What changes in a session, and how what waits in it leaves.
//!
//! [`Session`](super::Session) owns it under its lock. Emitted packets are queued in the machine; small
//! frames and bundles may wait behind the queue in the [`Tail`] until the flush of a turn, and
//! [`State::settle`] puts them into it. A flush writes to a WebSocket, wakes the poll that waits, or
//! wakes the driver. A write that fails ends the session, or is left to the driver ([`Failure`]).

use std::{
    cell::Cell,
    io::{ErrorKind, IoSlice},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use antiphon_protocol::engine::{EncodedPacket, Input, Session as Machine, TransportKind};
use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;

use crate::engine::{
    Bundle, session::bundle, session::turn::Mark, session::waiters::Waiters,
    transport::joined::joined, transport::requests::Requests,
};

/// Frames that one write takes at the most.
const FRAMES_A_WRITE: usize = 64;

thread_local! {
    /// The memory of frames that have left, for the next.
    static SPARE: Cell<Option<Box<Frames>>> = const { Cell::new(None) };
}

/// Frames of one session, side by side.
#[derive(Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// Frames that begin with this one.
    pub(super) fn new(frame: &[u8]) -> Box<Self> {
        let mut frames = SPARE.take().unwrap_or_default();
        frames.0.extend_from_slice(frame);
        frames
    }

    /// Appends a frame. Returns `false` if they would be too many.
    pub(super) fn append(&mut self, frame: &[u8]) -> bool {
        let takes = self.0.len() + frame.len() <= bundle::LARGEST;
        if takes {
            self.0.extend_from_slice(frame);
        }
        takes
    }

    /// Hands the memory on: they have left.
    fn hand_on(mut self: Box<Self>) {
        self.0.clear();
        SPARE.set(Some(self));
    }
}

/// What changes in a session. Held for moments: never across an await or a callback.
pub(crate) struct State {
    pub(crate) machine: Machine,
    /// The WebSocket's way out: any task that sends writes here. `None` if the driver writes.
    pub(crate) writer: Option<OwnedWriteHalf>,
    /// Which turn will flush.
    pub(super) mark: Mark,
    pub(super) tail: Tail,
    /// Wakes the driver.
    pub(crate) driver: Option<Waker>,
    pub(super) requests: Option<Box<Requests>>,
    /// Wait for the queue to drain or for handlers to end.
    pub(crate) waiting: Waiters,
}

/// What a failed write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The session ends.
    Ends,
    /// The driver tries again when it has nothing more to read: what a client has sent before it went
    /// away is handled.
    ForTheDriver,
}

/// What waits behind the queue of a session that a turn has noted, for its flush.
pub(super) enum Tail {
    Empty,
    /// Frames of its own. Boxed, so that a session that has none keeps no room for them.
    Frames(Box<Frames>),
    /// Frames that it shares with others.
    Bundle(Arc<Bundle>),
}

impl State {
    pub(crate) fn wake_all(&mut self) {
        self.wake_transports();
        self.waiting.wake();
    }

    /// Another driver may take over, a GET may have to return, an attempt to upgrade may be over.
    pub(super) fn wake_transports(&mut self) {
        if let Some(requests) = &mut self.requests {
            requests.wake();
        }
        self.driver.take().into_iter().for_each(Waker::wake);
    }

    /// The session has left HTTP: its requests are over.
    pub(crate) fn leave_http(&mut self) {
        if let Some(mut requests) = self.requests.take() {
            requests.wake();
        }
    }

    /// Whether a POST that has come whole is being handled.
    pub(crate) fn handles_post(&self) -> bool {
        let requests = self.requests.as_ref();
        requests.is_some_and(|requests| requests.handles_post)
    }

    /// Whether the next POST is to wait: one is being handled, or is under way.
    pub(crate) fn has_post(&self) -> bool {
        self.handles_post() || (self.machine.has_post() && !self.machine.is_tracked())
    }

    /// A POST has ended, which may have been handled: the next begins.
    pub(crate) fn post_ended(&mut self, was_whole: bool) {
        if let Some(requests) = self.requests.as_mut().filter(|_| was_whole) {
            requests.handles_post = false;
        }
        self.waiting.wake();
    }

    /// What is remembered of requests.
    pub(crate) fn requests(&mut self) -> &mut Requests {
        self.requests.get_or_insert_default()
    }

    /// Gives what is queued to the transport, as far as it takes it now.
    pub(super) fn flush(&mut self) {
        match self.machine.transport() {
            TransportKind::Polling | TransportKind::Streaming => {
                if let Some(requests) = &mut self.requests {
                    requests.wake_get();
                }
            }
            TransportKind::WebSocket if self.writer.is_none() => {
                if let Some(driver) = self.driver.take() {
                    driver.wake();
                }
            }
            TransportKind::WebSocket => self.write(Failure::ForTheDriver),
        }
    }

    /// Flushes the queue, and what waits behind it.
    pub(super) fn flush_all(&mut self) {
        match std::mem::replace(&mut self.tail, Tail::Empty) {
            Tail::Empty => self.flush(),
            Tail::Frames(frames) => {
                self.write_or_queue(&frames.0, || Bytes::copy_from_slice(&frames.0));
                frames.hand_on();
            }
            Tail::Bundle(bundle) => {
                let frames = bundle.seal();
                self.write_or_queue(&frames, || frames.clone());
            }
        }
    }

    /// Whether frames may wait behind the queue, as one.
    pub(super) fn takes_frames(&self) -> bool {
        self.machine.is_open()
            && self.machine.transport() == TransportKind::WebSocket
            && self.machine.has_room_for(1, bundle::LARGEST)
    }

    /// Queues frames that have waited behind the queue.
    pub(super) fn queue_frames(&mut self, frames: Bytes) {
        // There was room for the most that can wait, and nothing has been queued since.
        let _ = self.machine.send(EncodedPacket::raw(frames), &[]);
    }

    /// Writes frames, or queues what isn't taken. `owned` copies or shares them for the queue.
    pub(super) fn write_or_queue(&mut self, frames: &[u8], owned: impl FnOnce() -> Bytes) {
        let written = self.write_past(frames);
        if written < frames.len() {
            self.queue_frames(owned());
            if written > 0 {
                // The queue was empty: these are its first bytes.
                self.machine.written(written, false);
            }
        }
        self.flush();
    }

    /// Queues what waits behind the queue.
    pub(crate) fn settle(&mut self) {
        match std::mem::replace(&mut self.tail, Tail::Empty) {
            Tail::Empty => {}
            Tail::Frames(frames) => {
                self.queue_frames(Bytes::copy_from_slice(&frames.0));
                frames.hand_on();
            }
            Tail::Bundle(bundle) => self.queue_frames(bundle.seal()),
        }
    }

    /// Writes frames past the queue if that is empty. Returns how many bytes were taken.
    fn write_past(&self, frames: &[u8]) -> usize {
        match &self.writer {
            // Why something wasn't taken, the next write tells.
            Some(writer) if self.machine.is_idle() => writer.try_write(frames).unwrap_or(0),
            _ => 0,
        }
    }

    /// Writes what is queued to the WebSocket until all is written or it takes no more.
    pub(crate) fn write(&mut self, failure: Failure) {
        let Some(writer) = &self.writer else { return };
        while !self.machine.is_blocked() {
            if self.machine.is_idle() {
                self.drained();
                return;
            }
            let mut slices = [IoSlice::new(&[]); FRAMES_A_WRITE];
            let filled = self.machine.frames(&mut slices);
            let written = match &slices[..filled] {
                [] => return,
                [frame] => writer.try_write(frame),
                frames => joined(frames, |frames| writer.try_write(frames))
                    .unwrap_or_else(|| writer.try_write_vectored(frames)),
            };
            match written {
                Ok(count) => self.machine.written(count, false),
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        || failure == Failure::ForTheDriver =>
                {
                    self.machine.written(0, true);
                    if let Some(driver) = self.driver.take() {
                        driver.wake();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the WebSocket can't be written to");
                    self.settle();
                    self.machine.handle(Input::TransportFailed, Instant::now());
                    self.wake_all();
                    return;
                }
            }
        }
    }

    /// All that was queued has left.
    pub(crate) fn drained(&mut self) {
        self.waiting.wake();
        if self.machine.is_closing() {
            self.machine.handle(Input::Drained, Instant::now());
            self.wake_all();
        }
    }
}
