//! The time by which deadlines are reckoned.

use std::time::Instant;

/// The time of tokio's clock, so that deadlines and the timers that wait for them agree, also where
/// an application's tests [pause](tokio::time::pause) it. Otherwise it is the system's.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
