//! What is sent to one socket: logged if its namespace has recovery, and behind what waits for the log.
//!
//! An event comes as a draft, which is copied from where it was written if nothing else wants it. It
//! ends in the socket's session, which says what becomes of it: an error is the caller's.

use std::sync::Arc;

use antiphon_protocol::{
    engine::EncodedMessage,
    socket::{Draft, Fanout, Outgoing},
};

use crate::{
    engine::{SendError, Sending, Sent},
    server::{
        Context, EmitError, Socket,
        handlers::{dispatch, listeners::Listeners},
        recovery::Ordered,
    },
};

impl Socket {
    /// Sends an event, after the listeners to what goes out have been told.
    pub(crate) fn send_event(
        &self,
        draft: &mut Draft,
        id: Option<u64>,
        sending: Sending,
    ) -> Result<(), EmitError> {
        let is_noted = self.namespace().shared().has_outgoing_listeners();
        let ordered = self.namespace().recovery().filter(|_| id.is_none());
        if is_noted || ordered.is_some() {
            let event = draft.finish_event();
            if is_noted {
                self.note_outgoing(&event);
            }
            if let Some(ordered) = ordered {
                return ordered.emit(self, &event, sending);
            }
            draft.outgoing(self.namespace().name(), id, &event)?;
        }
        self.send_in_order(draft, sending)
    }

    /// Sends what isn't logged, and must not overtake what is.
    pub(crate) fn send_in_order(
        &self,
        draft: &mut Draft,
        sending: Sending,
    ) -> Result<(), EmitError> {
        if !sending.volatile
            && let Some(ordered) = self.namespace().joins().behind()
        {
            return self.send_behind(ordered, draft.finish(), sending);
        }
        let parser = &self.namespace().shared().parser;
        self.send_packet(&mut Fanout::new(draft, parser), sending)?;
        Ok(())
    }

    /// Sends a message behind what waits for the log.
    pub(crate) fn send_behind(
        &self,
        ordered: &Arc<Ordered>,
        message: EncodedMessage,
        sending: Sending,
    ) -> Result<(), EmitError> {
        if self.is_disconnected() {
            return Err(EmitError::Disconnected);
        }
        let socket = self.clone();
        ordered.behind(message.len_bytes(), move || {
            // A socket that has left by then has no use for it.
            let _ = socket.send_message(message, sending);
        });
        Ok(())
    }

    /// Sends an event that has been written, without a log.
    pub(crate) fn send_outgoing(&self, event: &Outgoing) -> Result<(), EmitError> {
        let shared = self.namespace().shared();
        let mut draft = shared.draft();
        draft.outgoing(self.namespace().name(), None, event)?;
        self.send_packet(&mut Fanout::new(&mut draft, &shared.parser), Sending::SURE)?;
        Ok(())
    }

    /// Sends a message of Socket.IO that has been written for itself.
    pub(crate) fn send_message(
        &self,
        message: EncodedMessage,
        sending: Sending,
    ) -> Result<(), EmitError> {
        let parser = &self.namespace().shared().parser;
        self.send_packet(&mut Fanout::of(message, parser), sending)?;
        Ok(())
    }

    /// Tells the catch-all listeners of an event that goes out, if there are any.
    pub(crate) fn note_if_asked(&self, event: &Outgoing) {
        if self.namespace().shared().has_outgoing_listeners() {
            self.note_outgoing(event);
        }
    }

    /// Whether another thread writes to its client now.
    pub(crate) fn is_being_flushed(&self) -> bool {
        let session = self.peer().session();
        session.is_some_and(|session| session.is_being_flushed())
    }

    /// Sends a packet of Socket.IO. The socket must be connected, or about to be.
    pub(crate) fn send_packet(
        &self,
        message: &mut Fanout<'_>,
        sending: Sending,
    ) -> Result<Sent, EmitError> {
        let session = self.peer().session().ok_or(EmitError::Disconnected)?;
        let sent = session.send_if(|| !self.has_left(), message, sending);
        sent.map_err(|error| match error {
            SendError::Closed if self.is_disconnected() => EmitError::Disconnected,
            error => error.into(),
        })
    }

    /// Tells the catch-all listeners of an event that goes out. Callers ask first whether there are any.
    pub(crate) fn note_outgoing(&self, event: &Outgoing) {
        let [parents, shared] = self.namespace().all_listeners();
        let all = [parents, shared, self.listeners()];
        let all = all.map(|listeners| listeners.map(Listeners::lists));
        let name = event.name();
        event.with_args(|args| {
            let context = Context {
                event: &name,
                args,
                ..Context::connect(self)
            };
            for handler in all.iter().flatten().flat_map(|lists| &lists.any_outgoing) {
                dispatch::start(self, handler, &context);
            }
        });
    }
}
