//! One session, as its server sees it: heartbeat, requests, upgrade, outbound queue and close.
//!
//! The server's I/O owns a [`ServerSession`] and tells it by [`handle`](ServerSession::handle) what
//! has happened; an [`Output`] says what is to be done. Packets leave by `take_response` and
//! `stream_step` over HTTP, by `frames` and `written` over a WebSocket. Whatever the client does
//! wrong ends the session with a reason, or refuses the request or probe alone.

mod input;
mod responses;
mod sending;

use std::{sync::Arc, time::Instant};

pub use self::{
    input::{Input, Output},
    responses::StreamStep,
};
use super::{
    config::SessionConfig,
    heartbeat::Heartbeat,
    phase::{CloseReason, Phase},
    requests::Requests,
    timers::{Timer, earliest},
    transport::{Transport, TransportKind, UpgradeTarget},
    upgrade::Upgrade,
};
pub use super::{requests::Refusal, upgrade::ProbeStep};
use crate::engine::{EncodedPacket, Outbound, Packet, PacketType, QueuePolicy, Revision};

/// One session, as its server sees it. It is driven by inputs and the time alone.
///
/// ```
/// use std::time::{Duration, Instant};
/// use antiphon_protocol::engine::{
///     Packet, QueueLimits, Revision, SessionConfig, ServerSession, TransportKind,
///     session::server::{Input, Output},
/// };
///
/// let config = SessionConfig {
///     ping_interval: Duration::from_secs(25),
///     ping_timeout: Duration::from_secs(20),
///     upgrade_timeout: Duration::from_secs(10),
///     close_timeout: Duration::from_secs(30),
///     packets_per_poll: usize::MAX,
///     queue: QueueLimits::default(),
/// };
/// let now = Instant::now();
/// let mut session = ServerSession::new(Revision::V4, TransportKind::Polling, config, now);
///
/// // A poll waits until the heartbeat is due, and gets the ping.
/// assert_eq!(session.handle(Input::GetOpened(None), now), Output::Flush);
/// assert!(session.take_response().is_none());
/// let now = session.deadline().expect("an open session has a deadline");
/// assert_eq!(session.handle(Input::Timeout, now), Output::Flush);
/// assert_eq!(session.take_response().expect("a ping is due")[0].payload(), b"2");
///
/// // The pong comes by POST.
/// session.handle(Input::PostOpened, now);
/// assert_eq!(session.handle(Input::Packet(Packet::Pong("")), now), Output::Nothing);
/// session.handle(Input::PostEnded { whole: true }, now);
/// ```
#[derive(Debug)]
pub struct ServerSession {
    /// Shared by the sessions of a server.
    config: Arc<SessionConfig>,
    transport: Transport,
    phase: Phase,
    heartbeat: Heartbeat,
    /// To WebSocket.
    upgrade: Upgrade,
    /// To streaming. Stock clients try both side by side: the first that is completed counts.
    stream_upgrade: Option<Box<Upgrade>>,
    outbound: Outbound,
    /// By when the client of a session with offsets must come again.
    away_until: Option<Box<Instant>>,
    /// This side has stopped reading, so the client's silence says nothing.
    reading_paused: bool,
    /// By when a WebSocket that is blocked must have taken something.
    stalled_at: Option<Instant>,
    /// By when the client must have taken something, since the queue is beyond its limits.
    behind_until: Option<Box<Instant>>,
}

impl ServerSession {
    /// A session that was opened at `now` on this transport.
    #[must_use]
    pub fn new(
        revision: Revision,
        transport: TransportKind,
        config: impl Into<Arc<SessionConfig>>,
        now: Instant,
    ) -> Self {
        let config = config.into();
        let mut outbound = Outbound::default();
        if transport == TransportKind::Streaming {
            outbound.track();
        }
        Self {
            transport: Transport::new(transport),
            phase: Phase::Open,
            heartbeat: Heartbeat::server(revision, &config, now),
            upgrade: Upgrade::default(),
            stream_upgrade: None,
            outbound,
            away_until: None,
            reading_paused: false,
            stalled_at: None,
            behind_until: None,
            config,
        }
    }

