//! At least once: events to a client that are kept until it acknowledges them.
//!
//! A socket owns a [`Kept`] once such an event is emitted to it, among its values, so that the socket
//! that resumes its session has the same one. An event is sent at once with an id as its last
//! argument, by which its client knows it when it comes again: after a pause that doubles, and, all in
//! their order, when the session is resumed. A task of its own looks at the time while something is
//! kept. What has not been acknowledged after the last try, or when the session is over, is told to
//! [`Namespace::on_undelivered`](crate::Namespace::on_undelivered) and counted.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use antiphon_protocol::socket::Outgoing;
use serde::Serialize;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    engine::{LONGEST, Sending, session::id},
    server::{
        EmitError, Namespace, Socket, SocketId,
        socket::{WeakSocket, values::Values},
    },
};

/// How many events are kept for one client.
const MOST_KEPT: usize = 1_000;

/// How often an event is sent while its client is connected.
const MOST_TRIES: u32 = 6;

/// An event that its client has never acknowledged: what
/// [`Namespace::on_undelivered`](crate::Namespace::on_undelivered) is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Undelivered {
    /// The socket that it was for.
    pub socket: SocketId,
    /// The event; its id is its last argument.
    pub event: Outgoing,
    /// Why it is given up.
    pub reason: UndeliveredReason,
}

/// Why an event was given up that was to be delivered at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UndeliveredReason {
    /// The client's session is over: it has left, or hasn't come back in time.
    SessionOver,
    /// The client is there, and has not acknowledged any of the tries.
    NotAcknowledged,
}

impl fmt::Display for UndeliveredReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionOver => "the client's session is over",
            Self::NotAcknowledged => "the client has not acknowledged it",
        })
    }
}

/// What is kept for one client.
pub(crate) struct Kept {
    namespace: Namespace,
    id: SocketId,
    /// What the ids of its events begin with.
    prefix: Arc<str>,
    state: Mutex<State>,
    /// Something has changed that the task has not seen.
    changed: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    next: u64,
    /// The socket that its client has now, or had last.
    socket: Option<WeakSocket>,
    is_over: bool,
    has_task: bool,
}

impl State {
    /// The socket of its client, if that is there.
    fn connected(&self) -> Option<Socket> {
        let socket = self.socket.as_ref().and_then(WeakSocket::upgrade);
        socket.filter(Socket::is_connected)
    }
}

struct Event {
    number: u64,
    event: Outgoing,
    tries: u32,
    pause: Duration,
    due: Instant,
    /// The acknowledgement that is waited for.
    ack: Option<u64>,
}

/// Where the acknowledgement of an event goes that is kept.
pub(crate) struct Acknowledge {
    kept: Weak<Kept>,
    number: u64,
}

impl Acknowledge {
    pub(crate) fn acknowledged(self) {
        if let Some(kept) = self.kept.upgrade() {
            kept.lock()
                .events
                .retain(|event| event.number != self.number);
            kept.changed.notify_one();
        }
    }
}

