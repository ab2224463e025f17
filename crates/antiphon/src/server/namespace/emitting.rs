//! What is emitted to a namespace: to its sockets, which is a [`Broadcast`] to all of them, and to
//! the other servers; and to a parent, whose children get it.

use antiphon_protocol::socket::{Draft, EncodeError, Outgoing};
use tokio::time::{Duration, timeout};

use crate::server::{
    Acknowledged, Broadcast, BroadcastAnswers, EmitError, Emitted, FromArgs, IntoArgs, IntoRooms,
    Namespace, ParentNamespace, ServerAnswers, acks,
    adapter::{AdapterError, Answers},
};

impl Namespace {
    /// Emits an event to every socket.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.broadcast().emit(event, args)
    }

    /// Emits the event `message` to every socket: as `emit("message", ..)`.
    #[doc(alias = "write")]
    pub fn send(&self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Emits an event to every socket and waits for their acknowledgements: see
    /// [`Broadcast::emit_with_ack`].
    ///
    /// # Errors
    /// [`AckError::Emit`](crate::AckError::Emit) if the event can't be encoded.
    pub fn emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<BroadcastAnswers<R>> {
        self.broadcast().emit_with_ack(event, args)
    }

    /// The sockets of these rooms.
    #[doc(alias = "in")]
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().to(rooms)
    }

    /// All sockets but those of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().except(rooms)
    }

    /// All sockets, of which those that can't take an event at once don't get it.
    pub fn volatile(&self) -> Broadcast {
        self.broadcast().volatile()
    }

    /// All sockets, with a time for acknowledgements.
    pub fn timeout(&self, timeout: Duration) -> Broadcast {
        self.broadcast().timeout(timeout)
    }

    /// All sockets.
    pub fn broadcast(&self) -> Broadcast {
        Broadcast::new(self.clone())
    }

    /// Emits an event to the other servers that the adapter connects: to the
    /// [handlers](Self::on_server_side) of this namespace there. No socket gets it, and this server
    /// doesn't hear itself. Without an adapter nothing happens.
    #[doc(alias = "serverSideEmit")]
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        let emitted = server_side(event, &args).map_err(Into::into);
        let told = emitted.and_then(|event| Ok(self.adapter().server_side_emit(&event)?));
        Emitted::log(told, event)
    }

    /// Emits an event to the other servers and waits for what their handlers return, as long as
    /// [`ack_timeout`](crate::ServerBuilder::ack_timeout) says. The result tells which servers are
    /// missing.
    ///
    /// # Errors
    /// [`AckError`](crate::AckError) if the event can't be encoded, or the adapter fails. Servers that
    /// are missing are no error: the answers of the others are in the result.
    #[doc(alias = "serverSideEmitWithAck")]
    pub fn server_side_emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<ServerAnswers<R>> {
        let deadline = acks::deadline(self.shared().ack_timeout);
        let (answers, answered) = Answers::channel_until(deadline);
        let sent = server_side(event, &args).map(|event| {
            let adapter = self.adapter();
            adapter.server_side_emit_with_ack(&event, answers);
        });
        Box::pin(async move {
            sent.map_err(EmitError::from)?;
            ServerAnswers::collect(answered).await
        })
    }

    /// How many servers the adapter connects, this one among them: 1 without an adapter.
    ///
    /// # Errors
    /// [`AdapterError`] if the adapter fails, or doesn't say so within
    /// [`ack_timeout`](crate::ServerBuilder::ack_timeout).
    #[doc(alias = "serverCount")]
    pub async fn server_count(&self) -> Result<usize, AdapterError> {
        let counted = timeout(self.shared().ack_timeout, self.adapter().server_count()).await;
        counted.unwrap_or(Err(AdapterError::NoAnswer))
    }
}

impl ParentNamespace {
    /// Emits an event to every socket of all children, on all servers.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.broadcast().emit(event, args)
    }

    /// Emits the event `message` to every socket of all children: as `emit("message", ..)`.
    pub fn send(&self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// The sockets of these rooms of all children.
    #[doc(alias = "in")]
    pub fn to(&self, rooms: impl IntoRooms) -> ParentBroadcast {
        self.broadcast().to(rooms)
    }

    /// All sockets of all children but those of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> ParentBroadcast {
        self.broadcast().except(rooms)
    }

    /// All sockets of all children.
    pub fn broadcast(&self) -> ParentBroadcast {
        ParentBroadcast(self.as_namespace().broadcast())
    }

    /// What is emitted by this is dropped for receivers that can't take it at once.
    pub fn volatile(&self) -> ParentBroadcast {
        self.broadcast().volatile()
    }
}

/// Sockets of all children of a parent, by rooms: what [`ParentNamespace::to`] and its like give.
///
/// It emits, as a [`Broadcast`] does, with the same rooms and flags. What asks sockets for something,
/// changes their rooms, or stays for those who come later ([`retain`](Broadcast::retain),
/// [`at_least_once`](Broadcast::at_least_once)) is a matter of the children:
/// [`children`](ParentNamespace::children) are those that there are, and
/// [`on_new_namespace`](crate::Server::on_new_namespace) hears of each before anybody is in it.
#[derive(Debug, Clone)]
#[must_use = "this only says whom; end it with `emit`"]
pub struct ParentBroadcast(Broadcast);

impl ParentBroadcast {
    /// Adds rooms.
    #[doc(alias = "in")]
    pub fn to(self, rooms: impl IntoRooms) -> Self {
        Self(self.0.to(rooms))
    }

    /// Leaves out the sockets of these rooms.
    pub fn except(self, rooms: impl IntoRooms) -> Self {
        Self(self.0.except(rooms))
    }

    /// See [`Broadcast::volatile`].
    pub fn volatile(self) -> Self {
        Self(self.0.volatile())
    }

    /// See [`Broadcast::drop_newest`].
    pub fn drop_newest(self) -> Self {
        Self(self.0.drop_newest())
    }

    /// See [`Broadcast::drop_oldest`].
    pub fn drop_oldest(self) -> Self {
        Self(self.0.drop_oldest())
    }

    /// See [`Broadcast::conflate`]: it takes the place of what waits under the same key for the same
    /// child, if that was emitted to the parent, too. A client that is in several children gets the
    /// newest in each.
    pub fn conflate(self, key: impl AsRef<str>) -> Self {
        Self(self.0.conflate(key))
    }

    /// Sockets of this server only.
    pub fn local(self) -> Self {
        Self(self.0.local())
    }

    /// Emits an event to these sockets: encoded once for each child. In a child with recovery it is
    /// logged, unless the log is one that several servers share: then clients that are away miss it.
    pub fn emit(self, event: &str, args: impl IntoArgs) -> Emitted {
        self.0.emit(event, args)
    }

    /// Emits the event `message`: as `emit("message", ..)`.
    pub fn send(self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }
}

/// An event to other servers. Bounds of what clients take don't apply.
fn server_side(event: &str, args: &impl IntoArgs) -> Result<Outgoing, EncodeError> {
    let mut draft = Draft::new(usize::MAX);
    args.encode_event(&mut draft, "", None, event)?;
    Ok(draft.finish_event())
}
