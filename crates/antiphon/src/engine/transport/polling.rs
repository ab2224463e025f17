//! HTTP long-polling: a GET waits for packets, a POST brings them (docs/protocol.md 6; with offsets
//! 12).
//!
//! `poll` and `Post` are the two requests of a session, each with a guard while it is under way:
//! dropped before its end, it tells the session that the client has gone away, which ends a session
//! without offsets. `drive` is the session's driver while it is on HTTP: it watches deadlines
//! alone, and ends when the session is closed or a WebSocket has taken over. Packets leave the
//! queue as one payload. A body that can't be decoded closes the session.

use std::{
    borrow::Cow, collections::VecDeque, future::Future, pin::pin, sync::Arc, task::Poll,
    time::Duration,
};

use antiphon_protocol::engine::{
    EncodedPacket, Message, Packet, PacketType, Revision, TransportKind, jsonp,
    payload::{self, Packets, Payload, PayloadError},
    session::server::{Input, Refusal},
};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::engine::{
    Session,
    session::turn,
    session::{SessionState, refusal},
    transport::driver::{self, Driven},
};

/// How long the next POST waits for one whose body hasn't come: where its client has hung up behind
/// it, it is here, and only has to be read.
const OVERLAP: Duration = Duration::from_millis(100);

/// Watches the deadlines of a session until it is closed or has moved to WebSocket.
pub(crate) async fn drive(driven: Driven) {
    let session = driven.session();
    let mut sleep = pin!(driver::sleep(session));
    let closed = std::future::poll_fn(|context| {
        {
            let mut state = session.lock();
            if state.machine.transport() == TransportKind::WebSocket {
                // The driver of the WebSocket has taken over.
                return Poll::Ready(None);
            }
            state.driver = Some(context.waker().clone());
        }
        turn::scope_of(session, || {
            driver::poll_deadlines(session, sleep.as_mut(), context)
        })
        .map(Some)
    })
    .await;
    match closed {
        Some(reason) => driven.finish(reason),
        None => driven.handed_over(),
    }
}

/// Waits for packets: the answer of a GET. `offset` is how many packets its client has had; `wait`
/// is how long it waits at the most.
pub(crate) async fn poll(
    session: &Arc<Session>,
    binary: bool,
    offset: Option<u64>,
    wait: Option<Duration>,
) -> Result<Payload, Refusal> {
    if session.transport() == TransportKind::Streaming {
        return Err(Refusal::TransportMismatch);
    }
    let mut poll = GetGuard {
        session,
        get: session.begin_get(offset)?,
        answered: false,
    };
    let mut patience = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
    let packets = std::future::poll_fn(|context| {
        let mut state = session.lock();
        if poll.is_superseded(&mut state) {
            return Poll::Ready(VecDeque::from([noop()]));
        }
        let mut response = state.machine.take_response();
        let patience = patience.as_mut().filter(|_| response.is_none());
        if patience.is_some_and(|patience| patience.as_mut().poll(context).is_ready()) {
            state.machine.handle(Input::GetExpired, crate::clock::now());
            response = state.machine.take_response();
        }
        if let Some(packets) = response {
            state.drained();
            return Poll::Ready(packets);
        }
        state.requests().waiting = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
    poll.answered = true;
    Ok(encode(session, &packets, binary))
}

fn noop() -> EncodedPacket {
    EncodedPacket::text(PacketType::Noop, "")
}

/// The payload that says nothing.
pub(crate) fn noop_payload(revision: Revision) -> Payload {
    payload::encode(&[noop()], revision, false)
}

/// The payload of a GET.
pub(crate) fn encode<'p>(
    session: &Session,
    packets: impl IntoIterator<Item = &'p EncodedPacket, IntoIter: Clone>,
    binary: bool,
) -> Payload {
    payload::encode(packets, session.revision(), binary)
}

/// A GET that waits; dropped when its client goes away.
struct GetGuard<'s> {
    session: &'s Arc<Session>,
    /// Its number, if the session is tracked.
    get: Option<u32>,
    answered: bool,
}

impl GetGuard<'_> {
    /// Another GET has taken over.
    fn is_superseded(&self, state: &mut SessionState) -> bool {
        self.get.is_some_and(|get| state.requests().get != get)
    }
}

impl Drop for GetGuard<'_> {
    fn drop(&mut self) {
        let answered = self.answered;
        if self.get.is_none() {
            if answered {
                // Nothing depends on it without offsets.
                return;
            }
            tracing::debug!(session = ?self.session.id(), "closing session: the client went away from its poll");
        } else if self.is_superseded(&mut self.session.lock()) {
            return;
        }
        self.session.input(Input::GetEnded { answered });
    }
}

/// A POST that is under way.
pub(crate) struct Post {
    session: Arc<Session>,
    /// The body has come, or was refused: the client hasn't gone away from it.
    whole: bool,
    /// Its number, if the session is tracked.
    number: Option<u32>,
    t: Option<Box<str>>,
}

