//! The rules of a client's session.

use super::*;
use crate::engine::session::{
    ClientSession,
    client::{Input, Output, Transmit},
};

struct Client {
    session: ClientSession,
    now: Instant,
}

impl Client {
    fn on_polling(revision: Revision) -> Self {
        let now = Instant::now();
        Self {
            session: ClientSession::on_polling(revision, CONFIG, now),
            now,
        }
    }

    fn on_websocket(revision: Revision) -> Self {
        let now = Instant::now();
        Self {
            session: ClientSession::on_websocket(revision, CONFIG, now),
            now,
        }
    }

    fn handle(&mut self, input: Input<'_>) -> Output {
        self.session.handle(input, self.now)
    }

    fn receive(&mut self, packet: &str) -> Output {
        self.handle(Input::Packet(packet_of(packet)))
    }

    fn probe(&mut self, packet: &str) -> Output {
        self.handle(Input::ProbePacket(packet_of(packet)))
    }

    fn send(&mut self, text: &str) {
        let packet = EncodedPacket::text(PacketType::Message, text);
        self.session.send(packet.into()).unwrap();
    }

    /// All that is to be sent now, as on the wire: `GET`, `POST ..`, frames by themselves.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.session.transmit(self.now) {
            match transmit {
                Transmit::Poll => sent.push("GET".into()),
                Transmit::Post(packets) => sent.push(format!("POST {}", texts(&packets).join(" "))),
                Transmit::Frames(packets) => sent.extend(texts(&packets)),
            }
        }
        sent
    }

    /// The deadline comes: what it was for, and what it asked for.
    fn times_out(&mut self) -> (Timer, Output) {
        let (timer, at) = self.session.next_timer().unwrap();
        self.now = at;
        (timer, self.handle(Input::Timeout))
    }

    fn next_timer(&self) -> Option<(Timer, Duration)> {
        let next = self.session.next_timer();
        next.map(|(timer, at)| (timer, at - self.now))
    }

    fn closed(&self) -> Option<CloseReason> {
        self.session.closed()
    }
}

#[test]
fn a_client_polls_again_and_again() {
    let mut client = Client::on_polling(Revision::V4);
    for _ in 0..3 {
        assert_eq!(client.sent(), ["GET"]);
        client.handle(Input::PollEnded);
    }
}

#[test]
fn one_post_at_a_time_carries_all_that_waits() {
    let mut client = Client::on_polling(Revision::V4);
    assert_eq!(client.sent(), ["GET"]);
    client.send("a");
    client.send("b");
    assert!(client.session.is_writable());
    assert_eq!(client.sent(), ["POST 4a 4b"]);
    assert!(!client.session.is_writable());
    client.send("c");
    assert_eq!(client.sent(), packets([]));
    client.handle(Input::Sent);
    assert_eq!(client.sent(), ["POST 4c"]);
}

#[test]
fn frames_follow_when_the_websocket_has_taken_those_before() {
    let mut client = Client::on_websocket(Revision::V4);
    client.send("a");
    assert_eq!(client.sent(), ["4a"]);
    client.send("b");
    assert_eq!(client.sent(), packets([]));
    client.handle(Input::Sent);
    assert_eq!(client.sent(), ["4b"]);
}

#[test]
fn a_client_of_revision_4_answers_pings_and_expects_them() {
    let mut client = Client::on_polling(Revision::V4);
    let patience = CONFIG.ping_interval + CONFIG.ping_timeout;
    assert_eq!(client.next_timer(), Some((Timer::Silence, patience)));
    client.sent();
    client.now += seconds(25);
    client.receive("2");
    client.handle(Input::PollEnded);
    assert_eq!(client.sent(), ["GET", "POST 3"]);
    client.handle(Input::Sent);
    assert_eq!(client.times_out(), (Timer::Silence, Output::Nothing));
    assert_eq!(client.closed(), Some(CloseReason::PingTimeout));
    assert_eq!(client.sent(), packets([]));
}

#[test]
fn a_client_of_revision_3_pings_one_interval_after_the_pong() {
    let mut client = Client::on_websocket(Revision::V3);
    assert_eq!(client.times_out(), (Timer::Ping, Output::Nothing));
    assert_eq!(client.sent(), ["2"]);
    client.handle(Input::Sent);
    client.now += seconds(3);
    client.receive("3");
    assert_eq!(
        client.next_timer(),
        Some((Timer::Ping, CONFIG.ping_interval))
    );
    client.times_out();
    client.sent();
    client.handle(Input::Sent);
    assert_eq!(
        client.next_timer(),
        Some((Timer::Silence, CONFIG.ping_timeout))
    );
    client.times_out();
    assert_eq!(client.closed(), Some(CloseReason::PingTimeout));
}

