//! HTTP streaming: packets as events of a response that stays open, and the probe of one.
//!
//! A session takes its packets back from a response that is cut: the client comes again and says
//! how many it has had. So a response may end at any time, and is ended in order before it grows
//! long.
//!
//! The body of a response owns its `EventStream`. It asks the session's machine for packets
//! whenever the HTTP server takes more, and tells the session when it is dropped.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use antiphon_protocol::engine::{
    Packet, UpgradeTarget,
    event_stream::{COMMENT, append_offset, append_packet},
    payload,
    session::server::{Input, Output, ProbeStep, Refusal, StreamStep},
};
use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use crate::engine::{
    Session,
    session::SessionState,
    session::turn,
    transport::unread::{Next, PART, Reading},
};

/// How long nothing may be sent: proxies take a response for dead after 30 s and more.
const IDLE: Duration = Duration::from_secs(15);

/// A response that stays open.
pub(crate) struct EventStream {
    session: Arc<Session>,
    role: Role,
    /// Its beginning was sent.
    begun: bool,
    ended: bool,
    sent: usize,
    /// What is left of many packets, or large ones.
    rest: Option<Reading>,
    idle: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy)]
enum Role {
    /// The session's packets leave by it. The number of its GET.
    Carries(u32),
    /// It is probed. The number of the attempt.
    Probes(u32),
}

impl EventStream {
    /// The next response of a session that is on streaming.
    pub(crate) fn resume(session: &Arc<Session>, offset: Option<u64>) -> Result<Self, Refusal> {
        // A session on streaming always is tracked.
        let get = session.begin_get(offset)?.unwrap_or_default();
        Ok(Self::new(session, Role::Carries(get)))
    }

    /// A response that a session on polling may move to. A browser may ask for it again: the newer
    /// one counts.
    pub(crate) fn probe(session: &Arc<Session>) -> Result<Self, Refusal> {
        let kind = UpgradeTarget::Streaming;
        session.input(Input::ProbeClosed(kind));
        if session.input(Input::ProbeOpened(kind)) != Output::Nothing {
            return Err(Refusal::TransportMismatch);
        }
        let number = session.lock().requests().begin_probe();
        Ok(Self::new(session, Role::Probes(number)))
    }

    fn new(session: &Arc<Session>, role: Role) -> Self {
        Self {
            session: Arc::clone(session),
            role,
            begun: false,
            ended: false,
            sent: 0,
            rest: None,
            idle: Box::pin(tokio::time::sleep(IDLE)),
        }
    }

    /// The next part of the body. Returns `None` at its end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(part) = self.next_part() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return Poll::Ready(Some(part));
        }
        let mut chunk = Vec::new();
        if !self.ended {
            let session = Arc::clone(&self.session);
            let mut state = session.lock();
            self.fill(&mut state, &mut chunk, context);
            if state.machine.closed().is_some() {
                // Its driver ends the session.
                state.wake_all();
            }
        }
        if chunk.is_empty() {
            if self.ended {
                return Poll::Ready(None);
            }
            ready!(self.idle.as_mut().poll(context));
            chunk.extend_from_slice(COMMENT);
        }
        self.idle.as_mut().reset(Instant::now() + IDLE);
        self.sent += chunk.len();
        if chunk.len() <= PART {
            return Poll::Ready(Some(chunk.into()));
        }
        self.rest = Some(self.session.begin_answer(chunk.into()));
        Poll::Ready(self.next_part())
    }

    /// The next part of what is left.
    fn next_part(&mut self) -> Option<Bytes> {
        let rest = self.rest.as_ref()?;
        match rest.unread().next() {
            Next::Part(part) => return Some(part),
            Next::End => {}
            Next::Forgotten => self.ended = true,
        }
        self.rest = None;
        None
    }

    /// Takes what is to be sent, or notes the task to wake for it.
    fn fill(&mut self, state: &mut SessionState, chunk: &mut Vec<u8>, context: &mut Context<'_>) {
        if let Role::Probes(number) = self.role {
            self.fill_probe(number, state, chunk, context);
        }
        let Role::Carries(get) = self.role else {
            return;
        };
        if state.requests().get != get {
            self.ended = true;
            return;
        }
        if !mem::replace(&mut self.begun, true) {
            append_offset(state.machine.offset(), chunk);
        }
        match state.machine.stream_step() {
            StreamStep::Packets(packets) => {
                for packet in &packets {
                    append_packet(packet, chunk);
                }
                state.drained();
                // The client confirms by coming again.
                let longest = self.session.engine().config().max_stream_bytes;
                let is_long = self.sent + chunk.len() >= longest || state.machine.keeps_much();
                // The last packet still follows; no other response can bring it.
                self.ended = is_long && state.machine.closed().is_none();
            }
            StreamStep::Wait => state.requests().waiting = Some(context.waker().clone()),
            StreamStep::End => self.ended = true,
        }
    }

    fn fill_probe(
        &mut self,
        number: u32,
        state: &mut SessionState,
        chunk: &mut Vec<u8>,
        context: &mut Context<'_>,
    ) {
        let goes_on = state.machine.is_upgrading(UpgradeTarget::Streaming);
        let requests = state.requests();
        let probe = requests.probe.as_mut();
        let Some(probe) = probe.filter(|probe| probe.number == number) else {
            self.ended = true;
            return;
        };
        if !mem::replace(&mut self.begun, true) {
            chunk.extend_from_slice(COMMENT);
        }
        if mem::take(&mut probe.answer_due) {
            chunk.extend_from_slice(b"data: 3probe\n\n");
        }
        if let Some(get) = probe.completed {
            requests.probe = None;
            self.role = Role::Carries(get);
            self.begun = false;
        } else if goes_on {
            probe.waker = Some(context.waker().clone());
        } else {
            requests.probe = None;
            self.ended = true;
        }
    }
}

