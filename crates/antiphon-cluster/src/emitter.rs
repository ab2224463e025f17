//! Emitting from a program that is no server: a worker, a cron job, a command.
//!
//! An [`Emitter`] owns a broker and wants no topics: what it says goes into the broker's queue, and
//! nothing comes back. A broker that is away or full is an error of the call. Servers that share a
//! log append what they hear of it, and the log takes the first, by a number that the emitter counts.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use antiphon::{
    EmitError, IntoRooms, Target,
    adapter::{AdapterError, Flags, NodeId, Outgoing},
};
use antiphon_protocol::cluster::{
    native::{Frame, Message},
    node::{self, EMITTER},
};
use serde::Serialize;
use tokio::task::AbortHandle;

use crate::{
    Wanted,
    broker::{Broker, Inbox},
    message,
    node::{Codec, NodeWire},
    random_id,
    topics::Topics,
};

/// Emits to the sockets of a cluster without being one of its servers, and puts them into rooms,
/// takes them out and disconnects them. It hears nothing. A cheap handle.
///
/// ```
/// use antiphon_cluster::{Emitter, broker::memory::Hub};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::new();
/// let emitter = Emitter::new(hub.broker());
/// # emitter.connected().await;
/// emitter.of("/chat").to("lobby").emit("news", &"it rains")?;
/// emitter.of("/chat").to("user:7").join("vip")?;
/// emitter.close().await;
/// # Ok(())
/// # }
/// ```
///
/// Calls return when the broker has taken the message into its queue, and
/// [`close`](Self::close) waits until that is empty.
#[derive(Clone)]
pub struct Emitter(Arc<Inner>);

struct Inner {
    wire: Wire,
    broker: Arc<dyn Broker>,
    inbox: Arc<Inbox>,
    task: AbortHandle,
}

enum Wire {
    Native {
        me: NodeId,
        topics: Topics,
        /// The number of the event that is emitted next.
        next: AtomicU64,
    },
    Node(NodeWire),
}

impl Emitter {
    /// An emitter for the servers of a [`Cluster`](crate::Cluster) at this broker. It begins to
    /// connect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self::named(broker, crate::cluster::PREFIX)
    }

    /// As [`new`](Self::new), for a cluster whose topics begin with `prefix`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn named(broker: Arc<dyn Broker>, prefix: &str) -> Self {
        Self::over(
            broker,
            Wire::Native {
                me: random_id(),
                topics: Topics::new(prefix),
                next: AtomicU64::new(1),
            },
        )
    }

    /// An emitter for a cluster with servers of Node.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn node(broker: Arc<dyn Broker>, wire: NodeWire) -> Self {
        Self::over(broker, Wire::Node(wire))
    }

    fn over(broker: Arc<dyn Broker>, wire: Wire) -> Self {
        let inbox = Arc::new(Inbox::new());
        // Nothing is wanted.
        let runs = Arc::clone(&broker).run(Arc::new(Wanted::new()), Arc::clone(&inbox));
        let task = tokio::spawn(runs).abort_handle();
        Self(Arc::new(Inner {
            wire,
            broker,
            inbox,
            task,
        }))
    }

    /// Resolves when the broker has been reached for the first time. Before, calls are refused.
    pub async fn connected(&self) {
        self.0.inbox.connected().await;
    }

    /// The sockets of a namespace.
    pub fn of(&self, namespace: &str) -> Emission {
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        Emission {
            emitter: self.clone(),
            namespace: format!("{slash}{namespace}").into(),
            target: Target::default(),
            flags: Flags::default(),
        }
    }

    fn next(&self) -> u64 {
        match &self.0.wire {
            Wire::Native { next, .. } => next.fetch_add(1, Ordering::Relaxed),
            Wire::Node(_) => 0,
        }
    }

    /// Sends what waits, and gives the connection up.
    pub async fn close(&self) {
        self.0.broker.close().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").finish_non_exhaustive()
    }
}

/// Which sockets an [`Emitter`] means, and how: made by [`Emitter::of`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until one of its last methods is called"]
pub struct Emission {
    emitter: Emitter,
    namespace: Arc<str>,
    target: Target,
    flags: Flags,
}

