//! What a socket has missed: against a model that keeps everything and looks at each event.

use std::{collections::BTreeSet, time::Duration};

use antiphon_protocol::socket::Outgoing;

use super::*;
use crate::server::recovery::log::Stays;

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

const BOUNDS: Bounds = Bounds {
    duration: Duration::from_millis(2_000),
    events: 200,
    bytes: 20_000,
};

fn room(number: u64) -> Room {
    Room::from(format!("room {number}"))
}

fn event(number: u64) -> Outgoing {
    let data = bytes::Bytes::from(vec![number as u8; number as usize % 5]);
    let event = match number % 4 {
        0 => Outgoing::event("binary", &(number, serde_bytes(&data))),
        _ => Outgoing::event("text", &(number, "x".repeat(number as usize % 40))),
    };
    event.expect("an event")
}

fn serde_bytes(bytes: &[u8]) -> impl serde::Serialize {
    struct Binary(Vec<u8>);
    impl serde::Serialize for Binary {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }
    Binary(bytes.to_vec())
}

/// A socket as the test knows it.
#[derive(Default)]
struct Model {
    stays: Stays,
    /// What was sent to it.
    got: Vec<u64>,
}

impl Model {
    fn is_in(&self, room: &str) -> bool {
        let mut stays = self.stays.stays.iter();
        stays.any(|stay| *stay.room == *room && stay.upto.is_none())
    }

    fn join(&mut self, room: Room, after: u64) {
        if !self.is_in(&room) {
            let upto = None;
            self.stays.stays.push(Stay { room, after, upto });
        }
    }

    fn leave(&mut self, room: &str, upto: u64) {
        for stay in &mut self.stays.stays {
            if *stay.room == *room && stay.upto.is_none() {
                stay.upto = Some(upto);
            }
        }
    }

    fn receives(&self, target: &Target) -> bool {
        let is_meant = target.rooms.is_empty() || target.rooms.iter().any(|room| self.is_in(room));
        is_meant && !target.except.iter().any(|room| self.is_in(room))
    }
}

fn all(events: &Events, stays: &Stays, after: u64) -> Result<Vec<u64>, LogError> {
    let mut sequences = Vec::new();
    let mut after = after;
    loop {
        let page = events.missed(&Missed {
            stays: stays.clone(),
            after,
            upto: u64::MAX,
            bytes: 300,
        })?;
        sequences.extend(page.events.iter().map(|event| event.offset.sequence));
        match page.events.last() {
            Some(last) if page.has_more => after = last.offset.sequence,
            _ => return Ok(sequences),
        }
    }
}

