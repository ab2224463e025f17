//! The rules of a session, each played through with made-up time: no socket, no clock, no sleep.

mod client;
mod closing;
mod cuts;
mod heartbeat;
mod interleavings;
mod pair;
mod polling;
mod queue;
mod streaming;
mod timers;
mod tracked;
mod upgrading;

use std::{
    collections::VecDeque,
    io::IoSlice,
    time::{Duration, Instant},
};

use super::{
    CloseReason, ServerSession, SessionConfig, Timer, TransportKind, UpgradeTarget,
    server::{Input, Output, ProbeStep, Refusal, StreamStep},
};
use crate::engine::{
    EncodedPacket, Message, Packet, PacketType, QueueFull, QueueLimits, QueuePolicy, Revision,
};

const CONFIG: SessionConfig = SessionConfig {
    ping_interval: Duration::from_secs(25),
    ping_timeout: Duration::from_secs(20),
    upgrade_timeout: Duration::from_secs(10),
    close_timeout: Duration::from_secs(30),
    packets_per_poll: usize::MAX,
    queue: QueueLimits {
        packets: 100,
        bytes: 10_000,
        burst: 1,
    },
};

/// How often a waiting poll is answered while the client pauses its polling.
const NOOP_INTERVAL: Duration = Duration::from_millis(100);

const POLLING: TransportKind = TransportKind::Polling;
const STREAMING: TransportKind = TransportKind::Streaming;
const WEBSOCKET: TransportKind = TransportKind::WebSocket;

const TO_STREAMING: UpgradeTarget = UpgradeTarget::Streaming;
const TO_WEBSOCKET: UpgradeTarget = UpgradeTarget::WebSocket;

/// A session and its made-up time.
struct Server {
    session: ServerSession,
    now: Instant,
    /// The copy of the session's answer that a driver keeps, renewed after each input.
    takes_messages: bool,
}

impl Server {
    fn new(transport: TransportKind) -> Self {
        Self::with(Revision::V4, transport, CONFIG)
    }

    fn with(revision: Revision, transport: TransportKind, config: SessionConfig) -> Self {
        let now = Instant::now();
        Self {
            session: ServerSession::new(revision, transport, config, now),
            now,
            takes_messages: true,
        }
    }

    /// A session that keeps what is sent over HTTP until its client confirms it.
    fn with_offsets(transport: TransportKind, config: SessionConfig) -> Self {
        let mut server = Self::with(Revision::V4, transport, config);
        server.session = server.session.with_offsets();
        server
    }

    fn handle(&mut self, input: Input<'_>) -> Output {
        let took = self.session.takes_messages();
        let output = self.session.handle(input, self.now);
        self.takes_messages &= self.session.takes_messages();
        assert!(took || !self.takes_messages, "a session that ended goes on");
        output
    }

    /// A packet other than a message comes on the session's transport, written as on the wire.
    fn receive(&mut self, packet: &str) -> Output {
        assert!(
            !packet.starts_with('4'),
            "a message doesn't pass the machine"
        );
        self.handle(Input::Packet(packet_of(packet)))
    }

    /// A message comes on the session's transport: is it handed to the application? A driver asks
    /// its copies alone. The machine would ignore the packet itself.
    fn hears(&mut self, packet: &str) -> bool {
        let next_timer = self.session.next_timer();
        let message = packet_of(packet);
        assert!(matches!(message, Packet::Message(_)));
        assert_eq!(self.handle(Input::Packet(message)), Output::Nothing);
        assert_eq!(self.session.next_timer(), next_timer);
        assert_eq!(self.takes_messages, self.session.takes_messages());
        if self.takes_messages && self.session.awaits_life() {
            assert_eq!(self.handle(Input::MessageTaken), Output::Nothing);
        }
        self.takes_messages
    }

    /// A packet comes on the probing WebSocket.
    fn probe(&mut self, packet: &str) -> Output {
        match self.handle(Input::ProbePacket(TO_WEBSOCKET, packet_of(packet))) {
            Output::Probe(step) => Output::Probe(step),
            other => panic!("{other:?} in answer to a packet of a probe"),
        }
    }

