//! A WebSocket that was opened for a session on HTTP: it is probed, then takes the session over
//! (docs/protocol.md 10).
//!
//! The task of the WebSocket owns the connection and a `Probe`. Texts go to the session's machine,
//! which says what to do: answer, complete, reject. When it is complete a driver is spawned with
//! the connection. Whatever goes wrong closes this WebSocket alone; the session goes on as it was.
//! A `Probe` tells the session when it is dropped, unless a later attempt has begun.

use std::{sync::Arc, task::Poll};

use antiphon_protocol::engine::{
    EncodedPacket, Packet, PacketType, UpgradeTarget,
    session::server::{Input, Output, ProbeStep},
};

use crate::engine::{
    Session,
    transport::driver::Driven,
    transport::websocket::{self, WebSocket},
};

/// Close code for a WebSocket that is of no use (RFC 6455 §7.4.1: policy).
const REFUSED: u16 = 1008;

/// Probes, and then drives the session that has moved to this WebSocket.
pub(crate) async fn run(session: Arc<Session>, mut websocket: WebSocket) {
    let Some(mut probe) = Probe::begin(&session) else {
        tracing::debug!(session = ?session.id(), "a second WebSocket is refused");
        return websocket
            .close(REFUSED, "the session has a WebSocket already")
            .await;
    };
    loop {
        match probe.next_step(&mut websocket).await {
            ProbeStep::Answer => {
                let pong = EncodedPacket::text(PacketType::Pong, "probe");
                // One that probes and never reads is not waited for.
                let patience = session.engine().config().upgrade_timeout;
                let written = tokio::time::timeout(patience, websocket.write(pong.frame())).await;
                if !matches!(written, Ok(Ok(()))) {
                    break;
                }
            }
            ProbeStep::Complete => {
                probe.finished = true;
                tracing::debug!(session = ?session.id(), "upgraded to WebSocket");
                session.upgraded();
                // A task of its own, so that the memory of this one is given back.
                let driven = Driven::new(Arc::clone(&session));
                tokio::spawn(websocket::drive(driven, websocket));
                return;
            }
            ProbeStep::Reject => break,
        }
    }
    drop(probe);
    websocket
        .close(REFUSED, "the upgrade was not completed")
        .await;
}

/// One attempt; when it is dropped unfinished, its session may be probed again.
struct Probe<'s> {
    session: &'s Arc<Session>,
    number: u32,
    finished: bool,
}

impl<'s> Probe<'s> {
    fn begin(session: &'s Arc<Session>) -> Option<Self> {
        if session.input(Input::ProbeOpened(UpgradeTarget::WebSocket)) != Output::Nothing {
            return None;
        }
        let mut state = session.lock();
        let requests = state.requests();
        requests.websockets = requests.websockets.wrapping_add(1);
        Some(Self {
            session,
            number: requests.websockets,
            finished: false,
        })
    }

    /// What the next packet, or the end of the attempt, asks for.
    async fn next_step(&mut self, websocket: &mut WebSocket) -> ProbeStep {
        std::future::poll_fn(|context| {
            {
                let mut state = self.session.lock();
                if state.requests().websockets != self.number
                    || !state.machine.is_upgrading(UpgradeTarget::WebSocket)
                {
                    return Poll::Ready(ProbeStep::Reject);
                }
                state.requests().websocket = Some(context.waker().clone());
            }
            let revision = self.session.revision();
            let step = websocket.poll_text(context, &mut |text| {
                let packet = Packet::from_text(text, revision).unwrap_or(Packet::Noop);
                let input = Input::ProbePacket(UpgradeTarget::WebSocket, packet);
                match self.session.input(input) {
                    Output::Probe(step) => step,
                    _ => ProbeStep::Reject,
                }
            });
            step.map(|step| step.unwrap_or(ProbeStep::Reject))
        })
        .await
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.session.engine().counters().upgrades_failed.add(1);
        // A late one doesn't end the attempt of its successor.
        let last = self.session.lock().requests().websockets == self.number;
        if last {
            self.session
                .input(Input::ProbeClosed(UpgradeTarget::WebSocket));
        }
    }
}
