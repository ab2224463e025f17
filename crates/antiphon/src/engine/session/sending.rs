//! How a message is sent to a session, and what becomes of one whose client reads too slowly.
//!
//! `send_if` is the one way in. A message waits in the machine's queue as its [`Sending`] says: it
//! is appended to what waits, dropped, or takes the place of others. A full queue ends the session,
//! and so does a client that takes nothing: that is counted and logged here, with what to do.
//! [`Session::ready`] says when there is room again.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use antiphon_protocol::engine::{
    Encoded, EncodedMessage, EncodedPacket, Forms, Packet, PacketType, QueuePolicy, Queued,
    Revision, session::server::Input,
};

use super::{OUTGOING_OBSERVED, Session, SessionState, state::Failure};

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is closed or closing.
    #[error("the session is closed")]
    Closed,
    /// The outbound queue is full, since the client reads too slowly; the session is closed for it.
    #[error("the outbound queue is full, since the client reads too slowly: its session is closed")]
    QueueFull,
    /// The message was volatile, and the transport couldn't take it at once.
    #[error("a volatile message was dropped, since the transport couldn't take it at once")]
    Volatile,
    /// The message found the outbound queue beyond its limits, and its
    /// [policy](antiphon_protocol::engine::QueuePolicy) says that it is dropped then.
    #[error("the message was dropped, as its policy says, since the client reads too slowly")]
    Dropped,
    /// The server's [parser](crate::parser) couldn't write the message; the log says why.
    #[error("the parser couldn't write the message")]
    Unwritten,
}

/// How a message is sent to a client that reads slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sending {
    /// It is dropped if the transport can't take it at once.
    pub(crate) volatile: bool,
    /// What becomes of it in the queue.
    pub(crate) policy: QueuePolicy,
}

impl Sending {
    /// It must arrive.
    pub(crate) const SURE: Self = Self {
        volatile: false,
        policy: QueuePolicy::Close,
    };

    /// It waits as its policy says.
    pub(crate) const fn with(policy: QueuePolicy) -> Self {
        Self {
            volatile: false,
            policy,
        }
    }

    /// Whether it may share memory with what is sent before and behind it: it is never taken out.
    const fn may_be_appended(self) -> bool {
        matches!(self.policy, QueuePolicy::Close | QueuePolicy::DropNewest)
    }
}

/// How a message waits in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// In the bundle that it begins: what is appended to that is sent, too.
    Shared,
    Alone,
}

