//! The outbound queue is bounded, and says when a volatile message would leave at once.

use super::*;

const SMALL: SessionConfig = SessionConfig {
    packets_per_poll: usize::MAX,
    queue: QueueLimits {
        packets: 2,
        bytes: 1_000,
        burst: 1,
    },
    ..CONFIG
};

#[test]
fn a_full_queue_refuses_a_message_and_keeps_the_others() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::with(Revision::V4, transport, SMALL);
        server.send("a").unwrap();
        server.send("b").unwrap();
        let full = server.send("c").unwrap_err();
        assert_eq!(full.packets, 2);
        assert!(server.session.is_open());
        let sent = if transport == POLLING {
            server.poll().unwrap()
        } else {
            server.written()
        };
        assert_eq!(sent, packets(["4a", "4b"]));
        server.send("c").unwrap();
    }
}

#[test]
fn a_poll_takes_so_many_packets_and_the_next_goes_on() {
    let config = SessionConfig {
        packets_per_poll: 2,
        ..CONFIG
    };
    let offsets = |config| Server::with_offsets(POLLING, config);
    for mut server in [Server::with(Revision::V4, POLLING, config), offsets(config)] {
        for text in ["a", "b", "c", "d", "e"] {
            server.send(text).unwrap();
        }
        let poll = |server: &mut Server, offset| {
            server.resume(offset);
            server.answer()
        };
        assert_eq!(poll(&mut server, 0), answer(["4a", "4b"]));
        assert_eq!(poll(&mut server, 2), answer(["4c", "4d"]));
        server.send("f").unwrap();
        server.handle(Input::Close);
        assert_eq!(poll(&mut server, 4), answer(["4e", "4f"]));
        assert_eq!(poll(&mut server, 6), answer(["1"]));
    }
}

#[test]
fn the_last_poll_of_a_session_takes_all() {
    let config = SessionConfig {
        packets_per_poll: 2,
        ..CONFIG
    };
    let mut server = Server::with(Revision::V4, POLLING, config);
    server.poll_waits();
    for text in ["a", "b", "c"] {
        server.send(text).unwrap();
    }
    server.handle(Input::Abort);
    assert_eq!(server.answer(), answer(["4a", "4b", "4c", "1"]));
}

#[test]
fn a_ping_has_room_in_a_full_queue() {
    let mut server = Server::with(Revision::V4, POLLING, SMALL);
    server.send("a").unwrap();
    server.send("b").unwrap();
    server.pass(SMALL.ping_interval);
    assert_eq!(server.poll(), answer(["4a", "4b", "2"]));
}

