//! How a socket comes and goes: from one of its [states](super::state) to the next.
//!
//! A socket that has been connected meets its connect handlers and then its disconnect handlers,
//! once each; no other one does. One that has left may still be held by handlers that run: what it
//! is asked to do then touches nobody else, even if another socket has its id.

use std::{collections::HashMap, sync::atomic::Ordering};

use antiphon_protocol::socket::{self as codec, Fanout};
use tokio::sync::oneshot;

use super::state::{CONNECTED, CONNECTING, DISCONNECTED, LEAVING, REFUSED, REPLACED, WAITING};
use crate::engine::Sending;
use crate::server::{
    DisconnectReason, IntoRooms, Room, Socket, delivery::kept, handlers::dispatch,
};

/// Rooms that a socket is to enter when it joins its namespace. Kept among its values, since few
/// sockets have any.
#[derive(Default)]
struct Wishes {
    /// With when they were wished for.
    rooms: HashMap<Room, usize>,
    count: usize,
}

impl Wishes {
    fn join(&mut self, room: Room) {
        self.rooms.entry(room).or_insert(self.count);
        self.count += 1;
    }

    /// In the order in which they were wished for.
    fn in_order(&self) -> Vec<Room> {
        let mut rooms: Vec<_> = self.rooms.iter().collect();
        rooms.sort_unstable_by_key(|(_, when)| **when);
        rooms.into_iter().map(|(room, _)| room.clone()).collect()
    }
}

impl Socket {
    fn state(&self) -> u8 {
        self.inner.state.load(Ordering::Acquire)
    }

