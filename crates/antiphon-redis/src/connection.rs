//! One connection to a Redis: checked and watched.
//!
//! The client library writes and parses; it isn't asked to connect again or to remember
//! subscriptions. A connection that fails is dropped, and a new one takes its place.

use std::time::Duration;

use redis::{RedisError, Value, aio::MultiplexedConnection};
use tokio::sync::watch;

use crate::{
    error::{Context, Error},
    server::Channels,
};

/// So long an answer is waited for, and a connection. It is less than the time after which servers
/// count each other as dead.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// So often a connection is asked whether it is still there.
pub(crate) const PROBE: Duration = Duration::from_secs(2);

/// A connection that has been logged in.
pub(crate) struct Connection {
    pub(crate) requests: MultiplexedConnection,
    pub(crate) context: Context,
    pub(crate) closed: watch::Receiver<bool>,
    /// Where the primary was found last, by this connection or the other.
    pub(crate) primary: watch::Receiver<String>,
}

impl Connection {
    /// What an error of the library means.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        Error::of(error, &self.context)
    }

    /// Resolves when the connection has ended, or is one to what is no longer the primary.
    pub(crate) async fn ended(&self) -> Error {
        let (mut closed, mut primary) = (self.closed.clone(), self.primary.clone());
        let address = &self.context.address;
        tokio::select! {
            biased;
            // Without its sender the connection is gone, too.
            _ = closed.wait_for(|closed| *closed) => Error::Closed {
                address: address.clone(),
            },
            Ok(primary) = primary.wait_for(|primary| primary != address) => Error::Moved {
                address: address.clone(),
                primary: primary.clone(),
            },
        }
    }

    /// Publishes to nobody, which the user must be allowed to, and asks whether the Redis is the
    /// primary, without which nobody else would hear. Unlike `ROLE`, all users may say `HELLO`.
    pub(crate) async fn probe(&self, channels: &Channels) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd(channels.publish())
            .arg(&channels.probe)
            .arg("");
        pipeline.cmd("HELLO");
        let (_, about): (Value, Value) = pipeline
            .query_async(&mut self.requests.clone())
            .await
            .map_err(|error| self.error(&error))?;
        match is_replica(&about) {
            true => Err(Error::Replica {
                address: self.context.address.clone(),
            }),
            false => Ok(()),
        }
    }

    /// Asks whether the connection is there.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        redis::cmd("PING")
            .exec_async(&mut self.requests.clone())
            .await
            .map_err(|error| self.error(&error))
    }
}

/// Whether what a Redis says of itself names it a replica.
fn is_replica(about: &Value) -> bool {
    let Value::Map(fields) = about else {
        return false;
    };
    let is = |value: &Value, text: &str| match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(string) => string == text,
        _ => false,
    };
    fields
        .iter()
        .any(|(name, value)| is(name, "role") && (is(value, "replica") || is(value, "slave")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_says_so() {
        let about = |role: &str| {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            Value::Map(vec![
                (text("proto"), Value::Int(3)),
                (text("role"), text(role)),
            ])
        };
        assert!(is_replica(&about("replica")));
        assert!(!is_replica(&about("master")));
        assert!(!is_replica(&Value::Nil));
    }
}
