//! One session, as its client sees it: heartbeat, one GET and one POST at a time, upgrade, outbound
//! queue and close.
//!
//! The client's I/O shakes hands, and owns a [`ClientSession`] from then on. After each input it
//! asks [`transmit`](ClientSession::transmit) until there is nothing more to send, and `closed`.
//! Packets that come are inputs, but for messages, which are the application's as long as
//! `takes_messages` says so. What the server does wrong, and what it doesn't do in time, ends the
//! session with a reason, or the attempt to upgrade alone.
//!
//! The order of an upgrade is the client's business (docs/protocol.md 10): once its probe is
//! answered it begins no GET and no POST, and when those under way have ended, `5` goes by the
//! WebSocket and all that was queued meanwhile follows.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
    config::SessionConfig,
    heartbeat::Heartbeat,
    phase::{CloseReason, Phase},
    timers::{Timer, earliest},
    transport::{Transport, TransportKind, UpgradeTarget},
    upgrade::Upgrade,
};
use crate::engine::{
    Encoded, EncodedPacket, Outbound, Packet, PacketType, QueueFull, QueuePolicy, Revision,
};

/// What has happened to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A packet came on the session's transport. Messages are ignored here: they are for
    /// [`takes_messages`](ClientSession::takes_messages).
    Packet(Packet<'a>),
    /// What came on the session's transport could not be decoded.
    Undecodable,
    /// The poll has returned, and its packets have been handed on.
    PollEnded,
    /// What was taken to be sent has left: the POST was answered, or the WebSocket has taken all.
    Sent,
    /// A WebSocket was opened for this session.
    ProbeOpened,
    /// A packet came on that WebSocket, before it carries the session.
    ProbePacket(Packet<'a>),
    /// That WebSocket was closed or failed, before it carries the session.
    ProbeClosed,
    /// The server has closed the session's WebSocket.
    TransportClosed,
    /// The session's transport failed, or a request was refused.
    TransportFailed,
    /// The application closes the session; what is queued still leaves.
    Close,
    /// The application closes the session at once.
    Abort,
    /// The deadline has come. Repeat until the output is [`Output::Nothing`] and the deadline is
    /// later.
    Timeout,
}

/// What is to be done after an input, beside what [`transmit`](ClientSession::transmit) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    Nothing,
    /// Write the packet `2probe` to the new WebSocket.
    Probe,
    /// Write the packet `5` to the new WebSocket, then say [`Input::Sent`]. It carries the session
    /// from now on.
    Upgrade,
    /// Close the new WebSocket. The session lives on.
    GiveUp,
}

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A GET, which waits for packets. Its end is [`Input::PollEnded`].
    Poll,
    /// These packets, in one POST or in several one after the other. The end is [`Input::Sent`].
    Post(VecDeque<EncodedPacket>),
    /// These packets, as masked frames of the WebSocket. The end is [`Input::Sent`].
    Frames(VecDeque<EncodedPacket>),
}

/// One session, as its client sees it. It is driven by inputs and the time alone.
///
/// ```
/// use std::time::{Duration, Instant};
/// use antiphon_protocol::engine::{
///     ClientSession, Packet, QueueLimits, Revision, SessionConfig,
///     session::client::{Input, Output, Transmit},
/// };
///
/// let config = SessionConfig {
///     // As the server's handshake says.
///     ping_interval: Duration::from_secs(25),
///     ping_timeout: Duration::from_secs(20),
///     upgrade_timeout: Duration::from_secs(10),
///     close_timeout: Duration::from_secs(30),
///     packets_per_poll: usize::MAX,
///     queue: QueueLimits::default(),
/// };
/// let now = Instant::now();
/// let mut session = ClientSession::on_polling(Revision::V4, config, now);
/// assert_eq!(session.transmit(now), Some(Transmit::Poll));
///
/// // The poll brings a ping: the pong goes by POST, beside the next poll.
/// session.handle(Input::Packet(Packet::Ping("")), now);
/// session.handle(Input::PollEnded, now);
/// assert_eq!(session.transmit(now), Some(Transmit::Poll));
/// assert!(matches!(session.transmit(now), Some(Transmit::Post(_))));
/// assert_eq!(session.transmit(now), None);
/// ```
#[derive(Debug)]
pub struct ClientSession {
    config: Arc<SessionConfig>,
    /// A WebSocket is blocked while what was taken for it has not left.
    transport: Transport,
    phase: Phase,
    heartbeat: Heartbeat,
    /// To WebSocket.
    upgrade: Upgrade,
    outbound: Outbound,
    /// By when what was taken to be sent must have left.
    stalled_at: Option<Instant>,
}

impl ClientSession {
    /// A session whose handshake by polling was answered at `now`.
    #[must_use]
    pub fn on_polling(
        revision: Revision,
        config: impl Into<Arc<SessionConfig>>,
        now: Instant,
    ) -> Self {
        Self::new(TransportKind::Polling, revision, config.into(), now)
    }

