//! The heartbeat, in the conventions of both revisions.
//!
//! One side pings and expects a pong in time, the other expects pings and answers them. In
//! revision 4 the server pings, in revision 3 the client does. What else comes while a pong is
//! awaited gives it more time once, since it may stand behind much in a slow client's queue
//! (docs/protocol.md 9.5).

use std::time::{Duration, Instant};

use super::{config::SessionConfig, timers::Timer};
use crate::engine::Revision;

/// A ping or pong came from the side that must not send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongDirection;

/// One side's heartbeat of one session.
#[derive(Debug, Clone)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    state: HeartbeatState,
}

#[derive(Debug, Clone, Copy)]
enum HeartbeatState {
    /// This side pings; the next ping is due.
    Idle { ping_at: Instant },
    /// This side has pinged and waits for the pong.
    AwaitingPong {
        expires: Instant,
        /// Something else has come meanwhile, and has moved the deadline.
        is_extended: bool,
    },
    /// The peer pings.
    AwaitingPing { expires: Instant },
}

impl Heartbeat {
    /// The heartbeat of a server that speaks `revision`.
    pub(super) fn server(revision: Revision, config: &SessionConfig, now: Instant) -> Self {
        Self::new(revision == Revision::V4, config, now)
    }

    /// The heartbeat of a client that speaks `revision`.
    pub(super) fn client(revision: Revision, config: &SessionConfig, now: Instant) -> Self {
        Self::new(revision == Revision::V3, config, now)
    }

    fn new(pings: bool, config: &SessionConfig, now: Instant) -> Self {
        let state = if pings {
            HeartbeatState::Idle {
                ping_at: now + config.ping_interval,
            }
        } else {
            HeartbeatState::AwaitingPing {
                expires: now + config.patience(),
            }
        };
        Self {
            interval: config.ping_interval,
            timeout: config.ping_timeout,
            state,
        }
    }

    /// What is due next, and when.
    pub(super) const fn timer(&self) -> (Timer, Instant) {
        match self.state {
            HeartbeatState::Idle { ping_at } => (Timer::Ping, ping_at),
            HeartbeatState::AwaitingPong { expires, .. }
            | HeartbeatState::AwaitingPing { expires } => (Timer::Silence, expires),
        }
    }

    /// A ping came: answer it with a pong.
    ///
    /// # Errors
    /// [`WrongDirection`] if this side is the one that pings.
    pub(super) fn handle_ping(&mut self, now: Instant) -> Result<(), WrongDirection> {
        match &mut self.state {
            HeartbeatState::AwaitingPing { expires } => {
                *expires = now + self.interval + self.timeout;
                Ok(())
            }
            HeartbeatState::Idle { .. } | HeartbeatState::AwaitingPong { .. } => {
                Err(WrongDirection)
            }
        }
    }

    /// A pong came: the next ping is due one interval from now. One too many does no harm.
    ///
    /// # Errors
    /// [`WrongDirection`] if the peer is the one that pings.
    pub(super) fn handle_pong(&mut self, now: Instant) -> Result<(), WrongDirection> {
        match self.state {
            HeartbeatState::Idle { .. } | HeartbeatState::AwaitingPong { .. } => {
                self.state = HeartbeatState::Idle {
                    ping_at: now + self.interval,
                };
                Ok(())
            }
            HeartbeatState::AwaitingPing { .. } => Err(WrongDirection),
        }
    }

    /// Whether [`handle_other`](Self::handle_other) would move the deadline.
    pub(super) const fn is_extensible(&self) -> bool {
        matches!(
            self.state,
            HeartbeatState::AwaitingPong {
                is_extended: false,
                ..
            }
        )
    }

    /// Something else than a ping or pong came: a pong that is awaited has its whole time again,
    /// once.
    pub(super) fn handle_other(&mut self, now: Instant) {
        if self.is_extensible() {
            self.state = HeartbeatState::AwaitingPong {
                expires: now + self.timeout,
                is_extended: true,
            };
        }
    }

