//! Questions to Redis: what is asked by the connections that publish, between what is published.
//!
//! Journals, stores and counts ask by [`Shared::ask`], of the node that has the key. What a node of a
//! Redis Cluster answers by `MOVED` or the like is asked again for some seconds; anything else that
//! goes wrong is [`Refused`] with what to do about it.

use std::time::{Duration, Instant};

use antiphon_cluster::{Topic, broker::Refused};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, aio::MultiplexedConnection};

use crate::{connection::DEADLINE, server::Way, shared::Shared};

/// So long is waited before a node of a Redis Cluster is asked again for what is on its way to another.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);

/// What is asked: keys of one hash tag.
pub(crate) enum Question {
    One(Cmd),
    Several(Pipeline),
}

impl Question {
    async fn ask<R: FromRedisValue>(&self, mut by: MultiplexedConnection) -> RedisResult<R> {
        match self {
            Self::One(command) => command.query_async(&mut by).await,
            Self::Several(pipeline) => pipeline.query_async(&mut by).await,
        }
    }
}

impl From<Cmd> for Question {
    fn from(command: Cmd) -> Self {
        Self::One(command)
    }
}

impl From<Pipeline> for Question {
    fn from(pipeline: Pipeline) -> Self {
        Self::Several(pipeline)
    }
}

impl Shared {
    /// Asks something of the node that has this key. What was answered by `MOVED` or the like wasn't
    /// done: it is asked again.
    pub(crate) async fn ask<R: FromRedisValue>(
        &self,
        key: &str,
        question: impl Into<Question>,
    ) -> Result<R, Refused> {
        let (question, start) = (question.into(), Instant::now());
        let lane = self.lane_of_keys();
        loop {
            let asked = question.ask(lane.connection(key)?).await;
            match asked {
                Err(error) if error.is_cluster_error() && start.elapsed() < DEADLINE => {
                    lane.look_again();
                    tokio::time::sleep(AGAIN).await;
                }
                asked => return asked.map_err(|error| self.refused(&error)),
            }
        }
    }

    fn refused(&self, error: &RedisError) -> Refused {
        let reason = self.server.error(error).to_string();
        match error.code() {
            Some(_) => Refused::Denied { reason },
            None => Refused::Down { reason },
        }
    }

    /// How many connections have subscribed to a topic.
    pub(crate) async fn count(&self, topic: &Topic) -> Result<usize, Refused> {
        let mut question = redis::cmd("PUBSUB");
        question.arg(match self.server.channels.are_sharded {
            true => "SHARDNUMSUB",
            false => "NUMSUB",
        });
        question.arg(topic.name());
        if let Some(cluster) = self.server.cluster() {
            let counted = self.counter.count(&self.server, cluster, &question).await;
            return counted.map_err(|error| Refused::Down {
                reason: error.to_string(),
            });
        }
        let requests = self.lane(Way::Home).connection(topic.name())?;
        let asked = Question::One(question).ask(requests).await;
        let (_, count): (String, usize) = asked.map_err(|error| Refused::Down {
            reason: self.server.error(&error).to_string(),
        })?;
        Ok(count)
    }
}
