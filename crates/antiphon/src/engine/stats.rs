//! What the engine and the sockets count: whatever is dropped or refused has a number.
//!
//! The engine owns the [`Counters`]; any code that drops something adds to one, relaxed, without a
//! lock. [`Stats`] is a copy of all at about one moment, not at exactly one.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self, sessions: u64) -> Stats {
                Stats { sessions, $($name: self.$name.get(),)* }
            }
        }

        /// What a server has counted since its start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct Stats {
            /// Sessions that are open now.
            pub sessions: u64,
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Sessions that were opened.
    sessions_opened,
    /// Handshakes and requests that were refused with an error.
    requests_refused,
    /// Sessions that have moved to another transport.
    upgrades_completed,
    /// Upgrades that were given up. Unless the session has ended, it went on as it was.
    upgrades_failed,
    /// Sessions that were closed since they read too slowly.
    slow_readers_closed,
    /// Those of them that were closed since what waited for all clients together was too much.
    sessions_shed,
    /// Messages that were dropped, as their [policy](crate::QueuePolicy) says, for clients that read
    /// too slowly.
    messages_dropped,
    /// Messages whose place a newer one of the same key took before they had left.
    messages_conflated,
    /// Volatile messages that were dropped since their session couldn't take them at once.
    volatile_dropped,
    /// Sessions that were closed since what they sent could not be decoded.
    undecodable,
    /// Handlers that panicked, middlewares among them.
    handler_panics,
    /// Events that no handler took, or whose arguments didn't fit the handler.
    events_rejected,
    /// Connections to a namespace that were refused.
    connects_refused,
    /// Sockets that were recovered.
    sessions_recovered,
    /// Sessions that could not be recovered, since they aren't known: of another server, or of this
    /// one before it was started anew.
    recoveries_unknown,
    /// Sessions that could not be recovered, since their time was up or they had been ended.
    recoveries_expired,
    /// Sessions that could not be recovered, since events that they had missed were no longer in the
    /// log.
    recoveries_evicted,
    /// Sessions that could not be recovered, since the offset of their client is no place of the
    /// log.
    recoveries_gap,
    /// Events that were to be delivered at least once, and that their client has never acknowledged.
    undelivered,
    /// Events of clients that came again, and were not handled twice.
    events_repeated,
    /// Events and sessions that a log could not store.
    log_failures,
    /// Calls by HTTP whose handlers were asked.
    calls,
    /// Calls by HTTP that were answered with an error before any handler was asked.
    calls_refused,
}