    /// This side sends its ping at `now`: the pong must come in time.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.state = HeartbeatState::AwaitingPong {
            expires: now + self.timeout,
            is_extended: false,
        };
    }

    /// Gives the peer one more timeout from `now`: this side hasn't been reading, so silence says
    /// nothing about the peer.
    pub(super) fn postpone(&mut self, now: Instant) {
        let later = now + self.timeout;
        if let HeartbeatState::AwaitingPong { expires, .. }
        | HeartbeatState::AwaitingPing { expires } = &mut self.state
        {
            *expires = later.max(*expires);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::QueueLimits;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn config() -> SessionConfig {
        SessionConfig {
            ping_interval: INTERVAL,
            ping_timeout: TIMEOUT,
            upgrade_timeout: Duration::ZERO,
            close_timeout: Duration::ZERO,
            packets_per_poll: usize::MAX,
            queue: QueueLimits::default(),
        }
    }

    #[test]
    fn a_server_of_revision_4_pings_one_interval_after_the_pong() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, &config(), start);
        let ping_at = start + INTERVAL;
        assert_eq!(heartbeat.timer(), (Timer::Ping, ping_at));
        heartbeat.pinged(ping_at);
        let pong_at = ping_at + Duration::from_secs(3);
        heartbeat.handle_pong(pong_at).unwrap();
        assert_eq!(heartbeat.timer(), (Timer::Ping, pong_at + INTERVAL));
    }

    #[test]
    fn a_missing_pong_expires_after_the_timeout() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, &config(), start);
        heartbeat.pinged(start + INTERVAL);
        let late = start + INTERVAL + TIMEOUT;
        assert_eq!(heartbeat.timer(), (Timer::Silence, late));
    }

    #[test]
    fn what_else_comes_gives_a_pong_its_time_again_once_a_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, &config(), start);
        heartbeat.handle_other(start);
        assert_eq!(heartbeat.timer(), (Timer::Ping, start + INTERVAL));
        for ping in 1..3 {
            let pinged = start + INTERVAL * ping;
            heartbeat.pinged(pinged);
            assert!(heartbeat.is_extensible());
            let first = pinged + Duration::from_secs(5);
            heartbeat.handle_other(first);
            assert!(!heartbeat.is_extensible());
            heartbeat.handle_other(first + Duration::from_secs(5));
            assert_eq!(heartbeat.timer(), (Timer::Silence, first + TIMEOUT));
        }
    }

    #[test]
    fn who_waits_for_pings_waits_for_nothing_else() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V3, &config(), start);
        let expires = heartbeat.timer();
        heartbeat.handle_other(start + Duration::from_secs(1));
        assert_eq!(heartbeat.timer(), expires);
    }

    #[test]
    fn an_extra_pong_is_tolerated_and_a_ping_is_not() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, &config(), start);
        assert_eq!(heartbeat.handle_pong(start), Ok(()));
        assert_eq!(heartbeat.handle_ping(start), Err(WrongDirection));
    }

    #[test]
    fn a_server_of_revision_3_expects_a_ping_within_interval_and_timeout() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V3, &config(), start);
        assert_eq!(heartbeat.handle_pong(start), Err(WrongDirection));
        let ping_at = start + INTERVAL;
        heartbeat.handle_ping(ping_at).unwrap();
        let late = ping_at + INTERVAL + TIMEOUT;
        assert_eq!(heartbeat.timer(), (Timer::Silence, late));
    }

    #[test]
    fn a_client_does_what_its_server_does_not() {
        let start = Instant::now();
        let client = |revision| Heartbeat::client(revision, &config(), start).timer();
        assert_eq!(client(Revision::V3), (Timer::Ping, start + INTERVAL));
        let late = start + INTERVAL + TIMEOUT;
        assert_eq!(client(Revision::V4), (Timer::Silence, late));
    }

    #[test]
    fn a_postponed_deadline_never_moves_back() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V3, &config(), start);
        let first = start + INTERVAL + TIMEOUT;
        heartbeat.postpone(start);
        assert_eq!(heartbeat.timer(), (Timer::Silence, first));
        heartbeat.postpone(first);
        assert_eq!(heartbeat.timer(), (Timer::Silence, first + TIMEOUT));
    }
}
