//! A session and a stock client, with the network between them in the hands of the test.
//!
//! Nothing moves by itself: each [`Event`] moves one request, response, frame or the time, in
//! whatever order the test likes. The server's side does what the driver of a session does, and no
//! more: a poll is looked at only after an output that wakes it. The client does what
//! `engine.io-client` does: it polls again and again, has one POST under way at a time, probes,
//! pauses its polling before it upgrades, and answers heartbeats.

use super::*;
use crate::{
    engine::payload,
    websocket::{self, Decoder, Role},
};

/// Short deadlines and a small queue, so that all of them are met.
pub(super) const SHORT: SessionConfig = SessionConfig {
    ping_interval: seconds(2),
    ping_timeout: seconds(1),
    upgrade_timeout: seconds(1),
    close_timeout: seconds(3),
    queue: QueueLimits {
        packets: 12,
        bytes: 60,
    },
};

/// Bytes that are on their way to the client at the most, before the WebSocket blocks.
const NETWORK_ROOM: usize = 16;

/// What may happen next. It does nothing where there is nothing to move.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    ServerSends,
    ServerCloses,
    ClientSends,
    ClientCloses,
    PollArrives,
    PollIsAnswered,
    PollReturns,
    PostArrives,
    PostIsAnswered,
    PostReturns,
    ProbeOpens,
    ProbeIsLost,
    /// A second client, or a confused one, opens one more WebSocket.
    OtherProbeOpens,
    FrameArrives,
    BytesReturn(usize),
    TimePasses(Duration),
}

impl Event {
    /// What a network that works does with all that is on its way.
    const DELIVERIES: [Self; 8] = [
        Self::PollArrives,
        Self::PollIsAnswered,
        Self::PollReturns,
        Self::PostArrives,
        Self::PostIsAnswered,
        Self::PostReturns,
        Self::FrameArrives,
        Self::BytesReturn(NETWORK_ROOM),
    ];
}

/// Where the one GET or POST of a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request<Up, Down> {
    Idle,
    ToServer(Up),
    AtServer,
    ToClient(Down),
    Refused,
}

/// The client's WebSocket.
#[derive(Debug)]
struct WebSocket {
    to_server: VecDeque<Frame>,
    to_client: Vec<u8>,
    /// What the server takes it for.
    server: ServerSide,
    /// The client has given it up.
    lost: bool,
    /// What the client has of a frame that is not complete.
    partial: Vec<u8>,
}

