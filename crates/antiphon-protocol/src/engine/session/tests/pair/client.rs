//! The client's side of a pair: what `engine.io-client` does.

use super::*;
use crate::{
    engine::payload,
    websocket::{Decoder, Event as FrameEvent, Role},
};

impl Pair {
    /// What a stock client does by itself, as soon as it can.
    pub(super) fn client_acts(&mut self) {
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

    pub(super) fn client_sends(&mut self) -> bool {
        let open = self.client != ClientSide::Closed && !self.leaving;
        if open {
            self.number += 1;
            self.client_sent.push(self.number);
            self.outbox.push(format!("4{}", self.number));
        }
        open
    }

    /// A client that is upgrading waits for the end of that before it closes.
    pub(super) fn client_closes(&mut self) -> bool {
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

    pub(super) fn poll_returns(&mut self) -> bool {
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

    pub(super) fn post_returns(&mut self) -> bool {
        let answered = self.post == Request::ToClient(());
        if answered {
            self.post = Request::Idle;
        }
        answered
    }

    pub(super) fn probe_opens(&mut self) -> bool {
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
    pub(super) fn probe_is_lost(&mut self) -> bool {
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
            self.server.handle(Input::Writable);
            self.write();
        }
        packets.iter().for_each(|one| self.client_receives(one));
        count > 0
    }
}
