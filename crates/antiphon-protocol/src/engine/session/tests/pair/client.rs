//! The client's side of a pair: what the driver of a client's session does.

use super::*;
use crate::{
    engine::{
        payload,
        session::{
            client::{Input, Output, Transmit},
            server,
        },
    },
    websocket::{Decoder, Event as FrameEvent, Role},
};

impl Pair {
    /// Something has happened to the client: does what a driver does after it.
    fn client_input(&mut self, input: Input<'_>) {
        let now = self.server.now;
        let was_open = self.client.closed().is_none();
        let took = self.client.takes_messages();
        match self.client.handle(input, now) {
            Output::Nothing => {}
            Output::Probe => self.open_websocket(),
            Output::Upgrade => self.client_writes(Frame::Packet("5".into())),
            Output::GiveUp => self.lose_probe(),
        }
        assert!(took || !self.client.takes_messages());
        match self.client.closed() {
            Some(reason) if was_open => self.client_ends(reason),
            _ => {}
        }
    }

    /// The client's session is closed: its driver closes the WebSocket, and what was under way is
    /// cut.
    fn client_ends(&mut self, reason: CloseReason) {
        self.lose_probe();
        if self.client.transport() == WEBSOCKET && reason != CloseReason::TransportClose {
            self.client_writes(Frame::Close);
        }
        let by_itself = matches!(
            reason,
            CloseReason::PingTimeout | CloseReason::TransportError
        );
        if by_itself && self.server.closed().is_none() {
            self.gave_up = true;
            self.poll_is_cut();
        }
    }

    /// What the client does by itself, as soon as it can.
    pub(super) fn client_acts(&mut self) {
        self.notice_the_end_of_the_websocket();
        if self.poll == Request::Refused || self.post == Request::Refused {
            self.client_input(Input::TransportFailed);
        }
        loop {
            self.notice_what_has_left();
            match self.client.transmit(self.server.now) {
                None => return,
                Some(Transmit::Poll) => {
                    assert_eq!(self.poll, Request::Idle, "two polls at a time");
                    self.poll = Request::ToServer(());
                }
                Some(Transmit::Post(packets)) => {
                    assert_eq!(self.post, Request::Idle, "two POSTs at a time");
                    self.post = Request::ToServer(texts(&packets));
                }
                Some(Transmit::Frames(packets)) => {
                    for packet in texts(&packets) {
                        self.client_writes(Frame::Packet(packet));
                    }
                }
            }
        }
    }

    /// The WebSocket has taken what was written, once there is room on the way.
    fn notice_what_has_left(&mut self) {
        let on_the_way = self.websocket.as_ref().map(|one| one.to_server.len());
        let has_room = on_the_way.is_some_and(|frames| frames < FRAMES_ON_THE_WAY);
        if self.client.transport() == WEBSOCKET && has_room && !self.client.is_writable() {
            self.client_input(Input::Sent);
        }
    }

    fn notice_the_end_of_the_websocket(&mut self) {
        let ended = self.websocket.as_ref().filter(|websocket| {
            websocket.server == ServerSide::Closed
                && (websocket.to_client.is_empty() || websocket.lost)
        });
        let Some(WebSocket { lost, .. }) = ended else {
            return;
        };
        let lost = *lost;
        self.websocket = None;
        if self.client.transport() == WEBSOCKET {
            self.client_input(Input::TransportClosed);
        } else if !lost {
            self.client_input(Input::ProbeClosed);
        }
    }

    fn client_writes(&mut self, frame: Frame) {
        if let Some(websocket) = &mut self.websocket {
            websocket.to_server.push_back(frame);
        }
    }

