//! Sockets wherever they are: what a question to all servers has found, and what can be done to them.
//!
//! A [`FetchedSocket`] is what its server told of it at that moment, and the namespace, by whose
//! adapter it is reached: each is in the room of its own id. Nothing keeps it connected.

use std::{fmt, ops::Deref, time::Duration};

use crate::server::{
    AckError, Acknowledged, Broadcast, Emitted, FromArgs, IntoArgs, IntoRooms, Namespace,
    RemoteSocket,
    adapter::{AdapterError, NodeId},
};

/// A socket on this server or another, as it was when it was asked for: its `id`, `rooms`, `handshake`
/// and `data` are those of [`RemoteSocket`].
///
/// ```
/// # async fn example(io: antiphon::Server) -> Result<(), Box<dyn std::error::Error>> {
/// for socket in io.to("lobby").sockets().await?.sockets {
///     socket.emit("moved", "to the garden");
///     socket.join("garden");
///     socket.leave("lobby");
///     let name: String = socket.emit_with_ack("who are you?", ()).await?;
///     println!("{name} is in {:?}", socket.rooms);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct FetchedSocket {
    namespace: Namespace,
    told: RemoteSocket,
}

impl FetchedSocket {
    pub(crate) fn new(namespace: &Namespace, told: RemoteSocket) -> Self {
        Self {
            namespace: namespace.clone(),
            told,
        }
    }

    fn it(&self) -> Broadcast {
        self.namespace.to(&self.told.id)
    }

    /// The namespace that it is in.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Emits an event to it. Fails if its server can't be told.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Emitted {
        self.it().emit(event, args)
    }

    /// Emits the event `message` to it: as `emit("message", ..)`.
    pub fn send(&self, args: impl IntoArgs) -> Emitted {
        self.emit("message", args)
    }

    /// Emits an event and waits for its client's acknowledgement, as long as
    /// [`ack_timeout`](crate::ServerBuilder::ack_timeout) says.
    ///
    /// # Errors
    /// [`AckError`] if the event can't be sent, the socket has gone, or no answer that fits `R` comes
    /// in time.
    #[doc(alias = "emitWithAck")]
    pub fn emit_with_ack<R: FromArgs + Send + 'static>(
        &self,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<R> {
        self.ask(self.it(), event, args)
    }

    /// As [`emit_with_ack`](Self::emit_with_ack), with a time of its own.
    ///
    /// # Errors
    /// As `emit_with_ack`.
    #[doc(alias = "timeout")]
    pub fn emit_with_ack_within<R: FromArgs + Send + 'static>(
        &self,
        time: Duration,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<R> {
        self.ask(self.it().timeout(time), event, args)
    }

    fn ask<R: FromArgs + Send + 'static>(
        &self,
        it: Broadcast,
        event: &str,
        args: impl IntoArgs,
    ) -> Acknowledged<R> {
        let asked = it.emit_with_ack::<R>(event, args);
        let id = self.told.id.clone();
        Box::pin(async move {
            let answered = asked.await?;
            let mut answers = answered.answers.into_iter();
            // Others may have joined a room that is named like its id. Some wires name nobody.
            let its = answers.find(|(from, _)| *from == id || from.as_str().is_empty());
            match (its, answered.error) {
                (Some((_, answer)), _) => answer,
                (None, Some(error)) => Err(error.into()),
                (None, None) if answered.expected == Some(0) && answered.missing.is_empty() => {
                    Err(AckError::Disconnected)
                }
                (None, None) => Err(AckError::Timeout),
            }
        })
    }

    /// Puts it into rooms. Fails if its server can't be told.
    pub fn join(&self, rooms: impl IntoRooms) -> Emitted {
        self.it().join(rooms)
    }

    /// Takes it out of rooms. Fails if its server can't be told.
    pub fn leave(&self, rooms: impl IntoRooms) -> Emitted {
        self.it().leave(rooms)
    }

    /// Disconnects it from the namespace. Fails if its server can't be told.
    pub fn disconnect(&self) -> Emitted {
        self.it().disconnect()
    }

    /// Closes its connection. Fails if its server can't be told.
    pub fn close_connection(&self) -> Emitted {
        self.it().close_connections()
    }
}

impl Deref for FetchedSocket {
    type Target = RemoteSocket;

    fn deref(&self) -> &RemoteSocket {
        &self.told
    }
}

impl fmt::Debug for FetchedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told.fmt(f)
    }
}

/// The sockets that [`Broadcast::sockets`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedSockets {
    /// The sockets of this server, and of all others that have answered.
    pub sockets: Vec<FetchedSocket>,
    /// The servers that have not answered: their sockets are not among these.
    pub missing: Vec<NodeId>,
}

/// How many sockets [`Broadcast::count`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountedSockets {
    /// How many there are on this server, and on all others that have answered.
    pub count: usize,
    /// The servers that have not answered: their sockets are not counted.
    pub missing: Vec<NodeId>,
}

impl Broadcast {
    /// Which sockets these are, on all servers that answer in time.
    ///
    /// # Errors
    /// [`AdapterError`] if the adapter fails, or knows in time neither all sockets nor who is
    /// missing; never with the in-memory adapter.
    #[doc(alias("fetchSockets", "fetch_sockets", "allSockets"))]
    pub async fn sockets(self) -> Result<FetchedSockets, AdapterError> {
        let namespace = self.namespace().clone();
        let (told, missing) = self.fetch().await?;
        let told = told.into_iter();
        Ok(FetchedSockets {
            sockets: told
                .map(|told| FetchedSocket::new(&namespace, told))
                .collect(),
            missing,
        })
    }

    /// How many sockets these are, on all servers that answer in time. Other servers tell of each one,
    /// as for [`sockets`](Self::sockets); with [`local`](Self::local) none is asked.
    ///
    /// ```
    /// # async fn example(io: antiphon::Server) -> Result<(), Box<dyn std::error::Error>> {
    /// let lobby = io.to("lobby").count().await?;
    /// println!("{} are in the lobby", lobby.count);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `sockets`.
    pub async fn count(self) -> Result<CountedSockets, AdapterError> {
        let (told, missing) = self.fetch().await?;
        Ok(CountedSockets {
            count: told.len(),
            missing,
        })
    }
}