    /// The session with offsets (docs/protocol.md 12): packets that are sent over HTTP are kept
    /// until the client confirms them, so that a response which is cut loses nothing. A session on
    /// streaming always has them, one that is opened on WebSocket never.
    #[must_use]
    pub fn with_offsets(mut self) -> Self {
        if self.transport() == TransportKind::Polling {
            self.outbound.track();
        }
        self
    }

    /// The transport in use.
    #[must_use]
    pub const fn transport(&self) -> TransportKind {
        self.transport.kind()
    }

    /// Whether packets are kept until they are confirmed.
    #[must_use]
    pub const fn is_tracked(&self) -> bool {
        self.outbound.is_tracked()
    }

    /// Whether messages can be sent: the session is neither closing nor closed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether a message that comes now is the application's.
    ///
    /// This is the one rule for messages, on every transport: they are taken while the session is
    /// open, and no deadline depends on them but where [`awaits_life`](Self::awaits_life). Only an input makes it `false`, and nothing makes it
    /// `true` again: a driver may keep a copy that it renews after each input, and pass messages on
    /// by it without the lock that guards the session.
    #[must_use]
    pub const fn takes_messages(&self) -> bool {
        self.phase.takes_messages()
    }

    /// Whether the next message is to be told by [`Input::MessageTaken`]: a pong is awaited, and any
    /// other packet gives it its whole time again, once. Only an input changes it: a driver may keep
    /// a copy, as of [`takes_messages`](Self::takes_messages).
    #[must_use]
    pub const fn awaits_life(&self) -> bool {
        self.heartbeat.is_extensible()
    }

