//! The server's side of an upgrade from polling or streaming to another transport.
//!
//! ```text
//!            opened            ping "probe"             upgrade
//!   Idle ------------> Probing ------------> Probed ---------------> (done)
//!    ^                    |                     |
//!    +--- closed, timeout, any other packet ----+
//! ```
//!
//! Whatever goes wrong ends the probe alone: the session goes on as it was. Once probed, a waiting
//! poll is answered with a noop every 100 ms, so that the client can pause its polling.

use std::time::{Duration, Instant};

use super::Packet;

/// How often a waiting poll is answered with a noop while the client pauses its polling.
const NOOP_INTERVAL: Duration = Duration::from_millis(100);

/// What is to be done with the probing transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeStep {
    /// Answer the probe with the packet `3probe`.
    Answer,
    /// The client has paused its old transport: this one carries the session from now on.
    Complete,
    /// Close the probing transport. The session lives on.
    Reject,
}

/// What is due in an upgrade when its deadline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeTimeout {
    /// Answer a waiting poll with a noop.
    Noop,
    /// The client has not completed the upgrade in time: close the probing transport.
    Expired,
}

/// An upgrade of one session: at most one runs at a time.
#[derive(Debug, Clone, Default)]
pub enum Upgrade {
    /// No upgrade is under way.
    #[default]
    Idle,
    /// The transport is open; the probe hasn't come.
    Probing {
        /// When the attempt is given up.
        expires: Instant,
    },
    /// The probe was answered; the client is pausing its polling.
    Probed {
        /// When the attempt is given up.
        expires: Instant,
        /// When a waiting poll is answered next.
        noop_at: Instant,
    },
}

impl Upgrade {
    /// Whether an upgrade is under way.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        !matches!(self, Self::Idle)
    }

    /// Whether the probe was answered: the client is pausing its old transport.
    #[must_use]
    pub const fn is_probed(&self) -> bool {
        matches!(self, Self::Probed { .. })
    }

    /// A transport was opened for the session. Returns `false` if one is under way already: close this one.
    pub fn handle_opened(&mut self, now: Instant, timeout: Duration) -> bool {
        if self.is_running() {
            return false;
        }
        *self = Self::Probing {
            expires: now + timeout,
        };
        true
    }

    /// A packet came on the probing transport.
    pub fn handle_packet(&mut self, packet: &Packet<'_>, now: Instant) -> ProbeStep {
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

    /// The probing transport was closed or failed.
    pub fn handle_closed(&mut self) {
        *self = Self::Idle;
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Idle => None,
            Self::Probing { expires } => Some(expires),
            Self::Probed { expires, noop_at } => Some(expires.min(noop_at)),
        }
    }

    /// What is due at `now`, if anything is.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<UpgradeTimeout> {
        match self {
            Self::Probing { expires } | Self::Probed { expires, .. } if now >= *expires => {
                *self = Self::Idle;
                Some(UpgradeTimeout::Expired)
            }
            Self::Probed { noop_at, .. } if now >= *noop_at => {
                *noop_at = now + NOOP_INTERVAL;
                Some(UpgradeTimeout::Noop)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

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
        let mut now = start;
        let mut noops = 0;
        loop {
            now = upgrade.deadline().unwrap().max(now);
            match upgrade.handle_timeout(now) {
                Some(UpgradeTimeout::Noop) => noops += 1,
                Some(UpgradeTimeout::Expired) => break,
                None => panic!("a deadline with nothing due"),
            }
        }
        assert_eq!(now, start + TIMEOUT);
        assert_eq!(noops, 99);
    }

    #[test]
    fn a_repeated_probe_does_not_extend_the_deadline() {
        let start = Instant::now();
        let mut upgrade = Upgrade::default();
        upgrade.handle_opened(start, TIMEOUT);
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            upgrade.handle_packet(&Packet::Ping("probe"), now);
        }
        assert_eq!(
            upgrade.handle_timeout(start + TIMEOUT),
            Some(UpgradeTimeout::Expired)
        );
    }
}