    /// A packet comes to the client's application, or to its machine.
    fn client_receives(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::Message(Message::Text(number)) => {
                if self.client.takes_messages() {
                    self.received.push(number.parse().unwrap());
                }
            }
            Packet::Message(_) | Packet::Open(_) | Packet::Upgrade => {
                panic!("a client can't understand {packet:?}")
            }
            packet => self.client_input(Input::Packet(packet)),
        }
    }

    pub(super) fn client_sends(&mut self) -> bool {
        self.number += 1;
        let packet = EncodedPacket::text(PacketType::Message, &self.number.to_string());
        let sent = self.client.is_open() && self.client.send(packet.into()).is_ok();
        if sent {
            self.client_sent.push(self.number);
        }
        sent
    }

    pub(super) fn client_closes(&mut self) -> bool {
        let open = self.client.is_open();
        if open {
            self.leaving = true;
            self.client_input(Input::Close);
        }
        open
    }

    pub(super) fn poll_returns(&mut self) -> bool {
        let Request::ToClient(body) = &mut self.poll else {
            return false;
        };
        let body = std::mem::take(body);
        self.poll = Request::Idle;
        let packets = payload::decode(&body, self.revision, false, usize::MAX);
        for packet in packets.expect("an empty answer of a poll is no payload") {
            self.client_receives(packet.unwrap());
        }
        self.client_input(Input::PollEnded);
        true
    }

    pub(super) fn post_returns(&mut self) -> bool {
        let answered = self.post == Request::ToClient(());
        if answered {
            self.post = Request::Idle;
            self.client_input(Input::Sent);
        }
        answered
    }

    pub(super) fn probe_opens(&mut self) -> bool {
        let can =
            self.client.transport() == POLLING && self.websocket.is_none() && self.client.is_open();
        if can {
            self.client_input(Input::ProbeOpened);
        }
        can
    }

    fn open_websocket(&mut self) {
        self.websocket = Some(WebSocket {
            to_server: [Frame::Open, Frame::Packet("2probe".into())].into(),
            to_client: Vec::new(),
            server: ServerSide::Unopened,
            lost: false,
            partial: Vec::new(),
        });
    }

    /// The probing WebSocket breaks, and the client goes on with its polling.
    pub(super) fn probe_is_lost(&mut self) -> bool {
        let probing = self.client.is_upgrading();
        if probing {
            self.lose_probe();
            self.client_input(Input::ProbeClosed);
        }
        probing
    }

    fn lose_probe(&mut self) {
        let probing = self.client.transport() == POLLING;
        if let Some(websocket) = self.websocket.as_mut().filter(|one| probing && !one.lost) {
            websocket.lost = true;
            websocket.to_server.push_back(Frame::Close);
        }
    }

    /// The client reads some bytes of its WebSocket, which makes room for more.
    pub(super) fn bytes_return(&mut self, count: usize) -> bool {
        let Some(websocket) = self.websocket.as_mut().filter(|one| !one.lost) else {
            return false;
        };
        let count = count.min(websocket.to_client.len());
        websocket.partial.extend(websocket.to_client.drain(..count));
        let mut packets = Vec::new();
        let mut decoder = Decoder::new(Role::Client, 1_000);
        loop {
            let decoded = decoder.decode(&mut websocket.partial).unwrap();
            if let Some(FrameEvent::Text(text)) = decoded.event {
                packets.push(text.into_owned());
            }
            if decoded.consumed == 0 {
                break;
            }
            let consumed = decoded.consumed;
            websocket.partial.drain(..consumed);
        }
        if self.server.session.is_blocked() {
            self.server.handle(server::Input::Writable);
            self.write();
        }
        for packet in &packets {
            let packet = packet_of(packet);
            match self.client.transport() {
                WEBSOCKET => self.client_receives(packet),
                _ => self.client_input(Input::ProbePacket(packet)),
            }
        }
        count > 0
    }

    /// The client is gone, and says nothing any more.
    pub(super) fn client_vanishes(&mut self) {
        self.client.handle(Input::Abort, self.server.now);
    }

    /// The client's deadline has come.
    pub(super) fn client_timeout(&mut self) {
        let now = self.server.now;
        for turn in 0.. {
            assert!(turn < 10, "a deadline that asks without end");
            self.client_input(Input::Timeout);
            if self.client.deadline().is_none_or(|at| at > now) {
                break;
            }
        }
        self.client_acts();
    }
}
