//! What passes requests on to other servers: an engine knows of them only that there may be a
//! [`Relay`], and of a session's id that it may name its server ([`ServerTag`]).

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Sleep;

use crate::engine::ServerTag;

/// A body on its way between two servers.
pub type RelayBody = UnsyncBoxBody<Bytes, io::Error>;

/// Passes requests on between servers that share their clients. An
/// [adapter's factory](crate::adapter::AdapterFactory::relay) may have one.
pub trait Relay: Send + Sync + 'static {
    /// What names this server in the ids of its sessions.
    fn tag(&self) -> ServerTag;

    /// Sends a request to the server that this tag names, and returns its response when the head of
    /// that is there.
    ///
    /// Path and query are those that this server was asked for, and the URI has nothing else. A
    /// response of 101 has hyper's [`OnUpgrade`](hyper::upgrade::OnUpgrade) in its extensions. The
    /// future is dropped if the client goes away, or if it takes too long.
    ///
    /// # Errors
    /// [`NotRelayed`] if there is no response.
    fn relay(
        &self,
        to: ServerTag,
        request: Request<RelayBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<RelayBody>, NotRelayed>> + Send + '_>>;
}

/// Why a request couldn't be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRelayed {
    /// No server that is there is named so.
    #[error("no server that is there has such sessions")]
    Unknown,
    /// The server doesn't say where it is.
    #[error("its server advertises no address: give each server one")]
    NoAddress,
    /// As many requests as may be are passed on already.
    #[error("too many requests are being passed on")]
    Full,
    /// The server can't be reached, or has gone before it responded.
    #[error("its server doesn't respond: {reason}")]
    Unreachable {
        /// What has happened.
        reason: String,
    },
}

/// The body of a response that another server gives. It fails if nothing comes for too long.
pub(super) struct Passed {
    body: RelayBody,
    patience: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Passed {
    pub(super) const fn new(body: RelayBody, patience: Duration) -> Self {
        Self {
            body,
            patience,
            alarm: None,
        }
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(context) {
            self.alarm = None;
            return Poll::Ready(next);
        }
        let patience = self.patience;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
