//! What an emit that asked for acknowledgements comes to.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::Instant;

use crate::{
    engine::LONGEST,
    server::{
        AckError, FromArgs, SocketId,
        adapter::{AdapterError, Answered, NodeId, ServerAnswer, SocketAnswer},
    },
};

/// An emit that waits for its acknowledgement; dropped, nobody waits.
pub type Acknowledged<T> = Pin<Box<dyn Future<Output = Result<T, AckError>> + Send>>;

/// When a time is up that begins now, with the emit, and not when its future is awaited.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout.min(LONGEST)
}

/// What became of a broadcast that asked for acknowledgements.
#[derive(Debug)]
#[non_exhaustive]
pub struct BroadcastAnswers<R> {
    /// The sockets that have answered, and their answers; an answer that doesn't fit `R` is an
    /// error.
    pub answers: Vec<(SocketId, Result<R, AckError>)>,
    /// How many sockets the event was sent to, as far as servers have said so. `None` if the
    /// adapter hasn't in time.
    pub expected: Option<usize>,
    /// The servers that haven't said in time how many sockets they have asked, or died with answers
    /// owed.
    pub missing: Vec<NodeId>,
    /// Why the adapter has failed, if it has: nothing is known of other servers then.
    pub error: Option<AdapterError>,
}

impl<R> BroadcastAnswers<R> {
    /// Whether every socket of every server has answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let all_have = matches!(self.expected, Some(expected) if self.answers.len() == expected);
        all_have && self.missing.is_empty() && self.error.is_none()
    }
}

impl<R: FromArgs> BroadcastAnswers<R> {
    /// Waits until all have answered or are gone, or the time is up. What has come counts, also if
    /// nobody has looked at it yet.
    pub(crate) async fn collect(mut answered: Answered<SocketAnswer>) -> Self {
        let mut answers = Vec::new();
        while let Some((socket, args)) = answered.next().await {
            answers.push((socket, R::from_args(args).map_err(AckError::from)));
        }
        Self {
            answers,
            expected: answered.expected(),
            missing: answered.missing(),
            error: answered.take_error(),
        }
    }
}

/// What became of an event to other servers that asked for answers.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerAnswers<R> {
    /// The servers whose handlers have answered, and their answers; an answer that doesn't fit `R`
    /// is an error.
    pub answers: Vec<(NodeId, Result<R, AckError>)>,
    /// The servers that have not answered in time. One that has no handler for the event is neither
    /// here nor there.
    pub missing: Vec<NodeId>,
    /// How many are missing where the adapter doesn't know their names
    /// ([`AdapterError::Missing`]), if any are.
    pub error: Option<AdapterError>,
}

impl<R> ServerAnswers<R> {
    /// Whether every server that has a handler has answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.error.is_none()
    }
}

impl<R: FromArgs> ServerAnswers<R> {
    pub(crate) async fn collect(answered: Answered<ServerAnswer>) -> Result<Self, AckError> {
        let (answers, missing, error) = answered.collect().await;
        // What has come counts all the same.
        let error = match error {
            Some(error) if !matches!(error, AdapterError::Missing { .. }) => {
                return Err(error.into());
            }
            error => error,
        };
        let answers = answers.into_iter();
        let answers = answers
            .map(|(node, args)| (node, R::from_args(args).map_err(AckError::from)))
            .collect();
        Ok(Self {
            answers,
            missing,
            error,
        })
    }
}
