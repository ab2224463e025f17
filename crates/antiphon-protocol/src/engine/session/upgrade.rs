//! An upgrade of a session from polling or streaming to another transport (docs/protocol.md 10).
//!
//! ```text
//!            opened            2probe, 3probe            5
//!   Idle ------------> Probing --------------> Probed --------> (done)
//!    ^                    |                       |
//!    +--- closed, timeout, any other packet ------+
//! ```
//!
//! Whatever goes wrong ends the attempt alone: the session goes on as it was. Once probed, a server
//! answers a poll that waits with a noop every 100 ms, so that the client can pause its polling.

use std::time::{Duration, Instant};

use super::{timers::Timer, transport::UpgradeTarget};
use crate::engine::Packet;

/// How often a waiting poll is answered with a noop while the client pauses its polling.
const NOOP_INTERVAL: Duration = Duration::from_millis(100);

/// What a server is to do with the probing transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// Answer the probe with the packet `3probe`.
    Answer,
    /// The client has paused its old transport: this one carries the session from now on.
    Complete,
    /// Close the probing transport. The session lives on.
    Reject,
}

/// An upgrade of one session to one transport: at most one attempt runs at a time.
#[derive(Debug, Clone, Default)]
pub(super) enum Upgrade {
    /// No upgrade is under way.
    #[default]
    Idle,
    /// The transport is open; the probe hasn't come, or its answer.
    Probing {
        /// When the attempt is given up.
        expires: Instant,
    },
    /// The probe was answered; the client is pausing its polling.
    Probed {
        /// When the attempt is given up.
        expires: Instant,
        /// When the server answers a waiting poll next.
        noop_at: Instant,
    },
}

impl Upgrade {
    /// Whether an upgrade is under way.
    pub(super) const fn is_running(&self) -> bool {
        !matches!(self, Self::Idle)
    }

    /// Whether the probe was answered: the client is pausing its old transport.
    pub(super) const fn is_probed(&self) -> bool {
        matches!(self, Self::Probed { .. })
    }

    /// A transport was opened for the session. Returns `false` if one is under way already: close
    /// this one.
    pub(super) fn handle_opened(&mut self, now: Instant, timeout: Duration) -> bool {
        if self.is_running() {
            return false;
        }
        *self = Self::Probing {
            expires: now + timeout,
        };
        true
    }

    /// A packet came to the server on the probing transport.
    pub(super) fn handle_packet(&mut self, packet: &Packet<'_>, now: Instant) -> ProbeStep {
        match (&*self, packet) {
            (Self::Probing { expires } | Self::Probed { expires, .. }, Packet::Ping("probe")) => {
                *self = Self::Probed {
                    expires: *expires,
                    noop_at: now + NOOP_INTERVAL,
                };
                ProbeStep::Answer
            }
            // The reference implementation asks for no probe before it either.
            (Self::Probing { .. } | Self::Probed { .. }, Packet::Upgrade) => {
                *self = Self::Idle;
                ProbeStep::Complete
            }
            _ => {
                *self = Self::Idle;
                ProbeStep::Reject
            }
        }
    }

    /// A packet came to the client on the probing transport. Returns `false` if it isn't the answer
    /// of the probe.
    pub(super) fn handle_answer(&mut self, packet: &Packet<'_>, now: Instant) -> bool {
        match (&*self, packet) {
            (Self::Probing { expires }, Packet::Pong("probe")) => {
                *self = Self::Probed {
                    expires: *expires,
                    noop_at: now + NOOP_INTERVAL,
                };
                true
            }
            _ => false,
        }
    }

    /// The attempt is over, whatever it was.
    pub(super) fn end(&mut self) {
        *self = Self::Idle;
    }

    /// When the attempt is given up.
    pub(super) const fn expires(&self) -> Option<Instant> {
        match self {
            Self::Idle => None,
            Self::Probing { expires } | Self::Probed { expires, .. } => Some(*expires),
        }
    }

    /// What is due next at the server in the upgrade to `to`, and when.
    pub(super) fn timer(&self, to: UpgradeTarget) -> Option<(Timer, Instant)> {
        match *self {
            Self::Idle => None,
            Self::Probed { expires, noop_at } if noop_at < expires => {
                Some((Timer::Noop(to), noop_at))
            }
            Self::Probing { expires } | Self::Probed { expires, .. } => {
                Some((Timer::Upgrade(to), expires))
            }
        }
    }

    /// The noop is due: the next follows.
    pub(super) fn handle_noop(&mut self, now: Instant) {
        if let Self::Probed { noop_at, .. } = self {
            *noop_at = now + NOOP_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const TO: UpgradeTarget = UpgradeTarget::WebSocket;

    #[test]
    fn probe_then_upgrade_completes() {
        let now = Instant::now();
        let mut upgrade = Upgrade::default();
        assert!(upgrade.handle_opened(now, TIMEOUT));
        assert_eq!(
            upgrade.handle_packet(&Packet::Ping("probe"), now),
            ProbeStep::Answer
        );
        assert_eq!(
            upgrade.handle_packet(&Packet::Upgrade, now),
            ProbeStep::Complete
        );
        assert!(!upgrade.is_running());
    }

    #[test]
    fn a_second_transport_is_refused_while_one_is_probing() {
        let now = Instant::now();
        let mut upgrade = Upgrade::default();
        assert!(upgrade.handle_opened(now, TIMEOUT));
        assert!(!upgrade.handle_opened(now, TIMEOUT));
    }

    #[test]
    fn any_other_packet_rejects_the_probe() {
        let now = Instant::now();
        for packet in [Packet::Ping(""), Packet::Noop, Packet::Close] {
            let mut upgrade = Upgrade::default();
            upgrade.handle_opened(now, TIMEOUT);
            assert_eq!(upgrade.handle_packet(&packet, now), ProbeStep::Reject);
            assert!(!upgrade.is_running());
        }
    }

    #[test]
    fn an_unfinished_upgrade_expires_even_while_noops_go_out() {
        let start = Instant::now();
        let mut upgrade = Upgrade::default();
        upgrade.handle_opened(start, TIMEOUT);
        upgrade.handle_packet(&Packet::Ping("probe"), start);
        let mut noops = 0;
        let expired = loop {
            match upgrade.timer(TO).unwrap() {
                (Timer::Noop(TO), at) => upgrade.handle_noop(at),
                (Timer::Upgrade(TO), at) => break at,
                (timer, _) => panic!("{timer:?} in an upgrade"),
            }
            noops += 1;
        };
        assert_eq!(expired, start + TIMEOUT);
        assert_eq!(noops, 99);
    }

    #[test]
    fn a_repeated_probe_does_not_extend_the_deadline() {
        let start = Instant::now();
        let mut upgrade = Upgrade::default();
        upgrade.handle_opened(start, TIMEOUT);
        let mut now = start;
        while now < start + TIMEOUT {
            upgrade.handle_packet(&Packet::Ping("probe"), now);
            now += NOOP_INTERVAL / 2;
        }
        assert_eq!(
            upgrade.timer(TO),
            Some((Timer::Upgrade(TO), start + TIMEOUT))
        );
    }
}
