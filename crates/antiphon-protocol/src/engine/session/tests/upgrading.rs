//! From polling to WebSocket: nothing is lost, and a failing probe harms nobody.

use super::*;

const ACCEPTED: Output = Output::Nothing;
const ANSWER: Output = Output::Probe(ProbeStep::Answer);
const COMPLETE: Output = Output::Probe(ProbeStep::Complete);
const REJECT: Output = Output::Probe(ProbeStep::Reject);

#[test]
fn a_probe_and_an_upgrade_change_the_transport() {
    let mut server = Server::new(POLLING);
    assert_eq!(server.handle(Input::ProbeOpened(TO_WEBSOCKET)), ACCEPTED);
    assert!(server.session.is_upgrading(TO_WEBSOCKET));
    assert_eq!(server.probe("2probe"), ANSWER);
    assert_eq!(server.session.transport(), POLLING);
    assert_eq!(server.probe("5"), COMPLETE);
    assert_eq!(server.session.transport(), WEBSOCKET);
    assert!(!server.session.is_upgrading(TO_WEBSOCKET));
}

#[test]
fn a_waiting_poll_gets_a_noop_each_100_ms_once_probed() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.handle(Input::ProbeOpened(TO_WEBSOCKET)), ACCEPTED);
    assert_eq!(server.pass(seconds(1)), []);
    assert_eq!(server.probe("2probe"), ANSWER);
    for _ in 0..5 {
        assert_eq!(server.pass(NOOP_INTERVAL), [(NOOP_INTERVAL, Output::Flush)]);
        assert_eq!(server.answer(), answer(["6"]));
        server.poll_waits();
    }
    server.probe("5");
    assert_eq!(server.pass(seconds(1)), []);
}

#[test]
fn no_noop_is_queued_where_no_poll_waits() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    server.pass(seconds(1));
    assert_eq!(server.session.queued_bytes(), 0);
    server.probe("5");
    assert_eq!(server.written(), packets([]));
}

#[test]
fn messages_during_an_upgrade_go_with_the_poll_that_waits() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    server.poll_waits();
    server.send("a").unwrap();
    assert_eq!(server.answer(), answer(["4a"]));
    server.probe("5");
    assert_eq!(server.written(), packets([]));
}

#[test]
fn messages_without_a_poll_go_by_the_websocket_in_order() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.send("a").unwrap();
    server.begin_upgrade();
    assert_eq!(server.answer(), answer(["4a"]));
    server.send("b").unwrap();
    server.pass(NOOP_INTERVAL);
    server.send("c").unwrap();
    server.probe("5");
    server.send("d").unwrap();
    assert_eq!(server.written(), packets(["4b", "4c", "4d"]));
}

#[test]
fn a_poll_that_still_waits_gets_a_noop_and_nothing_of_the_queue() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.send("a").unwrap();
    server.begin_upgrade();
    server.probe("5");
    assert_eq!(server.answer(), answer(["6"]));
    assert_eq!(server.written(), packets(["4a"]));
}

#[test]
fn the_old_transport_is_refused_after_the_upgrade() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.begin_upgrade();
    server.probe("5");
    for input in [Input::PostOpened, Input::GetOpened(None)] {
        assert_eq!(
            server.handle(input),
            Output::Refuse(Refusal::TransportMismatch)
        );
    }
    // The poll that has waited over the upgrade may go as it likes.
    server.handle(Input::GetEnded { answered: false });
    assert!(server.session.is_open());
}

#[test]
fn a_post_that_was_under_way_is_heard_after_the_upgrade() {
    let mut server = Server::new(POLLING);
    server.handle(Input::PostOpened);
    server.begin_upgrade();
    server.probe("5");
    assert!(server.hears("4a"));
    server.handle(Input::PostEnded { whole: true });
    assert!(server.session.is_open());
}

/// The session is on polling, and may be upgraded once more.
fn expect_alive_on_polling(mut server: Server) {
    assert!(server.session.is_open());
    assert!(!server.session.is_upgrading(TO_WEBSOCKET));
    assert_eq!(server.session.transport(), POLLING);
    server.send("alive").unwrap();
    assert_eq!(server.answer(), answer(["4alive"]));
    server.poll_waits();
    assert!(server.hears("4a"));
    server.begin_upgrade();
    assert_eq!(server.probe("5"), COMPLETE);
}