#[derive(Debug)]
enum Frame {
    Open,
    Packet(String),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerSide {
    Unopened,
    Probing,
    Carrying,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientSide {
    Polling,
    Pausing,
    WebSocket,
    Closed,
}

pub(super) struct Pair {
    pub(super) server: Server,
    revision: Revision,
    client: ClientSide,
    /// The client says nothing more.
    leaving: bool,
    /// The server gave the WebSocket up while the client's packet `5` was on its way: the client
    /// has left polling for nothing, and comes back with a new session.
    pub(super) missed: bool,
    /// A ping of revision 3 came while the queue had no room for its pong.
    pub(super) overwhelmed: bool,
    poll: Request<(), Vec<u8>>,
    /// The task of the poll that waits was woken.
    poll_woken: bool,
    post: Request<Vec<String>, ()>,
    websocket: Option<WebSocket>,
    outbox: Vec<String>,
    ping_at: Instant,
    /// When the server's application has closed the session.
    pub(super) closed_at: Option<Instant>,
    /// Numbers of the messages that the session has accepted, and that the client has got.
    pub(super) accepted: Vec<u32>,
    pub(super) received: Vec<u32>,
    /// Numbers of the messages that the client has sent, and that the application has got.
    pub(super) client_sent: Vec<u32>,
    pub(super) heard: Vec<u32>,
    number: u32,
}

impl Pair {
    /// A client that has just shaken hands by polling.
    pub(super) fn new(revision: Revision) -> Self {
        let server = Server::with(revision, POLLING, SHORT);
        let mut pair = Self {
            ping_at: server.now + SHORT.ping_interval,
            server,
            revision,
            client: ClientSide::Polling,
            leaving: false,
            missed: false,
            overwhelmed: false,
            poll: Request::Idle,
            poll_woken: false,
            post: Request::Idle,
            websocket: None,
            outbox: Vec::new(),
            closed_at: None,
            accepted: Vec::new(),
            received: Vec::new(),
            client_sent: Vec::new(),
            heard: Vec::new(),
            number: 0,
        };
        pair.client_acts();
        pair
    }

    /// Lets one thing happen. False: there was nothing to move.
    pub(super) fn apply(&mut self, event: Event) -> bool {
        let moved = match event {
            Event::ServerSends => self.server_sends(),
            Event::ServerCloses => self.server_closes(),
            Event::ClientSends => self.client_sends(),
            Event::ClientCloses => self.client_closes(),
            Event::PollArrives => self.poll_arrives(),
            Event::PollIsAnswered => self.poll_is_answered(),
            Event::PollReturns => self.poll_returns(),
            Event::PostArrives => self.post_arrives(),
            Event::PostIsAnswered => self.post_is_answered(),
            Event::PostReturns => self.post_returns(),
            Event::ProbeOpens => self.probe_opens(),
            Event::ProbeIsLost => self.probe_is_lost(),
            Event::OtherProbeOpens => self.other_probe_opens(),
            Event::FrameArrives => self.frame_arrives(),
            Event::BytesReturn(count) => self.bytes_return(count),
            Event::TimePasses(duration) => self.time_passes(duration),
        };
        self.client_acts();
        self.check();
        moved
    }

    /// The network delivers all that is on its way, until both sides have nothing more to say.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut moved = false;
            for event in Event::DELIVERIES {
                moved |= self.apply(event);
            }
            let upgrading = self.websocket.is_some() && self.client != ClientSide::WebSocket;
            if !moved && !upgrading && !self.server.session.is_closing() {
                return;
            }
            if !moved {
                // The client pauses until a noop comes, or somebody waits for a deadline.
                self.apply(Event::TimePasses(NOOP_INTERVAL));
            }
        }
        panic!("the two never come to rest");
    }

    /// The client is gone without a word.
    pub(super) fn vanish(&mut self, duration: Duration) {
        self.client = ClientSide::Closed;
        self.time_passes(duration);
    }

    pub(super) fn client_is_closed(&self) -> bool {
        self.client == ClientSide::Closed
    }

    pub(super) const fn client_is_leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn poll_waits(&self) -> bool {
        self.poll == Request::AtServer
    }

    /// What holds at every moment.
    fn check(&self) {
        let session = &self.server.session;
        assert_eq!(session.deadline().is_none(), session.closed().is_some());
        assert!(session.closed().is_none() || !session.is_upgrading());
        // A ping, a noop and a close packet have room in any queue.
        assert!(session.queued_bytes() <= SHORT.queue.bytes + 3 * 3);
        assert!(self.accepted.starts_with(&self.received), "lost or doubled");
        assert!(self.client_sent.starts_with(&self.heard), "lost or doubled");
    }
}

