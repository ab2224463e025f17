//! How sockets of this server join rooms, and get what is retained there.
//!
//! Joins and emits that are retained take one lock, from the first step to the last queue: so whoever
//! joins meanwhile gets the event once, as one that was there or as one that came, and never an older
//! one behind it. In a namespace with recovery that lock is the one of its order.

use std::sync::{MutexGuard, PoisonError};

use super::{Local, Outgoing};
use crate::{
    engine::{QueuePolicy, Sending, session::turn},
    server::{Room, Socket, Target, recovery::Waiting, rooms::retained::Retained},
};

/// The lock of a namespace that joins and retained emits take.
pub(crate) struct Joins<'j> {
    retained: &'j mut Retained,
    /// The namespace's order, if it has recovery.
    waiting: Option<&'j mut Waiting>,
}

impl Local {
    fn retained(&self) -> MutexGuard<'_, Retained> {
        let retained = self.inner.retained.lock();
        retained.unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something while nobody else joins a room, or emits what is retained.
    pub(crate) fn exclusively<R>(&self, work: impl FnOnce(&mut Joins<'_>) -> R) -> R {
        match self.recovery() {
            None => work(&mut Joins {
                retained: &mut self.retained(),
                waiting: None,
            }),
            Some(ordered) => ordered.in_order(|waiting| self.in_order(waiting, work)),
        }
    }

    /// The same for those who have the namespace's order already.
    pub(crate) fn in_order<R>(
        &self,
        waiting: &mut Waiting,
        work: impl FnOnce(&mut Joins<'_>) -> R,
    ) -> R {
        work(&mut Joins {
            retained: &mut self.retained(),
            waiting: Some(waiting),
        })
    }

    /// Emits an event that is retained.
    pub(super) fn retain(&self, event: &Outgoing, target: &Target, policy: QueuePolicy) {
        let sending = Sending::with(policy);
        // What is queued leaves when the lock has been let go.
        turn::scope(|| {
            self.exclusively(|joins| {
                joins.retained.retain(event, target);
                match (self.recovery(), &mut joins.waiting) {
                    (Some(ordered), Some(waiting)) => {
                        ordered.broadcast_in(waiting, event, target, sending);
                    }
                    _ => self.spread(event, target, sending),
                }
            });
        });
    }

    /// Nothing is retained for the rooms of `target` any more.
    pub(crate) fn forget_retained(&self, target: &Target) {
        self.retained().forget(target);
    }

    /// A socket joins the namespace, in these rooms.
    pub(crate) fn add(&self, joins: &mut Joins<'_>, socket: &Socket, rooms: &[Room]) {
        self.rooms().add(socket.clone(), rooms);
        let new = rooms.iter().map(Some).chain([None]);
        self.give_retained(joins, socket, new);
    }

    /// A socket that resumes its session is in its rooms again.
    pub(crate) fn add_again(&self, socket: &Socket, rooms: &[Room]) {
        self.rooms().add(socket.clone(), rooms);
    }

    /// A socket enters rooms. Returns `false` if it isn't in the namespace.
    pub(crate) fn join_one(&self, socket: &Socket, rooms: &[Room]) -> bool {
        self.exclusively(|joins| {
            if joins.retained.is_empty() {
                return self.rooms().join_one(socket, rooms);
            }
            let new = self.not_in(socket, rooms);
            let has_joined = self.rooms().join_one(socket, rooms);
            if has_joined {
                self.give_retained(joins, socket, new.iter().map(Some));
            }
            has_joined
        })
    }

    /// See [`Adapter::join`](super::Adapter::join).
    pub fn join(&self, target: &Target, rooms: &[Room]) {
        self.exclusively(|joins| {
            if joins.retained.is_empty() {
                return self.rooms().join(target, rooms);
            }
            let sockets = self.rooms().sockets(target).into_iter();
            let new: Vec<_> = sockets
                .map(|socket| {
                    let new = self.not_in(&socket, rooms);
                    (socket, new)
                })
                .collect();
            self.rooms().join(target, rooms);
            for (socket, new) in new {
                self.give_retained(joins, &socket, new.iter().map(Some));
            }
        });
    }

    /// Those rooms in which a socket isn't.
    fn not_in(&self, socket: &Socket, rooms: &[Room]) -> Vec<Room> {
        let joined = self.rooms().of_socket(socket);
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
        if joins.retained.is_empty() {
            return;
        }
        for room in rooms {
            let Some(event) = joins.retained.of(room) else {
                continue;
            };
            socket.note_if_asked(&event);
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
