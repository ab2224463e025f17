//! What comes from a client: messages become packets, and packets what they mean.
//!
//! Messages come in order and go through the decoder under the connection's lock; the packet is
//! handled without. CONNECT goes to `joining`, events to [`dispatch`], and acks to what awaits them.

use std::{
    sync::{Arc, MutexGuard, Weak},
    time::Instant,
};

use antiphon_protocol::{
    engine::{CloseReason, Message},
    socket::{DecodeError, Packet},
};
use http::request::Parts;
use serde::Serializer as _;

use super::{Client, ClientState, incoming::Incoming};
use crate::engine::{self, Application, Session, session::turn};
use crate::server::{
    DisconnectReason, Handshake, Socket, handlers::dispatch, namespace::namespaces::Namespaces,
};

/// The violation of a packet for a namespace that the client isn't in.
const NOT_JOINED: &str = "a packet for a namespace that it hasn't joined";

impl Client {
    /// A packet has come.
    fn take(
        &self,
        state: MutexGuard<'_, ClientState>,
        session: &Arc<Session>,
        packet: &Packet<'_>,
    ) {
        let socket = state.joined(packet.namespace());
        drop(state);
        self.receive(session, packet, socket);
    }

    /// A part of a packet has come: the rest has to, in time.
    fn await_rest(&self, mut state: MutexGuard<'_, ClientState>, session: &Arc<Session>) {
        if state.rest_by.is_some() {
            return;
        }
        if !state.may_begin() {
            // Nothing is kept for clients that nobody knows.
            drop(state);
            return self.violation(session, NOT_JOINED);
        }
        let patience = session.engine().config().longest_silence();
        state.rest_by = Some(crate::clock::now() + patience);
    }

    /// A packet has come, from the client's socket in its namespace, if it is in that.
    fn receive(&self, session: &Arc<Session>, packet: &Packet<'_>, socket: Option<Socket>) {
        match (packet, socket) {
            (
                Packet::Connect {
                    namespace,
                    query,
                    auth,
                },
                _,
            ) => {
                let auth = match query {
                    Some(query) => Some(query_as_json(query)),
                    None => auth.map(Box::from),
                };
                self.connect(session, namespace, auth);
            }
            (Packet::ConnectError { .. }, _) => {
                self.violation(session, "a connect error, which only servers send");
            }
            (Packet::Event { id, name, args, .. }, Some(socket)) => {
                dispatch::receive(&socket, *id, name, args);
            }
            (Packet::Ack { id, args, .. }, Some(socket)) => {
                socket.awaited().resolve(socket.id(), *id, *args);
            }
            (Packet::Disconnect { .. }, Some(socket)) => socket.leave_namespace(),
            (_, None) => self.receive_unjoined(session, packet),
        }
    }

    /// A packet has come for a namespace that the client isn't in. It may belong to a socket that
    /// waits behind another one, which its client can't know.
    fn receive_unjoined(&self, session: &Arc<Session>, packet: &Packet<'_>) {
        let waiting = self.lock().waiting(packet.namespace());
        match (packet, waiting) {
            (Packet::Event { id, name, args, .. }, Some(socket)) => {
                dispatch::receive(&socket, *id, name, args);
            }
            (Packet::Disconnect { .. }, Some(socket)) => socket.leave_namespace(),
            // It has asked for nothing.
            (Packet::Ack { .. }, Some(_)) => {}
            _ => self.violation(session, NOT_JOINED),
        }
    }

    fn undecodable(&self, session: &Arc<Session>, error: &DecodeError) {
        session.engine().counters().undecodable.add(1);
        tracing::debug!(session = ?session.id(), %error, "closing connection: invalid packet");
        self.close_sockets(DisconnectReason::ForcedClose);
        session.close();
    }
}

/// Each new session of the engine gets a [`Client`].
impl Application for Namespaces {
    fn connect(&self, session: &Arc<Session>, request: &Parts) -> Arc<dyn engine::Connection> {
        let handshake = Handshake::new(request, &self.shared.kept);
        let connection = Client::new(Weak::clone(&self.this), &self.shared, handshake, session);
        if session.revision().dialect().joins_by_itself {
            // Clients of this revision are in the main namespace without asking.
            connection.connect(session, "/", None);
        }
        connection
    }
}

impl engine::Connection for Client {
    fn message(&self, session: &Arc<Session>, message: Message<'_>) {
        let mut state = self.lock();
        let assembled = match (&mut state.incoming, message) {
            // Nearly all that comes: the packet is lent from the text.
            (Incoming::Standard(decoder), Message::Text(text)) => match decoder.text(text) {
                Ok(Some(packet)) => return self.take(state, session, &packet),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            (Incoming::Standard(decoder), Message::Binary(data)) => decoder.binary(data.into()),
            (Incoming::Parser(decoder), message) => decoder.decode(message),
        };
        match assembled {
            Ok(Some(assembled)) => {
                state.rest_by = None;
                self.take(state, session, &assembled.packet());
            }
            Ok(None) => self.await_rest(state, session),
            Err(error) => {
                drop(state);
                self.undecodable(session, &error);
            }
        }
    }

    fn closed(&self, _: &Arc<Session>, reason: CloseReason) {
        self.close_sockets(reason.into());
    }

    fn upgraded(&self, _: &Arc<Session>) {
        let sockets: Vec<Socket> = {
            let state = self.lock();
            let sockets = state.sockets.iter().map(|it| &it.socket);
            sockets
                .filter(|socket| socket.is_connected())
                .cloned()
                .collect()
        };
        turn::scope(|| sockets.iter().for_each(dispatch::upgraded));
    }

    fn is_saturated(&self) -> bool {
        self.permits.are_exhausted()
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        [state.join_by, state.rest_by].into_iter().flatten().min()
    }

    fn timeout(&self, session: &Arc<Session>, now: Instant) {
        let (unjoined, incomplete) = {
            let mut state = self.lock();
            let passed =
                |deadline: &mut Option<Instant>| deadline.take_if(|by| *by <= now).is_some();
            (passed(&mut state.join_by), passed(&mut state.rest_by))
        };
        if unjoined {
            self.violation(session, "no connect to a namespace in time");
        } else if incomplete {
            self.violation(session, "attachments too late");
        }
    }
}

/// The query that clients of Socket.IO 2.x put behind a namespace's name, as an auth payload.
fn query_as_json(query: &str) -> Box<str> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    // Texts in a map, written to memory: nothing that could fail.
    let _ = serializer.collect_map(form_urlencoded::parse(query.as_bytes()));
    String::from_utf8(json).unwrap_or_default().into()
}
