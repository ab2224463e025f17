//! Each state that can last has a deadline, and the deadline a name.

use super::*;

#[test]
fn an_idle_session_waits_for_its_next_heartbeat() {
    let server = Server::new(WEBSOCKET);
    assert_eq!(
        server.next_timer(),
        Some((Timer::Ping, CONFIG.ping_interval))
    );
    let server = Server::with(Revision::V3, WEBSOCKET, CONFIG);
    let patience = CONFIG.ping_interval + CONFIG.ping_timeout;
    assert_eq!(server.next_timer(), Some((Timer::Silence, patience)));
}

#[test]
fn a_ping_is_followed_by_the_wait_for_its_pong() {
    let mut server = Server::new(WEBSOCKET);
    server.pass(CONFIG.ping_interval);
    assert_eq!(
        server.next_timer(),
        Some((Timer::Silence, CONFIG.ping_timeout))
    );
}

#[test]
fn an_upgrade_has_a_deadline_and_once_probed_a_noop() {
    for to in [TO_STREAMING, TO_WEBSOCKET] {
        let mut server = Server::new(POLLING);
        server.handle(Input::ProbeOpened(to));
        let upgrade = Timer::Upgrade(to);
        assert_eq!(server.next_timer(), Some((upgrade, CONFIG.upgrade_timeout)));
        server.handle(Input::ProbePacket(to, packet_of("2probe")));
        assert_eq!(server.next_timer(), Some((Timer::Noop(to), NOOP_INTERVAL)));
        server.pass(CONFIG.upgrade_timeout - NOOP_INTERVAL);
        // At the same moment the end of the attempt comes first.
        assert_eq!(server.next_timer(), Some((upgrade, NOOP_INTERVAL)));
    }
}

#[test]
fn a_websocket_that_takes_no_more_stalls_from_that_moment() {
    let mut server = Server::with(Revision::V3, WEBSOCKET, CONFIG);
    server.send("a").unwrap();
    server.pass(seconds(10));
    server.write_blocks(1);
    server.receive("2");
    server.pass(seconds(1));
    server.receive("2");
    let patience = CONFIG.ping_interval + CONFIG.ping_timeout;
    assert_eq!(
        server.next_timer(),
        Some((Timer::Stall, patience - seconds(1)))
    );
    server.handle(Input::Writable);
    assert_eq!(server.next_timer(), Some((Timer::Silence, patience)));
}

#[test]
fn a_client_with_offsets_that_went_away_has_to_return() {
    let mut server = Server::with_offsets(POLLING, CONFIG);
    server.resume(0);
    server.handle(Input::GetEnded { answered: false });
    assert_eq!(
        server.next_timer(),
        Some((Timer::Return, CONFIG.ping_timeout))
    );
    server.resume(0);
    assert_eq!(
        server.next_timer(),
        Some((Timer::Ping, CONFIG.ping_interval))
    );
}

#[test]
fn a_closing_session_is_given_up() {
    let mut server = Server::with(Revision::V3, POLLING, CONFIG);
    server.handle(Input::Close);
    assert_eq!(
        server.next_timer(),
        Some((Timer::Close, CONFIG.close_timeout))
    );
    server.handle(Input::Abort);
    assert_eq!(server.next_timer(), None);
}
