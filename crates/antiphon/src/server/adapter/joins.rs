//! How sockets of this server join and leave rooms, and get what is retained there.
//!
//! Joins and emits that are retained take one lock, from the first step to the last queue: so whoever
//! joins meanwhile gets the event once, as one that was there or as one that came, and never an older
//! one behind it. In a namespace with recovery that lock is the one of its order. Where events wait for
//! its log, changes of memberships wait behind them; what is asked meanwhile is answered as if they had
//! been made.

use std::{
    slice,
    sync::{Arc, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{Flags, Local, Outgoing};
use crate::{
    engine::{QueuePolicy, Sending, session::turn},
    server::{
        Room, Socket, Target,
        recovery::{Change, Members, Ordered, Waiting},
        rooms::{Rooms, retained::Retained},
    },
};

/// The lock of a namespace that joins and retained emits take.
pub(crate) struct Joins<'j> {
    retained: &'j mut Retained,
    /// The namespace's order, if it has recovery.
    waiting: Option<&'j mut Waiting>,
    /// What listeners to what goes out are to be told of.
    sent: Vec<(Socket, Outgoing)>,
}

/// Whether a socket is in its namespace.
enum Entering {
    Done(bool),
    /// When it is its turn.
    Later(oneshot::Receiver<bool>),
}

impl Joins<'_> {
    /// What waits, if anything does.
    fn behind(&mut self) -> Option<&mut Waiting> {
        let waiting = self.waiting.as_deref_mut();
        waiting.filter(|waiting| !waiting.is_empty())
    }

    /// Changes memberships, at once or behind what waits.
    fn make(&mut self, rooms: &Rooms, change: Change) {
        match self.behind() {
            None => change.make(rooms),
            Some(waiting) => waiting.push_change(change),
        }
    }

    fn sockets(&self, rooms: &Rooms, target: &Target) -> Vec<Socket> {
        match &self.waiting {
            None => rooms.sockets(target),
            Some(waiting) => waiting.sockets(rooms, target),
        }
    }
}

