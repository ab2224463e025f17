//! Which sockets an event goes to: a chain of rooms and flags that ends in what is done.
//!
//! A [`Broadcast`] is a value: a namespace, a [`Target`] and flags; nothing happens until its last
//! call. Then the event is encoded once and given to the namespace's adapter. `emit` fails only if
//! the event can't be encoded; what becomes of each receiver is counted and logged. `emit_with_ack`
//! has sent before it is awaited, and gives what has come when its time is up.

use std::time::Duration;

use antiphon_protocol::socket::Outgoing;
use tokio::time::Instant;

use crate::engine::{ConflateKey, QueuePolicy};
use crate::server::{
    Acknowledged, BroadcastAnswers, EmitError, Emitted, FromArgs, IntoArgs, Namespace, Room,
    SocketId, Target, acks,
    adapter::{AdapterError, Answers, Flags, NodeId, RemoteSocket},
};

/// One or several rooms; the id of a socket is the name of its own room.
pub trait IntoRooms {
    /// The names.
    fn into_rooms(self) -> Vec<Room>;
}

impl IntoRooms for &str {
    fn into_rooms(self) -> Vec<Room> {
        vec![Room::from(self)]
    }
}

impl IntoRooms for String {
    fn into_rooms(self) -> Vec<Room> {
        vec![Room::from(self)]
    }
}

impl IntoRooms for &String {
    fn into_rooms(self) -> Vec<Room> {
        self.as_str().into_rooms()
    }
}

impl IntoRooms for Room {
    fn into_rooms(self) -> Vec<Room> {
        vec![self]
    }
}

impl IntoRooms for &Room {
    fn into_rooms(self) -> Vec<Room> {
        vec![self.clone()]
    }
}

impl IntoRooms for SocketId {
    fn into_rooms(self) -> Vec<Room> {
        vec![self.as_shared().clone()]
    }
}

impl IntoRooms for &SocketId {
    fn into_rooms(self) -> Vec<Room> {
        vec![self.as_shared().clone()]
    }
}

impl<T: IntoRooms> IntoRooms for Vec<T> {
    fn into_rooms(self) -> Vec<Room> {
        self.into_iter().flat_map(IntoRooms::into_rooms).collect()
    }
}

impl<T: IntoRooms + Copy> IntoRooms for &[T] {
    fn into_rooms(self) -> Vec<Room> {
        self.iter().flat_map(|one| one.into_rooms()).collect()
    }
}

impl<T: IntoRooms, const N: usize> IntoRooms for [T; N] {
    fn into_rooms(self) -> Vec<Room> {
        self.into_iter().flat_map(IntoRooms::into_rooms).collect()
    }
}

/// Sockets of a namespace, by rooms: what [`Namespace::to`] and its like give.
///
/// Several rooms are a union, and each socket counts once. No room at all (an empty list too) is
/// every socket of the namespace, as in Node.
#[derive(Debug, Clone)]
#[must_use = "this only says whom; end it with `emit` or its like"]
pub struct Broadcast {
    namespace: Namespace,
    target: Target,
    flags: Flags,
    at_least_once: bool,
    timeout: Option<Duration>,
}