impl Drop for EventStream {
    /// The response has ended, or its client has gone away.
    fn drop(&mut self) {
        if let Some(rest) = &self.rest {
            rest.unread().forget();
        }
        let mut state = self.session.lock();
        let requests = state.requests();
        let ended = Input::GetEnded {
            answered: self.ended,
        };
        let over = match self.role {
            Role::Carries(get) => (requests.get == get).then_some(ended),
            Role::Probes(number) => {
                let probe = requests.probe.take_if(|probe| probe.number == number);
                probe.map(|probe| match probe.completed {
                    Some(_) => ended,
                    None => Input::ProbeClosed(UpgradeTarget::Streaming),
                })
            }
        };
        drop(state);
        if let Some(over) = over {
            if matches!(over, Input::ProbeClosed(_)) {
                self.session.engine().counters().upgrades_failed.add(1);
            }
            self.session.input(over);
        }
    }
}

/// A POST brings packets for the stream that is probed. What follows the one that completes the
/// upgrade is for the session already. Returns `false` if they are of no use.
pub(crate) fn receive_probe(session: &Arc<Session>, body: &[u8]) -> bool {
    let limit = session.engine().config().max_packets_per_payload;
    let revision = session.revision();
    let Ok(packets) = payload::decode(body, revision, false, limit) else {
        return false;
    };
    let mut completed = false;
    turn::scope_of(session, || {
        for packet in packets {
            let packet = packet.unwrap_or(Packet::Noop);
            if completed {
                session.receive(packet);
            } else if let Some(step) = probe_step(session, packet) {
                completed = step == ProbeStep::Complete;
            } else {
                return false;
            }
        }
        true
    })
}

/// What a packet of the probe asks for. Returns `None` if it has failed.
fn probe_step(session: &Arc<Session>, packet: Packet<'_>) -> Option<ProbeStep> {
    let input = Input::ProbePacket(UpgradeTarget::Streaming, packet);
    let Output::Probe(step) = session.input(input) else {
        return None;
    };
    let mut state = session.lock();
    let get = state.requests().get.wrapping_add(1);
    let probe = state.requests().probe.as_mut();
    match (step, probe) {
        (ProbeStep::Answer, Some(probe)) => probe.answer_due = true,
        (ProbeStep::Complete, probe) => {
            if let Some(probe) = probe {
                probe.completed = Some(get);
            }
            // A poll that still waits is superseded too.
            state.requests().begin_get();
            tracing::debug!(session = ?session.id(), "upgraded to streaming");
        }
        (ProbeStep::Answer | ProbeStep::Reject, _) => {
            state.requests().end_probe();
            return None;
        }
    }
    state.requests().wake_probe();
    drop(state);
    if matches!(step, ProbeStep::Complete) {
        session.upgraded();
    }
    Some(step)
}