#[test]
fn a_wrong_packet_ends_the_probe_alone() {
    for packet in ["2", "2other", "3probe", "4a", "1", "6", "0{}"] {
        let mut server = Server::new(POLLING);
        server.poll_waits();
        server.handle(Input::ProbeOpened(TO_WEBSOCKET));
        assert_eq!(server.probe(packet), REJECT);
        expect_alive_on_polling(server);
        let mut server = Server::new(POLLING);
        server.poll_waits();
        server.begin_upgrade();
        assert_eq!(server.probe(packet), REJECT);
        expect_alive_on_polling(server);
    }
}

#[test]
fn a_lost_probe_keeps_the_polling_session() {
    for probed in [false, true] {
        let mut server = Server::new(POLLING);
        server.poll_waits();
        server.handle(Input::ProbeOpened(TO_WEBSOCKET));
        if probed {
            server.probe("2probe");
        }
        server.handle(Input::ProbeClosed(TO_WEBSOCKET));
        assert_eq!(server.pass(seconds(1)), []);
        expect_alive_on_polling(server);
    }
}

#[test]
fn upgrade_timeout_keeps_the_polling_session() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.handle(Input::ProbeOpened(TO_WEBSOCKET));
    assert_eq!(
        server.pass(CONFIG.upgrade_timeout),
        [(CONFIG.upgrade_timeout, REJECT)]
    );
    expect_alive_on_polling(server);
}

#[test]
fn upgrade_timeout_comes_also_while_noops_go_out() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    let outputs = server.pass(CONFIG.upgrade_timeout);
    assert_eq!(outputs.last(), Some(&(CONFIG.upgrade_timeout, REJECT)));
    server.poll_waits();
    expect_alive_on_polling(server);
}

#[test]
fn a_second_websocket_is_refused_and_harms_nothing() {
    let mut server = Server::new(POLLING);
    server.handle(Input::ProbeOpened(TO_WEBSOCKET));
    assert_eq!(server.handle(Input::ProbeOpened(TO_WEBSOCKET)), REJECT);
    assert_eq!(server.probe("2probe"), ANSWER);
    assert_eq!(server.handle(Input::ProbeOpened(TO_WEBSOCKET)), REJECT);
    assert_eq!(server.probe("5"), COMPLETE);
    assert_eq!(server.handle(Input::ProbeOpened(TO_WEBSOCKET)), REJECT);
    assert!(server.session.is_open());
    assert_eq!(server.session.transport(), WEBSOCKET);
}

#[test]
fn a_session_that_began_on_websocket_is_not_upgraded() {
    let mut server = Server::new(WEBSOCKET);
    assert_eq!(server.handle(Input::ProbeOpened(TO_WEBSOCKET)), REJECT);
    assert_eq!(server.probe("2probe"), REJECT);
    assert_eq!(server.probe("5"), REJECT);
    assert!(server.session.is_open());
}

#[test]
fn the_heartbeat_goes_on_over_the_upgrade() {
    let mut server = Server::new(POLLING);
    server.pass(CONFIG.ping_interval - seconds(1));
    server.begin_upgrade();
    server.probe("5");
    assert_eq!(server.pass(seconds(1)), [(seconds(1), Output::Flush)]);
    assert_eq!(server.written(), packets(["2"]));
    server.receive("3");
    assert_eq!(
        server.session.deadline(),
        Some(server.now + CONFIG.ping_interval)
    );
}

#[test]
fn a_session_that_ends_ends_its_probe() {
    // Else the probing WebSocket of a closed session would stay for as long as its client likes.
    for input in [
        Input::Abort,
        Input::Close,
        Input::GetOpened(None),
        Input::GetEnded { answered: false },
        Input::Undecodable,
        Input::TransportFailed,
        Input::Packet(Packet::Close),
        Input::Packet(Packet::Ping("")),
    ] {
        let mut server = Server::new(POLLING);
        server.poll_waits();
        server.begin_upgrade();
        let described = format!("{input:?}");
        server.handle(input);
        assert!(server.closed().is_some(), "{described}");
        assert!(!server.session.is_upgrading(TO_WEBSOCKET), "{described}");
        assert_eq!(server.probe("5"), REJECT);
        assert_eq!(server.session.transport(), POLLING);
    }
}
