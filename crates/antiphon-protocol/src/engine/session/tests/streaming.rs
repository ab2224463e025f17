//! Sessions whose packets leave by one response that stays open.

use super::*;

fn probe(server: &mut Server, packet: &'static str) -> ProbeStep {
    match server.handle(Input::ProbePacket(TO_STREAMING, packet_of(packet))) {
        Output::Probe(step) => step,
        other => panic!("{other:?} in answer to a packet of a probe"),
    }
}

#[test]
fn packets_leave_one_after_the_other() {
    let mut server = Server::new(STREAMING);
    server.resume(0);
    assert_eq!(server.session.stream_step(), StreamStep::Wait);
    server.send("a").unwrap();
    assert_eq!(server.streamed(), ["4a"]);
    server.send("b").unwrap();
    server.send("c").unwrap();
    assert_eq!(server.session.offset(), 1);
    assert_eq!(server.streamed(), ["4b", "4c"]);
    assert_eq!(server.session.stream_step(), StreamStep::Wait);
}

#[test]
fn a_stream_that_was_cut_goes_on_in_the_next() {
    let mut server = Server::new(STREAMING);
    server.resume(0);
    server.send("a").unwrap();
    server.send("b").unwrap();
    server.streamed();
    server.handle(Input::GetEnded { answered: false });
    server.send("c").unwrap();
    server.resume(1);
    assert_eq!(server.session.offset(), 1);
    assert_eq!(server.streamed(), ["4b", "4c"]);
    server.handle(Input::GetEnded { answered: false });
    server.pass(CONFIG.ping_timeout);
    assert_eq!(server.closed(), Some(CloseReason::TransportClose));
}

#[test]
fn a_volatile_message_waits_for_nothing() {
    let mut server = Server::new(STREAMING);
    assert!(!server.session.is_writable());
    server.resume(0);
    assert!(server.session.is_writable());
    server.send("a").unwrap();
    assert!(!server.session.is_writable());
    server.streamed();
    assert!(server.session.is_writable());
}

#[test]
fn a_close_is_the_last_packet_and_the_end() {
    let mut server = Server::new(STREAMING);
    server.resume(0);
    server.send("a").unwrap();
    server.handle(Input::Close);
    assert_eq!(server.streamed(), ["4a"]);
    assert_eq!(server.streamed(), ["1"]);
    assert_eq!(server.session.stream_step(), StreamStep::End);
    assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
}

#[test]
fn a_polling_session_goes_on_to_streaming_and_counts_anew() {
    let mut server = Server::with_offsets(POLLING, CONFIG);
    server.send("a").unwrap();
    server.resume(0);
    server.answer();
    assert_eq!(
        server.handle(Input::ProbeOpened(TO_STREAMING)),
        Output::Nothing
    );
    assert_eq!(probe(&mut server, "2probe"), ProbeStep::Answer);
    server.resume(1);
    // The poll that waits is ended, so that the client can pause.
    server.pass(NOOP_INTERVAL);
    assert_eq!(server.answer(), answer(["6"]));
    server.send("b").unwrap();
    assert_eq!(probe(&mut server, "5"), ProbeStep::Complete);
    assert_eq!(server.session.transport(), STREAMING);
    assert_eq!(server.session.offset(), 0);
    assert_eq!(server.streamed(), ["4b"]);
}

#[test]
fn of_two_probes_the_first_that_is_completed_counts() {
    let mut server = Server::new(POLLING);
    server.begin_upgrade();
    assert_eq!(
        server.handle(Input::ProbeOpened(TO_STREAMING)),
        Output::Nothing
    );
    assert_eq!(probe(&mut server, "2probe"), ProbeStep::Answer);
    assert_eq!(server.probe("5"), Output::Probe(ProbeStep::Complete));
    assert_eq!(probe(&mut server, "5"), ProbeStep::Reject);
    assert_eq!(server.session.transport(), WEBSOCKET);

    let mut server = Server::new(POLLING);
    server.handle(Input::ProbeOpened(TO_STREAMING));
    server.begin_upgrade();
    assert_eq!(probe(&mut server, "5"), ProbeStep::Complete);
    assert!(!server.session.is_upgrading(TO_WEBSOCKET));
    assert_eq!(server.probe("5"), Output::Probe(ProbeStep::Reject));
    assert_eq!(server.session.transport(), STREAMING);
}

#[test]
fn a_probe_that_is_not_completed_is_given_up() {
    let mut server = Server::new(POLLING);
    server.handle(Input::ProbeOpened(TO_STREAMING));
    let outputs = server.pass(CONFIG.upgrade_timeout);
    let reject = Output::Probe(ProbeStep::Reject);
    assert_eq!(outputs, [(CONFIG.upgrade_timeout, reject)]);
    assert!(!server.session.is_upgrading(TO_STREAMING));
    assert_eq!(server.session.transport(), POLLING);
}

#[test]
fn a_stream_ends_for_the_websocket_that_follows_it() {
    let mut server = Server::new(STREAMING);
    server.resume(0);
    server.send("a").unwrap();
    server.begin_upgrade();
    assert_eq!(server.streamed(), ["4a"]);
    assert_eq!(server.session.stream_step(), StreamStep::End);
    server.handle(Input::GetEnded { answered: false });
    server.send("b").unwrap();
    // A client that doesn't pause yet comes again.
    server.resume(1);
    assert_eq!(server.streamed(), ["4b"]);
    assert_eq!(server.session.stream_step(), StreamStep::End);
    server.send("c").unwrap();
    assert_eq!(server.probe("5"), Output::Probe(ProbeStep::Complete));
    assert_eq!(server.written(), packets(["4c"]));
}

#[test]
fn no_session_goes_back_to_streaming() {
    for transport in [STREAMING, WEBSOCKET] {
        let mut server = Server::new(transport);
        let reject = Output::Probe(ProbeStep::Reject);
        assert_eq!(server.handle(Input::ProbeOpened(TO_STREAMING)), reject);
    }
}