    /// A WebSocket is opened, and its probe is answered.
    fn begin_upgrade(&mut self) {
        assert_eq!(
            self.handle(Input::ProbeOpened(TO_WEBSOCKET)),
            Output::Nothing
        );
        assert_eq!(self.probe("2probe"), Output::Probe(ProbeStep::Answer));
    }

    fn send(&mut self, text: &str) -> Result<(), QueueFull> {
        let packet = EncodedPacket::text(PacketType::Message, text);
        let queued = self.session.send(packet.into(), QueuePolicy::Close)?;
        if queued.is_behind {
            self.handle(Input::FellBehind);
        }
        Ok(())
    }

    /// A poll comes: its answer, or none if it waits.
    fn poll(&mut self) -> Option<Vec<String>> {
        assert_eq!(self.handle(Input::GetOpened(None)), Output::Flush);
        self.answer()
    }

    /// A poll comes and waits.
    fn poll_waits(&mut self) {
        assert_eq!(self.poll(), None);
    }

    /// The answer of the poll that waits, if it is due: its packets as on the wire.
    fn answer(&mut self) -> Option<Vec<String>> {
        self.session.take_response().map(|packets| texts(&packets))
    }

    /// A GET comes that says how many packets its client has had.
    fn resume(&mut self, offset: u64) {
        assert_eq!(self.handle(Input::GetOpened(Some(offset))), Output::Flush);
    }

    /// What the stream carries now: its packets as on the wire.
    fn streamed(&mut self) -> Vec<String> {
        match self.session.stream_step() {
            StreamStep::Packets(packets) => {
                self.handle(Input::Drained);
                texts(&packets)
            }
            step => panic!("{step:?} where packets were due"),
        }
    }

    /// The WebSocket takes all that waits: the packets as on the wire.
    fn written(&mut self) -> Vec<String> {
        let mut taken = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 1];
            if self.session.frames(&mut slices) == 0 {
                break taken;
            }
            // A short frame has a header of two bytes.
            let frame = slices[0].to_vec();
            taken.push(String::from_utf8(frame[2..].to_vec()).unwrap());
            self.session.written(frame.len());
        }
    }

    /// The WebSocket takes so many bytes.
    fn write(&mut self, count: usize) {
        self.handle(Input::Writable);
        self.session.written(count);
    }

    /// The WebSocket takes so many bytes and then no more.
    fn write_blocks(&mut self, count: usize) {
        self.write(count);
        self.handle(Input::Blocked);
    }

    /// What the deadline is for, and in how long it comes.
    fn next_timer(&self) -> Option<(Timer, Duration)> {
        let next = self.session.next_timer();
        next.map(|(timer, at)| (timer, at - self.now))
    }

    /// Time passes, and every deadline on the way is kept: what was asked for, and when.
    fn pass(&mut self, duration: Duration) -> Vec<(Duration, Output)> {
        let start = self.now;
        let end = start + duration;
        let mut outputs = Vec::new();
        while let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            let due = self.timeouts();
            outputs.extend(due.into_iter().map(|output| (self.now - start, output)));
        }
        self.now = end;
        outputs
    }

    /// The deadline has come: all that is asked for until nothing more is.
    fn timeouts(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            match self.handle(Input::Timeout) {
                Output::Nothing => break,
                output => outputs.push(output),
            }
            assert!(outputs.len() < 10, "a deadline that asks without end");
        }
        match self.session.deadline() {
            Some(deadline) => assert!(deadline > self.now, "a driver would spin"),
            None => assert!(self.session.closed().is_some(), "no driver would come back"),
        }
        outputs
    }

    fn closed(&self) -> Option<CloseReason> {
        self.session.closed()
    }
}

fn texts(packets: &VecDeque<EncodedPacket>) -> Vec<String> {
    let text = |packet: &EncodedPacket| String::from_utf8(packet.payload().into()).unwrap();
    packets.iter().map(text).collect()
}

fn packet_of(text: &str) -> Packet<'_> {
    Packet::from_text(text, Revision::V4).unwrap()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What an answer or a write is expected to hold.
fn packets<const N: usize>(packets: [&str; N]) -> Vec<String> {
    packets.map(String::from).into()
}

fn answer<const N: usize>(texts: [&str; N]) -> Option<Vec<String>> {
    Some(packets(texts))
}
