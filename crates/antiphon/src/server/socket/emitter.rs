//! How an event is emitted to one socket: a chain of flags that ends in the emit.
//!
//! An [`Emitter`] borrows its socket. The event is written into the thread's draft and sent before
//! the call returns; with an ack, its receiver is noted first, so that no answer is too early. It
//! fails if the event can't be encoded, the socket has gone, or the queue is full. The flags of a
//! [`Socket`] begin the chain, and so does what it emits to the others of its namespace.

use std::time::Duration;

use antiphon_protocol::socket::{Draft, OwnedArgs};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::engine::{ConflateKey, QueuePolicy, Sending};
use crate::server::{
    AckError, Acknowledged, Broadcast, EmitError, Emitted, FromArgs, IntoArgs, IntoRooms, Socket,
    acks, delivery::kept::Kept,
};

/// Emits to one socket: what [`Socket::volatile`] and [`Socket::timeout`] give.
#[derive(Debug, Clone, Copy)]
#[must_use = "this only says how; end it with `emit` or `emit_with_ack`"]
pub struct Emitter<'s> {
    socket: &'s Socket,
    volatile: bool,
    at_least_once: bool,
    /// Instead of the namespace's.
    policy: Option<QueuePolicy>,
    timeout: Option<Duration>,
}

impl<'s> Emitter<'s> {
    pub(crate) const fn new(socket: &'s Socket) -> Self {
        Self {
            socket,
            volatile: false,
            at_least_once: false,
            policy: None,
            timeout: None,
        }
    }

    /// The event is dropped if the transport can't take it at once.
    pub const fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// The event is kept until its client acknowledges it: sent again after
    /// [`timeout`](Self::timeout) and pauses that double, and when the client has
    /// [recovered](crate::Recovery) its session. So it may come more than once: its last argument is an
    /// id, by which a client knows that (`@antiphon/delivery` does). What a client has not acknowledged
    /// after 6 tries, or when its session is over, is given to
    /// [`Namespace::on_undelivered`](crate::Namespace::on_undelivered).
    ///
    /// Up to 1,000 such events are kept for a client; one more is an error. `volatile` doesn't apply,
    /// nor an acknowledgement's own future.
    ///
    /// ```
    /// # fn example(socket: antiphon::Socket) {
    /// socket.at_least_once().emit("invoice", 42);
    /// // The client: socket.on("invoice", (number, id, acknowledge) => { ..; acknowledge(); })
    /// # }
    /// ```
    pub const fn at_least_once(mut self) -> Self {
        self.at_least_once = true;
        self
    }

    /// The event is dropped if more waits for the client than
    /// [`outbound`](crate::ServerBuilder::outbound) says: see [`QueuePolicy::DropNewest`].
    pub const fn drop_newest(mut self) -> Self {
        self.policy = Some(QueuePolicy::DropNewest);
        self
    }

    /// The event may be dropped as long as it waits, if too much does: see
    /// [`QueuePolicy::DropOldest`].
    pub const fn drop_oldest(mut self) -> Self {
        self.policy = Some(QueuePolicy::DropOldest);
        self
    }

    /// The event takes the place of what waits under the same key: see [`QueuePolicy::Conflate`].
    pub fn conflate(mut self, key: impl AsRef<str>) -> Self {
        let namespace = self.socket.namespace().name();
        let key = ConflateKey::new(namespace, key.as_ref());
        self.policy = Some(QueuePolicy::Conflate(key));
        self
    }

    fn sending(&self) -> Sending {
        let policy = self.policy;
        Sending {
            volatile: self.volatile,
            policy: policy.unwrap_or_else(|| self.socket.namespace().policy()),
        }
    }

    /// How long the acknowledgement is waited for.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Emits an event.
    pub fn emit(self, event: &str, args: impl IntoArgs) -> Emitted {
        let mut draft = self.socket.namespace().shared().draft();
        let namespace = self.socket.namespace().name();
        let result = match args.encode_event(&mut draft, namespace, None, event) {
            Ok(()) if self.at_least_once => self.keep(&mut draft),
            Ok(()) => self.socket.send_event(&mut draft, None, self.sending()),
            Err(error) => Err(error.into()),
        };
        Emitted::log(result, event)
    }

    /// Emits the event `message`: as `emit("message", ..)`.
    #[doc(alias = "write")]
    pub fn send(self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    fn keep(&self, draft: &mut Draft) -> Result<(), EmitError> {
        let event = draft.finish_event();
        let shared = self.socket.namespace().shared();
        self.socket.note_if_asked(&event);
        let pause = self.timeout.unwrap_or(shared.ack_timeout);
        Kept::emit(self.socket, &event, pause)
    }

    /// Emits an event and waits for its acknowledgement. The event leaves at once, before the
    /// future is awaited, and the time begins then.
    ///
    /// # Errors
    /// [`AckError`](crate::AckError) if the event can't be sent, or no answer that fits `R` comes
    /// in time.
    #[doc(alias = "emitWithAck")]
    pub fn emit_with_ack<R: FromArgs + 'static>(
        self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<R> {
        let socket = self.socket;
        let timeout = self.timeout;
        let timeout = timeout.unwrap_or_else(|| socket.namespace().shared().ack_timeout);
        let deadline = acks::deadline(timeout);
        let id = socket.namespace().next_ack_id();
        let mut draft = socket.namespace().shared().draft();
        let encoded = args.encode_event(&mut draft, socket.namespace().name(), Some(id), event);
        let sent = encoded.map_err(EmitError::from).and_then(|()| {
            let answer = OneAnswer {
                answer: socket.awaited().one(id),
                socket: socket.clone(),
                id,
            };
            socket.send_event(&mut draft, Some(id), self.sending())?;
            Ok(answer)
        });
        Box::pin(async move { sent?.until(deadline).await })
    }
}

impl Socket {
    /// Emits an event to this client.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        Emitter::new(self).emit(event, args)
    }

