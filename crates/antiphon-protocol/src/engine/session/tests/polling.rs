//! One GET and one POST at a time, and what they are answered.

use super::*;

const OVERLAP: Output = Output::Refuse(Refusal::Overlap);
const MISMATCH: Output = Output::Refuse(Refusal::TransportMismatch);
const GONE: Output = Output::Refuse(Refusal::Closed);

#[test]
fn a_poll_waits_until_there_is_a_packet() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.pass(seconds(24)), []);
    assert_eq!(server.answer(), None);
    server.send("a").unwrap();
    assert_eq!(server.answer(), answer(["4a"]));
    server.poll_waits();
}

#[test]
fn a_poll_takes_all_that_waits_in_order() {
    let mut server = Server::new(POLLING);
    for text in ["a", "b", "c"] {
        server.send(text).unwrap();
    }
    assert_eq!(server.poll(), answer(["4a", "4b", "4c"]));
    assert_eq!(server.session.queued_bytes(), 0);
    server.poll_waits();
}

#[test]
fn a_second_poll_is_refused_and_ends_the_session_and_the_first() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.handle(Input::GetOpened(None)), OVERLAP);
    assert_eq!(server.answer(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_poll_after_an_answered_one_is_no_overlap() {
    let mut server = Server::new(POLLING);
    for text in ["a", "b", "c"] {
        server.poll_waits();
        server.send(text).unwrap();
        assert_eq!(server.answer().unwrap().len(), 1);
    }
    assert!(server.session.is_open());
}

#[test]
fn an_aborted_poll_closes_the_session() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(
        server.handle(Input::GetEnded { answered: false }),
        Output::Nothing
    );
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
    assert_eq!(server.handle(Input::GetOpened(None)), GONE);
}

#[test]
fn a_poll_that_was_answered_is_not_aborted() {
    let mut server = Server::new(POLLING);
    server.send("a").unwrap();
    assert_eq!(server.poll(), answer(["4a"]));
    for answered in [true, false] {
        server.handle(Input::GetEnded { answered });
        assert!(server.session.is_open());
    }
}

#[test]
fn an_answer_that_does_not_arrive_closes_the_session() {
    let mut server = Server::new(POLLING);
    server.send("a").unwrap();
    assert_eq!(server.poll(), answer(["4a"]));
    assert_eq!(server.handle(Input::ResponseCut), Output::Flush);
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_second_post_is_refused_and_ends_the_session() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.handle(Input::PostOpened), Output::Nothing);
    assert_eq!(server.handle(Input::PostOpened), OVERLAP);
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
    assert_eq!(server.answer(), answer(["1"]));
    // What is left of the first is not heard.
    assert!(!server.hears("4late"));
}

#[test]
fn an_aborted_post_closes_the_session_and_its_poll() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    server.handle(Input::PostOpened);
    assert_eq!(
        server.handle(Input::PostEnded { whole: false }),
        Output::Nothing
    );
    assert_eq!(server.answer(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_post_after_a_finished_one_is_no_overlap() {
    let mut server = Server::new(POLLING);
    for _ in 0..3 {
        assert_eq!(server.handle(Input::PostOpened), Output::Nothing);
        assert_eq!(
            server.handle(Input::PostEnded { whole: true }),
            Output::Nothing
        );
    }
    assert!(server.session.is_open());
}

#[test]
fn a_post_and_a_poll_are_no_overlap() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.handle(Input::PostOpened), Output::Nothing);
    assert!(server.hears("4hello"));
    assert!(server.session.is_open());
}

#[test]
fn what_cannot_be_decoded_closes_the_session_with_its_poll() {
    let mut server = Server::new(POLLING);
    server.poll_waits();
    assert_eq!(server.handle(Input::Undecodable), Output::Flush);
    assert_eq!(server.answer(), answer(["1"]));
    assert_eq!(server.closed(), Some(CloseReason::ParseError));
}

#[test]
fn requests_of_a_session_on_websocket_are_refused_and_harm_nothing() {
    let mut server = Server::new(WEBSOCKET);
    assert_eq!(server.handle(Input::GetOpened(None)), MISMATCH);
    assert_eq!(
        server.handle(Input::GetEnded { answered: false }),
        Output::Nothing
    );
    assert_eq!(server.handle(Input::PostOpened), MISMATCH);
    assert_eq!(
        server.handle(Input::PostEnded { whole: true }),
        Output::Nothing
    );
    assert_eq!(
        server.handle(Input::PostEnded { whole: false }),
        Output::Nothing
    );
    assert!(server.session.is_open());
}

#[test]
fn requests_of_a_closed_session_are_refused() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::new(transport);
        server.handle(Input::Abort);
        assert_eq!(server.closed(), Some(CloseReason::ForcedClose));
        assert_eq!(server.handle(Input::GetOpened(None)), GONE);
        assert_eq!(server.handle(Input::PostOpened), GONE);
        assert_eq!(
            server.handle(Input::ProbeOpened(TO_WEBSOCKET)),
            Output::Probe(ProbeStep::Reject)
        );
    }
}

#[test]
fn packets_that_a_client_has_no_use_for_are_ignored() {
    for transport in [POLLING, WEBSOCKET] {
        let mut server = Server::new(transport);
        for packet in ["0{}", "5", "6"] {
            assert_eq!(server.receive(packet), Output::Nothing);
        }
        assert!(server.session.is_open());
        assert_eq!(server.session.transport(), transport);
    }
}
