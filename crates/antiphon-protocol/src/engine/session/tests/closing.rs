//! Who ends a session, and what still leaves.

use super::*;

const REJECT: Output = Output::Probe(ProbeStep::Reject);

#[test]
fn a_client_that_closes_gets_its_poll_back_with_a_noop() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.receive("1"), Output::Flush);
    assert_eq!(server.answer(), answer(["6"]));
    assert_eq!(server.closed(), Some(CloseReason::TransportClose));
    assert_eq!(
        server.handle(Input::GetOpened(None)),
        Output::Refuse(Refusal::Closed)
    );
}

#[test]
fn what_follows_a_close_packet_is_not_heard() {
    let mut server = Server::new(POLLING);
    server.receive("1");
    assert!(!server.hears("4late"));
    assert_eq!(server.closed(), Some(CloseReason::TransportClose));
}

#[test]
fn a_client_that_closes_its_websocket_closes_the_session() {
    for (input, reason) in [
        (Input::TransportClosed, CloseReason::TransportClose),
        (Input::Packet(Packet::Close), CloseReason::TransportClose),
        (Input::TransportFailed, CloseReason::TransportError),
        (Input::Undecodable, CloseReason::ParseError),
    ] {
        let mut server = Server::new(WEBSOCKET);
        assert_eq!(server.handle(input), Output::Flush);
        assert_eq!(server.closed(), Some(reason));
        assert_eq!(server.written(), packets([]));
    }
}

#[test]
fn a_closed_session_keeps_its_first_reason() {
    let mut server = Server::new(WEBSOCKET);
    server.handle(Input::TransportClosed);
    for input in [
        Input::TransportFailed,
        Input::Abort,
        Input::Close,
        Input::Drained,
        Input::Undecodable,
        Input::Timeout,
    ] {
        assert_eq!(server.handle(input), Output::Nothing);
    }
    assert_eq!(server.closed(), Some(CloseReason::TransportClose));
}

#[test]
fn closing_answers_a_waiting_poll_with_a_close_packet_alone() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.handle(Input::Close), Output::Flush);
    assert_eq!(server.answer(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn closing_lets_the_queue_leave_before_the_close_packet() {
    let mut server = Server::new(POLLING);
    server.send("a").unwrap();
    server.send("b").unwrap();
    assert_eq!(server.handle(Input::Close), Output::Flush);
    assert!(server.session.is_closing());
    assert_eq!(server.poll(), answer(["4a", "4b"]));
    server.handle(Input::Drained);
    assert_eq!(server.closed(), None);
    assert_eq!(server.poll(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn closing_lets_what_a_waiting_poll_is_about_to_get_leave_first() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.send("a").unwrap();
    server.handle(Input::Close);
    assert_eq!(server.answer(), answer(["4a"]));
    assert_eq!(server.poll(), answer(["1"]));
}

#[test]
fn closing_gives_the_close_packet_to_the_next_poll() {
    let mut server = Server::new(POLLING);
    server.handle(Input::Close);
    assert_eq!(server.closed(), None);
    server.pass(seconds(20));
    assert_eq!(server.poll(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn a_closing_session_that_nobody_polls_ends_at_the_close_timeout() {
    for queued in [0, 1] {
        let mut server = Server::new(POLLING);
        for _ in 0..queued {
            server.send("a").unwrap();
        }
        server.handle(Input::Close);
        server.pass(CONFIG.close_timeout - seconds(1));
        assert_eq!(server.closed(), None);
        server.pass(seconds(1));
        assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
    }
}

#[test]
fn closing_twice_does_not_extend_the_deadline() {
    let mut server = Server::new(POLLING);
    server.handle(Input::Close);
    server.pass(seconds(20));
    assert_eq!(server.handle(Input::Close), Output::Nothing);
    server.pass(CONFIG.close_timeout - seconds(20));
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn a_closing_session_hears_no_message() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::new(transport);
        server.send("a").unwrap();
        server.handle(Input::Close);
        assert!(!server.session.is_open());
        assert!(!server.hears("4late"));
        assert_eq!(server.closed(), None);
    }
}

#[test]
fn a_closing_websocket_waits_for_its_queue_to_drain() {
    let mut server = Server::new(WEBSOCKET);
    server.send("a").unwrap();
    server.handle(Input::Close);
    // Not yet: half a frame has left.
    server.write_blocks(1);
    server.handle(Input::Drained);
    assert_eq!(server.closed(), None);
    server.write(3);
    server.handle(Input::Drained);
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn a_closing_websocket_that_takes_nothing_ends_at_the_close_timeout() {
    let mut server = Server::new(WEBSOCKET);
    server.send("a").unwrap();
    server.write_blocks(1);
    server.handle(Input::Close);
    server.pass(CONFIG.close_timeout);
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn an_open_websocket_that_has_drained_stays_open() {
    let mut server = Server::new(WEBSOCKET);
    assert_eq!(server.handle(Input::Drained), Output::Nothing);
    assert!(server.session.is_open());
}

#[test]
fn what_nobody_will_write_is_dropped_and_what_may_be_asked_for_is_kept() {
    for closes_first in [true, false] {
        for (transport, kept) in [(WEBSOCKET, false), (POLLING, true)] {
            let mut server = Server::new(transport);
            server.send("a").unwrap();
            if closes_first {
                server.handle(Input::Abort);
            }
            server.handle(Input::DriverEnded);
            assert_eq!(server.session.queued_bytes() > 0, kept);
            assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
        }
    }
}

#[test]
fn aborting_leaves_nothing_but_a_close_packet_behind_the_queue() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.send("a").unwrap();
    server.handle(Input::Abort);
    assert_eq!(server.answer(), answer(["4a", "1"]));
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn closing_does_not_wait_for_an_upgrade() {
    for probed in [false, true] {
        let mut server = Server::new(POLLING);
        server.poll_waits();
        server.handle(Input::ProbeOpened(TO_WEBSOCKET));
        if probed {
            server.probe("2probe");
        }
        server.handle(Input::Close);
        assert_eq!(server.answer(), answer(["1"]));
        assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
        assert_eq!(server.probe("5"), REJECT);
    }
}

#[test]
fn a_closing_session_may_still_upgrade_and_drain_by_websocket() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    server.send("a").unwrap();
    server.handle(Input::Close);
    assert_eq!(server.probe("5"), Output::Probe(ProbeStep::Complete));
    assert_eq!(server.written(), packets(["4a"]));
    server.handle(Input::Drained);
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn a_closing_session_survives_a_failing_probe_until_its_queue_has_left() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    server.send("a").unwrap();
    server.handle(Input::Close);
    server.handle(Input::ProbeClosed(TO_WEBSOCKET));
    assert_eq!(server.poll(), answer(["4a"]));
    assert_eq!(server.poll(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}