    /// Emits the event `message` to this client: as `emit("message", ..)`.
    #[doc(alias = "write")]
    pub fn send(&self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Emits an event and waits for the client's acknowledgement, as long as the server's
    /// `ack_timeout` says. The event leaves at once, before the future is awaited.
    ///
    /// What a handler does with the answer runs in a task of its own: the handlers of events that
    /// the client sent right behind it may start before.
    ///
    /// # Errors
    /// [`AckError`](crate::AckError) if the event can't be sent, or no answer that fits `R` comes
    /// in time.
    #[doc(alias = "emitWithAck")]
    pub fn emit_with_ack<R: FromArgs + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<R> {
        Emitter::new(self).emit_with_ack(event, args)
    }

    /// The other sockets of these rooms.
    #[doc(alias = "in")]
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().to(rooms)
    }

    /// The other sockets but those of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().except(rooms)
    }

    /// All other sockets of the namespace.
    pub fn broadcast(&self) -> Broadcast {
        self.namespace().except(self.id())
    }

    /// What is emitted by this is dropped if the transport can't take it at once: for values
    /// that are soon out of date.
    pub const fn volatile(&self) -> Emitter<'_> {
        Emitter::new(self).volatile()
    }

    /// What is emitted by this is kept until its client acknowledges it: see
    /// [`Emitter::at_least_once`].
    pub const fn at_least_once(&self) -> Emitter<'_> {
        Emitter::new(self).at_least_once()
    }

    /// What is emitted by this is dropped if more waits for the client than
    /// [`outbound`](crate::ServerBuilder::outbound) says: see
    /// [`QueuePolicy::DropNewest`](crate::QueuePolicy::DropNewest).
    pub const fn drop_newest(&self) -> Emitter<'_> {
        Emitter::new(self).drop_newest()
    }

    /// What is emitted by this waits, and is dropped, the oldest first, if more waits for the client
    /// than [`outbound`](crate::ServerBuilder::outbound) says: see
    /// [`QueuePolicy::DropOldest`](crate::QueuePolicy::DropOldest).
    pub const fn drop_oldest(&self) -> Emitter<'_> {
        Emitter::new(self).drop_oldest()
    }

    /// What is emitted by this takes the place of what waits under the same key: of a value that
    /// changes often, a client that reads slowly gets the newest. See
    /// [`QueuePolicy::Conflate`](crate::QueuePolicy::Conflate).
    ///
    /// ```
    /// # async fn example(ball: antiphon::Socket) {
    /// ball.conflate("ball").emit("position", (3, 4));
    /// # }
    /// ```
    pub fn conflate(&self, key: impl AsRef<str>) -> Emitter<'_> {
        Emitter::new(self).conflate(key)
    }

    /// How long the acknowledgement is waited for, instead of the server's `ack_timeout`.
    pub const fn timeout(&self, timeout: Duration) -> Emitter<'_> {
        Emitter::new(self).timeout(timeout)
    }

    /// Resolves when the client is ready for more: at once, unless more waits for it than
    /// [`outbound`](crate::ServerBuilder::outbound) says; then when half of that has left. A handler
    /// that emits very much awaits it in between, and goes at its client's pace:
    ///
    /// ```
    /// # use antiphon::{EmitError, Socket};
    /// async fn export(socket: Socket, rows: impl Iterator<Item = String>) -> Result<(), EmitError> {
    ///     for row in rows {
    ///         socket.ready().await?;
    ///         socket.emit("row", row);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`EmitError::Disconnected`] if the socket has been disconnected, maybe since its client took
    /// nothing for too long.
    pub async fn ready(&self) -> Result<(), EmitError> {
        let session = self.peer().session().ok_or(EmitError::Disconnected)?;
        let ready = session.ready().await;
        if self.is_disconnected() {
            return Err(EmitError::Disconnected);
        }
        ready.map_err(|_| EmitError::Disconnected)
    }
}

/// Waits for one answer; when it is dropped, nobody does.
struct OneAnswer {
    socket: Socket,
    id: u64,
    answer: oneshot::Receiver<OwnedArgs>,
}

impl OneAnswer {
    async fn until<R: FromArgs>(mut self, deadline: Instant) -> Result<R, AckError> {
        match timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(args)) => Ok(R::from_args(args)?),
            Ok(Err(_)) => Err(AckError::Disconnected),
            Err(_) => Err(AckError::Timeout),
        }
    }
}

impl Drop for OneAnswer {
    fn drop(&mut self) {
        self.socket.awaited().forget(self.id);
    }
}
