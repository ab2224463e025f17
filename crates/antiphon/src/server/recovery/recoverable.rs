//! What a socket of a namespace with recovery has: its private id, and where it has been.
//!
//! The socket owns it. Its rooms tell it of joins and leaves, and its end parks the session.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Map, Value};

use super::{
    log::{LogError, SavedSession, Stays},
    ordered::Ordered,
    sessions::{self, Parked},
    stays::Tracked,
};
use crate::server::{DisconnectReason, Room, Socket, SocketId};

/// What a socket of a namespace with recovery has: its private id, and where it has been.
pub(crate) struct Recoverable {
    pub(super) ordered: Arc<Ordered>,
    pub(super) pid: Room,
    pub(super) tracked: Mutex<Tracked>,
    /// `Ok` if it has been recovered; if it asked for that and wasn't, why.
    pub(super) outcome: Option<Result<(), LogError>>,
    /// Values as they are stored outside of this process.
    pub(super) data: Mutex<Map<String, Value>>,
    /// The last event that has been sent of those that it has missed; [`ALL`] once it has had them
    /// and is in its rooms. Changed in order.
    pub(super) replayed: AtomicU64,
    /// It has left the room of its id, and what is emitted to it alone is still for it.
    pub(super) left_own: AtomicBool,
    /// Its session is at an end, or will be when its turn comes: nothing new is kept for it.
    pub(super) is_over: AtomicBool,
}

/// In the place of the last event: nothing is missed any more.
pub(super) const ALL: u64 = u64::MAX;

impl Recoverable {
    fn tracked(&self) -> MutexGuard<'_, Tracked> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stays(&self) -> Stays {
        self.tracked().now()
    }

    /// Where its events are logged beside the room of its id, if it has left that.
    pub(super) fn own_room(&self) -> Option<Room> {
        let has_left = self.left_own.load(Ordering::Acquire);
        has_left.then(|| self.pid.clone())
    }

    /// The last event that it has been sent, while it is sent what it has missed.
    pub(super) fn replayed(&self) -> Option<u64> {
        let replayed = self.replayed.load(Ordering::Acquire);
        (replayed != ALL).then_some(replayed)
    }

    /// It has been sent what it has missed up to this event, or [`ALL`] of it.
    pub(super) fn has_replayed(&self, upto: u64) {
        self.replayed.store(upto, Ordering::Release);
    }

    /// Its socket is in its namespace from here on. Called under the lock of the rooms, as are the
    /// other two.
    pub(crate) fn came(&self, delivered: u64) {
        self.tracked().came(delivered);
    }

    pub(crate) fn joined(&self, socket: &SocketId, room: &Room, delivered: u64) {
        self.tracked().joined(room, delivered);
        self.save(socket);
    }

    pub(crate) fn left(&self, socket: &SocketId, room: &Room, delivered: u64) {
        self.tracked().left(room, delivered);
        if **socket.as_shared() == **room {
            self.tracked().joined(&self.pid, delivered);
            self.left_own.store(true, Ordering::Release);
        }
        self.save(socket);
    }

    /// A value of its socket has been inserted.
    pub(crate) fn inserted(&self, socket: &Socket) {
        if self.ordered.log.is_durable() {
            self.store_data(socket);
            self.save(socket.id());
        }
    }

    pub(super) fn store_data(&self, socket: &Socket) {
        let values = socket.values();
        let kinds = self.ordered.options.data.iter();
        let data = kinds.filter_map(|kind| {
            let value = (kind.store)(values.as_deref()?)?;
            Some((String::from(&*kind.name), value))
        });
        *self.data.lock().unwrap_or_else(PoisonError::into_inner) = data.collect();
    }

    /// Keeps the session as it is now, if the log is durable.
    pub(super) fn save(&self, id: &SocketId) {
        if self.ordered.log.is_durable() {
            self.ordered.log.save(SavedSession {
                pid: self.pid.clone(),
                id: id.clone(),
                stays: self.stays(),
                data: self.stored(),
            });
        }
    }

    /// Its values as they are stored.
    fn stored(&self) -> Map<String, Value> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        data.clone()
    }

    /// Whether its client may still come back.
    pub(crate) fn is_kept(&self) -> bool {
        !self.is_over.load(Ordering::Acquire) && self.ordered.sessions().contains(&self.pid)
    }

    /// Its client won't come back, also if its socket has yet to end behind what waits.
    pub(crate) fn over(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether it has been recovered; if it asked for that and wasn't, why.
    pub(crate) const fn outcome(&self) -> Option<&Result<(), LogError>> {
        self.outcome.as_ref()
    }

    /// Its socket has ended. The session is parked when that has had what waits for it, so that it
    /// knows what it has joined and left.
    pub(crate) fn ended(&self, socket: &Socket, reason: DisconnectReason) {
        if !reason.is_recoverable() {
            self.over();
        }
        if !self.ordered.is_behind() {
            return self.park(socket, reason);
        }
        let socket = socket.clone();
        self.ordered.behind(0, move || {
            if let Some(recoverable) = socket.recoverable() {
                recoverable.park(&socket, reason);
            }
        });
    }

    fn park(&self, socket: &Socket, reason: DisconnectReason) {
        let ordered = &self.ordered;
        let mut sessions = ordered.sessions();
        if sessions.live(&self.pid) != Some(socket) {
            // Another one has resumed it.
            return;
        }
        let forgotten = if reason.is_recoverable() {
            let parked = Parked {
                id: socket.id().clone(),
                stays: self.stays(),
                data: socket.values(),
                stored: self.stored(),
                until: sessions::until(ordered.options.duration),
            };
            // Else it is resumed here, or parked when that has failed.
            if !sessions.is_claimed(&self.pid) {
                ordered.log.park(parked.saved(&self.pid));
            }
            sessions.park(&self.pid, parked, ordered.options.max_sessions)
        } else {
            sessions.remove(&self.pid);
            let values = socket.values();
            vec![(self.pid.clone(), values)]
        };
        drop(sessions);
        ordered.forget(forgotten);
        ordered.settled.notify_waiters();
    }
}