impl Broadcast {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            target: Target::default(),
            flags: Flags::default(),
            at_least_once: false,
            timeout: None,
        }
    }

    /// Adds rooms.
    #[doc(alias = "in")]
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        self.target.rooms.extend(rooms.into_rooms());
        self
    }

    /// Leaves out the sockets of these rooms.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        self.target.except.extend(rooms.into_rooms());
        self
    }

    /// Receivers that can't take it at once don't get it: for values that are soon out of date.
    pub const fn volatile(mut self) -> Self {
        self.flags.volatile = true;
        self
    }

    /// The event is retained: a socket that joins one of these rooms later (the namespace, if no room is
    /// said) is sent it, as long as it is the last such event there. So a joiner knows the present state.
    /// 65,536 rooms and 64 MiB are retained; beyond that the oldest is dropped. Exceptions hold for
    /// sockets that are there now. `volatile` and `at_least_once` don't apply.
    ///
    /// ```
    /// let io = antiphon::Server::new();
    /// io.to("lobby").retain().emit("topic", "the weather");
    /// // A socket that joins "lobby" from now on gets it.
    /// io.to("lobby").forget_retained();
    /// ```
    pub const fn retain(mut self) -> Self {
        self.flags.retain = true;
        self
    }

    /// Sockets that join these rooms from now on are sent nothing that was [retained](Self::retain) on
    /// this server.
    pub fn forget_retained(self) {
        self.namespace.joins().forget_retained(&self.target);
    }

    /// The event is kept for each of these sockets until its client acknowledges it, also for those
    /// whose clients are away and may come back: see [`Emitter::at_least_once`](crate::Emitter).
    pub const fn at_least_once(mut self) -> Self {
        self.at_least_once = true;
        self
    }

    /// Receivers for which more waits than [`outbound`](crate::ServerBuilder::outbound) says don't
    /// get it: see [`QueuePolicy::DropNewest`].
    pub const fn drop_newest(mut self) -> Self {
        self.flags.policy = Some(QueuePolicy::DropNewest);
        self
    }

    /// It waits, and is dropped, the oldest first, for receivers for which more waits than
    /// [`outbound`](crate::ServerBuilder::outbound) says: see [`QueuePolicy::DropOldest`].
    pub const fn drop_oldest(mut self) -> Self {
        self.flags.policy = Some(QueuePolicy::DropOldest);
        self
    }

    /// It takes the place of what waits under the same key: receivers that read slowly get the
    /// newest. See [`QueuePolicy::Conflate`].
    ///
    /// ```
    /// # let io = antiphon::Server::new();
    /// io.to("arena").conflate("ball").emit("position", (3, 4));
    /// ```
    pub fn conflate(mut self, key: impl AsRef<str>) -> Self {
        let key = ConflateKey::new(self.namespace.name(), key.as_ref());
        self.flags.policy = Some(QueuePolicy::Conflate(key));
        self
    }

    /// Sockets of this server only.
    pub const fn local(mut self) -> Self {
        self.flags.local = true;
        self
    }

    /// How long [`emit_with_ack`](Self::emit_with_ack) and [`sockets`](Self::sockets) wait, instead
    /// of the server's [`ack_timeout`](crate::ServerBuilder::ack_timeout).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Emits an event to these sockets. It is encoded once.
    pub fn emit(mut self, event: &str, args: impl IntoArgs) -> Emitted {
        let pause = self.timeout.unwrap_or(self.namespace.shared().ack_timeout);
        self.flags.at_least_once = self.at_least_once.then_some(pause);
        let result = self.outgoing(event, &args).and_then(|event| {
            let adapter = self.namespace.adapter();
            Ok(adapter.broadcast(&event, &self.target, self.flags)?)
        });
        Emitted::log(result, event)
    }

    /// Emits the event `message` to these sockets: as `emit("message", ..)`.
    #[doc(alias = "write")]
    pub fn send(self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Emits an event to these sockets and waits for their acknowledgements: until all have come,
    /// those that haven't answered are gone, or the time is up. The time begins now, and bounds all
    /// of it: what has come by then is given.
    ///
    /// # Errors
    /// [`AckError::Emit`](crate::AckError::Emit) if the event can't be encoded.
    #[doc(alias = "emitWithAck")]
    pub fn emit_with_ack<R: FromArgs + Send + 'static>(
        self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<BroadcastAnswers<R>> {
        let deadline = self.deadline();
        let (answers, answered) = Answers::channel_until(deadline);
        let sent = self.outgoing(event, &args).map(|event| {
            let adapter = self.namespace.adapter();
            adapter.broadcast_with_ack(&event, &self.target, self.flags, answers);
        });
        Box::pin(async move {
            sent?;
            Ok(BroadcastAnswers::collect(answered).await)
        })
    }

    /// When the time that a call of these sockets has is up.
    fn deadline(&self) -> Instant {
        let timeout = self.timeout;
        acks::deadline(timeout.unwrap_or_else(|| self.namespace.shared().ack_timeout))
    }

    /// The event, encoded once.
    fn outgoing(&self, event: &str, args: &impl IntoArgs) -> Result<Outgoing, EmitError> {
        let mut draft = self.namespace.shared().draft();
        // The namespace is a matter of the packet, which comes later.
        args.encode_event(&mut draft, "", None, event)?;
        Ok(draft.finish_event())
    }

    /// Puts these sockets into rooms, on all servers. Fails as an emit does if other servers can't be told.
    #[doc(alias("socketsJoin", "sockets_join"))]
    pub fn join(self, rooms: impl IntoRooms) -> Emitted {
        let adapter = self.namespace.adapter();
        told(
            adapter.join(&self.target, &rooms.into_rooms(), self.flags),
            "join",
        )
    }

    /// Takes these sockets out of rooms. Fails as an emit does if other servers can't be told.
    #[doc(alias("socketsLeave", "sockets_leave"))]
    pub fn leave(self, rooms: impl IntoRooms) -> Emitted {
        let adapter = self.namespace.adapter();
        told(
            adapter.leave(&self.target, &rooms.into_rooms(), self.flags),
            "leave",
        )
    }

    /// Disconnects these sockets from the namespace; their connections go on. Fails as an emit does
    /// if other servers can't be told.
    #[doc(alias("disconnectSockets", "disconnect_sockets"))]
    pub fn disconnect(self) -> Emitted {
        let adapter = self.namespace.adapter();
        told(
            adapter.disconnect(&self.target, false, self.flags),
            "disconnect",
        )
    }

    /// Closes the connections of these sockets. Fails as an emit does if other servers can't be
    /// told.
    pub fn close_connections(self) -> Emitted {
        let adapter = self.namespace.adapter();
        told(adapter.disconnect(&self.target, true, self.flags), "close")
    }

    /// What all servers that answer in time tell of these sockets, and the others.
    pub(super) async fn fetch(self) -> Result<(Vec<RemoteSocket>, Vec<NodeId>), AdapterError> {
        let (found, fetched) = Answers::channel_until(self.deadline());
        let adapter = self.namespace.adapter();
        adapter.fetch(&self.target, self.flags, found);
        let (sockets, missing, error) = fetched.collect().await;
        error.map_or(Ok((sockets, missing)), Err)
    }

    pub(super) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// What became of a request to other servers.
fn told(result: Result<(), AdapterError>, what: &str) -> Emitted {
    Emitted::log(result.map_err(EmitError::from), what)
}
