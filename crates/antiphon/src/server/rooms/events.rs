//! What the application hears of rooms that come and go, and of sockets that join and leave them.
//!
//! `Rooms` notes each change under its lock, in the order in which it happens; the application's
//! handlers are its own business and may do anything, so they run in a task that reads the notes one
//! by one. A namespace owns one [`RoomEvents`] from its first handler on; it costs nothing before.
//! What waits for slow handlers is bounded: beyond that the changes are counted, and the handlers are
//! told how many they have missed.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::runtime::Handle;

use crate::server::{Room, SocketId, adapter::Membership, handlers::future::BoxFuture};

/// So many changes wait for handlers.
const MOST_WAITING: usize = 65_536;

/// A change of the rooms of a namespace on this server: see
/// [`Namespace::on_room_event`](crate::Namespace::on_room_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomEvent {
    /// A room has got its first socket on this server, which joins it next.
    Created {
        /// The room.
        room: Room,
    },
    /// A socket has joined a room.
    Joined {
        /// The room.
        room: Room,
        /// The socket.
        socket: SocketId,
    },
    /// A socket has left a room.
    Left {
        /// The room.
        room: Room,
        /// The socket.
        socket: SocketId,
    },
    /// A room has lost its last socket on this server.
    Deleted {
        /// The room.
        room: Room,
    },
    /// The handlers are too slow: so many changes are not told.
    /// [`Namespace::rooms`](crate::Namespace::rooms) says how it is now.
    Missed {
        /// How many.
        count: usize,
    },
}

impl RoomEvent {
    /// The change as one of rooms. Returns `None` for what concerns no room.
    fn of(change: Membership<'_>) -> Option<Self> {
        Some(match change {
            Membership::Created { room } => Self::Created { room: room.clone() },
            Membership::Joined { room, socket } => Self::Joined {
                room: room.clone(),
                socket: socket.clone(),
            },
            Membership::Left { room, socket } => Self::Left {
                room: room.clone(),
                socket: socket.clone(),
            },
            Membership::Deleted { room } => Self::Deleted { room: room.clone() },
            Membership::Came { .. } | Membership::Gone { .. } => return None,
        })
    }
}

/// Who has handlers of changes: a namespace.
pub(crate) trait Hears: Send + Sync {
    /// A runtime for the task that tells it.
    fn runtime(&self) -> Option<Handle>;

    /// Tells the handlers of a change, one after the other.
    fn tell(self: Arc<Self>, event: RoomEvent) -> BoxFuture<()>;
}

/// The changes that wait for the handlers of one namespace.
pub(crate) struct RoomEvents {
    namespace: Weak<dyn Hears>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<RoomEvent>,
    has_task: bool,
}

impl RoomEvents {
    pub(crate) fn new(namespace: Weak<dyn Hears>) -> Self {
        Self {
            namespace,
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has changed. Called under the lock of the rooms.
    pub(crate) fn note(self: &Arc<Self>, change: Membership<'_>) {
        let Some(event) = RoomEvent::of(change) else {
            return;
        };
        let mut waiting = self.waiting();
        let is_full = waiting.events.len() >= MOST_WAITING;
        match waiting.events.back_mut() {
            Some(RoomEvent::Missed { count }) => *count += 1,
            _ if is_full => {
                waiting.events.push_back(RoomEvent::Missed { count: 1 });
            }
            _ => waiting.events.push_back(event),
        }
        if waiting.has_task {
            return;
        }
        let runtime = self.namespace.upgrade().and_then(|it| it.runtime());
        if let Some(runtime) = runtime {
            waiting.has_task = true;
            drop(waiting);
            let this = Arc::clone(self);
            runtime.spawn(async move { this.tell().await });
        }
    }

    /// Tells the handlers of one change after the other, until none waits.
    async fn tell(&self) {
        loop {
            let Some(event) = self.next() else { return };
            let Some(namespace) = self.namespace.upgrade() else {
                return;
            };
            namespace.tell(event).await;
        }
    }

    /// The next change. If there is none the task ends.
    fn next(&self) -> Option<RoomEvent> {
        let mut waiting = self.waiting();
        let next = waiting.events.pop_front();
        if next.is_none() {
            *waiting = Waiting::default();
        }
        next
    }
}

impl fmt::Debug for RoomEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomEvents")
            .field("waiting", &self.waiting().events.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Hears for Nobody {
        fn runtime(&self) -> Option<Handle> {
            None
        }

        fn tell(self: Arc<Self>, _: RoomEvent) -> BoxFuture<()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn what_slow_handlers_miss_is_counted_in_its_place() {
        // Without a runtime nobody reads.
        let nobody: Arc<dyn Hears> = Arc::new(Nobody);
        let events = Arc::new(RoomEvents::new(Arc::downgrade(&nobody)));
        let room = Room::from("a");
        for _ in 0..MOST_WAITING + 3 {
            events.note(Membership::Created { room: &room });
        }
        assert_eq!(events.waiting().events.len(), MOST_WAITING + 1);
        for _ in 0..MOST_WAITING {
            assert!(matches!(events.next(), Some(RoomEvent::Created { .. })));
        }
        events.note(Membership::Deleted { room: &room });
        assert_eq!(events.next(), Some(RoomEvent::Missed { count: 4 }));
        assert_eq!(events.next(), None);
        events.note(Membership::Deleted { room: &room });
        assert_eq!(events.next(), Some(RoomEvent::Deleted { room }));
    }
}