#[test]
fn heartbeats_of_the_wrong_side_mean_nothing() {
    for (revision, packet) in [(Revision::V4, "3"), (Revision::V3, "2")] {
        let mut client = Client::on_websocket(revision);
        let timer = client.session.next_timer();
        client.now += seconds(1);
        client.receive(packet);
        assert_eq!(client.session.next_timer(), timer);
        assert_eq!(client.sent(), packets([]));
    }
}

#[test]
fn an_upgrade_waits_for_the_poll_and_the_post() {
    for post_first in [true, false] {
        let mut client = Client::on_polling(Revision::V4);
        client.send("a");
        assert_eq!(client.sent(), ["GET", "POST 4a"]);
        assert_eq!(client.handle(Input::ProbeOpened), Output::Probe);
        // Until it is answered all goes on.
        client.handle(Input::PollEnded);
        assert_eq!(client.sent(), ["GET"]);
        assert_eq!(client.probe("3probe"), Output::Nothing);
        client.send("b");
        let (first, second) = match post_first {
            true => (Input::Sent, Input::PollEnded),
            false => (Input::PollEnded, Input::Sent),
        };
        assert_eq!(client.handle(first), Output::Nothing);
        assert_eq!(client.sent(), packets([]));
        assert_eq!(client.handle(second), Output::Upgrade);
        assert_eq!(client.session.transport(), WEBSOCKET);
        // Not before the packet `5`.
        assert_eq!(client.sent(), packets([]));
        client.handle(Input::Sent);
        assert_eq!(client.sent(), ["4b"]);
    }
}

#[test]
fn an_upgrade_with_nothing_under_way_completes_at_once() {
    let mut client = Client::on_polling(Revision::V4);
    client.handle(Input::ProbeOpened);
    assert_eq!(client.probe("3probe"), Output::Upgrade);
}

#[test]
fn a_failed_upgrade_leaves_the_client_polling() {
    let fails: [fn(&mut Client) -> Output; 4] = [
        |client| client.handle(Input::ProbeClosed),
        |client| client.probe("6"),
        |client| client.probe("4a"),
        |client| {
            let (timer, output) = client.times_out();
            assert_eq!(timer, Timer::Upgrade(TO_WEBSOCKET));
            output
        },
    ];
    for fail in fails {
        for answered in [false, true] {
            let mut client = Client::on_polling(Revision::V4);
            client.sent();
            client.handle(Input::ProbeOpened);
            if answered {
                client.probe("3probe");
                client.send("a");
            }
            fail(&mut client);
            assert!(!client.session.is_upgrading());
            client.handle(Input::PollEnded);
            let expected = if answered {
                packets(["GET", "POST 4a"])
            } else {
                packets(["GET"])
            };
            assert_eq!(client.sent(), expected);
            assert_eq!(client.handle(Input::ProbeOpened), Output::Probe);
        }
    }
}

#[test]
fn one_websocket_at_a_time_is_probed() {
    let mut client = Client::on_polling(Revision::V4);
    assert_eq!(client.handle(Input::ProbeOpened), Output::Probe);
    assert_eq!(client.handle(Input::ProbeOpened), Output::GiveUp);
    assert_eq!(client.probe("3probe"), Output::Upgrade);
    assert_eq!(client.handle(Input::ProbeOpened), Output::GiveUp);
    let mut client = Client::on_websocket(Revision::V4);
    assert_eq!(client.handle(Input::ProbeOpened), Output::GiveUp);
}

