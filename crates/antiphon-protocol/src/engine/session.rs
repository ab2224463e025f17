//! One session, as its server sees it: heartbeat, polling rules, upgrade, outbound queue and close.
//!
//! Pure state: [`Session::handle`] takes what has happened and the time, and says what is to be
//! done; [`Session::deadline`] says when to come back with [`Input::Timeout`]. What does the I/O
//! (HTTP requests, a WebSocket) is not known here, so every race can be played through with
//! made-up time. After each input ask [`Session::closed`]: a closed session stays closed.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BadOffset, Beat, Bundle, Encoded, EncodedPacket, Form, Heartbeat, Message, Outbound, Packet,
    PacketType, ProbeStep, QueueFull, QueueLimits, Revision, Upgrade, UpgradeTimeout,
};

/// The deadlines and bounds of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionConfig {
    /// Time between two heartbeats.
    pub ping_interval: Duration,
    /// How long an answer to a heartbeat may take.
    pub ping_timeout: Duration,
    /// How long an upgrade may take, from its transport's opening.
    pub upgrade_timeout: Duration,
    /// How long a closing session waits for its queue to drain or its next poll.
    pub close_timeout: Duration,
    /// Bounds of the outbound queue.
    pub queue: QueueLimits,
}

/// Why a session was closed by the engine, in the words of Socket.IO's disconnect reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The connection failed, or the client broke a rule of its transport.
    TransportError,
    /// The client closed the connection.
    TransportClose,
    /// This side closed the session.
    ForcedClose,
    /// The client has not answered (revision 4) or sent (revision 3) a heartbeat in time.
    PingTimeout,
    /// A packet could not be decoded.
    ParseError,
}

impl CloseReason {
    /// The reason as Socket.IO names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
        }
    }
}

/// What a session's packets travel on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// HTTP long-polling.
    Polling,
    /// HTTP streaming: one response that stays open.
    Streaming,
    /// WebSocket.
    WebSocket,
}

impl TransportKind {
    /// The name in the query parameter `transport`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Streaming => "streaming",
            Self::WebSocket => "websocket",
        }
    }
}

/// What has happened to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A GET has come and waits for packets.
    PollOpened,
    /// A GET has come that says how many packets its client has had. In a session that is tracked it
    /// takes over from the one before.
    Resumed(Option<u64>),
    /// The GET has ended before it was answered, or the client has gone away from it. In a session
    /// that is tracked this is no error: its client comes again.
    PollAborted,
    /// A POST has come; its packets follow.
    PostOpened,
    /// The POST is done with.
    PostClosed,
    /// The client has gone away from a POST before all of it had come.
    PostAborted,
    /// A packet came on the session's transport.
    Packet(Packet<'a>),
    /// What came on the session's transport could not be decoded.
    Undecodable,
    /// Another transport of this kind was opened for this session.
    ProbeOpened(TransportKind),
    /// A packet came on the probing transport.
    ProbePacket(TransportKind, Packet<'a>),
    /// The probing transport was closed or failed.
    ProbeClosed(TransportKind),
    /// The client has closed the session's WebSocket.
    TransportClosed,
    /// The session's transport failed.
    TransportFailed,
    /// All that was queued has been written to the WebSocket.
    Drained,
    /// The application closes the session; what is queued may still leave.
    Close,
    /// The application closes the session at once.
    Abort,
    /// The deadline has come. Repeat until the output is [`Output::Nothing`].
    Timeout,
}

/// Why an HTTP request of a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The session is closed.
    Closed,
    /// The session uses another transport by now.
    TransportMismatch,
    /// Another request of the same method is under way. The session is closed for it.
    Overlap,
    /// The packets that it asks for are not kept. The session is closed for it.
    BadOffset(BadOffset),
}

/// What is to be done after an input.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Nothing.
    Nothing,
    /// Hand this message to the application.
    Message(Message<'a>),
    /// Packets wait for the transport: write them, or answer the poll that waits.
    Flush,
    /// Refuse the HTTP request.
    Refuse(Refusal),
    /// Do this with the probing transport.
    Probe(ProbeStep),
}

/// What a streamed response carries next.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamStep {
    /// These packets.
    Packets(VecDeque<EncodedPacket>),
    /// Nothing for now.
    Wait,
    /// It ends.
    End,
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Http {
        /// Packets leave by a response that stays open, and not by polls.
        streaming: bool,
        /// A GET waits.
        poll: bool,
        /// A POST is under way.
        post: bool,
    },
    WebSocket {
        /// The last write could not be completed.
        blocked: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Open,
    Closing { expires: Instant },
    Closed(CloseReason),
}

