//! How long the task of a broker waits before it tries to connect again.

use std::time::Duration;

/// The longest pause before the first attempt.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause at all.
const LONGEST: Duration = Duration::from_secs(5);

/// So long nothing is published by a new connection if the one before was given up because the
/// broker said nothing. When it wakes, it goes on with what it had received by that one, and newer
/// frames mustn't overtake it.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Pauses that grow from 100 ms to 5 s, each with a share of chance, so that not all servers come at
/// once.
#[derive(Debug)]
pub struct Backoff {
    longest: Duration,
}

impl Backoff {
    /// The first pause comes next.
    #[must_use]
    pub const fn new() -> Self {
        Self { longest: FIRST }
    }

    /// The next pause, where `random` is any number.
    fn next(&mut self, random: u64) -> Duration {
        let longest = self.longest;
        self.longest = (longest * 2).min(LONGEST);
        let half = longest / 2;
        let share = u32::try_from(random % 1_000).unwrap_or(0);
        half + half * share / 1_000
    }

    /// It has worked.
    pub const fn reset(&mut self) {
        *self = Self::new();
    }

    /// Waits before the next attempt.
    pub async fn pause(&mut self) {
        let mut random = [0; 8];
        // Without randomness all servers come at once, which is no reason not to come.
        let _ = getrandom::fill(&mut random);
        let pause = self.next(u64::from_ne_bytes(random));
        tokio::time::sleep(pause).await;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new();
        let mut before = Duration::ZERO;
        for attempt in 0..20 {
            let pause = backoff.next(999);
            assert!(pause > before || attempt > 6, "{attempt}: {pause:?}");
            assert!(pause <= LONGEST);
            before = pause;
        }
        assert!(backoff.next(0) >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next(999) <= FIRST);
    }

    #[test]
    fn chance_spreads_pauses() {
        assert_ne!(Backoff::new().next(1), Backoff::new().next(999));
    }
}
