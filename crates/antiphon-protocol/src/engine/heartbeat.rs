//! The heartbeat, in the conventions of both revisions.
//!
//! One side pings and expects a pong in time, the other expects pings and answers them. In
//! revision 4 the server pings, in revision 3 the client does. Messages don't count as a sign of
//! life (docs/protocol.md 9.5).

use std::time::{Duration, Instant};

use super::Revision;

/// What a heartbeat asks for when its deadline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Send a ping.
    Ping,
    /// The peer has been silent for too long: close the session.
    Expired,
}

/// A ping or pong came from the side that must not send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid heartbeat direction: this side of the revision doesn't send that packet")]
pub struct WrongDirection;

/// One side's heartbeat of one session.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// This side pings; the next ping is due.
    Idle { ping_at: Instant },
    /// This side has pinged and waits for the pong.
    AwaitingPong { expires: Instant },
    /// The peer pings.
    AwaitingPing { expires: Instant },
}

impl Heartbeat {
    /// The heartbeat of a server that speaks `revision`.
    #[must_use]
    pub fn server(revision: Revision, interval: Duration, timeout: Duration, now: Instant) -> Self {
        let state = match revision {
            Revision::V4 => State::Idle {
                ping_at: now + interval,
            },
            Revision::V3 => State::AwaitingPing {
                expires: now + interval + timeout,
            },
        };
        Self {
            interval,
            timeout,
            state,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        match self.state {
            State::Idle { ping_at } => ping_at,
            State::AwaitingPong { expires } | State::AwaitingPing { expires } => expires,
        }
    }

    /// A ping came: answer it with a pong.
    ///
    /// # Errors
    /// [`WrongDirection`] if this side is the one that pings.
    pub fn handle_ping(&mut self, now: Instant) -> Result<(), WrongDirection> {
        match &mut self.state {
            State::AwaitingPing { expires } => {
                *expires = now + self.interval + self.timeout;
                Ok(())
            }
            State::Idle { .. } | State::AwaitingPong { .. } => Err(WrongDirection),
        }
    }

    /// A pong came: the next ping is due one interval from now. One too many does no harm.
    ///
    /// # Errors
    /// [`WrongDirection`] if the peer is the one that pings.
    pub fn handle_pong(&mut self, now: Instant) -> Result<(), WrongDirection> {
        match self.state {
            State::Idle { .. } | State::AwaitingPong { .. } => {
                self.state = State::Idle {
                    ping_at: now + self.interval,
                };
                Ok(())
            }
            State::AwaitingPing { .. } => Err(WrongDirection),
        }
    }

    /// What is due at `now`, if anything is.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Beat> {
        if now < self.deadline() {
            return None;
        }
        match self.state {
            State::Idle { .. } => {
                self.state = State::AwaitingPong {
                    expires: now + self.timeout,
                };
                Some(Beat::Ping)
            }
            State::AwaitingPong { .. } | State::AwaitingPing { .. } => Some(Beat::Expired),
        }
    }

    /// Gives the peer one more timeout from `now`: this side hasn't been reading, so silence says
    /// nothing about the peer.
    pub fn postpone(&mut self, now: Instant) {
        let later = now + self.timeout;
        if let State::AwaitingPong { expires } | State::AwaitingPing { expires } = &mut self.state {
            *expires = later.max(*expires);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn a_server_of_revision_4_pings_one_interval_after_the_pong() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, INTERVAL, TIMEOUT, start);
        assert_eq!(heartbeat.handle_timeout(start), None);
        let ping_at = start + INTERVAL;
        assert_eq!(heartbeat.handle_timeout(ping_at), Some(Beat::Ping));
        let pong_at = ping_at + Duration::from_secs(3);
        heartbeat.handle_pong(pong_at).unwrap();
        assert_eq!(heartbeat.deadline(), pong_at + INTERVAL);
    }

    #[test]
    fn a_missing_pong_expires_after_the_timeout() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, INTERVAL, TIMEOUT, start);
        heartbeat.handle_timeout(start + INTERVAL);
        let almost = start + INTERVAL + TIMEOUT - Duration::from_millis(1);
        assert_eq!(heartbeat.handle_timeout(almost), None);
        let late = start + INTERVAL + TIMEOUT;
        assert_eq!(heartbeat.handle_timeout(late), Some(Beat::Expired));
    }

    #[test]
    fn an_extra_pong_is_tolerated_and_a_ping_is_not() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V4, INTERVAL, TIMEOUT, start);
        assert_eq!(heartbeat.handle_pong(start), Ok(()));
        assert_eq!(heartbeat.handle_ping(start), Err(WrongDirection));
    }

    #[test]
    fn a_server_of_revision_3_expects_a_ping_within_interval_and_timeout() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V3, INTERVAL, TIMEOUT, start);
        assert_eq!(heartbeat.handle_pong(start), Err(WrongDirection));
        let ping_at = start + INTERVAL;
        heartbeat.handle_ping(ping_at).unwrap();
        assert_eq!(heartbeat.deadline(), ping_at + INTERVAL + TIMEOUT);
        assert_eq!(
            heartbeat.handle_timeout(ping_at + INTERVAL + TIMEOUT),
            Some(Beat::Expired)
        );
    }

    #[test]
    fn a_postponed_deadline_never_moves_back() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::server(Revision::V3, INTERVAL, TIMEOUT, start);
        heartbeat.postpone(start);
        assert_eq!(heartbeat.deadline(), start + INTERVAL + TIMEOUT);
        heartbeat.postpone(start + INTERVAL + TIMEOUT);
        assert_eq!(heartbeat.deadline(), start + INTERVAL + TIMEOUT * 2);
    }
}