#[test]
fn closing_by_polling_sends_what_waits_and_a_close_packet() {
    let mut client = Client::on_polling(Revision::V4);
    assert_eq!(client.sent(), ["GET"]);
    client.send("a");
    client.handle(Input::Close);
    assert!(!client.session.takes_messages());
    // Nothing follows the close packet.
    client.receive("2");
    client.handle(Input::PollEnded);
    assert_eq!(client.sent(), ["POST 4a 1"]);
    client.handle(Input::Sent);
    assert_eq!(client.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn closing_by_websocket_waits_for_what_is_written() {
    let mut client = Client::on_websocket(Revision::V4);
    client.send("a");
    assert_eq!(client.sent(), ["4a"]);
    client.send("b");
    client.handle(Input::Close);
    client.handle(Input::Sent);
    assert_eq!(client.sent(), ["4b"]);
    assert_eq!(client.closed(), None);
    client.handle(Input::Sent);
    assert_eq!(client.closed(), Some(CloseReason::ForcedClose));
    let mut idle = Client::on_websocket(Revision::V4);
    idle.handle(Input::Close);
    assert_eq!(idle.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn closing_gives_up_a_probe_that_was_not_answered() {
    let mut client = Client::on_polling(Revision::V4);
    client.handle(Input::ProbeOpened);
    assert_eq!(client.handle(Input::Close), Output::GiveUp);
    assert_eq!(client.probe("3probe"), Output::GiveUp);
    assert_eq!(client.sent(), ["POST 1"]);
}

#[test]
fn closing_waits_for_the_end_of_an_upgrade_that_was_answered() {
    for completes in [true, false] {
        let mut client = Client::on_polling(Revision::V4);
        client.sent();
        client.handle(Input::ProbeOpened);
        client.probe("3probe");
        client.send("a");
        assert_eq!(client.handle(Input::Close), Output::Nothing);
        assert_eq!(client.sent(), packets([]));
        if completes {
            assert_eq!(client.handle(Input::PollEnded), Output::Upgrade);
            client.handle(Input::Sent);
            assert_eq!(client.sent(), ["4a"]);
        } else {
            client.handle(Input::ProbeClosed);
            assert_eq!(client.sent(), ["POST 4a 1"]);
        }
        client.handle(Input::Sent);
        assert_eq!(client.closed(), Some(CloseReason::ForcedClose));
    }
}

#[test]
fn a_close_that_is_not_answered_ends_at_the_close_timeout() {
    let mut client = Client::on_polling(Revision::V4);
    client.handle(Input::Close);
    assert_eq!(client.sent(), ["POST 1"]);
    assert_eq!(
        client.next_timer(),
        Some((Timer::Close, CONFIG.close_timeout))
    );
    client.times_out();
    assert_eq!(client.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn what_does_not_leave_ends_the_session() {
    let clients = [
        Client::on_polling(Revision::V4),
        Client::on_websocket(Revision::V4),
    ];
    for mut client in clients {
        client.send("a");
        client.sent();
        // The server goes on with its heartbeat.
        client.now += seconds(25);
        client.receive("2");
        assert_eq!(client.next_timer(), Some((Timer::Stall, seconds(20))));
        client.times_out();
        assert_eq!(client.closed(), Some(CloseReason::TransportError));
    }
}

#[test]
fn a_server_that_pings_and_never_reads_does_not_grow_the_queue() {
    let mut client = Client::on_websocket(Revision::V4);
    client.send("a");
    client.sent();
    for _ in 0..CONFIG.queue.packets {
        client.receive("2");
    }
    assert!(client.session.is_open());
    client.receive("2");
    assert_eq!(client.closed(), Some(CloseReason::TransportError));
    assert_eq!(client.session.queued_bytes(), 0);
}

#[test]
fn each_end_has_its_reason_and_the_first_counts() {
    for (input, reason) in [
        (Input::Packet(Packet::Close), CloseReason::TransportClose),
        (Input::TransportClosed, CloseReason::TransportClose),
        (Input::TransportFailed, CloseReason::TransportError),
        (Input::Undecodable, CloseReason::ParseError),
        (Input::Abort, CloseReason::ForcedClose),
    ] {
        let mut client = Client::on_polling(Revision::V4);
        client.handle(Input::ProbeOpened);
        client.send("a");
        client.handle(input);
        client.handle(Input::TransportFailed);
        assert_eq!(client.closed(), Some(reason));
        assert_eq!(client.session.deadline(), None);
        assert!(!client.session.is_upgrading());
        assert!(!client.session.takes_messages());
        assert_eq!(client.sent(), packets([]));
    }
}

#[test]
fn messages_are_taken_while_the_session_is_open() {
    let mut client = Client::on_polling(Revision::V4);
    let timer = client.session.next_timer();
    assert_eq!(client.receive("4a"), Output::Nothing);
    assert_eq!(client.session.next_timer(), timer);
    assert!(client.session.takes_messages());
    client.handle(Input::Close);
    assert!(!client.session.takes_messages());
}
