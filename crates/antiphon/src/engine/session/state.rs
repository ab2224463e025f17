//! What changes in a session, and how what waits in it leaves.
//!
//! [`Session`](super::Session) owns it under its lock. What is emitted waits in the machine's
//! queue. A flush writes to a WebSocket, wakes the poll that waits, or wakes the driver. A write
//! that fails ends the session, or is left to the driver ([`Failure`]).

use std::{
    io::{self, ErrorKind, IoSlice},
    task::Waker,
    time::Instant,
};

use antiphon_protocol::engine::{ServerSession as Machine, TransportKind, session::server::Input};

use super::waiters::Waiters;
use crate::engine::transport::{joined::joined, requests::Requests, stream::Writer};

/// Frames that one write takes at the most.
pub(crate) const FRAMES_A_WRITE: usize = 64;

/// What changes in a session. Held for moments: never across an await or a callback.
pub(crate) struct SessionState {
    pub(crate) machine: Machine,
    /// The WebSocket's way out: any task that sends writes here. `None` if the driver writes.
    pub(crate) writer: Option<Writer>,
    /// Wakes the driver.
    pub(crate) driver: Option<Waker>,
    pub(super) requests: Option<Box<Requests>>,
    /// Bytes that the engine has been told of.
    pub(super) counted: usize,
    /// Wait for the queue to drain or for handlers to end.
    pub(crate) waiting: Waiters,
}

/// What a failed write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The session ends.
    Ends,
    /// The driver tries again when it has nothing more to read: what a client has sent before it
    /// went away is handled.
    ForTheDriver,
}

impl SessionState {
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

    /// The driver's timer was set for this deadline: the next one may be earlier.
    pub(super) fn wake_driver_before(&mut self, deadline: Option<Instant>) {
        if self.machine.deadline() < deadline {
            self.driver.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Bytes that wait for the client, those of a response that it still reads among them.
    pub(super) fn owned_bytes(&self) -> usize {
        let requests = self.requests.as_ref();
        self.machine.owned_bytes() + requests.map_or(0, |requests| requests.unread_bytes())
    }

    /// A client that still reads a response takes something, though it asks for no other.
    pub(super) fn note_reading(&mut self) {
        let requests = self.requests.as_ref();
        if let Some(read) = requests.and_then(|requests| requests.last_read()) {
            self.machine.handle(Input::ResponseRead, read);
        }
    }

    /// The session has left HTTP: its requests are over.
    pub(crate) fn leave_http(&mut self) {
        if let Some(mut requests) = self.requests.take() {
            requests.wake();
        }
    }

    /// Notes whether this side is reading.
    pub(in crate::engine) fn pause_reading(&mut self, paused: bool) {
        if self.machine.is_reading_paused() != paused {
            let input = match paused {
                true => Input::ReadingPaused,
                false => Input::ReadingResumed,
            };
            self.machine.handle(input, crate::clock::now());
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
            // The driver writes; not if it has done so already.
            TransportKind::WebSocket if self.writer.is_none() => {
                let has_more = !self.machine.is_idle() || self.machine.is_closing();
                if let Some(driver) = self.driver.take_if(|_| has_more) {
                    driver.wake();
                }
            }
            TransportKind::WebSocket => self.write(Failure::ForTheDriver),
            // A request takes the packets.
            _ => {
                if let Some(requests) = &mut self.requests {
                    requests.wake_get();
                }
            }
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
            let written = match self.machine.contiguous() {
                Some(frames) => writer.try_write(frames),
                None => write_several(&mut self.machine, writer),
            };
            match written {
                Ok(count) => self.machine.written(count),
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        || failure == Failure::ForTheDriver =>
                {
                    self.machine.handle(Input::Blocked, crate::clock::now());
                    if let Some(driver) = self.driver.take() {
                        driver.wake();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the WebSocket can't be written to");
                    self.machine
                        .handle(Input::TransportFailed, crate::clock::now());
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
            self.machine.handle(Input::Drained, crate::clock::now());
            self.wake_all();
        }
    }
}

/// Writes frames that don't lie side by side.
fn write_several(machine: &mut Machine, writer: &Writer) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); FRAMES_A_WRITE];
    let filled = machine.frames(&mut slices);
    let frames = &slices[..filled];
    joined(frames, |frames| writer.try_write(frames))
        .unwrap_or_else(|| writer.try_write_vectored(frames))
}