/// The server's side.
impl Pair {
    /// Something has happened: does what a driver does after it.
    fn input<'a>(&mut self, input: Input<'a>) -> Output<'a> {
        let output = self.server.handle(input);
        match output {
            Output::Flush => self.flush(),
            Output::Probe(_) => self.poll_woken = true,
            _ => {}
        }
        self.end_of_probe_and_session();
        output
    }

    fn end_of_probe_and_session(&mut self) {
        let closed = self.server.closed().is_some();
        self.poll_woken |= closed;
        let given_up = !self.server.session.is_upgrading();
        if let Some(websocket) = &mut self.websocket {
            match websocket.server {
                ServerSide::Probing if given_up && self.server.session.transport() == POLLING => {
                    websocket.server = ServerSide::Closed;
                }
                ServerSide::Carrying if closed => websocket.server = ServerSide::Closed,
                _ => {}
            }
        }
    }

    fn flush(&mut self) {
        match self.server.session.transport() {
            TransportKind::Polling => self.poll_woken = true,
            TransportKind::WebSocket => self.write(),
        }
    }

    /// Writes what is queued until the network takes no more.
    fn write(&mut self) {
        let session = &mut self.server.session;
        let Some(websocket) = &mut self.websocket else {
            return;
        };
        while !session.is_blocked() {
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = session.frames(&mut slices);
            if filled == 0 {
                self.drained();
                return;
            }
            let room = NETWORK_ROOM.saturating_sub(websocket.to_client.len());
            let frames: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|one| one.to_vec())
                .collect();
            let count = frames.len().min(room);
            websocket.to_client.extend_from_slice(&frames[..count]);
            session.written(count, count == 0);
        }
    }

    fn drained(&mut self) {
        if self.server.session.is_closing() {
            self.input(Input::Drained);
        }
    }

    fn hear(&mut self, packet: &str) {
        let open = self.server.closed().is_none();
        match self.input(Input::Packet(packet_of(packet))) {
            Output::Message(Message::Text(text)) => self.heard.push(text.parse().unwrap()),
            _ if packet == "2" => self.overwhelmed |= open && self.server.closed().is_some(),
            _ => {}
        }
    }

    fn server_sends(&mut self) -> bool {
        self.number += 1;
        let sent =
            self.server.session.is_open() && self.server.send(&self.number.to_string()).is_ok();
        if sent {
            self.accepted.push(self.number);
            self.flush();
        }
        sent
    }

    fn server_closes(&mut self) -> bool {
        let open = self.server.session.is_open();
        if open {
            self.closed_at = Some(self.server.now);
            self.input(Input::Close);
        }
        open
    }

    fn poll_arrives(&mut self) -> bool {
        if self.poll != Request::ToServer(()) {
            return false;
        }
        self.poll = match self.input(Input::PollOpened) {
            Output::Refuse(Refusal::Closed) => Request::Refused,
            Output::Flush => Request::AtServer,
            other => panic!("a stock client's poll is answered with {other:?}"),
        };
        self.poll_woken = true;
        true
    }

    fn poll_is_answered(&mut self) -> bool {
        if self.poll != Request::AtServer || !self.poll_woken {
            return false;
        }
        self.poll_woken = false;
        let Some(packets) = self.server.session.poll_answer() else {
            return false;
        };
        let payload = payload::encode(&packets, self.revision, false);
        self.poll = Request::ToClient(payload.body);
        self.drained();
        true
    }

    fn post_arrives(&mut self) -> bool {
        let Request::ToServer(packets) = &mut self.post else {
            return false;
        };
        let packets = std::mem::take(packets);
        match self.input(Input::PostOpened) {
            Output::Refuse(Refusal::Closed) => self.post = Request::Refused,
            Output::Nothing => {
                self.post = Request::AtServer;
                packets.iter().for_each(|packet| self.hear(packet));
            }
            other => panic!("a stock client's POST is answered with {other:?}"),
        }
        true
    }

    fn post_is_answered(&mut self) -> bool {
        let under_way = self.post == Request::AtServer;
        if under_way {
            self.input(Input::PostClosed);
            self.post = Request::ToClient(());
        }
        under_way
    }

    fn other_probe_opens(&mut self) -> bool {
        let session = &self.server.session;
        let refused = session.is_upgrading()
            || session.transport() == WEBSOCKET
            || session.closed().is_some();
        if refused {
            let output = self.input(Input::ProbeOpened);
            assert_eq!(output, Output::Probe(ProbeStep::Reject));
        }
        refused
    }

    fn frame_arrives(&mut self) -> bool {
        let Some(websocket) = &mut self.websocket else {
            return false;
        };
        let Some(frame) = websocket.to_server.pop_front() else {
            return false;
        };
        match (frame, websocket.server) {
            (Frame::Open, _) => {
                let accepted = self.input(Input::ProbeOpened) == Output::Nothing;
                self.set_server_side(if accepted {
                    ServerSide::Probing
                } else {
                    ServerSide::Closed
                });
            }
            (Frame::Packet(packet), ServerSide::Probing) => self.probe_arrives(&packet),
            (Frame::Packet(packet), ServerSide::Carrying) => self.hear(&packet),
            (Frame::Packet(_), _) => {}
            (Frame::Close, side) => {
                self.websocket = None;
                match side {
                    ServerSide::Probing => self.input(Input::ProbeClosed),
                    ServerSide::Carrying => self.input(Input::TransportClosed),
                    ServerSide::Unopened | ServerSide::Closed => Output::Nothing,
                };
            }
        }
        true
    }

    fn probe_arrives(&mut self, packet: &str) {
        match self.input(Input::ProbePacket(packet_of(packet))) {
            Output::Probe(ProbeStep::Answer) => {
                let pong = EncodedPacket::text(PacketType::Pong, "probe");
                let websocket = self.websocket.as_mut().unwrap();
                websocket.to_client.extend_from_slice(pong.frame());
            }
            Output::Probe(ProbeStep::Complete) => {
                self.set_server_side(ServerSide::Carrying);
                self.write();
            }
            _ => self.set_server_side(ServerSide::Closed),
        }
    }

    fn set_server_side(&mut self, side: ServerSide) {
        if let Some(websocket) = &mut self.websocket {
            websocket.server = side;
        }
    }

    fn time_passes(&mut self, duration: Duration) -> bool {
        let end = self.server.now + duration;
        while let Some(deadline) = self.server.session.deadline() {
            if deadline > end {
                break;
            }
            assert!(deadline >= self.server.now, "a deadline in the past");
            self.server.now = deadline;
            while self.input(Input::Timeout) != Output::Nothing {}
            assert!(
                self.server.session.deadline() > Some(deadline) || self.server.closed().is_some()
            );
        }
        self.server.now = end;
        true
    }
}