/// Each socket is given what was sent to it behind the last event that it has had, in order; or it
/// is told that a part of that is gone, and then it is.
#[test]
fn what_was_missed_is_given_whole_or_not_at_all() {
    let mut evicted = 0;
    let mut given = 0;
    for seed in 1..=20 {
        let mut random = Random(seed);
        let mut events = Events::new(7, BOUNDS);
        let mut now = 1_000_000;
        let mut sockets: Vec<Model> = (0..4).map(|_| Model::default()).collect();
        for step in 0..600 {
            now += random.below(8);
            let at = events.last();
            let socket = &mut sockets[random.below(4) as usize];
            match random.below(10) {
                0 => socket.join(room(random.below(6)), at),
                1 => socket.leave(&room(random.below(6)), at),
                2 if random.below(20) == 0 => now += 1_500,
                _ => {
                    let rooms = (0..random.below(3)).map(|_| room(random.below(6)));
                    let target = Target {
                        rooms: rooms.collect(),
                        except: (0..random.below(2))
                            .map(|_| room(random.below(6)))
                            .collect(),
                    };
                    // Sequences of a log that is elsewhere may have gaps.
                    let gap = if seed % 2 == 0 { random.below(50) } else { 0 };
                    events.skip_to(at + 1 + gap);
                    let sequence = events.append(now, &event(step), &target);
                    assert_eq!(sequence, at + 1 + gap);
                    for socket in &mut sockets {
                        if socket.receives(&target) {
                            socket.got.push(sequence);
                        }
                    }
                }
            }
        }
        let first = events.first();
        for socket in &sockets {
            for after in (0..=events.last()).step_by(if seed % 2 == 0 { 151 } else { 7 }) {
                let expected: Vec<_> = socket
                    .got
                    .iter()
                    .copied()
                    .filter(|it| *it > after)
                    .collect();
                match all(&events, &socket.stays, after) {
                    Ok(missed) => {
                        assert_eq!(missed, expected, "seed {seed}, after {after}");
                        given += 1;
                    }
                    Err(LogError::Evicted) => {
                        // It may be careful about rooms that it has left, and about exceptions.
                        assert!(
                            after + 1 < first,
                            "seed {seed}: nothing is gone after {after}"
                        );
                        evicted += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(evicted > 300 && given > 300, "{evicted} {given}");
}

/// An event is read as it was written.
#[test]
fn an_event_comes_out_as_it_went_in() {
    let mut events = Events::new(7, BOUNDS);
    let target = Target {
        rooms: vec![room(1)],
        except: vec![room(2)],
    };
    for number in 0..40 {
        events.append(1_234, &event(number), &target);
    }
    let page = events.newest(Some("room 1"), 0, 1_000);
    assert_eq!(page.events.len(), 40);
    for (number, logged) in page.events.iter().enumerate() {
        assert_eq!(logged.event, event(number as u64));
        let passed = logged.at.duration_since(std::time::UNIX_EPOCH);
        assert_eq!(passed.unwrap_or_default().as_millis(), 1_234);
    }
    let newest: BTreeSet<_> = events
        .newest(Some("room 1"), 0, 3)
        .events
        .iter()
        .map(|it| it.offset.sequence)
        .collect();
    assert_eq!(newest, BTreeSet::from([38, 39, 40]));
}

/// A socket of a quiet room has missed nothing, however much others have had meanwhile.
#[test]
fn a_quiet_room_in_a_busy_namespace_recovers() {
    let mut events = Events::new(7, BOUNDS);
    let target = |number| Target {
        rooms: vec![room(number)],
        except: Vec::new(),
    };
    let last = events.append(0, &event(1), &target(0));
    for number in 0..1_000 {
        events.append(10_000 + number, &event(number), &target(1 + number % 3));
    }
    let mut socket = Model::default();
    socket.join(room(0), 0);
    assert!(events.first() > last, "its event is gone");
    assert_eq!(all(&events, &socket.stays, last), Ok(Vec::new()));
    assert_eq!(all(&events, &socket.stays, 0), Err(LogError::Evicted));
}

/// The bounds hold for bytes, events and age.
#[test]
fn a_log_stays_within_its_bounds() {
    let mut events = Events::new(7, BOUNDS);
    let everyone = Target::default();
    for number in 0..10_000 {
        events.append(number, &event(number), &everyone);
        assert!(events.bytes() <= BOUNDS.bytes && events.count <= BOUNDS.events);
    }
    assert!(
        events.count > BOUNDS.events / 2,
        "but it is used: {}",
        events.count
    );
    events.drop_old(10_000 + 2_001);
    assert_eq!((events.count, events.bytes()), (0, 0));
    // An event that is larger than the log is kept until the next.
    let large = Outgoing::event("large", &("x".repeat(50_000),)).expect("an event");
    let sequence = events.append(13_000, &large, &everyone);
    assert_eq!(
        events.newest(None, 0, 10).events[0].offset.sequence,
        sequence
    );
    events.append(13_001, &event(1), &everyone);
    assert_eq!(events.count, 1);
}

/// Rooms that come and go for ever leave nothing behind.
#[test]
fn rooms_are_forgotten_in_time() {
    let mut events = Events::new(7, BOUNDS);
    for number in 0..150_000 {
        let target = Target {
            rooms: vec![room(number)],
            except: Vec::new(),
        };
        events.append(number, &event(1), &target);
    }
    assert!(events.rooms.len() <= ROOMS_REMEMBERED + BOUNDS.events + 1);
    assert_eq!(events.rooms.len(), events.by_name.len());
    // What is known of a room that was forgotten is careful.
    let mut socket = Model::default();
    socket.join(room(0), 0);
    assert_eq!(all(&events, &socket.stays, 0), Err(LogError::Evicted));
}

/// What an event costs beyond its own bytes: the 64 at the most, the index included.
#[test]
fn an_event_costs_little_beyond_its_own_bytes() {
    const EVENTS: u64 = 50_000;
    let bounds = Bounds {
        duration: Duration::from_secs(3_600),
        events: 1_000_000,
        bytes: 1 << 30,
    };
    let targets: [fn(u64) -> Target; 3] = [
        |_| Target::default(),
        |number| Target {
            rooms: vec![room(number % 1_000)],
            except: Vec::new(),
        },
        |number| Target {
            rooms: vec![room(number % 1_000), room(number % 7 + 1_000)],
            except: Vec::new(),
        },
    ];
    for target in targets {
        let mut events = Events::new(7, bounds);
        let mut own = 0;
        for number in 0..EVENTS {
            let event = Outgoing::event("message", &("x".repeat(100),)).expect("an event");
            own += event.written().0.len();
            events.append(number, &event, &target(number));
        }
        let segments = events.segments.iter();
        let taken: usize = segments.map(Segment::capacity).sum();
        // A room's name, its entry and its key: generously.
        let rooms = events.rooms.len() * 200;
        let beyond = (taken + rooms - own) / EVENTS as usize;
        assert!(beyond <= 24, "{beyond} bytes an event");
    }
}
