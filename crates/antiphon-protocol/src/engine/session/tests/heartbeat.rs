//! Pings and pongs in both revisions, and what silence does.

use super::*;

fn v3(transport: TransportKind) -> Server {
    Server::with(Revision::V3, transport, CONFIG)
}

#[test]
fn a_ping_of_revision_4_answers_the_poll_that_waits() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(
        server.pass(CONFIG.ping_interval),
        [(CONFIG.ping_interval, Output::Flush)]
    );
    assert_eq!(server.answer(), answer(["2"]));
}

#[test]
fn a_ping_of_revision_4_waits_for_a_poll_behind_the_messages() {
    let mut server = Server::new(POLLING);
    server.send("a").unwrap();
    server.pass(CONFIG.ping_interval);
    server.send("b").unwrap();
    assert_eq!(server.poll(), answer(["4a", "2", "4b"]));
}

#[test]
fn a_ping_of_revision_4_goes_by_websocket() {
    let mut server = Server::new(WEBSOCKET);
    server.pass(CONFIG.ping_interval);
    assert_eq!(server.written(), packets(["2"]));
}

#[test]
fn the_next_ping_is_due_one_interval_after_the_pong() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::new(transport);
        server.pass(CONFIG.ping_interval + seconds(3));
        assert_eq!(server.receive("3"), Output::Nothing);
        assert_eq!(
            server.session.deadline(),
            Some(server.now + CONFIG.ping_interval)
        );
    }
}

#[test]
fn a_missing_pong_closes_the_session_and_its_poll() {
    let mut server = Server::new(POLLING);
    server.pass(CONFIG.ping_interval);
    assert_eq!(server.poll(), answer(["2"]));
    server.poll_waits();
    assert_eq!(
        server.pass(CONFIG.ping_timeout),
        [(CONFIG.ping_timeout, Output::Flush)]
    );
    assert_eq!(server.closed(), Some(CloseReason::PingTimeout));
    assert_eq!(server.answer(), answer(["1"]));
}

#[test]
fn messages_are_no_pong() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::new(transport);
        server.pass(CONFIG.ping_interval + seconds(10));
        // The first gives the pong its time again, the others nothing.
        assert!(server.hears("4a"));
        for _ in 0..19 {
            server.pass(seconds(1));
            assert!(server.hears("4a"));
        }
        assert!(server.session.is_open());
        server.pass(seconds(1));
        assert_eq!(server.closed(), Some(CloseReason::PingTimeout));
    }
}

#[test]
fn any_packet_but_a_pong_gives_it_its_time_again() {
    for packet in ["0", "5", "6"] {
        let mut server = Server::new(WEBSOCKET);
        server.pass(CONFIG.ping_interval + seconds(10));
        server.receive(packet);
        server.pass(CONFIG.ping_timeout - seconds(1));
        assert!(server.session.is_open(), "{packet}");
        server.receive("3");
        assert_eq!(
            server.next_timer(),
            Some((Timer::Ping, CONFIG.ping_interval))
        );
    }
}

#[test]
fn one_pong_too_many_is_tolerated() {
    let mut server = Server::new(POLLING);
    assert_eq!(server.receive("3"), Output::Nothing);
    assert_eq!(server.receive("3"), Output::Nothing);
    assert!(server.session.is_open());
}

#[test]
fn a_client_of_revision_4_must_not_ping() {
    for transport in [POLLING, WEBSOCKET] {
        for ping in ["2", "2probe"] {
            let mut server = Server::new(transport);
            assert_eq!(server.receive(ping), Output::Flush);
            assert_eq!(server.closed(), Some(CloseReason::TransportError));
        }
    }
}

#[test]
fn a_client_of_revision_3_must_not_pong() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = v3(transport);
        assert_eq!(server.receive("3"), Output::Flush);
        assert_eq!(server.closed(), Some(CloseReason::TransportError));
    }
}

