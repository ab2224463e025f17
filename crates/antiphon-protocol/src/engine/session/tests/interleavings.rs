//! Whatever the order in which things happen: nothing is lost, doubled, reordered or left behind.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    pair::{Event, Pair, SHORT},
    *,
};

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![Just(Revision::V3), Just(Revision::V4)]
}

const TRAFFIC: [Event; 19] = [
    Event::PollExpires,
    Event::PollArrives,
    Event::PollIsAnswered,
    Event::PollReturns,
    Event::PostArrives,
    Event::PostIsAnswered,
    Event::PostReturns,
    Event::FrameArrives,
    Event::FrameArrives,
    Event::BytesReturn(1),
    Event::BytesReturn(4),
    Event::BytesReturn(20),
    Event::ServerSends,
    Event::ServerSends,
    Event::ClientSends,
    Event::ProbeOpens,
    Event::OtherProbeOpens,
    Event::TimePasses(Duration::from_millis(10)),
    Event::TimePasses(Duration::from_millis(70)),
];

const TROUBLE: [Event; 6] = [
    Event::ServerPauses,
    Event::ServerResumes,
    Event::ProbeIsLost,
    Event::TimePasses(Duration::from_millis(400)),
    Event::TimePasses(Duration::from_millis(1_000)),
    Event::TimePasses(Duration::from_millis(1_900)),
];

const ENDS: [Event; 2] = [Event::ServerCloses, Event::ClientCloses];

/// Mostly traffic, now and then something that ends an upgrade or the session.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        80 => select(&TRAFFIC[..]),
        3 => select(&TROUBLE[..]),
        1 => select(&ENDS[..]),
    ];
    vec(event, 0..200)
}

fn play(revision: Revision, events: &[Event]) -> Pair {
    let mut pair = Pair::new(revision);
    for &event in events {
        pair.apply(event);
    }
    pair
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_accepted_message_arrives_once_and_in_order(
        revision in revision(),
        events in events(),
    ) {
        let mut pair = play(revision, &events);
        pair.settle();
        let session = &pair.server.session;
        prop_assert!(!session.is_closing(), "a close that never ends");
        match session.closed() {
            None if pair.missed || pair.gave_up => prop_assert!(pair.client_is_closed()),
            None => {
                prop_assert!(!pair.client_is_closed());
                prop_assert_eq!(session.queued_bytes(), 0);
                prop_assert_eq!(&pair.received, &pair.accepted);
                prop_assert_eq!(&pair.heard, &pair.client_sent);
            }
            Some(reason) => {
                prop_assert!(!pair.poll_waits(), "a poll of a closed session that waits on");
                match reason {
                    CloseReason::TransportClose => {
                        prop_assert!(pair.client_is_leaving() || pair.gave_up);
                    }
                    CloseReason::ForcedClose => prop_assert!(pair.closed_at.is_some()),
                    CloseReason::PingTimeout => {}
                    CloseReason::TransportError => {
                        prop_assert!(pair.overwhelmed || pair.gave_up);
                    }
                    CloseReason::ParseError => prop_assert!(false, "all can be decoded"),
                }
            }
        }
    }

    #[test]
    fn closing_loses_nothing_and_does_not_wait_where_the_client_goes_on(
        revision in revision(),
        events in events(),
    ) {
        let mut pair = play(revision, &events);
        let graceful = pair.server.session.is_open() && !pair.client_is_leaving();
        pair.apply(Event::ServerSends);
        pair.apply(Event::ServerCloses);
        let closed_at = pair.server.now;
        pair.settle();
        prop_assert!(pair.server.closed().is_some());
        let forced = pair.server.closed() == Some(CloseReason::ForcedClose);
        if graceful && forced && !pair.gave_up {
            prop_assert!(pair.client_is_closed());
            prop_assert_eq!(&pair.received, &pair.accepted);
            prop_assert!(pair.server.now - closed_at < SHORT.close_timeout / 2);
        }
    }

    #[test]
    fn a_session_whose_client_is_gone_ends(revision in revision(), events in events()) {
        let mut pair = play(revision, &events);
        pair.vanish(SHORT.ping_interval + SHORT.ping_timeout + SHORT.close_timeout);
        prop_assert!(pair.server.closed().is_some());
    }
}

/// The two revisions on the two transports, the second after an upgrade.
fn every_connection() -> impl Iterator<Item = Pair> {
    let connections = [Revision::V3, Revision::V4].map(|revision| {
        [false, true].map(|upgrades| {
            let mut pair = Pair::new(revision);
            if upgrades {
                pair.apply(Event::ProbeOpens);
            }
            pair.settle();
            let transport = if upgrades { WEBSOCKET } else { POLLING };
            assert_eq!(pair.server.session.transport(), transport);
            pair
        })
    });
    connections.into_iter().flatten()
}

#[test]
fn an_idle_session_lives_on_by_its_heartbeat_alone() {
    for mut pair in every_connection() {
        for _ in 0..100 {
            pair.apply(Event::TimePasses(SHORT.ping_interval / 3));
            pair.settle();
        }
        assert!(pair.server.session.is_open());
    }
}

#[test]
fn a_client_that_closes_is_heard_to_its_last_message() {
    for mut pair in every_connection() {
        pair.apply(Event::ClientSends);
        pair.apply(Event::ClientSends);
        pair.apply(Event::ClientCloses);
        pair.settle();
        assert_eq!(pair.server.closed(), Some(CloseReason::TransportClose));
        assert_eq!(pair.heard, pair.client_sent);
    }
}

#[test]
fn messages_at_every_step_of_an_upgrade_arrive() {
    for revision in [Revision::V3, Revision::V4] {
        let mut pair = Pair::new(revision);
        pair.apply(Event::ProbeOpens);
        while pair.server.session.transport() == POLLING {
            for event in [
                Event::FrameArrives,
                Event::BytesReturn(1),
                Event::PollArrives,
                Event::PollIsAnswered,
                Event::PollReturns,
                Event::PostArrives,
                Event::PostIsAnswered,
                Event::PostReturns,
                Event::TimePasses(NOOP_INTERVAL / 7),
            ] {
                pair.apply(event);
                pair.apply(Event::ServerSends);
                pair.apply(Event::ClientSends);
            }
        }
        pair.settle();
        assert!(pair.accepted.len() > 20);
        assert_eq!(pair.received, pair.accepted);
        assert_eq!(pair.heard, pair.client_sent);
    }
}