    /// A session whose handshake came by WebSocket at `now`.
    #[must_use]
    pub fn on_websocket(
        revision: Revision,
        config: impl Into<Arc<SessionConfig>>,
        now: Instant,
    ) -> Self {
        Self::new(TransportKind::WebSocket, revision, config.into(), now)
    }

    fn new(
        transport: TransportKind,
        revision: Revision,
        config: Arc<SessionConfig>,
        now: Instant,
    ) -> Self {
        Self {
            transport: Transport::new(transport),
            phase: Phase::Open,
            heartbeat: Heartbeat::client(revision, &config, now),
            upgrade: Upgrade::default(),
            outbound: Outbound::default(),
            stalled_at: None,
            config,
        }
    }

    /// The transport in use: polling or WebSocket.
    #[must_use]
    pub const fn transport(&self) -> TransportKind {
        self.transport.kind()
    }

    /// Whether messages can be sent: the session is neither closing nor closed.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether a message that comes now is the application's: the rule of
    /// [`ServerSession::takes_messages`](super::ServerSession::takes_messages).
    #[must_use]
    pub const fn takes_messages(&self) -> bool {
        self.phase.takes_messages()
    }

    /// Whether the session is closing: it ends when what is queued has left.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.phase.is_closing()
    }

    /// Why the session was closed, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        self.phase.closed()
    }

    /// Whether an upgrade to WebSocket is under way. Once it isn't any more, and the WebSocket
    /// doesn't carry the session, that WebSocket is to be closed.
    #[must_use]
    pub const fn is_upgrading(&self) -> bool {
        self.upgrade.is_running()
    }

    /// Whether a message would leave at once: what a volatile message asks.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.is_open() && !self.transport.is_sending() && !self.upgrade.is_probed()
    }

    /// Bytes that wait in the outbound queue.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outbound.bytes()
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
        let upgrade = self.upgrade.expires();
        earliest([
            self.phase.timer(),
            self.stalled_at.map(|at| (Timer::Stall, at)),
            upgrade.map(|at| (Timer::Upgrade(UpgradeTarget::WebSocket), at)),
            Some(self.heartbeat.timer()),
        ])
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`QueueFull`] if the outbound queue has no room; none of the message is queued then.
    pub fn send(&mut self, message: Encoded) -> Result<(), QueueFull> {
        let queued = self
            .outbound
            .push(message, QueuePolicy::Close, self.config.queue);
        queued.map(|_| ())
    }

    /// What is to be sent at `now`, if anything is. Ask again until nothing is: a GET and a POST go
    /// side by side.
    pub fn transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.closed().is_some() {
            return None;
        }
        let is_pausing = self.upgrade.is_probed();
        let polls = self.is_open() && !is_pausing;
        let sends = !self.transport.is_sending() && !self.outbound.is_empty() && !is_pausing;
        match &mut self.transport {
            Transport::Http(requests) if polls && !requests.get => {
                requests.get = true;
                return Some(Transmit::Poll);
            }
            _ if !sends => return None,
            Transport::Http(requests) => requests.post = true,
            Transport::WebSocket { blocked } => *blocked = true,
        }
        self.expect_sent(now);
        let packets = self.outbound.take();
        Some(match self.transport {
            Transport::Http(_) => Transmit::Post(packets),
            Transport::WebSocket { .. } => Transmit::Frames(packets),
        })
    }

    /// What is taken to be sent must leave in time.
    fn expect_sent(&mut self, now: Instant) {
        self.stalled_at = Some(now + self.config.patience());
    }

    /// Something has happened at `now`: what is to be done?
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Output {
        if self.closed().is_some() {
            return match input {
                Input::ProbeOpened | Input::ProbePacket(_) => Output::GiveUp,
                _ => Output::Nothing,
            };
        }
        match input {
            Input::Packet(packet) => self.handle_packet(&packet, now),
            Input::Undecodable => self.end(CloseReason::ParseError),
            Input::PollEnded => {
                if let Transport::Http(requests) = &mut self.transport {
                    requests.get = false;
                }
                self.upgrade_if_paused(now)
            }
            Input::Sent => self.handle_sent(now),
            Input::ProbeOpened => self.handle_probe_opened(now),
            Input::ProbePacket(packet) => {
                if self.upgrade.handle_answer(&packet, now) {
                    self.upgrade_if_paused(now)
                } else {
                    self.give_up()
                }
            }
            Input::ProbeClosed => {
                self.give_up();
                Output::Nothing
            }
            Input::TransportClosed => self.end(CloseReason::TransportClose),
            Input::TransportFailed => self.end(CloseReason::TransportError),
            Input::Close => self.handle_close(now),
            Input::Abort => self.end(CloseReason::ForcedClose),
            Input::Timeout => self.handle_timeout(now),
        }
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, now: Instant) -> Output {
        match packet {
            Packet::Ping(data) => {
                let is_due = self.heartbeat.handle_ping(now).is_ok() && !self.has_said_goodbye();
                let pong = EncodedPacket::text(PacketType::Pong, data);
                // A server that pings and never reads doesn't grow the queue.
                if is_due && self.send(pong.into()).is_err() {
                    return self.end(CloseReason::TransportError);
                }
                Output::Nothing
            }
            Packet::Pong(_) => {
                // One that this side hasn't asked for means nothing, as in the reference
                // implementation.
                let _ = self.heartbeat.handle_pong(now);
                Output::Nothing
            }
            Packet::Close => self.end(CloseReason::TransportClose),
            Packet::Message(_) | Packet::Open(_) | Packet::Upgrade | Packet::Noop => {
                Output::Nothing
            }
        }
    }

    fn handle_sent(&mut self, now: Instant) -> Output {
        self.stalled_at = None;
        match &mut self.transport {
            Transport::Http(requests) => requests.post = false,
            Transport::WebSocket { blocked } => *blocked = false,
        }
        let has_left = self.outbound.is_empty() && !self.upgrade.is_probed();
        if self.is_closing() && has_left {
            return self.end(CloseReason::ForcedClose);
        }
        self.upgrade_if_paused(now)
    }

    fn handle_probe_opened(&mut self, now: Instant) -> Output {
        let to = UpgradeTarget::WebSocket;
        let is_possible = self.is_open() && self.transport().upgrades_to(to);
        let timeout = self.config.upgrade_timeout;
        if is_possible && self.upgrade.handle_opened(now, timeout) {
            Output::Probe
        } else {
            Output::GiveUp
        }
    }

    /// Once its probe is answered, an upgrade waits for the GET and the POST that are under way.
    fn upgrade_if_paused(&mut self, now: Instant) -> Output {
        let is_paused = !self.transport.has_get() && !self.transport.has_post();
        if !self.upgrade.is_probed() || !is_paused {
            return Output::Nothing;
        }
        self.upgrade.end();
        // `5` is on its way.
        self.transport = Transport::WebSocket { blocked: true };
        self.expect_sent(now);
        Output::Upgrade
    }

    /// The attempt to upgrade is over, and the session goes on by polling; if it is closing, so is
    /// that.
    fn give_up(&mut self) -> Output {
        if self.upgrade.is_probed() && self.is_closing() {
            self.say_goodbye();
        }
        self.upgrade.end();
        Output::GiveUp
    }

    /// By polling a packet says that the session ends, behind all that is queued.
    fn say_goodbye(&mut self) {
        let close = EncodedPacket::text(PacketType::Close, "");
        self.outbound.push_control(close);
    }

    /// Whether nothing may follow what is queued.
    const fn has_said_goodbye(&self) -> bool {
        let is_polling = matches!(self.transport, Transport::Http(_));
        self.is_closing() && is_polling && !self.upgrade.is_probed()
    }

    fn handle_close(&mut self, now: Instant) -> Output {
        if !self.is_open() {
            return Output::Nothing;
        }
        self.phase = Phase::Closing {
            expires: now + self.config.close_timeout,
        };
        match self.transport {
            Transport::WebSocket { blocked } => {
                if !blocked && self.outbound.is_empty() {
                    return self.end(CloseReason::ForcedClose);
                }
                Output::Nothing
            }
            // The upgrade decides how it ends.
            Transport::Http(_) if self.upgrade.is_probed() => Output::Nothing,
            Transport::Http(_) => {
                self.say_goodbye();
                if self.upgrade.is_running() {
                    return self.give_up();
                }
                Output::Nothing
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Output {
        let due = self.next_timer().filter(|&(_, at)| at <= now);
        let Some((timer, _)) = due else {
            return Output::Nothing;
        };
        match timer {
            Timer::Close => self.end(CloseReason::ForcedClose),
            Timer::Stall => self.end(CloseReason::TransportError),
            Timer::Upgrade(_) => self.give_up(),
            Timer::Ping => {
                self.heartbeat.pinged(now);
                if !self.has_said_goodbye() {
                    let ping = EncodedPacket::text(PacketType::Ping, "");
                    self.outbound.push_control(ping);
                }
                Output::Nothing
            }
            Timer::Silence => self.end(CloseReason::PingTimeout),
            // The server's.
            Timer::Behind | Timer::Return | Timer::Noop(_) => Output::Nothing,
        }
    }

    /// Nothing more happens, and no upgrade either.
    fn end(&mut self, reason: CloseReason) -> Output {
        self.upgrade.end();
        self.phase = Phase::Closed(reason);
        drop(self.outbound.take());
        Output::Nothing
    }
}
