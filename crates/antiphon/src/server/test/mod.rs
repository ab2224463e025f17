//! Clients in the process, for tests of one's handlers: no port, no browser, no real time.
//!
//! A [`Client`] is a whole one: it opens a WebSocket over memory, joins a namespace, and speaks the
//! protocol of Socket.IO 4, so that middlewares, handlers, rooms, acknowledgements and bounds are
//! those of production. It answers heartbeats by itself.
//!
//! ```
//! use antiphon::{Data, Server, Socket, test::Client};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), antiphon::test::Error> {
//! let io = Server::new();
//! io.of("/chat")
//!     .on_connect(async |socket: Socket| socket.join("lobby"))
//!     .on("say", async |socket: Socket, Data(text): Data<String>| {
//!         socket.to("lobby").emit("said", &text);
//!         text.len()
//!     });
//!
//! let mut ada = Client::connect(&io).namespace("/chat").await?;
//! let mut ben = Client::connect(&io).namespace("/chat").auth(json!({ "name": "ben" })).await?;
//!
//! let length: usize = ada.emit_with_ack("say", "hello").await?;
//! assert_eq!(length, 5);
//! let said: String = ben.expect("said").await?;
//! assert_eq!(said, "hello");
//! ada.expect_nothing().await?; // she doesn't hear herself
//! # Ok(())
//! # }
//! ```
//!
//! With `#[tokio::test(start_paused = true)]` hours pass in an instant: whenever all tasks wait for
//! time, tokio goes on to the next deadline. It needs tokio's feature `test-util`.
//!
//! Each wait ends with an [`Error`] after [5 s](Connecting::patience). What a real network does
//! isn't tested like this: use a stock client for that.

mod connecting;
mod error;
mod wire;

use std::{collections::VecDeque, time::Duration};

use antiphon_protocol::{
    socket::Draft,
    websocket::{Opcode, masked_frame},
};
use tokio::{sync::mpsc, time::timeout};

use crate::server::{Args, FromArgs, IntoArgs, IntoReply, Server};

pub use connecting::Connecting;
pub use error::Error;
pub use wire::Left;
use wire::{MASK, Received, masked};

/// A client with one socket, on a connection of its own. Dropped, it goes without a goodbye.
#[derive(Debug)]
pub struct Client {
    id: String,
    namespace: String,
    draft: Draft,
    last_ack: u64,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    incoming: mpsc::UnboundedReceiver<Received>,
    /// What has come and wasn't waited for yet.
    kept: VecDeque<Received>,
    left: Option<Left>,
    patience: Duration,
}

impl Client {
    /// A client that connects to this server when it is awaited.
    pub fn connect(server: &Server) -> Connecting {
        Connecting::new(server)
    }

    /// The id of its socket, by which the server finds it: [`Namespace::socket`](crate::Namespace::socket).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Emits an event.
    ///
    /// # Errors
    /// If it can't be encoded.
    pub fn emit(&mut self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        args.encode_event(&mut self.draft, &self.namespace, None, event)?;
        self.send_draft();
        Ok(())
    }

    /// Emits an event, and waits for its acknowledgement.
    ///
    /// # Errors
    /// If it can't be encoded, is never acknowledged, or by something else than an `R`.
    pub async fn emit_with_ack<R: FromArgs>(
        &mut self,
        event: &str,
        args: impl IntoArgs,
    ) -> Result<R, Error> {
        self.last_ack += 1;
        let id = self.last_ack;
        args.encode_event(&mut self.draft, &self.namespace, Some(id), event)?;
        self.send_draft();
        let what = format!("the acknowledgement of {event:?}");
        let args = self.wait(&what, |received| match received {
            Received::Ack(of, args) if of == id => Ok(args),
            other => Err(other),
        });
        let args = args.await?;
        R::from_args(args).map_err(|error| Error::Args(what, error))
    }

    /// Waits for the next event of this name. Others that come before stay for who waits for them.
    ///
    /// # Errors
    /// If it doesn't come in time, or with something else than a `T`.
    pub async fn expect<T: FromArgs>(&mut self, event: &str) -> Result<T, Error> {
        Ok(self.expect_any_form(event).await?.0)
    }