    /// Why the session was closed, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        self.phase.closed()
    }

    /// Whether the session is closing: it ends when what is queued has left.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.phase.is_closing()
    }

    /// Whether an upgrade to this transport is under way.
    #[must_use]
    pub fn is_upgrading(&self, to: UpgradeTarget) -> bool {
        match to {
            UpgradeTarget::WebSocket => self.upgrade.is_running(),
            UpgradeTarget::Streaming => {
                let upgrade = self.stream_upgrade.as_ref();
                upgrade.is_some_and(|upgrade| upgrade.is_running())
            }
        }
    }

    /// Whether a POST is under way: another would overlap with it.
    #[must_use]
    pub const fn has_post(&self) -> bool {
        self.transport.has_post() && self.closed().is_none()
    }

    /// Whether this side has stopped reading.
    #[must_use]
    pub const fn is_reading_paused(&self) -> bool {
        self.reading_paused
    }

    /// When [`Input::Timeout`] is due. Returns `None` if the session is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next_timer().map(|(_, at)| at)
    }

    /// What [`Input::Timeout`] is for at the [`deadline`](Self::deadline).
    #[must_use]
    pub fn next_timer(&self) -> Option<(Timer, Instant)> {
        if self.closed().is_some() {
            return None;
        }
        let streaming = self.stream_upgrade.as_ref();
        earliest([
            self.phase.timer(),
            self.stalled_at.map(|at| (Timer::Stall, at)),
            self.behind_until.as_deref().map(|&at| (Timer::Behind, at)),
            self.away_until.as_deref().map(|&at| (Timer::Return, at)),
            streaming.and_then(|upgrade| upgrade.timer(UpgradeTarget::Streaming)),
            self.upgrade.timer(UpgradeTarget::WebSocket),
            Some(self.heartbeat.timer()),
        ])
    }

    /// Something has happened at `now`: what is to be done?
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Output {
        if let Input::Blocked | Input::Writable = input {
            return self.handle_room(matches!(input, Input::Writable), now);
        }
        if self.closed().is_some() {
            return self.handle_closed(&input);
        }
        match input {
            Input::GetOpened(offset) => self.handle_get(offset, now),
            Input::GetExpired => self.handle_noop(),
            Input::GetEnded { answered } => self.handle_get_ended(answered, now),
            Input::ResponseCut => self.handle_response_cut(now),
            Input::PostOpened => self.handle_post(),
            Input::PostEnded { whole } => self.handle_post_ended(whole),
            Input::Confirmed(offset) => self.handle_confirmed(offset, now),
            Input::Packet(packet) => self.handle_packet(&packet, now),
            Input::MessageTaken => {
                self.heartbeat.handle_other(now);
                Output::Nothing
            }
            Input::Undecodable => self.close(CloseReason::ParseError),
            Input::ProbeOpened(to) => self.handle_probe_opened(to, now),
            Input::ProbePacket(to, packet) => self.handle_probe(to, &packet, now),
            Input::ProbeClosed(to) => {
                self.upgrade_to(to).end();
                Output::Nothing
            }
            Input::TransportClosed => self.close(CloseReason::TransportClose),
            Input::TransportFailed => self.close(CloseReason::TransportError),
            // Noted above.
            Input::Blocked | Input::Writable => Output::Nothing,
            Input::FellBehind => self.handle_fell_behind(now),
            Input::ResponseRead => {
                self.note_progress(now);
                Output::Nothing
            }
            Input::Drained => self.handle_drained(),
            Input::ReadingPaused => {
                self.reading_paused = true;
                Output::Nothing
            }
            Input::ReadingResumed => {
                self.reading_paused = false;
                Output::Nothing
            }
            Input::Close => self.handle_close(now),
            Input::Abort => self.close(CloseReason::ForcedClose),
            Input::DriverEnded => {
                self.close(CloseReason::ForcedClose);
                self.handle_closed(&input)
            }
            Input::Timeout => self.handle_timeout(now),
        }
    }

    /// A closed session refuses requests and probes and takes no notice of the rest.
    fn handle_closed(&mut self, input: &Input<'_>) -> Output {
        match input {
            Input::GetOpened(_) | Input::PostOpened => Output::Refuse(Refusal::Closed),
            Input::ProbeOpened(_) | Input::ProbePacket(..) => Output::Probe(ProbeStep::Reject),
            Input::DriverEnded => {
                if self.transport() == TransportKind::WebSocket {
                    drop(self.outbound.take());
                }
                Output::Nothing
            }
            _ => Output::Nothing,
        }
    }

    /// The WebSocket takes more, or no more. A client may answer heartbeats and never read: it has
    /// its patience from the moment at which it has taken something last.
    fn handle_room(&mut self, writable: bool, now: Instant) -> Output {
        if let Transport::WebSocket { blocked } = &mut self.transport {
            *blocked = !writable;
            if writable {
                self.stalled_at = None;
                self.note_progress(now);
            } else {
                self.stalled_at.get_or_insert(now + self.config.patience());
            }
        }
        Output::Nothing
    }

    /// The queue has grown beyond its limits. A client that takes nothing has some time from then
    /// on: one that polls need not have a poll waiting.
    fn handle_fell_behind(&mut self, now: Instant) -> Output {
        let until = now + self.config.ping_timeout;
        self.behind_until.get_or_insert_with(|| Box::new(until));
        Output::Nothing
    }

    /// The client has taken something: if it is still behind, its time begins anew.
    fn note_progress(&mut self, now: Instant) {
        if let Some(until) = self.behind_until.as_deref_mut() {
            *until = (*until).max(now + self.config.ping_timeout);
        }
        self.note_caught_up();
    }

    /// Something has left the queue, or is not kept any more.
    fn note_caught_up(&mut self) {
        if self.behind_until.is_some() && self.outbound.is_within(self.config.queue) {
            self.behind_until = None;
        }
    }

    /// A GET comes. If its session has offsets, what its client hasn't had is sent again, and a GET
    /// that still waits ends.
    fn handle_get(&mut self, offset: Option<u64>, now: Instant) -> Output {
        let Transport::Http(requests) = &mut self.transport else {
            return Output::Refuse(Refusal::TransportMismatch);
        };
        let mut is_progress = !self.outbound.keeps_any();
        if self.outbound.is_tracked() {
            match offset.map_or(Ok(0), |offset| self.outbound.confirm(offset)) {
                Ok(confirmed) => is_progress |= confirmed > 0,
                Err(bad) => {
                    self.close(CloseReason::TransportError);
                    return Output::Refuse(Refusal::BadOffset(bad));
                }
            }
            self.outbound.rewind();
            self.away_until = None;
        } else if requests.get {
            return self.overlap();
        }
        requests.get = true;
        if is_progress {
            self.note_progress(now);
        }
        // Packets first, alone: a client that reads its close packet may forget the rest.
        if self.is_closing() && self.outbound.is_empty() {
            self.close(CloseReason::ForcedClose);
        }
        Output::Flush
    }

    fn handle_get_ended(&mut self, answered: bool, now: Instant) -> Output {
        if let Transport::Http(requests) = &mut self.transport {
            let waited = std::mem::take(&mut requests.get);
            if self.outbound.is_tracked() {
                self.expect_return(now);
            } else if waited && !answered {
                self.close(CloseReason::TransportError);
            }
        }
        Output::Nothing
    }

    fn handle_response_cut(&mut self, now: Instant) -> Output {
        if self.outbound.is_tracked() {
            // A poll that waits says that its client has come again already.
            if !self.transport.has_poll() {
                self.expect_return(now);
            }
            return Output::Nothing;
        }
        self.close(CloseReason::TransportError)
    }

    /// The client of a session with offsets comes again in time.
    fn expect_return(&mut self, now: Instant) {
        self.away_until = Some(Box::new(now + self.config.ping_timeout));
    }

    fn handle_post(&mut self) -> Output {
        match &mut self.transport {
            Transport::WebSocket { .. } => Output::Refuse(Refusal::TransportMismatch),
            Transport::Http(requests) if requests.post && !self.outbound.is_tracked() => {
                self.overlap()
            }
            Transport::Http(requests) => {
                requests.post = true;
                Output::Nothing
            }
        }
    }

    fn handle_post_ended(&mut self, whole: bool) -> Output {
        let Transport::Http(requests) = &mut self.transport else {
            return Output::Nothing;
        };
        let was_open = std::mem::take(&mut requests.post);
        // Also if its client went away from it while this side didn't read.
        self.reading_paused = false;
        if was_open && !whole && !self.outbound.is_tracked() {
            self.close(CloseReason::TransportError);
        }
        Output::Nothing
    }

    /// Two requests of one method at a time break the order of packets: the session ends.
    fn overlap(&mut self) -> Output {
        self.close(CloseReason::TransportError);
        Output::Refuse(Refusal::Overlap)
    }

    /// What a client has had is forgotten. What was forgotten before does no harm: POSTs may be
    /// late.
    fn handle_confirmed(&mut self, offset: u64, now: Instant) -> Output {
        match self.outbound.confirm(offset) {
            Err(bad) if offset > bad.last => {
                self.close(CloseReason::TransportError);
                return Output::Refuse(Refusal::BadOffset(bad));
            }
            Ok(confirmed) if confirmed > 0 => self.note_progress(now),
            _ => {}
        }
        Output::Nothing
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, now: Instant) -> Output {
        match packet {
            Packet::Ping(data) => {
                let pong = EncodedPacket::text(PacketType::Pong, data);
                if self.heartbeat.handle_ping(now).is_err() {
                    return self.close(CloseReason::TransportError);
                }
                // A client that pings and never reads doesn't grow the queue.
                match self.send(pong.into(), QueuePolicy::Close) {
                    Ok(queued) => {
                        if queued.is_behind {
                            self.handle_fell_behind(now);
                        }
                        Output::Flush
                    }
                    Err(_) => self.close(CloseReason::TransportError),
                }
            }
            Packet::Pong(_) => match self.heartbeat.handle_pong(now) {
                Ok(()) => Output::Nothing,
                Err(_) => self.close(CloseReason::TransportError),
            },
            Packet::Close => {
                // The client expects no more than that its poll returns.
                if self.transport.has_get() {
                    self.outbound.push_noop();
                }
                self.end(CloseReason::TransportClose)
            }
            // The reference implementation takes no other notice of them either.
            Packet::Open(_) | Packet::Upgrade | Packet::Noop => {
                self.heartbeat.handle_other(now);
                Output::Nothing
            }
            Packet::Message(_) => Output::Nothing,
        }
    }

    /// The upgrade to this transport.
    fn upgrade_to(&mut self, to: UpgradeTarget) -> &mut Upgrade {
        match to {
            UpgradeTarget::Streaming => self.stream_upgrade.get_or_insert_default(),
            UpgradeTarget::WebSocket => &mut self.upgrade,
        }
    }

    fn handle_probe_opened(&mut self, to: UpgradeTarget, now: Instant) -> Output {
        let timeout = self.config.upgrade_timeout;
        if self.transport().upgrades_to(to) && self.upgrade_to(to).handle_opened(now, timeout) {
            Output::Nothing
        } else {
            Output::Probe(ProbeStep::Reject)
        }
    }

    fn handle_probe(&mut self, to: UpgradeTarget, packet: &Packet<'_>, now: Instant) -> Output {
        let step = self.upgrade_to(to).handle_packet(packet, now);
        if step == ProbeStep::Complete {
            // What is queued leaves by the new transport; a poll that still waits gets a noop. What
            // was sent has come: the client has waited for it.
            self.upgrade = Upgrade::Idle;
            self.stream_upgrade = None;
            self.away_until = None;
            self.note_progress(now);
            match to {
                UpgradeTarget::WebSocket => {
                    self.transport = Transport::WebSocket { blocked: false };
                    self.outbound.untrack();
                }
                UpgradeTarget::Streaming => {
                    // The response that was probed is the stream.
                    self.transport = Transport::Http(Requests {
                        get: true,
                        ..Requests::streaming()
                    });
                    self.outbound.track();
                }
            }
        }
        Output::Probe(step)
    }

    fn handle_drained(&mut self) -> Output {
        // By polling the close packet goes alone, with the next poll.
        let follows = self.transport() != TransportKind::Polling;
        if follows && self.is_closing() && self.outbound.is_empty() {
            return self.close(CloseReason::ForcedClose);
        }
        Output::Nothing
    }

    fn handle_close(&mut self, now: Instant) -> Output {
        if !self.is_open() {
            return Output::Nothing;
        }
        if self.transport.has_get() && self.outbound.is_empty() {
            return self.close(CloseReason::ForcedClose);
        }
        self.phase = Phase::Closing {
            expires: now + self.config.close_timeout,
        };
        Output::Flush
    }

    fn handle_timeout(&mut self, now: Instant) -> Output {
        let due = self.next_timer().filter(|&(_, at)| at <= now);
        let Some((timer, _)) = due else {
            return Output::Nothing;
        };
        match timer {
            Timer::Close => self.close(CloseReason::ForcedClose),
            Timer::Stall | Timer::Behind => self.close(CloseReason::TransportError),
            Timer::Return => self.close(CloseReason::TransportClose),
            Timer::Upgrade(to) => {
                self.upgrade_to(to).end();
                Output::Probe(ProbeStep::Reject)
            }
            Timer::Noop(to) => {
                self.upgrade_to(to).handle_noop(now);
                self.handle_noop()
            }
            Timer::Ping => {
                self.heartbeat.pinged(now);
                let ping = EncodedPacket::text(PacketType::Ping, "");
                self.outbound.push_control(ping);
                Output::Flush
            }
            Timer::Silence if self.reading_paused => {
                self.heartbeat.postpone(now);
                if self.transport() == TransportKind::WebSocket {
                    // Where the client has gone, reading would tell; so does writing.
                    self.outbound.push_noop();
                }
                Output::Flush
            }
            Timer::Silence => self.close(CloseReason::PingTimeout),
        }
    }

    /// A poll that waits is answered now, with a noop if there is nothing else.
    fn handle_noop(&mut self) -> Output {
        if self.transport.has_poll() && self.outbound.is_empty() {
            self.outbound.push_noop();
        }
        Output::Flush
    }

    /// Ends the session. A GET that waits is told by a close packet behind what is queued.
    fn close(&mut self, reason: CloseReason) -> Output {
        if self.transport.has_get() {
            let close = EncodedPacket::text(PacketType::Close, "");
            self.outbound.push_control(close);
        }
        self.end(reason)
    }

    /// Nothing more happens, and no upgrade either: the task of a probe has to see that.
    fn end(&mut self, reason: CloseReason) -> Output {
        self.upgrade = Upgrade::Idle;
        self.stream_upgrade = None;
        self.phase = Phase::Closed(reason);
        Output::Flush
    }
}