impl Post {
    /// Begins to read a POST, whose parameter tells it from others. Returns `None` if it
    /// was handled already.
    ///
    /// One that is being handled is waited for: its client may have gone away from it, and then
    /// makes the next. One whose body is still to come is given a moment.
    pub(crate) async fn begin<'p>(
        session: &Arc<Session>,
        parameter: impl FnOnce() -> Option<Cow<'p, str>>,
    ) -> Result<Option<Self>, Refusal> {
        if session.lock().has_post() {
            Box::pin(Self::wait_for_its_turn(session)).await;
        }
        let (mut number, mut t) = (None, None);
        {
            let mut state = session.lock();
            if state.machine.is_tracked() {
                t = parameter().map(Box::from);
                number = state.requests().begin_post(t.as_deref());
                if number.is_none() {
                    return Ok(None);
                }
                // The one before gives up.
                state.waiting.wake();
            }
        }
        match refusal(&session.input(Input::PostOpened)) {
            Some(refusal) => Err(refusal),
            None => Ok(Some(Self {
                session: Arc::clone(session),
                whole: false,
                number,
                t,
            })),
        }
    }

    async fn wait_for_its_turn(session: &Session) {
        let free = session.until(|state| !state.has_post());
        if tokio::time::timeout(OVERLAP, free).await.is_err() {
            session.until(|state| !state.handles_post()).await;
        }
    }

    /// The outcome of `work`, or nothing once a later POST has taken the place of this one.
    pub(crate) async fn unless_superseded<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let Some(number) = self.number else {
            return Some(work.await);
        };
        let superseded = |state: &mut SessionState| !state.requests().is_latest_post(number);
        self.session.unless(superseded, work).await
    }

    /// The whole body has come, or it is refused.
    pub(crate) fn whole(&mut self) {
        self.whole = true;
        self.session.lock().requests().handles_post = true;
    }

    /// Whether it is to be handled: no later one has taken its place.
    pub(crate) fn counts(&self) -> bool {
        let t = self.t.as_deref();
        self.number
            .is_none_or(|number| self.session.lock().requests().handle_post(number, t))
    }

    /// Hands the packets of the body on. If that takes long, a task goes on with it and gives way
    /// to others in between: a client that goes away meanwhile has sent them all the same.
    pub(crate) async fn receive(self, body: Bytes, binary: bool) -> Result<(), PayloadError> {
        let packets = self.packets(&body, binary);
        let mut packets = packets.map_err(|error| self.undecodable(error))?;
        let Some(handled) = self.receive_some(&body, &mut packets)? else {
            return Ok(());
        };
        let (done, received) = oneshot::channel();
        let engine = Arc::clone(self.session.engine());
        engine.spawn(async move {
            let _ = done.send(self.receive_rest(&body, binary, handled).await);
        });
        // Without a task, its runtime has ended.
        received.await.unwrap_or(Ok(()))
    }

    /// As [`receive`](Self::receive), of the form that a client of JSONP posts.
    pub(crate) async fn receive_form(self, body: &[u8]) -> Result<(), PayloadError> {
        match jsonp::decode_form(body) {
            Ok(payload) => self.receive(payload.into(), false).await,
            Err(error) => Err(self.undecodable(error.into())),
        }
    }

    /// What is left of a body behind the packets that have been handled.
    async fn receive_rest(
        &self,
        body: &Bytes,
        binary: bool,
        handled: usize,
    ) -> Result<(), PayloadError> {
        let mut packets = self.packets(body, binary)?;
        packets.pass(handled)?;
        loop {
            tokio::task::yield_now().await;
            if self.receive_some(body, &mut packets)?.is_none() {
                return Ok(());
            }
        }
    }

    fn packets<'b>(&self, body: &'b [u8], binary: bool) -> Result<Packets<'b>, PayloadError> {
        let limit = self.session.engine().config().max_packets_per_payload;
        payload::decode(body, self.session.revision(), binary, limit)
    }

    /// Hands packets on until all are, or others should have their turn. Returns how many that
    /// were, if there may be more. A binary message that is most of the body shares its bytes.
    fn receive_some(
        &self,
        body: &Bytes,
        packets: &mut Packets<'_>,
    ) -> Result<Option<usize>, PayloadError> {
        let mut budget = turn::Budget::default();
        let mut count = 0;
        turn::scope_of(&self.session, || {
            for packet in packets {
                let packet = packet.map_err(|error| self.undecodable(error))?;
                let (packet, bytes) = match packet {
                    Packet::Message(Message::Binary(data)) => {
                        let bytes = data.len();
                        let message = Message::Binary(data.shared(body));
                        (Packet::Message(message), bytes)
                    }
                    Packet::Message(Message::Text(text)) => (packet, text.len()),
                    _ => (packet, 0),
                };
                self.session.receive(packet);
                count += 1;
                if !budget.spend(bytes) {
                    return Ok(Some(count));
                }
            }
            Ok(None)
        })
    }

    /// The session ends with what can't be decoded.
    fn undecodable(&self, error: PayloadError) -> PayloadError {
        self.session.undecodable(&error);
        error
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.session.input(Input::PostEnded { whole: self.whole });
        self.session.lock().post_ended(self.whole);
    }
}
