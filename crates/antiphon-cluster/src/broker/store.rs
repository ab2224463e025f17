//! What recovery in the format of Node's adapter for Redis streams asks of a broker, beside what every
//! [`Broker`](super::Broker) does: to read a stream again, and to keep sessions.

use std::time::Duration;

use antiphon::adapter::BoxFuture;
use bytes::Bytes;

use super::Refused;

/// Reads streams and keeps sessions. A broker that can do it gives one by
/// [`Broker::store`](super::Broker::store).
pub trait Store: Send + Sync + 'static {
    /// The oldest entries of a stream from this id on, so many at the most: as
    /// [frames](crate::broker::entry).
    fn read(
        &self,
        stream: &str,
        from: &str,
        count: usize,
    ) -> BoxFuture<Result<Vec<Bytes>, Refused>>;

    /// Keeps a value under a key for so long.
    fn keep(&self, key: &str, value: String, time: Duration) -> BoxFuture<Result<(), Refused>>;

    /// The value of a key, which is deleted by that: one caller gets it.
    fn take(&self, key: &str) -> BoxFuture<Result<Option<String>, Refused>>;
}
