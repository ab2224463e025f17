//! HTTP long-polling: a GET waits for packets, a POST brings them.

use std::{pin::pin, sync::Arc, task::Poll};

use antiphon_protocol::engine::{
    EncodedPacket, Input, Refusal, TransportKind, jsonp, payload, payload::Payload,
};

use super::{
    Session, cork,
    driver::{self, Driven},
    session::refusal,
};

/// Watches the deadlines of a session until it is closed or has left polling.
pub(super) async fn drive(driven: Driven) {
    let session = driven.session();
    let mut sleep = pin!(driver::sleep(session));
    let closed = std::future::poll_fn(|context| {
        {
            let mut state = session.lock();
            if state.machine.transport() != TransportKind::Polling {
                // The driver of the WebSocket has taken over.
                return Poll::Ready(None);
            }
            state.driver = Some(context.waker().clone());
        }
        cork::scope(|| driver::poll_deadlines(session, sleep.as_mut(), context)).map(Some)
    })
    .await;
    match closed {
        Some(reason) => driven.finish(reason),
        None => driven.handed_over(),
    }
}

/// Waits for packets: the answer of a GET.
pub(super) async fn poll(session: &Arc<Session>, binary: bool) -> Result<Payload, Refusal> {
    if let Some(refusal) = refusal(&session.input(Input::PollOpened)) {
        return Err(refusal);
    }
    let waiting = Waiting(session);
    let packets = std::future::poll_fn(|context| {
        let mut state = session.lock();
        if let Some(packets) = state.machine.poll_answer() {
            state.drained();
            return Poll::Ready(packets);
        }
        state.poll = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
    std::mem::forget(waiting);
    Ok(encode(session, &packets, binary))
}

/// The payload of a GET.
pub(super) fn encode<'p>(
    session: &Session,
    packets: impl IntoIterator<Item = &'p EncodedPacket, IntoIter: Clone>,
    binary: bool,
) -> Payload {
    payload::encode(packets, session.revision(), binary)
}

/// A GET that waits; dropped when its client goes away.
struct Waiting<'s>(&'s Arc<Session>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        tracing::debug!(session = ?self.0.id(), "the client went away from its poll");
        self.0.input(Input::PollAborted);
    }
}

/// A POST that is under way.
pub(super) struct Post<'s> {
    session: &'s Arc<Session>,
    /// The body has come, or was refused: the client hasn't gone away from it.
    whole: bool,
}

impl<'s> Post<'s> {
    pub(super) fn begin(session: &'s Arc<Session>) -> Result<Self, Refusal> {
        match refusal(&session.input(Input::PostOpened)) {
            Some(refusal) => Err(refusal),
            None => Ok(Self {
                session,
                whole: false,
            }),
        }
    }

    /// The whole body has come, or it is refused.
    pub(super) const fn whole(&mut self) {
        self.whole = true;
    }

    /// Hands the packets of the body on.
    pub(super) fn receive(&self, body: &[u8], binary: bool) -> Result<(), payload::PayloadError> {
        let session = self.session;
        let limit = session.engine().config().max_packets_per_payload;
        let received = cork::scope(|| {
            for packet in payload::decode(body, session.revision(), binary, limit)? {
                session.receive(packet?);
            }
            Ok(())
        });
        if let Err(error) = &received {
            session.undecodable(error);
        }
        received
    }

    /// As [`receive`](Self::receive), of the form that a client of JSONP posts.
    pub(super) fn receive_form(&self, body: &[u8]) -> Result<(), payload::PayloadError> {
        match jsonp::decode_form(body) {
            Ok(payload) => self.receive(&payload, false),
            Err(error) => {
                self.session.undecodable(&error);
                Err(error.into())
            }
        }
    }
}

impl Drop for Post<'_> {
    fn drop(&mut self) {
        let input = if self.whole {
            Input::PostClosed
        } else {
            Input::PostAborted
        };
        self.session.input(input);
    }
}