impl Kept {
    fn new(namespace: &Namespace, id: &SocketId) -> Self {
        Self {
            namespace: namespace.clone(),
            id: id.clone(),
            prefix: id::random_id(None),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept among these values. Made if it lacks.
    fn among(values: &Values, namespace: &Namespace, id: &SocketId) -> Arc<Self> {
        values.get_or_insert_with(|| Arc::new(Self::new(namespace, id)))
    }

    /// Keeps an event, and sends it if its client is there.
    pub(crate) fn emit(
        socket: &Socket,
        event: &Outgoing,
        pause: Duration,
    ) -> Result<(), EmitError> {
        if !socket.may_come_back() {
            return Err(EmitError::Disconnected);
        }
        let (namespace, id) = (socket.namespace(), socket.id());
        let kept = Self::among(&socket.own_values(), namespace, id);
        kept.lock().socket.get_or_insert_with(|| socket.downgrade());
        kept.keep(event, pause)
    }

    /// Keeps an event for a client that is away.
    pub(crate) fn emit_later(
        namespace: &Namespace,
        id: &SocketId,
        values: &Values,
        event: &Outgoing,
        pause: Duration,
    ) -> Result<(), EmitError> {
        Self::among(values, namespace, id).keep(event, pause)
    }

    fn keep(self: &Arc<Self>, event: &Outgoing, pause: Duration) -> Result<(), EmitError> {
        let mut state = self.lock();
        if state.is_over {
            return Err(EmitError::Disconnected);
        }
        if state.events.len() >= MOST_KEPT {
            return Err(EmitError::TooManyKept(MOST_KEPT));
        }
        let number = state.next;
        state.next += 1;
        let pause = pause.clamp(Duration::from_millis(1), LONGEST);
        state.events.push_back(Event {
            number,
            event: with_id(event, &format!("{}.{number}", self.prefix)),
            tries: 0,
            pause,
            due: Instant::now() + pause,
            ack: None,
        });
        let socket = state.connected();
        // In the order of the numbers: the lock is held, as it is by whoever sends again.
        if let (Some(socket), Some(event)) = (socket, state.events.back_mut()) {
            self.send(&socket, event);
        }
        if !std::mem::replace(&mut state.has_task, true) {
            let kept = Arc::clone(self);
            match self.namespace.runtime() {
                Some(runtime) => drop(runtime.spawn(kept.watch())),
                None => state.has_task = false,
            }
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Sends an event, if its client is there.
    fn send(self: &Arc<Self>, socket: &Socket, event: &mut Event) {
        if let Some(before) = event.ack.take() {
            socket.awaited().forget(before);
        }
        let id = socket.namespace().next_ack_id();
        let mut draft = socket.namespace().shared().draft();
        let name = socket.namespace().name();
        if draft.outgoing(name, Some(id), &event.event).is_err() {
            return;
        }
        socket.awaited().kept(
            id,
            Acknowledge {
                kept: Arc::downgrade(self),
                number: event.number,
            },
        );
        if socket.send_in_order(&mut draft, Sending::SURE).is_err() {
            socket.awaited().forget(id);
            return;
        }
        event.ack = Some(id);
        event.tries += 1;
    }

    /// Its client has come back, as this socket: all that is kept is sent again, in its order.
    fn resumed(self: &Arc<Self>, socket: &Socket) {
        let mut state = self.lock();
        state.socket = Some(socket.downgrade());
        let now = Instant::now();
        for event in &mut state.events {
            event.ack = None;
            event.tries = 0;
            event.due = now + event.pause;
            self.send(socket, event);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Its session is over.
    fn end(&self) {
        let given_up = {
            let mut state = self.lock();
            state.is_over = true;
            std::mem::take(&mut state.events)
        };
        self.changed.notify_one();
        for event in given_up {
            self.give_up(event.event, UndeliveredReason::SessionOver);
        }
    }

    fn give_up(&self, event: Outgoing, reason: UndeliveredReason) {
        self.namespace.undelivered(Undelivered {
            socket: self.id.clone(),
            event,
            reason,
        });
    }

    /// Sends again what is due, until nothing is kept.
    async fn watch(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.lock();
                let is_there = state.connected().is_some();
                if state.events.is_empty() {
                    state.has_task = false;
                    return;
                }
                // For who is away the session's end is waited for.
                let due = state.events.iter().map(|event| event.due).min();
                due.filter(|_| is_there)
            };
            let changed = self.changed.notified();
            match due {
                Some(due) => drop(timeout_at(due, changed).await),
                None => changed.await,
            }
            for event in self.send_again() {
                self.give_up(event, UndeliveredReason::NotAcknowledged);
            }
        }
    }

    /// Sends what is due, and gives what has been sent often enough.
    fn send_again(self: &Arc<Self>) -> Vec<Outgoing> {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(socket) = state.connected() else {
            return Vec::new();
        };
        let mut given_up = Vec::new();
        state.events.retain_mut(|event| {
            if event.due > now {
                return true;
            }
            if event.tries >= MOST_TRIES {
                if let Some(ack) = event.ack.take() {
                    socket.awaited().forget(ack);
                }
                given_up.push(event.event.clone());
                return false;
            }
            event.pause = (event.pause * 2).min(LONGEST);
            event.due = now + event.pause;
            self.send(&socket, event);
            true
        });
        given_up
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("events", &self.lock().events.len())
            .finish_non_exhaustive()
    }
}

/// A socket has resumed a session: what was kept for its client is sent again.
pub(crate) fn resumed(socket: &Socket) {
    if let Some(kept) = socket.get::<Arc<Kept>>() {
        kept.resumed(socket);
    }
}

/// The session with these values is over: what was kept for its client won't be delivered.
pub(crate) fn session_over(values: &Values) {
    if let Some(kept) = values.get::<Arc<Kept>>() {
        kept.end();
    }
}

/// The event with its id as one argument more.
fn with_id(event: &Outgoing, id: &str) -> Outgoing {
    let (list, name) = event.written();
    let list = format!("{list},\"{id}\"");
    // Ids have nothing that JSON would escape.
    Outgoing::from_written(list.into(), name, event.attachments()).unwrap_or_else(|| event.clone())
}