/// The client's side.
impl Pair {
    /// What a stock client does by itself, as soon as it can.
    fn client_acts(&mut self) {
        self.notice_the_end_of_the_websocket();
        if self.poll == Request::Refused || self.post == Request::Refused {
            self.client = ClientSide::Closed;
        }
        if self.client != ClientSide::Closed && !self.leaving {
            self.client_pings();
        }
        match self.client {
            ClientSide::Closed => {}
            ClientSide::Polling => {
                if self.poll == Request::Idle && !self.leaving {
                    self.poll = Request::ToServer(());
                }
                if self.post == Request::Idle && !self.outbox.is_empty() {
                    self.post = Request::ToServer(std::mem::take(&mut self.outbox));
                }
            }
            ClientSide::Pausing => {
                if self.poll == Request::Idle && self.post == Request::Idle {
                    self.client = ClientSide::WebSocket;
                    self.client_writes(Frame::Packet("5".into()));
                }
            }
            ClientSide::WebSocket => {
                for packet in std::mem::take(&mut self.outbox) {
                    self.client_writes(Frame::Packet(packet));
                }
            }
        }
    }

    fn client_pings(&mut self) {
        if self.revision == Revision::V3 && self.server.now >= self.ping_at {
            self.ping_at = self.server.now + SHORT.ping_interval;
            self.outbox.push("2".into());
        }
    }

    fn notice_the_end_of_the_websocket(&mut self) {
        let ended = self.websocket.as_ref().is_some_and(|websocket| {
            websocket.server == ServerSide::Closed
                && (websocket.to_client.is_empty() || websocket.lost)
        });
        if !ended {
            return;
        }
        self.websocket = None;
        self.missed |= self.client == ClientSide::WebSocket && self.server.closed().is_none();
        self.client = match self.client {
            ClientSide::Polling | ClientSide::Pausing => ClientSide::Polling,
            ClientSide::WebSocket | ClientSide::Closed => ClientSide::Closed,
        };
    }

    fn client_writes(&mut self, frame: Frame) {
        if let Some(websocket) = &mut self.websocket {
            websocket.to_server.push_back(frame);
        }
    }