impl Session {
    /// Sends a text message.
    ///
    /// # Errors
    /// [`SendError`] if it wasn't queued.
    pub fn send_text(self: &Arc<Self>, text: &str) -> Result<(), SendError> {
        self.send_packet(EncodedPacket::text(PacketType::Message, text))
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// [`SendError`] if it wasn't queued.
    pub fn send_binary(self: &Arc<Self>, data: &[u8]) -> Result<(), SendError> {
        self.send_packet(EncodedPacket::binary(data, Revision::V4))
    }

    /// Resolves when all that was sent so far has been handed to the network, or the session has
    /// ended.
    pub async fn flushed(&self) {
        self.until(|state| state.machine.queued_bytes() == 0 || state.machine.closed().is_some())
            .await;
    }

    /// Resolves when what waits is within the limits of the outbound queue: at once, or when half of
    /// that has left.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the session is closed or closing.
    pub async fn ready(&self) -> Result<(), SendError> {
        let mut has_waited = false;
        let mut is_open = true;
        self.until(|state| {
            is_open = state.machine.is_open();
            let is_ready = match has_waited {
                true => state.machine.is_half_empty(),
                false => state.machine.is_within_limits(),
            };
            has_waited = true;
            is_ready || !is_open
        })
        .await;
        match is_open {
            true => Ok(()),
            false => Err(SendError::Closed),
        }
    }

    fn send_packet(self: &Arc<Self>, packet: EncodedPacket) -> Result<(), SendError> {
        let mut message = EncodedMessage::from(packet).in_form(self.form());
        self.send(&mut message, Sending::SURE).map(drop)
    }

    /// Sends a message in the form of this session, all of it or nothing.
    pub(crate) fn send(
        self: &Arc<Self>,
        message: &mut impl Forms,
        sending: Sending,
    ) -> Result<Sent, SendError> {
        self.send_if(|| true, message, sending)
    }

    /// As [`send`](Self::send), if the receiver is still there: asked under the session's lock, so
    /// that nothing of another thread comes behind the packet that tells its client of its end.
    pub(crate) fn send_if(
        self: &Arc<Self>,
        is_there: impl Fn() -> bool,
        message: &mut impl Forms,
        sending: Sending,
    ) -> Result<Sent, SendError> {
        let outgoing = self.outgoing.load(Ordering::Relaxed);
        let is_observed = outgoing & OUTGOING_OBSERVED != 0;
        let form = self.form_by(outgoing);
        if (form.compression.is_some() || form.is_transcoded)
            && !self.has_ended()
            && is_there()
            && message.frame(form).is_none()
        {
            // Compressing takes long, and a parser is the application's: not under the lock, and
            // not for a receiver that has gone.
            message.encoded(form);
            if message.is_unwritten() {
                return Err(SendError::Unwritten);
            }
        }
        let mut state = self.lock();
        if !state.machine.is_open() || !is_there() {
            return Err(SendError::Closed);
        }
        if sending.volatile && !state.machine.is_writable() {
            self.engine.counters().volatile_dropped.add(1);
            return Err(SendError::Volatile);
        }
        let may_be_appended = sending.may_be_appended();
        // What is appended to a bundle isn't seen here.
        if may_be_appended
            && !is_observed
            && state.machine.has_frames()
            && let Some(bundle) = message.bundle(form)
            && state.machine.share(bundle, form)
        {
            self.flush(&mut state);
            return Ok(Sent::Shared);
        }
        let is_appended = may_be_appended
            && message
                .frame(form)
                .is_some_and(|frame| state.machine.append(frame));
        if !is_appended {
            let encoded = message.encoded(form);
            if self.mark.is_noted() && !state.machine.has_room(encoded) {
                // Much was sent in one batch of work: that says nothing of the reader yet.
                state.write(Failure::ForTheDriver);
                if !state.machine.is_open() {
                    return Err(SendError::Closed);
                }
            }
            self.queue(&mut state, encoded.clone(), sending.policy)?;
            self.recount(&mut state);
        }
        self.flush(&mut state);
        if is_observed {
            drop(state);
            self.observe(message);
        }
        Ok(Sent::Alone)
    }

    /// Tells the application of a message that has been queued.
    #[cold]
    fn observe(&self, message: &mut impl Forms) {
        let Some(hooks) = &self.engine.config().hooks else {
            return;
        };
        // As it is before it is compressed.
        let Encoded::Message(message) = message.encoded(self.form) else {
            return;
        };
        for packet in message.packets() {
            let payload = packet.payload();
            let packet = match packet.is_binary() {
                true => Packet::from_binary(payload, self.form.revision).ok(),
                false => str::from_utf8(payload)
                    .ok()
                    .and_then(|text| Packet::from_text(text, self.form.revision).ok()),
            };
            // All that is encoded here can be read.
            if let Some(packet) = packet {
                hooks.queued(self, &packet);
            }
        }
    }

    /// Queues a message that isn't appended to another.
    fn queue(
        &self,
        state: &mut SessionState,
        message: Encoded,
        policy: QueuePolicy,
    ) -> Result<(), SendError> {
        match state.machine.send(message, policy) {
            Ok(queued) if queued == Queued::default() => Ok(()),
            Ok(queued) => {
                let counters = self.engine.counters();
                let dropped = queued.dropped + usize::from(queued.is_dropped);
                counters.messages_dropped.add(dropped as u64);
                counters.messages_conflated.add(queued.conflated as u64);
                if queued.is_behind {
                    let deadline = state.machine.deadline();
                    state.machine.handle(Input::FellBehind, crate::clock::now());
                    state.wake_driver_before(deadline);
                }
                match queued.is_dropped {
                    true => Err(SendError::Dropped),
                    false => Ok(()),
                }
            }
            Err(full) => {
                self.cut(state, &full);
                Err(SendError::QueueFull)
            }
        }
    }

    /// Closes the session, since its client reads too slowly.
    fn cut(&self, state: &mut SessionState, reason: &dyn fmt::Display) {
        self.note_slow_reader(reason);
        state
            .machine
            .handle(Input::TransportFailed, crate::clock::now());
        self.note_end(state);
        state.wake_all();
    }

    /// Closes the session, since too much waits for all clients, and most of it for this one.
    pub(super) fn shed(&self, total: usize, budget: usize) {
        let mut state = self.lock();
        if state.machine.closed().is_none() {
            self.engine.counters().sessions_shed.add(1);
            let waiting = state.owned_bytes();
            let reason = format!(
                "{waiting} bytes wait, more than for others, and {total} for all together where \
                 {budget} may (`ServerBuilder::outbound_budget`)"
            );
            self.cut(&mut state, &reason);
        }
    }

    /// The session is closed since its client reads too slowly.
    #[cold]
    pub(super) fn note_slow_reader(&self, reason: &dyn fmt::Display) {
        self.engine.counters().slow_readers_closed.add(1);
        tracing::debug!(session = ?self.id, %reason, "closing session: its client reads too slowly");
        let Some(times) = self.engine.warnings().due("slow reader") else {
            return;
        };
        tracing::warn!(
            session = ?self.id,
            %reason,
            times,
            hint = "await `socket.ready()` between many emits, let old ones go by `drop_oldest`, \
                    `conflate` or `volatile`, or raise `ServerBuilder::outbound`",
            "closing session: its client reads too slowly (said once a minute)",
        );
    }
}
