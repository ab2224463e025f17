//! One call, between the handler that answers it and the requests that wait for the answer.
//!
//! A [`Call`] is shared by its request, by repetitions of it and by the memory of repeats; requests
//! wait for its [`Reply`] up to its deadline. The [`Caller`] is the other end: the acknowledgement
//! of the handlers goes there. It holds a [`Permit`] of the bound of running calls, and gives
//! `no_answer` if it is dropped without one. The first reply counts.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use antiphon_protocol::socket::OwnedArgs;
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::watch;

use super::{CallError, running::Permit};
use crate::server::{ConnectError, Rejection, acks::Respond};

/// What a call is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl From<&CallError> for Reply {
    fn from(error: &CallError) -> Self {
        Self {
            status: error.status(),
            body: error.to_json(),
        }
    }
}

/// Is told of a call that has its reply, and of how many bytes.
type OnReply = Box<dyn Fn(&Arc<Call>, usize) + Send + Sync>;

/// One call. Requests wait for its reply; the [`Caller`] gives it.
pub(super) struct Call {
    reply: watch::Sender<Option<Reply>>,
    timeout: Duration,
    pub(super) deadline: Instant,
    /// Is told how large the reply is: the memory of repeats.
    on_reply: OnceLock<OnReply>,
}

impl Call {
    pub(super) fn new(now: Instant, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            reply: watch::Sender::new(None),
            timeout,
            deadline: now + timeout,
            on_reply: OnceLock::new(),
        })
    }

    /// Calls this with the bytes of the reply. Only the first that asks for it is told.
    pub(super) fn on_reply(&self, told: impl Fn(&Arc<Self>, usize) + Send + Sync + 'static) {
        let _ = self.on_reply.set(Box::new(told));
    }

    /// Waits for the reply.
    pub(super) async fn reply(&self) -> Result<Reply, CallError> {
        let mut replies = self.reply.subscribe();
        let replied = replies.wait_for(Option::is_some);
        // The sender is this call's own: it doesn't end before.
        match tokio::time::timeout_at(self.deadline.into(), replied).await {
            Ok(Ok(reply)) => reply.clone().ok_or(CallError::NoAnswer),
            Ok(Err(_)) => Err(CallError::NoAnswer),
            Err(_) => Err(CallError::Timeout(self.timeout)),
        }
    }

    /// The first reply counts.
    pub(super) fn answer(self: &Arc<Self>, reply: Reply) {
        let bytes = reply.body.len();
        let first = self.reply.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(reply);
            first
        });
        if first && let Some(told) = self.on_reply.get() {
            told(self, bytes);
        }
    }
}

/// The caller of a call by HTTP: an acknowledgement goes here instead of to a client. A call counts
/// as running until this is dropped; if nothing was answered by then, nothing ever will be.
pub(crate) struct Caller {
    call: Arc<Call>,
    _running: Permit,
}

impl Caller {
    pub(super) const fn new(call: Arc<Call>, running: Permit) -> Self {
        Self {
            call,
            _running: running,
        }
    }

    /// A middleware doesn't let the call pass.
    pub(super) fn refuse(&self, error: ConnectError) {
        self.call.answer(Reply::from(&CallError::Refused(error)));
    }
}

impl Respond for Caller {
    fn answer(&self, acknowledged: Result<OwnedArgs, Rejection>) {
        let body = acknowledged.map_err(CallError::Rejected);
        let reply = match body.and_then(|args| list(&args)) {
            Ok(body) => Reply {
                status: StatusCode::OK,
                body,
            },
            Err(error) => Reply::from(&error),
        };
        self.call.answer(reply);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.call.answer(Reply::from(&CallError::NoAnswer));
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

/// The arguments of an acknowledgement as a list of JSON.
fn list(args: &OwnedArgs) -> Result<Bytes, CallError> {
    let args = args.as_args();
    if !args.attachments().is_empty() {
        return Err(CallError::BinaryAnswer);
    }
    Ok(Bytes::from(format!("[{}]", args.json())))
}