#[test]
fn a_client_that_pings_and_never_reads_is_closed() {
    let mut server = Server::with(Revision::V3, WEBSOCKET, SMALL);
    assert_eq!(server.receive("2"), Output::Flush);
    assert_eq!(server.receive("2"), Output::Flush);
    assert!(server.session.is_open());
    server.receive("2");
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_websocket_that_takes_nothing_is_closed_although_its_client_answers() {
    let mut server = Server::new(WEBSOCKET);
    server.send("a").unwrap();
    server.write_blocks(1);
    for _ in 0..4 {
        server.pass(seconds(10));
        server.receive("3");
    }
    assert_eq!(server.next_timer(), Some((Timer::Stall, seconds(5))));
    server.pass(seconds(4));
    assert!(server.session.is_open());
    server.pass(seconds(1));
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_websocket_that_takes_little_by_little_stays() {
    let mut server = Server::new(WEBSOCKET);
    server.send(&"a".repeat(100)).unwrap();
    for _ in 0..50 {
        server.write_blocks(1);
        server.pass(seconds(10));
        server.receive("3");
    }
    assert!(server.session.is_open());
    server.handle(Input::Writable);
    server.pass(CONFIG.ping_interval * 2);
    assert_eq!(server.closed(), Some(CloseReason::PingTimeout));
}

#[test]
fn polling_is_writable_while_a_poll_waits() {
    let mut server = Server::new(POLLING);
    assert!(!server.session.is_writable());
    server.poll_waits();
    assert!(server.session.is_writable());
    server.send("a").unwrap();
    // A second message leaves with the same answer.
    assert!(server.session.is_writable());
    server.answer();
    assert!(!server.session.is_writable());
}

#[test]
fn a_websocket_is_writable_until_it_takes_no_more() {
    let mut server = Server::new(WEBSOCKET);
    assert!(server.session.is_writable());
    server.send("a").unwrap();
    server.write_blocks(1);
    assert!(!server.session.is_writable());
    assert!(server.session.is_blocked());
    server.write(3);
    assert!(server.session.is_writable());
}

#[test]
fn an_upgraded_session_is_writable() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    assert!(!server.session.is_writable());
    server.probe("5");
    assert!(server.session.is_writable());
}

#[test]
fn frames_leave_by_websocket_only() {
    let mut server = Server::new(POLLING);
    server.send("a").unwrap();
    assert_eq!(server.written(), packets([]));
    assert_eq!(server.poll(), answer(["4a"]));
}

#[test]
fn the_open_packet_leaves_with_the_handshake() {
    let mut server = Server::new(POLLING);
    let open = EncodedPacket::text(PacketType::Open, "{}");
    let _ = server
        .session
        .send(open.into(), QueuePolicy::Close)
        .unwrap();
    server.send("first").unwrap();
    assert_eq!(server.session.take_handshake().len(), 2);
    assert_eq!(server.session.queued_bytes(), 0);
    server.poll_waits();
}

const BURST: SessionConfig = SessionConfig {
    packets_per_poll: usize::MAX,
    queue: QueueLimits {
        packets: 2,
        bytes: 1_000,
        burst: 5,
    },
    ..CONFIG
};

#[test]
fn a_burst_waits_for_a_client_between_two_polls() {
    let mut server = Server::with(Revision::V4, POLLING, BURST);
    for _ in 0..10 {
        server.send("a").unwrap();
    }
    assert!(server.send("a").is_err());
    assert_eq!(server.next_timer(), Some((Timer::Behind, seconds(20))));
    server.pass(seconds(19));
    assert_eq!(server.poll().unwrap().len(), 10);
    server.pass(seconds(5));
    assert!(server.session.is_open());
    assert_eq!(server.next_timer(), Some((Timer::Ping, seconds(1))));
}

#[test]
fn a_client_that_is_behind_and_takes_nothing_is_closed() {
    for transport in [POLLING, STREAMING, WEBSOCKET] {
        let mut server = Server::with(Revision::V4, transport, BURST);
        server.handle(Input::Blocked);
        for _ in 0..3 {
            server.send("a").unwrap();
        }
        server.pass(seconds(10));
        // What follows doesn't begin its time anew.
        server.send("a").unwrap();
        server.pass(seconds(9));
        assert!(server.session.is_open());
        server.pass(seconds(1));
        assert_eq!(server.closed(), Some(CloseReason::TransportError));
    }
}

#[test]
fn a_websocket_that_is_behind_and_takes_little_by_little_stays() {
    let mut server = Server::with(Revision::V4, WEBSOCKET, BURST);
    for _ in 0..10 {
        server.send("a").unwrap();
    }
    for _ in 0..20 {
        server.write_blocks(1);
        server.pass(seconds(10));
        server.receive("3");
    }
    assert!(server.session.is_open());
    server.write(20);
    server.pass(seconds(19));
    assert!(server.session.is_open());
}

#[test]
fn a_response_that_is_read_is_progress() {
    let mut server = Server::with(Revision::V4, POLLING, BURST);
    server.poll_waits();
    server.send("a").unwrap();
    server.answer();
    for _ in 0..3 {
        server.send("a").unwrap();
    }
    for _ in 0..2 {
        server.pass(seconds(15));
        server.handle(Input::ResponseRead);
        server.receive("3");
    }
    assert!(server.session.is_open());
    server.pass(seconds(20));
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn who_has_caught_up_and_falls_behind_again_has_its_time_again() {
    let mut server = Server::with(Revision::V4, POLLING, BURST);
    for _ in 0..3 {
        for _ in 0..3 {
            server.send("a").unwrap();
        }
        server.pass(seconds(15));
        assert_eq!(server.poll().unwrap().len(), 3);
        server.handle(Input::Packet(packet_of("3")));
    }
}

#[test]
fn a_client_that_comes_again_without_having_read_makes_no_progress() {
    let mut server = Server::with_offsets(POLLING, BURST);
    for _ in 0..3 {
        server.send("a").unwrap();
    }
    server.resume(0);
    server.answer();
    for _ in 0..2 {
        server.pass(seconds(9));
        server.resume(0);
        server.answer();
    }
    server.pass(seconds(2));
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_client_that_confirms_little_by_little_stays() {
    let mut server = Server::with_offsets(POLLING, BURST);
    for _ in 0..8 {
        server.send("a").unwrap();
    }
    for confirmed in 0..6 {
        server.resume(confirmed);
        server.answer();
        server.pass(seconds(15));
        server.receive("3");
        assert!(server.session.is_open());
    }
}
