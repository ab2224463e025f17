//! What recovery with Node's servers reads and keeps: entries of a stream, and sessions under keys.
//!
//! By the connection that publishes, between what is published.

use std::{sync::Arc, time::Duration};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{broker::Refused, node::Store};
use bytes::Bytes;
use redis::Value;

use crate::{reader, shared::Shared};

/// The streams and the keys of one server.
pub(crate) struct RedisStore(pub(crate) Arc<Shared>);

impl Store for RedisStore {
    fn read(
        &self,
        stream: &str,
        from: &str,
        count: usize,
    ) -> BoxFuture<Result<Vec<Bytes>, Refused>> {
        let mut command = redis::cmd("XRANGE");
        command.arg(stream).arg(from).arg("+");
        command.arg("COUNT").arg(count);
        let (shared, stream) = (Arc::clone(&self.0), stream.to_owned());
        Box::pin(async move {
            let entries: Vec<Value> = shared.ask(&stream, command).await?;
            let entries = entries.into_iter().filter_map(reader::entry);
            Ok(entries.map(|entry| entry.frame()).collect())
        })
    }

    fn keep(&self, key: &str, value: String, time: Duration) -> BoxFuture<Result<(), Refused>> {
        let mut command = redis::cmd("SET");
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        command.arg(key).arg(value).arg("PX").arg(millis.max(1));
        let (shared, key) = (Arc::clone(&self.0), key.to_owned());
        Box::pin(async move { shared.ask(&key, command).await })
    }

    fn take(&self, key: &str) -> BoxFuture<Result<Option<String>, Refused>> {
        let mut command = redis::cmd("GETDEL");
        command.arg(key);
        let (shared, key) = (Arc::clone(&self.0), key.to_owned());
        Box::pin(async move { shared.ask(&key, command).await })
    }
}