    fn client_receives(&mut self, packet: &str) {
        match (packet.split_at(1), self.client) {
            (_, ClientSide::Closed) => {}
            (("4", number), _) => self.received.push(number.parse().unwrap()),
            (("2", ""), _) => self.outbox.push("3".into()),
            (("3", "probe"), ClientSide::Polling) => self.client = ClientSide::Pausing,
            (("3" | "6", ""), _) => {}
            (("1", ""), _) => self.client = ClientSide::Closed,
            (other, _) => panic!("a client can't understand {other:?}"),
        }
    }

    fn client_sends(&mut self) -> bool {
        let open = self.client != ClientSide::Closed && !self.leaving;
        if open {
            self.number += 1;
            self.client_sent.push(self.number);
            self.outbox.push(format!("4{}", self.number));
        }
        open
    }

    /// A client that is upgrading waits for the end of that before it closes.
    fn client_closes(&mut self) -> bool {
        if self.leaving || matches!(self.client, ClientSide::Pausing | ClientSide::Closed) {
            return false;
        }
        self.leaving = true;
        if self.client == ClientSide::Polling {
            self.probe_is_lost();
            self.outbox.push("1".into());
        } else {
            self.client_writes(Frame::Close);
            self.client = ClientSide::Closed;
        }
        true
    }

    fn poll_returns(&mut self) -> bool {
        let Request::ToClient(body) = &mut self.poll else {
            return false;
        };
        let body = std::mem::take(body);
        self.poll = Request::Idle;
        let packets = payload::decode(&body, self.revision, false, usize::MAX);
        for packet in packets.expect("an empty answer of a poll is no payload") {
            match packet.unwrap() {
                Packet::Close => self.client_receives("1"),
                Packet::Ping(data) => self.client_receives(&format!("2{data}")),
                Packet::Pong(data) => self.client_receives(&format!("3{data}")),
                Packet::Message(Message::Text(text)) => self.client_receives(&format!("4{text}")),
                Packet::Noop => self.client_receives("6"),
                other => panic!("a client can't understand {other:?}"),
            }
        }
        true
    }

    fn post_returns(&mut self) -> bool {
        let answered = self.post == Request::ToClient(());
        if answered {
            self.post = Request::Idle;
        }
        answered
    }

    fn probe_opens(&mut self) -> bool {
        let can = self.client == ClientSide::Polling && self.websocket.is_none() && !self.leaving;
        if can {
            self.websocket = Some(WebSocket {
                to_server: [Frame::Open, Frame::Packet("2probe".into())].into(),
                to_client: Vec::new(),
                server: ServerSide::Unopened,
                lost: false,
                partial: Vec::new(),
            });
        }
        can
    }

    /// The probing WebSocket breaks, and the client goes on with its polling.
    fn probe_is_lost(&mut self) -> bool {
        let probing = matches!(self.client, ClientSide::Polling | ClientSide::Pausing);
        let Some(websocket) = self.websocket.as_mut().filter(|one| probing && !one.lost) else {
            return false;
        };
        websocket.lost = true;
        websocket.to_server.push_back(Frame::Close);
        self.client = ClientSide::Polling;
        true
    }

    /// The client reads some bytes of its WebSocket, which makes room for more.
    fn bytes_return(&mut self, count: usize) -> bool {
        let Some(websocket) = self.websocket.as_mut().filter(|one| !one.lost) else {
            return false;
        };
        let count = count.min(websocket.to_client.len());
        websocket.partial.extend(websocket.to_client.drain(..count));
        let mut packets = Vec::new();
        let mut decoder = Decoder::new(Role::Client, 1_000);
        loop {
            let decoded = decoder.decode(&mut websocket.partial).unwrap();
            if let Some(websocket::Event::Text(text)) = decoded.event {
                packets.push(text.into_owned());
            }
            if decoded.consumed == 0 {
                break;
            }
            let consumed = decoded.consumed;
            websocket.partial.drain(..consumed);
        }
        if self.server.session.is_blocked() {
            self.server.session.written(0, false);
            self.write();
        }
        packets.iter().for_each(|one| self.client_receives(one));
        count > 0
    }
}
