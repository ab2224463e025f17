//! One session, as its server sees it: heartbeat, polling rules, upgrade, outbound queue and close.
//!
//! Pure state: [`Session::handle`] takes what has happened and the time, and says what is to be
//! done; [`Session::deadline`] says when to come back with [`Input::Timeout`]. What does the I/O
//! (HTTP requests, a WebSocket) is not known here, so every race can be played through with
//! made-up time. After each input ask [`Session::closed`]: a closed session stays closed.

use std::{
    collections::VecDeque,
    io::IoSlice,
    time::{Duration, Instant},
};

use super::{
    Beat, EncodedPacket, Heartbeat, Message, Outbound, Packet, PacketType, ProbeStep, QueueFull,
    QueueLimits, Revision, Upgrade, UpgradeTimeout,
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
    /// WebSocket.
    WebSocket,
}

impl TransportKind {
    /// The name in the query parameter `transport`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

/// What has happened to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A GET has come and waits for packets.
    PollOpened,
    /// The client has gone away from the GET that waited.
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
    /// A WebSocket was opened for this session.
    ProbeOpened,
    /// A packet came on the probing WebSocket.
    ProbePacket(Packet<'a>),
    /// The probing WebSocket was closed or failed.
    ProbeClosed,
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
    /// Do this with the probing WebSocket.
    Probe(ProbeStep),
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Polling {
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
    config: SessionConfig,
    transport: Transport,
    phase: Phase,
    heartbeat: Heartbeat,
    upgrade: Upgrade,
    outbound: Outbound,
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
        config: SessionConfig,
        now: Instant,
    ) -> Self {
        Self {
            transport: match transport {
                TransportKind::Polling => Transport::Polling {
                    poll: false,
                    post: false,
                },
                TransportKind::WebSocket => Transport::WebSocket { blocked: false },
            },
            phase: Phase::Open,
            heartbeat: Heartbeat::server(revision, config.ping_interval, config.ping_timeout, now),
            upgrade: Upgrade::default(),
            outbound: Outbound::default(),
            reading_paused: false,
            stalled_at: None,
            config,
        }
    }

    /// The transport in use.
    #[must_use]
    pub const fn transport(&self) -> TransportKind {
        match self.transport {
            Transport::Polling { .. } => TransportKind::Polling,
            Transport::WebSocket { .. } => TransportKind::WebSocket,
        }
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

    /// Whether an upgrade is under way.
    #[must_use]
    pub const fn is_upgrading(&self) -> bool {
        self.upgrade.is_running()
    }

    /// When [`Input::Timeout`] is due. None: the session is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Closed(_) => return None,
            Phase::Closing { expires } => Some(expires),
            Phase::Open => None,
        };
        [phase, self.upgrade.deadline(), self.stalled_at]
            .into_iter()
            .flatten()
            .chain([self.heartbeat.deadline()])
            .min()
    }

    /// Queues the packets of one message.
    ///
    /// # Errors
    /// [`QueueFull`] where the outbound queue has no room; none of the message is queued then.
    pub fn send(
        &mut self,
        packet: EncodedPacket,
        attachments: &[EncodedPacket],
    ) -> Result<(), QueueFull> {
        self.outbound.push(packet, attachments, self.config.queue)
    }

    /// Whether the outbound queue has room for the packets of a message.
    #[must_use]
    pub fn has_room(&self, packet: &EncodedPacket, attachments: &[EncodedPacket]) -> bool {
        let limits = self.config.queue;
        self.outbound.room_for(packet, attachments, limits).is_ok()
    }