impl Emission {
    /// Only sockets in any of these rooms.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        self.target.rooms.extend(rooms.into_rooms());
        self
    }

    /// Not the sockets in these rooms.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        self.target.except.extend(rooms.into_rooms());
        self
    }

    /// Receivers that can't take it at once don't get it.
    pub const fn volatile(mut self) -> Self {
        self.flags.volatile = true;
        self
    }

    /// Emits an event to these sockets. A tuple is the list of its arguments, anything else is one.
    ///
    /// # Errors
    /// If the arguments can't be written, or the broker doesn't take the event.
    pub fn emit<T: Serialize + ?Sized>(self, event: &str, args: &T) -> Result<(), EmitError> {
        self.say(Message::Broadcast {
            to: message::sockets(&self.target),
            delivery: message::delivery(self.flags),
            event: Outgoing::event(event, args)?,
            number: self.emitter.next(),
        })
    }

    /// Puts these sockets into rooms.
    ///
    /// # Errors
    /// If the broker doesn't take it.
    pub fn join(self, rooms: impl IntoRooms) -> Result<(), EmitError> {
        self.say(Message::Join {
            who: message::sockets(&self.target),
            rooms: rooms.into_rooms(),
        })
    }

    /// Takes these sockets out of rooms.
    ///
    /// # Errors
    /// If the broker doesn't take it.
    pub fn leave(self, rooms: impl IntoRooms) -> Result<(), EmitError> {
        self.say(Message::Leave {
            who: message::sockets(&self.target),
            rooms: rooms.into_rooms(),
        })
    }

    /// Disconnects these sockets from the namespace; their connections go on.
    ///
    /// # Errors
    /// If the broker doesn't take it.
    pub fn disconnect(self) -> Result<(), EmitError> {
        self.end(false)
    }

    /// Closes the connections of these sockets.
    ///
    /// # Errors
    /// If the broker doesn't take it.
    pub fn close_connections(self) -> Result<(), EmitError> {
        self.end(true)
    }

    fn end(self, close: bool) -> Result<(), EmitError> {
        let who = message::sockets(&self.target);
        self.say(Message::Disconnect { who, close })
    }

    /// Emits an event to the servers themselves: to
    /// [`Namespace::on_server_side`](antiphon::Namespace::on_server_side). Rooms are of no matter.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn server_side_emit<T: Serialize + ?Sized>(
        self,
        event: &str,
        args: &T,
    ) -> Result<(), EmitError> {
        let event = Outgoing::event(event, args)?;
        self.say(Message::Emit { event })
    }

    fn say(&self, message: Message) -> Result<(), EmitError> {
        let Self {
            emitter, namespace, ..
        } = self;
        let (topic, bytes) = match &emitter.0.wire {
            // To all servers that have the namespace: it isn't known here which of them keep events
            // for sockets that come back, and who has just been put into a room.
            Wire::Native { me, topics, .. } => {
                let topic = topics.namespace(namespace);
                let frame = Frame {
                    from: me.into(),
                    namespace: Arc::clone(namespace),
                    message,
                };
                (topic, frame.encode())
            }
            Wire::Node(wire) => {
                let codec = Codec::new(wire, namespace, EMITTER);
                codec.encode(&for_node(message)?)?
            }
        };
        let published = emitter.0.broker.publish(&topic, bytes);
        Ok(published.map_err(AdapterError::from)?)
    }
}

/// What an emitter says, in the words of Node's wires.
fn for_node(message: Message) -> Result<node::Message, AdapterError> {
    Ok(match message {
        Message::Broadcast {
            to,
            delivery,
            event,
            ..
        } => node::Message::Broadcast {
            event,
            target: to,
            flags: node::Flags::new().volatile(delivery.volatile),
            request: None,
        },
        Message::Join { who, rooms } => node::Message::Join { target: who, rooms },
        Message::Leave { who, rooms } => node::Message::Leave { target: who, rooms },
        Message::Disconnect { who, close } => node::Message::Disconnect { target: who, close },
        Message::Emit { event } => node::Message::ServerSideEmit {
            event,
            request: None,
        },
        _ => {
            let reason = "Node's wires have no form for it".to_owned();
            return Err(AdapterError::Unreachable { reason });
        }
    })
}
