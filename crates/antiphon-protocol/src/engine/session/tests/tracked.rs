//! Sessions that keep what they have sent by polling until it is confirmed.

use super::*;

fn tracked() -> Server {
    Server::with_offsets(POLLING, CONFIG)
}

#[test]
fn a_poll_that_was_cut_is_answered_again() {
    let mut server = tracked();
    server.send("a").unwrap();
    server.send("b").unwrap();
    server.resume(0);
    assert_eq!(server.answer(), answer(["4a", "4b"]));
    // The answer got lost on its way.
    server.resume(0);
    assert_eq!(server.answer(), answer(["4a", "4b"]));
    server.send("c").unwrap();
    server.resume(1);
    assert_eq!(server.answer(), answer(["4b", "4c"]));
    server.resume(3);
    assert_eq!(server.answer(), None);
}

#[test]
fn a_newer_poll_takes_over() {
    let mut server = tracked();
    server.resume(0);
    server.resume(0);
    assert!(server.session.is_open());
    server.send("a").unwrap();
    assert_eq!(server.answer(), answer(["4a"]));
}

#[test]
fn an_untracked_session_takes_no_notice_of_offsets() {
    let mut server = Server::new(POLLING);
    server.send("a").unwrap();
    server.resume(17);
    assert_eq!(server.answer(), answer(["4a"]));
    server.resume(17);
    let overlap = Output::Refuse(Refusal::Overlap);
    assert_eq!(server.handle(Input::GetOpened(Some(17))), overlap);
}

#[test]
fn a_client_that_has_gone_away_may_come_again_within_the_ping_timeout() {
    let mut server = tracked();
    server.resume(0);
    server.handle(Input::GetEnded { answered: false });
    server.pass(CONFIG.ping_timeout - seconds(1));
    server.resume(0);
    server.handle(Input::GetEnded { answered: false });
    server.pass(CONFIG.ping_timeout - seconds(1));
    assert!(server.session.is_open());
    server.pass(seconds(1));
    assert_eq!(server.closed(), Some(CloseReason::TransportClose));
}

#[test]
fn an_answer_that_was_cut_has_to_be_fetched_again_in_time() {
    let mut server = tracked();
    server.send("a").unwrap();
    server.resume(0);
    assert_eq!(server.answer(), answer(["4a"]));
    server.handle(Input::GetEnded { answered: true });
    server.pass(seconds(5));
    assert_eq!(server.handle(Input::ResponseCut), Output::Nothing);
    assert_eq!(
        server.next_timer(),
        Some((Timer::Return, CONFIG.ping_timeout))
    );
    server.resume(0);
    assert_eq!(server.answer(), answer(["4a"]));
}

#[test]
fn an_answer_that_was_cut_is_no_matter_once_the_client_has_come_again() {
    let mut server = tracked();
    server.send("a").unwrap();
    server.resume(0);
    server.answer();
    server.resume(1);
    server.handle(Input::ResponseCut);
    server.pass(CONFIG.ping_timeout);
    assert!(server.session.is_open());
    server.send("b").unwrap();
    assert_eq!(server.answer(), answer(["4b"]));
}

#[test]
fn an_offset_of_something_else_ends_the_session() {
    for bad in [0, 3, u64::MAX] {
        let mut server = tracked();
        server.send("a").unwrap();
        server.send("b").unwrap();
        server.resume(0);
        server.answer();
        server.resume(1);
        let refused = server.handle(Input::GetOpened(Some(bad)));
        assert!(
            matches!(refused, Output::Refuse(Refusal::BadOffset(_))),
            "{bad}: {refused:?}"
        );
        assert_eq!(server.closed(), Some(CloseReason::TransportError));
    }
}

#[test]
fn a_post_confirms_too_and_may_be_late() {
    let mut server = tracked();
    server.send("a").unwrap();
    server.send("b").unwrap();
    server.resume(0);
    server.answer();
    assert_eq!(server.handle(Input::Confirmed(2)), Output::Nothing);
    assert_eq!(server.handle(Input::Confirmed(1)), Output::Nothing);
    server.resume(2);
    let refused = server.handle(Input::Confirmed(3));
    assert!(matches!(refused, Output::Refuse(Refusal::BadOffset(_))));
    assert_eq!(server.closed(), Some(CloseReason::TransportError));
}

#[test]
fn a_post_that_comes_again_is_no_overlap() {
    let mut server = tracked();
    assert_eq!(server.handle(Input::PostOpened), Output::Nothing);
    assert_eq!(server.handle(Input::PostOpened), Output::Nothing);
    server.handle(Input::PostEnded { whole: false });
    assert!(server.session.is_open());
}

#[test]
fn what_is_never_confirmed_closes_a_slow_reader() {
    let mut server = tracked();
    for number in 0..CONFIG.queue.packets {
        server.send("a").unwrap();
        assert_eq!(
            server.session.keeps_much(),
            number > CONFIG.queue.packets / 2
        );
        server.resume(0);
        server.answer();
    }
    assert!(server.send("a").is_err());
}

#[test]
fn a_poll_that_has_waited_for_long_enough_gets_a_noop() {
    for mut server in [Server::new(POLLING), tracked()] {
        server.handle(Input::GetOpened(None));
        assert_eq!(server.answer(), None);
        assert_eq!(server.handle(Input::GetExpired), Output::Flush);
        assert_eq!(server.answer(), answer(["6"]));
        server.send("a").unwrap();
        server.handle(Input::GetOpened(None));
        assert_eq!(server.answer(), answer(["4a"]));
    }
}

#[test]
fn nothing_is_kept_on_a_websocket() {
    let mut server = tracked();
    server.send("a").unwrap();
    server.resume(0);
    server.answer();
    server.resume(1);
    server.begin_upgrade();
    server.send("b").unwrap();
    server.answer();
    server.resume(2);
    assert_eq!(server.probe("5"), Output::Probe(ProbeStep::Complete));
    server.send("c").unwrap();
    assert_eq!(server.written(), packets(["4c"]));
    assert!(!server.session.is_tracked());
}