/// One session. It is driven by inputs and the time alone.
#[derive(Debug)]
pub struct Session {
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
    /// By when the client of a tracked session must come again.
    away_until: Option<Box<Instant>>,
    /// This side has stopped reading, so the peer's silence says nothing.
    reading_paused: bool,
    /// By when a WebSocket that is blocked must have taken something.
    stalled_at: Option<Instant>,
}

impl Session {
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
            transport: match transport {
                TransportKind::Polling | TransportKind::Streaming => Transport::Http {
                    streaming: transport == TransportKind::Streaming,
                    poll: false,
                    post: false,
                },
                TransportKind::WebSocket => Transport::WebSocket { blocked: false },
            },
            phase: Phase::Open,
            heartbeat: Heartbeat::server(revision, config.ping_interval, config.ping_timeout, now),
            upgrade: Upgrade::default(),
            stream_upgrade: None,
            outbound,
            away_until: None,
            reading_paused: false,
            stalled_at: None,
            config,
        }
    }

    /// The transport in use.
    #[must_use]
    pub const fn transport(&self) -> TransportKind {
        match self.transport {
            Transport::Http {
                streaming: false, ..
            } => TransportKind::Polling,
            Transport::Http {
                streaming: true, ..
            } => TransportKind::Streaming,
            Transport::WebSocket { .. } => TransportKind::WebSocket,
        }
    }

    /// Keeps the packets that are sent by polling until the client confirms them, so that a poll
    /// which is cut loses nothing. A session that is opened on streaming always does.
    pub fn track(&mut self) {
        self.outbound.track();
    }

    /// Whether packets are kept until they are confirmed.
    #[must_use]
    pub const fn is_tracked(&self) -> bool {
        self.outbound.is_tracked()
    }

    /// Whether messages are taken: the session is neither closing nor closed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Why the session was closed, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closed(reason) => Some(reason),
            Phase::Open | Phase::Closing { .. } => None,
        }
    }

    /// Whether the session is closing: it ends when the WebSocket has taken what is queued.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether an upgrade to this kind of transport is under way.
    #[must_use]
    pub fn is_upgrading(&self, to: TransportKind) -> bool {
        match to {
            TransportKind::Polling => false,
            TransportKind::WebSocket => self.upgrade.is_running(),
            TransportKind::Streaming => {
                let upgrade = self.stream_upgrade.as_ref();
                upgrade.is_some_and(|upgrade| upgrade.is_running())
            }
        }
    }

    /// When [`Input::Timeout`] is due. Returns `None` if the session is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Closed(_) => return None,
            Phase::Closing { expires } => Some(expires),
            Phase::Open => None,
        };
        let streaming = self.stream_upgrade.as_ref();
        [
            phase,
            self.upgrade.deadline(),
            streaming.and_then(|upgrade| upgrade.deadline()),
            self.stalled_at,
            self.away_until.as_deref().copied(),
        ]
        .into_iter()
        .flatten()
        .chain([self.heartbeat.deadline()])
        .min()
    }

    /// Queues a message, in the session's form.
    ///
    /// # Errors
    /// [`QueueFull`] if the outbound queue has no room; none of the message is queued then.
    pub fn send(&mut self, message: Encoded) -> Result<(), QueueFull> {
        self.outbound.push(message, self.config.queue)
    }

    /// Whether the outbound queue has room for a message.
    #[must_use]
    pub fn has_room(&self, message: &Encoded) -> bool {
        let (count, length) = (message.count(), message.len_bytes());
        self.outbound.room(count, length, self.config.queue).is_ok()
    }

    /// Appends a frame to the queue's tail. Returns `false` if the session isn't on WebSocket, or the frame is for
    /// [`send`](Self::send).
    pub fn append(&mut self, frame: &[u8]) -> bool {
        self.has_frames() && self.outbound.append(frame, self.config.queue)
    }

    /// Makes a bundle the queue's tail. Returns `false` if the session isn't on WebSocket, or there is no room.
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
        match self.transport {
            Transport::Http {
                poll, streaming, ..
            } => poll && (!streaming || self.outbound.is_empty()),
            Transport::WebSocket { blocked } => !blocked,
        }
    }

    /// Bytes that wait in the outbound queue.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// The answer of the poll that waits, if it is time to answer: all that waits in the queue, or
    /// a noop if the session has left polling.
    pub fn poll_answer(&mut self) -> Option<VecDeque<EncodedPacket>> {
        match &mut self.transport {
            Transport::Http {
                streaming: false,
                poll,
                ..
            } => {
                let due = !self.outbound.is_empty() || matches!(self.phase, Phase::Closed(_));
                due.then(|| {
                    *poll = false;
                    self.outbound.take()
                })
            }
            _ => Some(noops()),
        }
    }

    /// The answer of a poll that has waited for long enough: a noop if there is nothing else.
    pub fn poll_gives_up(&mut self) -> VecDeque<EncodedPacket> {
        if let Transport::Http { poll, .. } = &mut self.transport {
            *poll = false;
        }
        noops()
    }

    /// What the streamed response carries next, which the session's packets leave by.
    pub fn stream_step(&mut self) -> StreamStep {
        let streams = matches!(
            self.transport,
            Transport::Http {
                streaming: true,
                ..
            }
        );
        if !streams {
            return StreamStep::End;
        }
        if self.is_closing() && self.outbound.is_empty() {
            self.close(CloseReason::ForcedClose);
        }
        if !self.outbound.is_empty() {
            return StreamStep::Packets(self.outbound.take());
        }
        // A client that goes on to WebSocket waits for the end of the stream.
        if self.closed().is_some() || self.upgrade.is_probed() {
            return StreamStep::End;
        }
        StreamStep::Wait
    }

    /// The number of the packet that a streamed response carries next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.outbound.offset()
    }

    /// Whether so much is kept that the client should confirm some, by coming again.
    #[must_use]
    pub fn keeps_much(&self) -> bool {
        !self.outbound.keeps_little(self.config.queue)
    }

    /// A POST says how many packets its client has had: they are forgotten. What was forgotten before
    /// does no harm.
    ///
    /// # Errors
    /// [`BadOffset`] if so many were never sent; the session is closed for it.
    pub fn confirm(&mut self, offset: u64) -> Result<(), BadOffset> {
        match self.outbound.confirm(offset) {
            Err(bad) if offset > bad.last => {
                self.close(CloseReason::TransportError);
                Err(bad)
            }
            _ => Ok(()),
        }
    }

    /// Takes all that waits: the answer of a handshake by polling.
    pub fn take_queue(&mut self) -> VecDeque<EncodedPacket> {
        self.outbound.take()
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
            Transport::Http { .. } => 0,
        }
    }

    /// Notes that the WebSocket has taken `count` bytes, and whether it would take more.
    pub fn written(&mut self, count: usize, would_block: bool) {
        self.outbound.advance(count);
        if count > 0 || !would_block {
            self.stalled_at = None;
        }
        if let Transport::WebSocket { blocked } = &mut self.transport {
            *blocked = would_block;
        }
    }

    /// Whether the session is on WebSocket, nothing is queued, and all has been taken so far: what is
    /// written now is in order.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.transport, Transport::WebSocket { blocked: false })
            && self.outbound.is_empty()
    }

    /// Whether the WebSocket waits to become writable.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self.transport, Transport::WebSocket { blocked: true })
    }

    /// Whether a POST is under way: another would overlap with it.
    #[must_use]
    pub const fn has_post(&self) -> bool {
        matches!(self.transport, Transport::Http { post: true, .. }) && self.closed().is_none()
    }

    /// Notes whether this side is reading. While it isn't, silence doesn't close the session.
    pub const fn set_reading_paused(&mut self, paused: bool) {
        self.reading_paused = paused;
    }

    /// Something has happened at `now`: what is to be done?
    pub fn handle<'a>(&mut self, input: Input<'a>, now: Instant) -> Output<'a> {
        if self.closed().is_some() {
            return Self::handle_closed(&input);
        }
        if self.is_blocked() {
            // A client may answer heartbeats and never read.
            let patience = self.config.ping_interval + self.config.ping_timeout;
            self.stalled_at.get_or_insert(now + patience);
        }
        match input {
            Input::PollOpened => self.handle_poll(),
            Input::Resumed(offset) => self.handle_resumed(offset),
            Input::PollAborted => {
                if let Transport::Http { poll, post, .. } = &mut self.transport {
                    let waited = std::mem::take(poll);
                    if self.outbound.is_tracked() {
                        self.away_until = Some(Box::new(now + self.config.ping_timeout));
                    } else if waited {
                        *post = false;
                        self.close(CloseReason::TransportError);
                    }
                }
                Output::Nothing
            }
            Input::PostOpened => match &mut self.transport {
                Transport::WebSocket { .. } => Output::Refuse(Refusal::TransportMismatch),
                Transport::Http { post: true, .. } if !self.outbound.is_tracked() => self.overlap(),
                Transport::Http { post, .. } => {
                    *post = true;
                    Output::Nothing
                }
            },
            Input::PostAborted => {
                if matches!(self.transport, Transport::Http { post: true, .. }) {
                    if self.outbound.is_tracked() {
                        return self.handle(Input::PostClosed, now);
                    }
                    self.close(CloseReason::TransportError);
                }
                Output::Nothing
            }
            Input::PostClosed => {
                if let Transport::Http { post, .. } = &mut self.transport {
                    *post = false;
                    // Also if its client went away from it while this side didn't read.
                    self.reading_paused = false;
                }
                Output::Nothing
            }
            Input::Packet(packet) => self.handle_packet(packet, now),
            Input::Undecodable => self.close(CloseReason::ParseError),
            Input::ProbeOpened(to) => {
                let possible = match self.transport() {
                    TransportKind::Polling => true,
                    TransportKind::Streaming => to == TransportKind::WebSocket,
                    TransportKind::WebSocket => false,
                };
                let timeout = self.config.upgrade_timeout;
                if possible && self.upgrade_to(to).handle_opened(now, timeout) {
                    Output::Nothing
                } else {
                    Output::Probe(ProbeStep::Reject)
                }
            }
            Input::ProbePacket(to, packet) => self.handle_probe(to, &packet, now),
            Input::ProbeClosed(to) => {
                self.upgrade_to(to).handle_closed();
                Output::Nothing
            }
            Input::TransportClosed => self.close(CloseReason::TransportClose),
            Input::TransportFailed => self.close(CloseReason::TransportError),
            Input::Drained => {
                // Over polling the close packet goes with the next poll.
                let written = self.transport() == TransportKind::WebSocket;
                if written && self.is_closing() && self.outbound.is_empty() {
                    self.close(CloseReason::ForcedClose);
                }
                Output::Nothing
            }
            Input::Close => self.handle_close(now),
            Input::Abort => self.close(CloseReason::ForcedClose),
            Input::Timeout => self.handle_timeout(now),
        }
    }

    /// A closed session refuses requests and probes and takes no notice of the rest.
    const fn handle_closed<'a>(input: &Input<'_>) -> Output<'a> {
        match input {
            Input::PollOpened | Input::Resumed(_) | Input::PostOpened => {
                Output::Refuse(Refusal::Closed)
            }
            Input::ProbeOpened(_) | Input::ProbePacket(..) => Output::Probe(ProbeStep::Reject),
            _ => Output::Nothing,
        }
    }

    fn handle_poll(&mut self) -> Output<'static> {
        match &mut self.transport {
            Transport::WebSocket { .. } => Output::Refuse(Refusal::TransportMismatch),
            Transport::Http { poll: true, .. } => self.overlap(),
            Transport::Http { poll, .. } => {
                *poll = true;
                // Packets first, alone: a client that reads its close packet may forget the rest.
                if self.is_closing() && self.outbound.is_empty() {
                    self.close(CloseReason::ForcedClose);
                }
                Output::Flush
            }
        }
    }

    /// A client comes again: what it hasn't had is sent again, and a GET that still waits ends.
    fn handle_resumed(&mut self, offset: Option<u64>) -> Output<'static> {
        if !self.outbound.is_tracked() {
            return self.handle_poll();
        }
        if let Some(Err(bad)) = offset.map(|offset| self.outbound.confirm(offset)) {
            self.close(CloseReason::TransportError);
            return Output::Refuse(Refusal::BadOffset(bad));
        }
        self.outbound.rewind();
        self.away_until = None;
        if let Transport::Http { poll, .. } = &mut self.transport {
            *poll = false;
        }
        self.handle_poll()
    }

    /// The upgrade to this kind of transport.
    fn upgrade_to(&mut self, to: TransportKind) -> &mut Upgrade {
        match to {
            TransportKind::Streaming => self.stream_upgrade.get_or_insert_default(),
            TransportKind::Polling | TransportKind::WebSocket => &mut self.upgrade,
        }
    }

    /// Two requests of one method at a time break the order of packets: the session ends.
    fn overlap(&mut self) -> Output<'static> {
        self.close(CloseReason::TransportError);
        Output::Refuse(Refusal::Overlap)
    }

    fn handle_packet<'a>(&mut self, packet: Packet<'a>, now: Instant) -> Output<'a> {
        match packet {
            Packet::Message(message) if self.is_open() => Output::Message(message),
            Packet::Ping(data) => {
                let pong = EncodedPacket::text(PacketType::Pong, data);
                let answered = self.heartbeat.handle_ping(now).is_ok()
                    // A client that pings and never reads doesn't grow the queue.
                    && self.send(pong.into()).is_ok();
                if answered {
                    Output::Flush
                } else {
                    self.close(CloseReason::TransportError)
                }
            }
            Packet::Pong(_) => match self.heartbeat.handle_pong(now) {
                Ok(()) => Output::Nothing,
                Err(_) => self.close(CloseReason::TransportError),
            },
            Packet::Close => {
                // The client expects no more than that its poll returns.
                if matches!(self.transport, Transport::Http { poll: true, .. }) {
                    self.outbound.push_noop();
                }
                self.end(CloseReason::TransportClose)
            }
            // The reference implementation takes no notice of the others either.
            Packet::Message(_) | Packet::Open(_) | Packet::Upgrade | Packet::Noop => {
                Output::Nothing
            }
        }
    }

    fn handle_probe(
        &mut self,
        to: TransportKind,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Output<'static> {
        let step = self.upgrade_to(to).handle_packet(packet, now);
        if step == ProbeStep::Complete {
            // What is queued leaves by the new transport; a poll that still waits gets a noop. What
            // was sent has come: the client has waited for it.
            self.upgrade = Upgrade::Idle;
            self.stream_upgrade = None;
            self.away_until = None;
            if to == TransportKind::WebSocket {
                self.transport = Transport::WebSocket { blocked: false };
                self.outbound.untrack();
            } else {
                self.transport = Transport::Http {
                    streaming: true,
                    poll: true,
                    post: false,
                };
                self.outbound.track();
            }
        }
        Output::Probe(step)
    }

    fn handle_close(&mut self, now: Instant) -> Output<'static> {
        if !self.is_open() {
            return Output::Nothing;
        }
        if matches!(self.transport, Transport::Http { poll: true, .. }) && self.outbound.is_empty()
        {
            return self.close(CloseReason::ForcedClose);
        }
        self.phase = Phase::Closing {
            expires: now + self.config.close_timeout,
        };
        Output::Flush
    }

    fn handle_timeout(&mut self, now: Instant) -> Output<'static> {
        if let Phase::Closing { expires } = self.phase
            && now >= expires
        {
            return self.close(CloseReason::ForcedClose);
        }
        if self.stalled_at.is_some_and(|by| now >= by) {
            return self.close(CloseReason::TransportError);
        }
        if self.away_until.as_deref().is_some_and(|by| now >= *by) {
            return self.close(CloseReason::TransportClose);
        }
        let streaming = self.stream_upgrade.as_mut();
        let streaming = streaming.and_then(|upgrade| upgrade.handle_timeout(now));
        match streaming.or_else(|| self.upgrade.handle_timeout(now)) {
            Some(UpgradeTimeout::Expired) => return Output::Probe(ProbeStep::Reject),
            Some(UpgradeTimeout::Noop) => {
                if matches!(
                    self.transport,
                    Transport::Http {
                        streaming: false,
                        poll: true,
                        ..
                    }
                ) && self.outbound.is_empty()
                {
                    self.outbound.push_noop();
                }
                return Output::Flush;
            }
            None => {}
        }
        match self.heartbeat.handle_timeout(now) {
            Some(Beat::Ping) => {
                let ping = EncodedPacket::text(PacketType::Ping, "");
                self.outbound.push_control(ping);
                Output::Flush
            }
            Some(Beat::Expired) if self.reading_paused => {
                self.heartbeat.postpone(now);
                if self.transport() == TransportKind::WebSocket {
                    // Where the client has gone, reading would tell; so does writing.
                    self.outbound.push_noop();
                }
                Output::Flush
            }
            Some(Beat::Expired) => self.close(CloseReason::PingTimeout),
            None => Output::Nothing,
        }
    }

    /// Ends the session. A poll that waits is told by a close packet behind what is queued.
    fn close(&mut self, reason: CloseReason) -> Output<'static> {
        if matches!(self.transport, Transport::Http { poll: true, .. }) {
            self.outbound
                .push_control(EncodedPacket::text(PacketType::Close, ""));
        }
        self.end(reason)
    }

    /// Nothing more happens, and no upgrade either: the task of a probe has to see that.
    fn end(&mut self, reason: CloseReason) -> Output<'static> {
        self.upgrade = Upgrade::Idle;
        self.stream_upgrade = None;
        self.phase = Phase::Closed(reason);
        Output::Flush
    }
}

fn noops() -> VecDeque<EncodedPacket> {
    VecDeque::from([EncodedPacket::text(PacketType::Noop, "")])
}

#[cfg(test)]
mod tests;
