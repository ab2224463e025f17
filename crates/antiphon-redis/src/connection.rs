//! One connection to a Redis: checked and watched.
//!
//! The client library writes and parses; it isn't asked to connect again or to remember
//! subscriptions. A connection that fails is dropped, and a new one takes its place.

use std::{pin::Pin, time::Duration};

use redis::{Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::sync::watch;

use crate::error::{Context, Error};

/// So long an answer is waited for, and a connection. It is less than the time after which servers
/// count each other as dead.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// So often a connection is asked whether it is still there.
pub(crate) const PROBE: Duration = Duration::from_secs(2);

/// A connection that has been logged in.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) requests: MultiplexedConnection,
    pub(crate) context: Context,
    pub(crate) closed: watch::Receiver<bool>,
    /// Where the primary was found last, by this connection or another. `None` for nodes of a Redis
    /// Cluster, of which there are several.
    pub(crate) primary: Option<watch::Receiver<String>>,
}

/// What a connection is asked for, by which one sees that it is there, and may do what it is for.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// The command that publishes, and a channel that nobody listens to.
    pub(crate) publish: Option<(&'static str, String)>,
    /// Whether it has to be a node of a Redis Cluster.
    pub(crate) is_cluster: bool,
}

/// The end of a connection, and why.
pub(crate) type Ending = Pin<Box<dyn Future<Output = Error> + Send>>;

impl Connection {
    /// What an error of the library means.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        Error::of(error, &self.context)
    }

    /// Resolves when the connection has ended, or is one to what is no longer the primary.
    pub(crate) async fn ended(&self) -> Error {
        let (mut closed, primary) = (self.closed.clone(), self.primary.clone());
        let address = &self.context.address;
        let moved = async {
            let mut primary = primary?;
            let primary = primary.wait_for(|primary| primary != address).await;
            primary.ok().map(|primary| primary.clone())
        };
        tokio::select! {
            biased;
            // Without its sender the connection is gone, too.
            _ = closed.wait_for(|closed| *closed) => Error::Closed {
                address: address.clone(),
            },
            Some(primary) = moved => Error::Moved {
                address: address.clone(),
                primary,
            },
        }
    }

    /// Publishes to nobody, which the user must be allowed to, and asks whether the Redis is what it
    /// has to be: a primary, without which nobody else would hear. Unlike `ROLE`, all users may say
    /// `HELLO`.
    pub(crate) async fn probe(&self, probe: &Probe) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        if let Some((publish, channel)) = &probe.publish {
            pipeline.cmd(publish).arg(channel).arg("");
        }
        pipeline.cmd("HELLO");
        for answer in self.answers(pipeline).await? {
            match answer {
                Ok(about) => self.is_fit(&about, probe)?,
                // The slot of the channel is on its way to another node, which says nothing of this.
                Err(error) if error.is_cluster_error() => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
        Ok(())
    }

    /// Whether there are these commands, and the user may run them. What else is answered is of no matter, as that a
    /// channel is none of those that the user may use: there are more of them than are asked for here.
    pub(crate) async fn may(&self, commands: Pipeline) -> Result<(), Error> {
        let mut answers = self.answers(commands).await?.into_iter();
        let refused = answers.find_map(|answer| match self.error(&answer.err()?) {
            Error::Forbidden { answer, .. } if answer.contains("channel") => None,
            error @ (Error::Forbidden { .. } | Error::NoCommand { .. } | Error::TooOld { .. }) => {
                Some(error)
            }
            _ => None,
        });
        refused.map_or(Ok(()), Err)
    }

    async fn answers(&self, mut commands: Pipeline) -> Result<Vec<RedisResult<Value>>, Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let answers = commands.ignore_errors();
        let answers = answers.query_async(&mut self.requests.clone()).await;
        answers.map_err(|error| self.error(&error))
    }

    /// Looks at what a Redis says of itself, if this is that.
    fn is_fit(&self, about: &Value, probe: &Probe) -> Result<(), Error> {
        let address = || self.context.address.clone();
        if says(about, "role", &["replica", "slave"]) {
            return Err(Error::Replica { address: address() });
        }
        if says(about, "mode", &["cluster"]) && !probe.is_cluster {
            return Err(Error::IsCluster { address: address() });
        }
        Ok(())
    }

    /// Asks whether the connection is there.
    async fn ping(&self) -> Result<(), Error> {
        redis::cmd("PING")
            .exec_async(&mut self.requests.clone())
            .await
            .map_err(|error| self.error(&error))
    }

    /// Resolves when it has ended, or doesn't answer as it should: it is probed, or only asked whether
    /// it is there.
    pub(crate) fn ending(&self, probe: Option<Probe>) -> Ending {
        let connection = self.clone();
        Box::pin(async move {
            let asks = async {
                loop {
                    tokio::time::sleep(PROBE).await;
                    let asked = match &probe {
                        Some(probe) => connection.probe(probe).await,
                        None => connection.ping().await,
                    };
                    if let Err(error) = asked {
                        return error;
                    }
                }
            };
            tokio::select! {
                biased;
                error = connection.ended() => error,
                error = asks => error,
            }
        })
    }
}

/// Whether a Redis says of itself that a field has one of these values.
fn says(about: &Value, field: &str, values: &[&str]) -> bool {
    let Value::Map(fields) = about else {
        return false;
    };
    let text = |value: &'_ Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(string) => Some(string.clone()),
        _ => None,
    };
    fields.iter().any(|(name, value)| {
        let value = text(value).unwrap_or_default();
        text(name).is_some_and(|name| name == field) && values.contains(&&*value)
    })
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
        assert!(says(&about("replica"), "role", &["replica", "slave"]));
        assert!(!says(&about("master"), "role", &["replica", "slave"]));
        assert!(!says(&Value::Nil, "role", &["replica"]));
    }
}