    /// Waits for the next event of this name, which the server has emitted with an acknowledgement,
    /// and acknowledges it with what `reply` makes of its arguments.
    ///
    /// # Errors
    /// As [`expect`](Self::expect), or if the reply can't be encoded.
    pub async fn acknowledge<T: FromArgs, R: IntoReply>(
        &mut self,
        event: &str,
        reply: impl FnOnce(T) -> R,
    ) -> Result<(), Error> {
        let (args, id) = self.expect_any_form(event).await?;
        let id = id.ok_or_else(|| Error::NotAsked(event.to_owned()))?;
        reply(args).encode_ack(&mut self.draft, &self.namespace, id)?;
        self.send_draft();
        Ok(())
    }

    async fn expect_any_form<T: FromArgs>(
        &mut self,
        event: &str,
    ) -> Result<(T, Option<u64>), Error> {
        let what = format!("the event {event:?}");
        let (id, args) = self
            .wait(&what, |received| match received {
                Received::Event(name, id, args) if name == event => Ok((id, args)),
                other => Err(other),
            })
            .await?;
        let args = T::from_args(args).map_err(|error| Error::Args(what, error))?;
        Ok((args, id))
    }

    /// The next event, whatever its name.
    ///
    /// # Errors
    /// If none comes in time.
    pub async fn next(&mut self) -> Result<(String, Args), Error> {
        self.wait("an event", |received| match received {
            Received::Event(name, _, args) => Ok((name, Args::new(args))),
            other => Err(other),
        })
        .await
    }

    /// Lets the server handle all that this client has sent, up to the first `await` of its
    /// handlers, and checks that no event has come that wasn't waited for.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if one has.
    pub async fn expect_nothing(&mut self) -> Result<(), Error> {
        self.send_frame(Opcode::Ping, b"");
        self.wait("the server", |received| match received {
            Received::Pong => Ok(()),
            other => Err(other),
        })
        .await?;
        let events = self.kept.iter().filter_map(|received| match received {
            Received::Event(name, ..) => Some(name.clone()),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        match events.is_empty() {
            true => Ok(()),
            false => Err(Error::Unexpected(events)),
        }
    }

    /// Leaves the namespace, as `disconnect()` of a stock client: the server's reason is
    /// `client namespace disconnect`.
    pub fn leave(&mut self) {
        let packet = match self.namespace.as_str() {
            "/" => "41".to_owned(),
            namespace => format!("41{namespace},"),
        };
        self.send_frame(Opcode::Text, packet.as_bytes());
    }

    /// Waits until the server has sent the socket away, or the connection has ended.
    ///
    /// # Errors
    /// If neither happens in time.
    pub async fn left(&mut self) -> Result<Left, Error> {
        if let Some(left) = self.left {
            return Ok(left);
        }
        self.wait("the end", |received| match received {
            Received::Left(left) => Ok(left),
            other => Err(other),
        })
        .await
    }

    fn send_draft(&mut self) {
        let message = self.draft.finish();
        let _ = self.outgoing.send(masked(&message));
    }

    fn send_frame(&self, opcode: Opcode, data: &[u8]) {
        // Where the connection has ended, that is what comes in.
        let _ = self.outgoing.send(masked_frame(opcode, data, MASK));
    }

    /// The first of what has come, or comes, that is wanted.
    async fn wait<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(Received) -> Result<T, Received>,
    ) -> Result<T, Error> {
        for at in 0..self.kept.len() {
            let Some(received) = self.kept.remove(at) else {
                break;
            };
            match wanted(received) {
                Ok(found) => return Ok(found),
                Err(other) => self.kept.insert(at, other),
            }
        }
        let waiting = async {
            while let Some(received) = self.incoming.recv().await {
                if let Received::Wrong(why) = received {
                    return Err(Error::Protocol(why));
                }
                if let Received::Left(left) = received {
                    self.left = Some(left);
                }
                match wanted(received) {
                    Ok(found) => return Ok(found),
                    Err(Received::Left(_)) => break,
                    Err(other) => self.kept.push_back(other),
                }
            }
            Err(Error::Left(what.to_owned()))
        };
        timeout(self.patience, waiting)
            .await
            .unwrap_or_else(|_| Err(Error::Late(what.to_owned())))
    }
}