    /// Whether a message would leave at once: what a volatile message asks.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        match self.transport {
            Transport::Polling { poll, .. } => poll,
            Transport::WebSocket { blocked } => !blocked,
        }
    }

    /// Bytes that wait in the outbound queue.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.outbound.bytes()
    }

    /// The answer of the poll that waits, if it is time to answer: all that waits in the queue, or
    /// a noop where the session has left polling.
    pub fn poll_answer(&mut self) -> Option<VecDeque<EncodedPacket>> {
        match &mut self.transport {
            Transport::Polling { poll, .. }
                if !self.outbound.is_empty() || matches!(self.phase, Phase::Closed(_)) =>
            {
                *poll = false;
                Some(self.outbound.take())
            }
            Transport::Polling { .. } => None,
            Transport::WebSocket { .. } => Some(VecDeque::from([noop()])),
        }
    }

    /// Takes all that waits: the answer of a handshake by polling.
    pub fn take_queue(&mut self) -> VecDeque<EncodedPacket> {
        self.outbound.take()
    }

    /// The frames that wait for the WebSocket: fills `slices` and returns how many it filled.
    pub fn frames<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self.transport {
            Transport::WebSocket { .. } => self.outbound.frames(slices),
            Transport::Polling { .. } => 0,
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

    /// Whether the WebSocket waits to become writable.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self.transport, Transport::WebSocket { blocked: true })
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
            Input::PollAborted => {
                if matches!(self.transport, Transport::Polling { poll: true, .. }) {
                    self.transport = Transport::Polling {
                        poll: false,
                        post: false,
                    };
                    self.close(CloseReason::TransportError);
                }
                Output::Nothing
            }
            Input::PostOpened => match &mut self.transport {
                Transport::WebSocket { .. } => Output::Refuse(Refusal::TransportMismatch),
                Transport::Polling { post: true, .. } => self.overlap(),
                Transport::Polling { post, .. } => {
                    *post = true;
                    Output::Nothing
                }
            },
            Input::PostAborted => {
                if matches!(self.transport, Transport::Polling { post: true, .. }) {
                    self.close(CloseReason::TransportError);
                }
                Output::Nothing
            }
            Input::PostClosed => {
                if let Transport::Polling { post, .. } = &mut self.transport {
                    *post = false;
                    // Also where its client went away from it while this side didn't read.
                    self.reading_paused = false;
                }
                Output::Nothing
            }
            Input::Packet(packet) => self.handle_packet(packet, now),
            Input::Undecodable => self.close(CloseReason::ParseError),
            Input::ProbeOpened => {
                let accepted = self.transport() == TransportKind::Polling
                    && self.upgrade.handle_opened(now, self.config.upgrade_timeout);
                if accepted {
                    Output::Nothing
                } else {
                    Output::Probe(ProbeStep::Reject)
                }
            }
            Input::ProbePacket(packet) => self.handle_probe(&packet, now),
            Input::ProbeClosed => {
                self.upgrade.handle_closed();
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
            Input::PollOpened | Input::PostOpened => Output::Refuse(Refusal::Closed),
            Input::ProbeOpened | Input::ProbePacket(_) => Output::Probe(ProbeStep::Reject),
            _ => Output::Nothing,
        }
    }

    fn handle_poll(&mut self) -> Output<'static> {
        match &mut self.transport {
            Transport::WebSocket { .. } => Output::Refuse(Refusal::TransportMismatch),
            Transport::Polling { poll: true, .. } => self.overlap(),
            Transport::Polling { poll, .. } => {
                *poll = true;
                // Packets first, alone: a client that reads its close packet may forget the rest.
                if self.is_closing() && self.outbound.is_empty() {
                    self.close(CloseReason::ForcedClose);
                }
                Output::Flush
            }
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
                    && self.send(pong, &[]).is_ok();
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
                if matches!(self.transport, Transport::Polling { poll: true, .. }) {
                    self.outbound.push_control(noop());
                }
                self.end(CloseReason::TransportClose)
            }
            // The reference implementation takes no notice of the others either.
            Packet::Message(_) | Packet::Open(_) | Packet::Upgrade | Packet::Noop => {
                Output::Nothing
            }
        }
    }

    fn handle_probe(&mut self, packet: &Packet<'_>, now: Instant) -> Output<'static> {
        let step = self.upgrade.handle_packet(packet, now);
        if step == ProbeStep::Complete {
            // What is queued leaves by the new transport; a poll that still waits gets a noop.
            self.transport = Transport::WebSocket { blocked: false };
        }
        Output::Probe(step)
    }

    fn handle_close(&mut self, now: Instant) -> Output<'static> {
        if !self.is_open() {
            return Output::Nothing;
        }
        if matches!(self.transport, Transport::Polling { poll: true, .. })
            && self.outbound.is_empty()
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
        match self.upgrade.handle_timeout(now) {
            Some(UpgradeTimeout::Expired) => return Output::Probe(ProbeStep::Reject),
            Some(UpgradeTimeout::Noop) => {
                if matches!(self.transport, Transport::Polling { poll: true, .. })
                    && self.outbound.is_empty()
                {
                    self.outbound.push_control(noop());
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
                    self.outbound.push_control(noop());
                }
                Output::Flush
            }
            Some(Beat::Expired) => self.close(CloseReason::PingTimeout),
            None => Output::Nothing,
        }
    }

    /// Ends the session. A poll that waits is told by a close packet behind what is queued.
    fn close(&mut self, reason: CloseReason) -> Output<'static> {
        if matches!(self.transport, Transport::Polling { poll: true, .. }) {
            self.outbound
                .push_control(EncodedPacket::text(PacketType::Close, ""));
        }
        self.end(reason)
    }

    /// Nothing more happens, and no upgrade either: who probes has to see that.
    fn end(&mut self, reason: CloseReason) -> Output<'static> {
        self.upgrade = Upgrade::Idle;
        self.phase = Phase::Closed(reason);
        Output::Flush
    }
}

fn noop() -> EncodedPacket {
    EncodedPacket::text(PacketType::Noop, "")
}

#[cfg(test)]
mod tests;
