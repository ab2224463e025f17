//! Bodies on their way between two servers.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Sleep;

/// A body on its way between two servers.
pub type RelayBody = UnsyncBoxBody<Bytes, io::Error>;

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