    /// Whether it is connected: it has joined its namespace and not left it.
    #[doc(alias = "connected")]
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state() == CONNECTED
    }

    /// Whether it is neither connected nor about to be.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.state() > CONNECTED
    }

    /// Whether the server has disconnected it and its client isn't told yet.
    pub(crate) fn is_leaving(&self) -> bool {
        self.state() == LEAVING
    }

    /// Whether nothing can be sent to it any more.
    pub(super) fn has_left(&self) -> bool {
        let state = self.state();
        state > CONNECTED && state != LEAVING
    }

    /// Whether it waits behind another one that leaves the namespace.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state() == WAITING
    }

    /// Whether its middlewares still decide something.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self.state(), CONNECTING | REFUSED)
    }

    /// Changes the state if it is one of these. Returns `false` if it isn't.
    fn change(&self, from: &[u8], to: u8) -> bool {
        let state = &self.inner.state;
        let change = |before| from.contains(&before).then_some(to);
        let changed = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        changed.is_ok()
    }

    /// Nobody is before it any more. Returns `false` if it doesn't wait.
    pub(crate) fn begin(&self) -> bool {
        self.change(&[WAITING], CONNECTING)
    }

    /// It joins its namespace. Returns `false` if it is disconnected already.
    pub(crate) fn connected(&self) -> bool {
        self.change(&[CONNECTING], CONNECTED)
    }

    /// A middleware has said no. Returns `false` if there is nobody to be told.
    pub(crate) fn refused(&self) -> bool {
        self.change(&[CONNECTING, REFUSED], DISCONNECTED)
    }

    /// Its client asks anew. Returns `false` if it has joined, or has left.
    pub(crate) fn replaced(&self) -> bool {
        self.change(&[WAITING, CONNECTING, REFUSED], REPLACED)
    }

    /// It won't join its namespace, but its event may be handled. Returns `false` if a middleware
    /// has disconnected it.
    pub(crate) fn stays_out(&self) -> bool {
        self.inner.state.swap(DISCONNECTED, Ordering::AcqRel) == CONNECTING
    }

    /// Enters rooms. A socket that is still connecting, as in a middleware, enters them when it has
    /// joined its namespace, if it does. Nothing happens after it has left.
    pub fn join(&self, rooms: impl IntoRooms) {
        if self.is_disconnected() {
            return;
        }
        let rooms = rooms.into_rooms();
        if self.namespace().joins().join_one(self, &rooms) {
            return;
        }
        self.wish(rooms);
        if self.namespace().local().contains(self) {
            // It has joined meanwhile, maybe without this wish.
            self.join_as_wished();
        } else if self.is_disconnected() {
            self.forget_wishes();
        }
    }

    /// Leaves rooms.
    pub fn leave(&self, rooms: impl IntoRooms) {
        let rooms = rooms.into_rooms();
        if !self.namespace().joins().leave_one(self, &rooms) && !self.is_disconnected() {
            self.with_wishes(|wishes| {
                for room in &rooms {
                    wishes.rooms.remove(room);
                }
            });
        }
    }

    /// Leaves all rooms but that of its own id.
    #[doc(alias = "leaveAll")]
    pub fn leave_all(&self) {
        let mut rooms = self.rooms();
        rooms.retain(|room| **room != *self.id().as_str());
        self.leave(rooms);
    }

    /// Whether it is in a room, or is going to enter it while it is connecting.
    #[must_use]
    pub fn is_in(&self, room: &str) -> bool {
        self.rooms().iter().any(|one| **one == *room)
    }

    /// The rooms that it is in, that of its own id first. None after it has left; those that it is
    /// going to enter, while it is connecting.
    #[must_use]
    pub fn rooms(&self) -> Vec<Room> {
        let rooms = self.namespace().joins().rooms_of(self);
        if rooms.is_empty() && !self.is_disconnected() && !self.is_connected() {
            return self
                .with_wishes(|wishes| wishes.in_order())
                .unwrap_or_default();
        }
        rooms
    }

    pub(crate) fn join_as_wished(&self) {
        let wishes = self.take_wishes();
        if !wishes.is_empty() {
            self.namespace().joins().join_one(self, &wishes);
        }
    }

    fn wish(&self, rooms: Vec<Room>) {
        self.own_values().with::<Wishes, _>(true, |wishes| {
            rooms.into_iter().for_each(|room| wishes.join(room));
        });
    }

    /// Looks at its wishes, if it has any.
    fn with_wishes<R>(&self, look: impl FnOnce(&mut Wishes) -> R) -> Option<R> {
        self.values()?.with(false, look)
    }

    pub(crate) fn take_wishes(&self) -> Vec<Room> {
        let wishes = self.take_value::<Wishes>();
        wishes.map_or_else(Vec::new, |wishes| wishes.in_order())
    }

    fn forget_wishes(&self) {
        drop(self.take_wishes());
    }

    /// Leaves the namespace; the client gets `io server disconnect`, behind what was emitted before. Its
    /// connection goes on, for its other namespaces. Events that wait are not handled any more. Nothing
    /// else happens where it has left already.
    pub fn disconnect(&self) {
        let disconnect = |socket: &Self| socket.close(DisconnectReason::ServerNamespaceDisconnect);
        self.leave_in_order(disconnect);
    }

    /// Leaves all namespaces of its connection and closes that. Nothing happens if the socket has
    /// left: its connection may belong to others by now.
    pub fn close_connection(&self) {
        if self.is_disconnected() {
            return;
        }
        self.leave_in_order(|socket| {
            if let Some(session) = socket.peer().session() {
                match socket.peer().connection() {
                    Some(connection) => connection.disconnect_all(session),
                    None => session.close(),
                }
            }
        });
    }

    /// Closes its connection without a word to its client, which takes that for a lost one: it connects
    /// again by itself, and comes back to its session if there is [recovery](crate::Recovery). What is
    /// queued may still leave. All sockets of the connection end with the reason `forced close`.
    #[doc(alias("conn", "close"))]
    pub fn close_transport(&self) {
        if let Some(session) = self.peer().session()
            && !self.is_disconnected()
        {
            session.close();
        }
    }

    /// Leaves at the server's wish. If something waits for the log its client gets that first; the
    /// socket can do nothing from now on all the same.
    fn leave_in_order(&self, leave: impl FnOnce(&Self) + Send + 'static) {
        match self.namespace().joins().behind() {
            Some(_) if self.is_leaving() => {}
            Some(ordered) if self.change(&[CONNECTED], LEAVING) => {
                self.inbox().end();
                self.recoverable().inspect(|it| it.over());
                let socket = self.clone();
                ordered.behind(0, move || leave(&socket));
            }
            _ => leave(self),
        }
    }

    /// Ends it: its client has resumed its session on another connection. The one that it had is told
    /// and closed.
    pub(crate) fn taken_over(&self) {
        self.close(DisconnectReason::SessionTakenOver);
        if let Some(session) = self.peer().session() {
            session.close();
        }
    }

    /// Ends it, once. What its handlers do is done elsewhere, since the caller may hold a lock that
    /// they want.
    pub(crate) fn close(&self, reason: DisconnectReason) {
        if let Some((reason, settled)) = self.end(reason) {
            // A client that joins and leaves all the time waits for these handlers too.
            let permit = self.peer().permit(0);
            let goodbye = dispatch::goodbye(self.clone(), reason, settled);
            self.peer().spawn(Box::pin(goodbye), permit);
        }
    }

    /// Ends it at its client's wish. Its handlers are called from here, up to where they wait, as
    /// those of events are: so they are before whatever its client sends next.
    pub(crate) fn leave_namespace(&self) {
        let reason = DisconnectReason::ClientNamespaceDisconnect;
        if let Some((reason, settled)) = self.end(reason) {
            let goodbye = dispatch::goodbye(self.clone(), reason, settled);
            self.peer().run(Box::pin(goodbye), 0);
        }
    }

    /// It is disconnected from now on. `Some` if it had joined, and so must be said goodbye to, for
    /// this reason: at once, or when what is given resolves.
    fn end(
        &self,
        reason: DisconnectReason,
    ) -> Option<(DisconnectReason, Option<oneshot::Receiver<()>>)> {
        let by_server = reason == DisconnectReason::ServerNamespaceDisconnect;
        // The middleware that disconnects it is still to be waited for.
        if by_server && (self.change(&[CONNECTING], REFUSED) || self.state() == REFUSED) {
            return None;
        }
        let before = self.change_to_disconnected();
        if by_server {
            // The server doesn't want to hear of it any more, also if its client has left before.
            self.inbox().end();
        }
        let before = before?;
        // Whatever ends it before its client is told, it isn't to come back.
        let by_server = by_server || before == LEAVING;
        let reason = match before {
            LEAVING => DisconnectReason::ServerNamespaceDisconnect,
            _ => reason,
        };
        let connection = self.peer().connection();
        if !matches!(before, CONNECTED | LEAVING) {
            self.forget();
            connection.inspect(|connection| connection.departed(self));
            return None;
        }
        match (self.recoverable(), self.values()) {
            (Some(recoverable), _) => recoverable.ended(self, reason),
            (None, Some(values)) => kept::session_over(&values),
            (None, None) => {}
        }
        if let Some(session) = self.peer().session() {
            if by_server || reason == DisconnectReason::SessionTakenOver {
                // Sent when nothing more is: see `Session::send_if`. A client that has gone needs
                // none.
                let packet = codec::disconnect(self.namespace().name());
                let parser = &self.namespace().shared().parser;
                let _ = session.send(&mut Fanout::of(packet, parser), Sending::SURE);
            }
            // A burst of broadcasts that it has had a part of goes on without it.
            session.settle();
        }
        self.awaited().fail();
        connection.inspect(|connection| connection.left(self));
        Some((reason, self.inbox().leave()))
    }

    /// The state before, unless it was disconnected already.
    fn change_to_disconnected(&self) -> Option<u8> {
        let change = |before| {
            let ends = before <= CONNECTED || matches!(before, REFUSED | LEAVING);
            ends.then_some(DISCONNECTED)
        };
        let state = &self.inner.state;
        let changed = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        changed.ok()
    }

    /// Forgets what it was to do when it joined: it won't.
    pub(crate) fn forget(&self) {
        self.awaited().fail();
        self.inbox().end();
        self.forget_wishes();
    }

    /// Takes it out of its rooms and of its namespace.
    pub(crate) fn leave_rooms(&self) {
        self.namespace().joins().remove(self);
        self.namespace().left();
    }

    /// Its goodbye is over: another socket of its client may come.
    pub(crate) fn departed(&self) {
        if let Some(connection) = self.peer().connection() {
            connection.departed(self);
        }
    }
}