impl Local {
    pub(super) fn retained(&self) -> MutexGuard<'_, Retained> {
        let retained = self.inner.retained.lock();
        retained.unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something while nobody else joins a room, or emits what is retained.
    fn exclusively<R>(&self, work: impl FnOnce(&mut Joins<'_>) -> R) -> R {
        let mut sent = Vec::new();
        let work = |waiting: Option<&mut Waiting>| {
            let mut joins = Joins {
                retained: &mut self.retained(),
                waiting,
                sent: Vec::new(),
            };
            let done = work(&mut joins);
            sent = joins.sent;
            done
        };
        let done = match self.recovery() {
            None => work(None),
            Some(ordered) => ordered.in_order(|waiting| work(Some(waiting))),
        };
        // Listeners are the user's: they are called without the lock.
        for (socket, event) in sent {
            socket.note_outgoing(&event);
        }
        done
    }

    /// Emits an event that is retained.
    pub(super) fn retain(
        &self,
        event: &Outgoing,
        target: &Target,
        policy: QueuePolicy,
        flags: Flags,
    ) {
        let sending = Sending::with(policy);
        // What is queued leaves when the lock has been let go.
        turn::scope(|| {
            self.exclusively(|joins| {
                joins.retained.retain(event, target);
                match (self.recovery(), &mut joins.waiting) {
                    (Some(ordered), Some(waiting)) => {
                        ordered.broadcast_in(waiting, event, target, sending, flags);
                    }
                    _ => self.spread(event, target, sending),
                }
            });
        });
    }

    /// Delivers an event of another server that is retained: see [`Local::deliver`].
    pub(super) fn deliver_retained(
        &self,
        event: &Outgoing,
        target: &Target,
        policy: QueuePolicy,
        sequence: u64,
    ) -> bool {
        self.exclusively(|joins| {
            let (Some(ordered), Some(waiting)) = (self.recovery(), &mut joins.waiting) else {
                return true;
            };
            let is_delivered = ordered.heard_in(waiting, event, target, sequence, policy);
            if is_delivered {
                joins.retained.retain(event, target);
            }
            is_delivered
        })
    }

    /// Nothing is retained for the rooms of `target` any more.
    pub(crate) fn forget_retained(&self, target: &Target) {
        self.retained().forget(target);
    }

    /// The namespace's order, if what is done now must not overtake what waits for its log.
    pub(crate) fn behind(&self) -> Option<&Arc<Ordered>> {
        self.recovery().filter(|ordered| ordered.is_behind())
    }

    /// Lets a socket into the namespace, in the rooms that it was to enter: `connect` connects it, and
    /// returns `false` if it has been disconnected. Where events wait for the log this is done behind
    /// them.
    pub(crate) async fn let_in<F>(&self, socket: &Socket, connect: F) -> bool
    where
        F: FnOnce() -> bool + Send + 'static,
    {
        let entering = self.exclusively(|joins| {
            let rooms = socket.take_wishes();
            let entering = match joins.behind() {
                None => {
                    if !connect() {
                        return Entering::Done(false);
                    }
                    self.rooms().add(socket.clone(), &rooms);
                    Entering::Done(true)
                }
                Some(waiting) => {
                    let (done, entered) = oneshot::channel();
                    let (local, socket, rooms) = (self.clone(), socket.clone(), rooms.clone());
                    waiting.push_work(
                        0,
                        Box::new(move || {
                            let is_connected = local.exclusively(|_| {
                                let is_connected = connect();
                                if is_connected {
                                    local.rooms().add(socket, &rooms);
                                }
                                is_connected
                            });
                            let _ = done.send(is_connected);
                        }),
                    );
                    Entering::Later(entered)
                }
            };
            let new = rooms.iter().map(Some).chain([None]);
            self.give_retained(joins, socket, new);
            entering
        });
        match entering {
            Entering::Done(is_in) => is_in,
            Entering::Later(entered) => entered.await.unwrap_or_default(),
        }
    }

    /// A socket that resumes its session is in its rooms again. It may have left that of its id.
    pub(crate) fn add_again(&self, socket: &Socket, rooms: &[Room]) {
        self.rooms().add(socket.clone(), rooms);
        let own = socket.id().as_shared();
        if !rooms.contains(own) {
            self.rooms().leave_one(socket, slice::from_ref(own));
        }
    }

    /// A socket enters rooms. Returns `false` if it isn't in the namespace.
    pub(crate) fn join_one(&self, socket: &Socket, rooms: &[Room]) -> bool {
        self.exclusively(|joins| {
            let new = match joins.retained.is_empty() {
                true => Vec::new(),
                false => self.not_in(joins, socket, rooms),
            };
            let has_joined = match joins.behind() {
                None => self.rooms().join_one(socket, rooms),
                Some(waiting) => {
                    let is_here = self.rooms().contains(socket);
                    if is_here {
                        let one = Members::One(socket.clone());
                        waiting.push_change(Change::Join(one, rooms.to_vec()));
                    }
                    is_here
                }
            };
            if has_joined {
                self.give_retained(joins, socket, new.iter().map(Some));
            }
            has_joined
        })
    }

    /// See [`Adapter::join`](super::Adapter::join).
    pub fn join(&self, target: &Target, rooms: &[Room]) {
        self.exclusively(|joins| {
            let new: Vec<_> = match joins.retained.is_empty() {
                true => Vec::new(),
                false => {
                    let sockets = joins.sockets(self.rooms(), target).into_iter();
                    let new = sockets.map(|socket| (self.not_in(joins, &socket, rooms), socket));
                    new.collect()
                }
            };
            let change = Change::Join(Members::Many(target.clone()), rooms.to_vec());
            joins.make(self.rooms(), change);
            for (new, socket) in new {
                self.give_retained(joins, &socket, new.iter().map(Some));
            }
        });
    }

    /// A socket leaves rooms. Returns `false` if it isn't in the namespace.
    pub(crate) fn leave_one(&self, socket: &Socket, rooms: &[Room]) -> bool {
        let Some(ordered) = self.behind() else {
            return self.rooms().leave_one(socket, rooms);
        };
        let is_here = self.rooms().contains(socket);
        if is_here {
            let one = Members::One(socket.clone());
            ordered.change(Change::Leave(one, rooms.to_vec()));
        }
        is_here
    }

    /// See [`Adapter::leave`](super::Adapter::leave).
    pub fn leave(&self, target: &Target, rooms: &[Room]) {
        match self.behind() {
            None => self.rooms().leave(target, rooms),
            Some(ordered) => {
                let many = Members::Many(target.clone());
                ordered.change(Change::Leave(many, rooms.to_vec()));
            }
        }
    }

    /// A socket leaves the namespace, and all its rooms before.
    pub(crate) fn remove(&self, socket: &Socket) {
        match self.behind() {
            None => self.rooms().remove(socket),
            Some(ordered) if self.rooms().contains(socket) => {
                ordered.change(Change::Remove(socket.clone()));
            }
            Some(_) => {}
        }
    }

    /// The rooms of one socket, its own id first: as they are when all has been done that waits.
    pub(crate) fn rooms_of(&self, socket: &Socket) -> Vec<Room> {
        let now = || self.rooms().of_socket(socket);
        match self.behind() {
            None => now(),
            Some(ordered) => ordered
                .in_order(|waiting| waiting.rooms_of(socket, now()))
                .unwrap_or_default(),
        }
    }

    /// Whether changes of memberships wait for the log.
    pub(super) fn may_change(&self) -> bool {
        let ordered = self.behind();
        ordered.is_some_and(|ordered| ordered.in_order(|waiting| waiting.has_changes()))
    }

    /// The sockets of `target`, as they are when all has been done that waits.
    pub(super) fn sockets(&self, target: &Target) -> Vec<Socket> {
        match self.behind() {
            None => self.rooms().sockets(target),
            Some(ordered) => ordered.in_order(|waiting| waiting.sockets(self.rooms(), target)),
        }
    }

    /// Those rooms in which a socket isn't.
    fn not_in(&self, joins: &Joins<'_>, socket: &Socket, rooms: &[Room]) -> Vec<Room> {
        let mut joined = self.rooms().of_socket(socket);
        if let Some(waiting) = &joins.waiting {
            joined = waiting.rooms_of(socket, joined).unwrap_or_default();
        }
        let new = rooms.iter().filter(|room| !joined.contains(room));
        new.cloned().collect()
    }

    /// A socket that has come into rooms is sent the event that is retained in each.
    fn give_retained<'r>(
        &self,
        joins: &mut Joins<'_>,
        socket: &Socket,
        rooms: impl Iterator<Item = Option<&'r Room>>,
    ) {
        if joins.retained.is_empty() || socket.is_disconnected() {
            return;
        }
        for room in rooms {
            let Some(event) = joins.retained.of(room) else {
                continue;
            };
            if socket.namespace().shared().has_outgoing_listeners() {
                joins.sent.push((socket.clone(), event.clone()));
            }
            let sent = match (self.recovery(), &mut joins.waiting) {
                (Some(ordered), Some(waiting)) => {
                    ordered.emit_in(waiting, socket, &event, Sending::SURE)
                }
                _ => socket.send_outgoing(&event),
            };
            if let Err(error) = sent {
                tracing::debug!(socket = ?socket.id(), %error, "a retained event was not sent");
            }
        }
    }
}
