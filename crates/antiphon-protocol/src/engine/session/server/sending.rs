//! What the application sends, and how it leaves by WebSocket.
//!
//! [`ServerSession::send`] queues a message. [`frames`](ServerSession::frames) shows what waits for
//! the WebSocket, [`written`](ServerSession::written) takes away what it has taken.

use std::{io::IoSlice, sync::Arc};

use bytes::Bytes;

use super::{ServerSession, Transport};
use crate::engine::{Bundle, Encoded, Form, QueueFull, QueuePolicy, Queued};

impl ServerSession {
    /// Queues a message, in the session's form. If the queue [is behind](Queued::is_behind) the
    /// input [`FellBehind`](super::Input::FellBehind) follows.
    ///
    /// # Errors
    /// [`QueueFull`] if the outbound queue has no room; none of the message is queued then.
    pub fn send(&mut self, message: Encoded, policy: QueuePolicy) -> Result<Queued, QueueFull> {
        self.outbound.push(message, policy, self.config.queue)
    }

    /// Whether a message would be within the limits of the outbound queue.
    #[must_use]
    pub fn has_room(&self, message: &Encoded) -> bool {
        let (count, length) = (message.count(), message.len_bytes());
        self.outbound.has_room(count, length, self.config.queue)
    }

    /// Whether the outbound queue is within its limits.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        self.outbound.is_within(self.config.queue)
    }

    /// Whether no more than half of what the limits allow waits.
    #[must_use]
    pub fn is_half_empty(&self) -> bool {
        self.outbound.is_half_empty(self.config.queue)
    }

    /// Appends a frame to the queue's tail. Returns `false` if the session isn't on WebSocket, or
    /// the frame is for [`send`](Self::send).
    pub fn append(&mut self, frame: &[u8]) -> bool {
        self.has_frames() && self.outbound.append(frame, self.config.queue)
    }

    /// Makes a bundle the queue's tail. Returns `false` if the session isn't on WebSocket, or there
    /// is no room.
    pub fn share(&mut self, bundle: &Arc<Bundle>, form: Form) -> bool {
        self.has_frames() && self.outbound.share(bundle, form, self.config.queue)
    }

    /// Nothing that is appended to a bundle from now on comes before what is sent next.
    pub fn settle(&mut self) {
        self.outbound.settle();
    }

    /// Whether packets leave as frames.
    #[must_use]
    pub const fn has_frames(&self) -> bool {
        matches!(self.transport, Transport::WebSocket { .. })
    }

    /// Whether a message would leave at once: what a volatile message asks.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        match &self.transport {
            Transport::Http(requests) => {
                requests.get && (!requests.streaming || self.outbound.is_empty())
            }
            Transport::WebSocket { blocked } => !blocked,
        }
    }

    /// Bytes that wait in the outbound queue.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// Bytes that the outbound queue owns: what waits, and what is kept until it is confirmed.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        self.outbound.owned_bytes()
    }

    /// The frames among them. Messages of many sessions share theirs.
    pub fn buffers(&self) -> impl Iterator<Item = &Bytes> {
        self.outbound.buffers()
    }

    /// The frames that wait for the WebSocket, if they lie side by side.
    pub fn contiguous(&mut self) -> Option<&[u8]> {
        match self.has_frames() {
            true => self.outbound.contiguous(),
            false => None,
        }
    }

    /// The frames that wait for the WebSocket: fills `slices` and returns how many it filled.
    pub fn frames<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        match self.transport {
            Transport::WebSocket { .. } => self.outbound.frames(slices),
            Transport::Http(_) => 0,
        }
    }

    /// Takes away the first `count` bytes of the [frames](Self::frames), which the WebSocket has
    /// taken. One that was blocked is writable before.
    pub fn written(&mut self, count: usize) {
        self.outbound.advance(count);
        self.note_caught_up();
    }

    /// Whether the session is on WebSocket, nothing is queued, and all has been taken so far: what
    /// is written now is in order.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.transport, Transport::WebSocket { blocked: false })
            && self.outbound.is_empty()
    }

    /// Whether the WebSocket waits to become writable.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.transport.is_blocked()
    }
}
