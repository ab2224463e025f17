//! What is seen of logs that don't answer, and of brokers that refuse.

use std::time::Duration;

use super::*;

const NAMESPACE: &str = "/";

/// A machine whose connection is there, ticking twice a second.
struct World {
    machine: Machine,
    now: Instant,
    slow: Option<Slow>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(0, false, now);
        machine.up(0, now);
        let slow = None;
        let mut world = Self { machine, now, slow };
        world.pass(Duration::from_secs(1));
        assert_eq!(*world.machine.health(), Health::Ready);
        world
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(500);
            self.machine.tick(0, self.now);
            self.machine.logs(self.slow.clone());
        }
    }

    fn waits(&mut self, refusal: Option<&str>) {
        self.slow = Some(Slow {
            namespace: NAMESPACE.into(),
            since: self.now,
            refusal: refusal.map(str::to_owned),
        });
    }

    fn is_silent(&self) -> bool {
        let namespace = NAMESPACE.into();
        *self.machine.health() == Health::Degraded(Trouble::LogSilent { namespace })
    }
}

#[test]
fn a_log_that_does_not_answer_for_a_second_is_not_ready_until_it_does() {
    let mut world = World::new();
    world.waits(None);
    world.pass(SILENT / 2);
    assert_eq!(*world.machine.health(), Health::Ready);
    world.pass(SILENT / 2);
    assert!(world.is_silent());
    world.slow = None;
    world.pass(SILENT / 2);
    assert_eq!(*world.machine.health(), Health::Ready);
}

#[test]
fn what_waited_for_the_connection_has_its_second_when_that_is_there() {
    let mut world = World::new();
    world.machine.down("cut".to_owned());
    world.waits(None);
    world.pass(5 * SILENT);
    assert!(matches!(
        world.machine.health(),
        Health::Degraded(Trouble::Down { .. })
    ));
    world.machine.up(0, world.now);
    world.pass(SILENT / 2);
    assert_eq!(*world.machine.health(), Health::Ready);
    world.pass(SILENT / 2);
    assert!(world.is_silent());
}

#[test]
fn a_server_that_was_frozen_itself_reads_first_what_has_come() {
    let mut world = World::new();
    world.waits(None);
    world.now += 3 * SILENT;
    world.pass(SILENT / 2);
    assert_eq!(*world.machine.health(), Health::Ready);
}

#[test]
fn a_log_that_is_refused_says_why_at_once() {
    let mut world = World::new();
    world.waits(Some("no right to keys"));
    world.pass(SILENT / 2);
    let health = world.machine.health().to_string();
    assert!(health.contains("no right to keys"), "{health}");
}

#[test]
fn a_broker_that_refuses_is_trouble_until_it_takes_the_same_or_for_a_while() {
    let refused = |reason: &str| {
        let reason = reason.to_owned();
        Health::Degraded(Trouble::Refused { reason })
    };
    let mut world = World::new();
    let refuse = |world: &mut World, reason: &str| {
        let reason = Some(reason.to_owned());
        world.machine.refusing(reason, world.now);
    };
    refuse(&mut world, "no memory");
    world.pass(REFUSING / 2);
    // That is no change.
    refuse(&mut world, "no right");
    world.pass(REFUSING / 2);
    assert_eq!(*world.machine.health(), refused("no memory"));
    world.machine.refusing(None, world.now);
    assert_eq!(*world.machine.health(), Health::Ready);
    refuse(&mut world, "no right");
    assert_eq!(*world.machine.health(), refused("no right"));
    world.pass(REFUSING);
    assert_eq!(*world.machine.health(), Health::Ready);
    // The next connection is another matter.
    refuse(&mut world, "no right");
    world.machine.down("cut".to_owned());
    world.machine.up(0, world.now);
    world.pass(Duration::from_secs(1));
    assert_eq!(*world.machine.health(), Health::Ready);
}