#[test]
fn a_ping_of_revision_3_is_answered_with_its_data() {
    let mut server = v3(POLLING);
    server.poll_waits();
    assert_eq!(server.receive("2"), Output::Flush);
    assert_eq!(server.answer(), answer(["3"]));
    assert_eq!(server.receive("2data"), Output::Flush);
    assert_eq!(server.poll(), answer(["3data"]));
    let mut server = v3(WEBSOCKET);
    assert_eq!(server.receive("2"), Output::Flush);
    assert_eq!(server.written(), packets(["3"]));
}

#[test]
fn a_client_of_revision_3_has_interval_and_timeout_for_its_next_ping() {
    let patience = CONFIG.ping_interval + CONFIG.ping_timeout;
    let mut server = v3(POLLING);
    server.pass(patience - seconds(1));
    server.receive("2");
    assert_eq!(server.pass(patience - seconds(1)), []);
    assert!(server.session.is_open());
    server.pass(seconds(1));
    assert_eq!(server.closed(), Some(CloseReason::PingTimeout));
}

#[test]
fn a_server_of_revision_3_sends_no_ping() {
    let mut server = v3(POLLING);
    server.poll_waits();
    assert_eq!(server.pass(CONFIG.ping_interval + seconds(1)), []);
    assert_eq!(server.answer(), None);
}

#[test]
fn silence_says_nothing_while_this_side_reads_nothing() {
    for revision in [Revision::V3, Revision::V4] {
        let mut server = Server::with(revision, WEBSOCKET, CONFIG);
        server.handle(Input::ReadingPaused);
        server.pass(CONFIG.ping_interval * 10);
        assert!(server.session.is_open());
        server.handle(Input::ReadingResumed);
        server.pass(CONFIG.ping_timeout);
        assert_eq!(server.closed(), Some(CloseReason::PingTimeout));
    }
}

#[test]
fn a_paused_session_pings_once() {
    let mut server = Server::new(POLLING);
    server.handle(Input::PostOpened);
    server.handle(Input::ReadingPaused);
    server.pass(CONFIG.ping_interval * 10);
    assert_eq!(server.poll(), answer(["2"]));
}

#[test]
fn a_paused_websocket_is_written_to_so_that_a_lost_one_fails() {
    let mut server = Server::new(WEBSOCKET);
    server.handle(Input::ReadingPaused);
    server.pass(CONFIG.ping_interval);
    assert_eq!(server.written(), packets(["2"]));
    for _ in 0..3 {
        assert_eq!(
            server.pass(CONFIG.ping_timeout),
            [(CONFIG.ping_timeout, Output::Flush)]
        );
        assert_eq!(server.written(), packets(["6"]));
    }
}

#[test]
fn reading_goes_on_when_the_post_that_paused_it_is_done_with() {
    // Its client may have gone away meanwhile, so that no other POST says so.
    let mut server = Server::new(POLLING);
    server.handle(Input::PostOpened);
    server.handle(Input::ReadingPaused);
    server.handle(Input::PostEnded { whole: true });
    server.pass(CONFIG.ping_interval + CONFIG.ping_timeout);
    assert_eq!(server.closed(), Some(CloseReason::PingTimeout));
}

#[test]
fn a_post_of_the_old_transport_does_not_resume_the_websocket() {
    let mut server = Server::new(POLLING);
    server.handle(Input::PostOpened);
    server.begin_upgrade();
    server.probe("5");
    server.handle(Input::ReadingPaused);
    server.handle(Input::PostEnded { whole: true });
    server.pass(CONFIG.ping_interval * 10);
    assert!(server.session.is_open());
}

#[test]
fn a_closed_session_has_no_deadline() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::new(transport);
        assert_eq!(
            server.session.deadline(),
            Some(server.now + CONFIG.ping_interval)
        );
        server.handle(Input::Abort);
        assert_eq!(server.session.deadline(), None);
        assert_eq!(server.timeouts(), []);
    }
}

#[test]
fn a_late_timeout_catches_up_without_spinning() {
    for revision in [Revision::V3, Revision::V4] {
        let mut server = Server::with(revision, POLLING, CONFIG);
        server.begin_upgrade();
        server.now += seconds(3_600);
        // Checks the deadline that follows.
        assert!(!server.timeouts().is_empty());
    }
}
