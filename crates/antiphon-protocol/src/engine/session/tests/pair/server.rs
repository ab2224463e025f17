//! The server's side of a pair: what the driver of a session does.

use super::*;
use crate::engine::payload;

impl Pair {
    /// Something has happened: does what a driver does after it.
    fn input(&mut self, input: Input<'_>) -> Output {
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
        let given_up = !self.server.session.is_upgrading(TO_WEBSOCKET);
        if let Some(websocket) = &mut self.websocket {
            match websocket.server {
                ServerSide::Probing if given_up && self.server.session.transport() == POLLING => {
                    websocket.server = ServerSide::Closed;
                    let upgrade = |frame: &Frame| matches!(frame, Frame::Packet(one) if one == "5");
                    self.missed |= !closed && websocket.to_server.iter().any(upgrade);
                }
                ServerSide::Carrying if closed => websocket.server = ServerSide::Closed,
                _ => {}
            }
        }
    }

    fn flush(&mut self) {
        match self.server.session.transport() {
            TransportKind::Polling | TransportKind::Streaming => self.poll_woken = true,
            TransportKind::WebSocket => self.write(),
        }
    }

    /// Writes what is queued until the network takes no more.
    pub(super) fn write(&mut self) {
        let Some(websocket) = &mut self.websocket else {
            return;
        };
        while !self.server.session.is_blocked() {
            let session = &mut self.server.session;
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
            session.written(count);
            if count == 0 {
                self.server.handle(Input::Blocked);
            }
        }
    }

    fn drained(&mut self) {
        if self.server.session.is_closing() {
            self.input(Input::Drained);
        }
    }

    fn hear(&mut self, packet: &str) {
        if let Some(text) = packet.strip_prefix('4') {
            if self.server.hears(packet) {
                self.heard.push(text.parse().unwrap());
            }
            return;
        }
        let open = self.server.closed().is_none();
        self.input(Input::Packet(packet_of(packet)));
        if packet == "2" {
            self.overwhelmed |= open && self.server.closed().is_some();
        }
    }

    pub(super) fn server_sends(&mut self) -> bool {
        self.number += 1;
        let sent =
            self.server.session.is_open() && self.server.send(&self.number.to_string()).is_ok();
        if sent {
            self.accepted.push(self.number);
            self.flush();
        }
        sent
    }

    pub(super) fn server_closes(&mut self) -> bool {
        let open = self.server.session.is_open();
        if open {
            self.closed_at = Some(self.server.now);
            self.input(Input::Close);
        }
        open
    }

    pub(super) fn poll_arrives(&mut self) -> bool {
        if self.poll != Request::ToServer(()) {
            return false;
        }
        self.poll = match self.input(Input::GetOpened(None)) {
            Output::Refuse(Refusal::Closed) => Request::Refused,
            Output::Flush => Request::AtServer,
            other => panic!("a stock client's poll is answered with {other:?}"),
        };
        self.poll_woken = true;
        true
    }

    pub(super) fn poll_is_answered(&mut self) -> bool {
        if self.poll != Request::AtServer || !self.poll_woken {
            return false;
        }
        self.poll_woken = false;
        let Some(packets) = self.server.session.take_response() else {
            return false;
        };
        let payload = payload::encode(&packets, self.revision, false);
        self.poll = Request::ToClient(payload.body);
        self.drained();
        true
    }

    pub(super) fn poll_expires(&mut self) -> bool {
        let waits = self.poll == Request::AtServer;
        if waits {
            self.input(Input::GetExpired);
        }
        waits
    }

    /// The client has gone away from its poll.
    pub(super) fn poll_is_cut(&mut self) {
        if std::mem::replace(&mut self.poll, Request::Idle) == Request::AtServer {
            self.input(Input::GetEnded { answered: false });
        }
    }

    /// What a driver says while too many handlers run: a POST whose body has come is heard later.
    pub(super) fn server_pauses(&mut self) -> bool {
        let pauses = self.server.session.transport() == WEBSOCKET
            && !self.server.session.is_reading_paused();
        if pauses {
            self.input(Input::ReadingPaused);
        }
        pauses
    }

    fn is_paused(&self) -> bool {
        self.server.session.is_reading_paused() && self.server.closed().is_none()
    }

    pub(super) fn server_resumes(&mut self) -> bool {
        let resumes = self.is_paused();
        if resumes {
            self.input(Input::ReadingResumed);
        }
        resumes
    }

    pub(super) fn post_arrives(&mut self) -> bool {
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

    pub(super) fn post_is_answered(&mut self) -> bool {
        let under_way = self.post == Request::AtServer;
        if under_way {
            self.input(Input::PostEnded { whole: true });
            self.post = Request::ToClient(());
        }
        under_way
    }

    pub(super) fn other_probe_opens(&mut self) -> bool {
        let session = &self.server.session;
        let refused = session.is_upgrading(TO_WEBSOCKET)
            || session.transport() == WEBSOCKET
            || session.closed().is_some();
        if refused {
            let output = self.input(Input::ProbeOpened(TO_WEBSOCKET));
            assert_eq!(output, Output::Probe(ProbeStep::Reject));
        }
        refused
    }

    pub(super) fn frame_arrives(&mut self) -> bool {
        if self.is_paused() {
            return false;
        }
        let Some(websocket) = &mut self.websocket else {
            return false;
        };
        let Some(frame) = websocket.to_server.pop_front() else {
            return false;
        };
        match (frame, websocket.server) {
            (Frame::Open, _) => {
                let accepted = self.input(Input::ProbeOpened(TO_WEBSOCKET)) == Output::Nothing;
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
                    ServerSide::Probing => self.input(Input::ProbeClosed(TO_WEBSOCKET)),
                    ServerSide::Carrying => self.input(Input::TransportClosed),
                    ServerSide::Unopened | ServerSide::Closed => Output::Nothing,
                };
            }
        }
        true
    }

    fn probe_arrives(&mut self, packet: &str) {
        match self.input(Input::ProbePacket(TO_WEBSOCKET, packet_of(packet))) {
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

    pub(super) fn time_passes(&mut self, duration: Duration) -> bool {
        let end = self.server.now + duration;
        loop {
            let server = self.server.session.deadline();
            let client = self.client.deadline();
            let Some(next) = server.into_iter().chain(client).min() else {
                break;
            };
            if next > end {
                break;
            }
            assert!(next >= self.server.now, "a deadline in the past");
            self.server.now = next;
            if server == Some(next) {
                self.server_timeout();
            }
            if client == Some(next) {
                self.client_timeout();
            }
        }
        self.server.now = end;
        true
    }

    fn server_timeout(&mut self) {
        while self.input(Input::Timeout) != Output::Nothing {}
        let failed = self.server.closed() == Some(CloseReason::TransportError);
        self.overwhelmed |= failed && self.server.session.is_blocked();
        let later = self.server.session.deadline() > Some(self.server.now);
        assert!(later || self.server.closed().is_some());
    }
}
