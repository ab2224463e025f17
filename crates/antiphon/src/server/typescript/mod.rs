//! TypeScript for clients, from the types of a server's handlers.
//!
//! [`Declarations`] collects what goes over the wire: handlers that are registered by a
//! [`Described`] namespace bring the types of their arguments and of what they return; what the
//! server emits is said by hand. Its text is a module of types, which fit the stock client's
//! `Socket<ServerToClient, ClientToServer>`. Types are described by
//! [`schemars::JsonSchema`](https://docs.rs/schemars), which is derived beside serde's traits and
//! knows serde's attributes.
//!
//! ```
//! use antiphon::{Data, Server, Socket, typescript::Declarations};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Note {
//!     text: String,
//!     #[serde(default)]
//!     tags: Vec<String>,
//! }
//!
//! let io = Server::new();
//! let declarations = Declarations::new();
//! declarations
//!     .describe(&io.of("/notes"))
//!     .on("write", async |socket: Socket, Data(note): Data<Note>| {
//!         socket.broadcast().emit("written", note);
//!         7
//!     })
//!     .emits::<Note>("written");
//!
//! let text = declarations.to_string(); // for a file `events.d.ts`
//! assert!(text.contains("write: (data: NoteIn, ack: (reply: number | Rejected) => void) => void;"));
//! assert!(text.contains("written: (data: NoteOut) => void;"));
//! ```
//!
//! The client:
//!
//! ```ts
//! import { io, type Socket } from "socket.io-client";
//! import type { NotesClientToServer, NotesServerToClient } from "./events";
//!
//! const notes: Socket<NotesServerToClient, NotesClientToServer> = io("/notes");
//! const reply = await notes.emitWithAck("write", { text: "hello" });
//! if (typeof reply === "object") console.error(reply.error.message);
//! ```
//!
//! # What is written how
//!
//! * A namespace `/notes` has the interfaces `NotesClientToServer` and `NotesServerToClient`, the
//!   main one those without a prefix.
//! * The arguments follow the rules of [`Data`](crate::Data) and [`IntoArgs`](crate::IntoArgs): a
//!   tuple is several, all else is one.
//! * A handler that returns something takes an acknowledgement, as the stock client's types ask for
//!   it with `emit`, too. It may be the handler's reply, `{ error }` with its `Err`, or a `Rejected`
//!   if the handler couldn't be called.
//! * What serde reads and writes differently (`default`, `skip_serializing_if`) has two types, with
//!   `In` and `Out` at the end of their names.
//! * All numbers are `number`. JavaScript knows integers up to 2⁵³: larger ones are a
//!   [`BigInt`](crate::BigInt), which is a `string`. A field that is written by
//!   [`big_integer`](crate::big_integer) needs `#[schemars(with = "BigInt<u64>")]` for that.
//! * Binary attachments are [`Binary`](crate::Binary).

mod describe;
mod schema;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

pub use describe::{Describe, Signature};

use crate::server::{Handler, IntoReply, Namespace, OnEvent, Rejection};
use describe::{Arguments, Call, DescribeReply, Reply};
use schema::Names;

/// The types of a server's events, as they become known. Its text is TypeScript. Clones are the
/// same.
#[derive(Debug, Clone)]
pub struct Declarations {
    collected: Arc<Mutex<Collected>>,
}

/// Serde's view of a type depends on the direction.
#[derive(Debug)]
struct Collected {
    received: SchemaGenerator,
    sent: SchemaGenerator,
    /// By the namespace's name and the event's.
    namespaces: BTreeMap<String, Events>,
}

#[derive(Debug, Default)]
struct Events {
    from_client: BTreeMap<String, Call>,
    from_server: BTreeMap<String, Call>,
}

impl Declarations {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let settings = SchemaSettings::draft2020_12();
        let received = settings.clone().for_deserialize().into_generator();
        let mut sent = settings.for_serialize().into_generator();
        sent.subschema_for::<Rejection>(); // any handler may be answered for with it
        Self {
            collected: Arc::new(Mutex::new(Collected {
                received,
                sent,
                namespaces: BTreeMap::new(),
            })),
        }
    }

    /// A view of a namespace: what is registered by it is described, too.
    #[must_use]
    pub fn describe(&self, namespace: &Namespace) -> Described {
        let mut collected = self.lock();
        let name = namespace.name().to_owned();
        collected.namespaces.entry(name).or_default();
        Described {
            namespace: namespace.clone(),
            declarations: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        // A schema of the user's that panics leaves out an event, no more.
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Declarations {
    fn default() -> Self {
        Self::new()
    }
}

/// A namespace whose events are described in [`Declarations`] as they are registered.
#[derive(Debug, Clone)]
pub struct Described {
    namespace: Namespace,
    declarations: Declarations,
}

impl Described {
    /// The namespace itself, for all that isn't described.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Registers a handler, as [`Namespace::on`], and describes the event by the handler's types:
    /// its [`Data`](crate::Data), and what it returns.
    ///
    /// Extractors of your own implement [`Describe`]. If an event has several handlers, the first
    /// that takes arguments describes them, and the first that returns something the
    /// acknowledgement.
    pub fn on<A, H>(&self, event: &str, handler: H) -> Self
    where
        A: Describe,
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + DescribeReply + Send,
    {
        let mut collected = self.declarations.lock();
        let Collected {
            received,
            sent,
            namespaces,
        } = &mut *collected;
        let mut signature = Signature::new(received);
        A::describe(&mut signature);
        let call = signature.into_call(H::Output::describe_reply(sent));
        if let Some(events) = namespaces.get_mut(self.namespace.name()) {
            match events.from_client.get_mut(event) {
                Some(known) => known.add(call),
                None => drop(events.from_client.insert(event.to_owned(), call)),
            }
        }
        drop(collected);
        self.namespace.on(event, handler);
        self.clone()
    }

    /// Says that the server emits this event with a `T`.
    pub fn emits<T: JsonSchema>(&self, event: &str) -> Self {
        self.add_emitted(event, |sent, _| Call {
            arguments: Arguments::of::<T>(sent),
            reply: None,
        })
    }

    /// Says that the server emits this event with a `T`, and that clients acknowledge it with an
    /// `R`.
    pub fn emits_with_ack<T: JsonSchema, R: JsonSchema>(&self, event: &str) -> Self {
        self.add_emitted(event, |sent, received| Call {
            arguments: Arguments::of::<T>(sent),
            reply: Some(Reply::of_client(Arguments::of::<R>(received))),
        })
    }

    fn add_emitted(
        &self,
        event: &str,
        call: impl FnOnce(&mut SchemaGenerator, &mut SchemaGenerator) -> Call,
    ) -> Self {
        let mut collected = self.declarations.lock();
        let Collected { received, sent, .. } = &mut *collected;
        let call = call(sent, received);
        if let Some(events) = collected.namespaces.get_mut(self.namespace.name()) {
            events.from_server.insert(event.to_owned(), call);
        }
        self.clone()
    }
}

impl fmt::Display for Declarations {
    /// Writes a module of TypeScript: the types that the events name, and two interfaces for each
    /// namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collected = self.lock();
        let (received, sent) = (
            collected.received.definitions(),
            collected.sent.definitions(),
        );
        let incoming = Names::new("In", received, sent);
        let outgoing = Names::new("Out", sent, received);
        f.write_str("// Written by antiphon, from the types of a server's handlers.\n")?;
        f.write_str(concat!(
            "\n/** The acknowledgement of an event whose handler couldn't be called, or failed. */\n",
            "export interface Rejected {\n",
            "  error: Rejection;\n",
            "}\n",
        ))?;
        for (name, definition) in received {
            incoming.write_definition(f, name, definition)?;
        }
        for (name, definition) in sent {
            if outgoing.differs(name) || !received.contains_key(name) {
                outgoing.write_definition(f, name, definition)?;
            }
        }
        for (namespace, events) in &collected.namespaces {
            let prefix = schema::type_name(namespace);
            write!(
                f,
                "\n/** What clients send in the namespace `{namespace}`. */\nexport interface {prefix}ClientToServer {{\n"
            )?;
            for (name, call) in &events.from_client {
                schema::write_event(f, name, call, &incoming, &outgoing, true)?;
            }
            write!(
                f,
                "}}\n\n/** What the server sends in the namespace `{namespace}`. */\nexport interface {prefix}ServerToClient {{\n"
            )?;
            for (name, call) in &events.from_server {
                schema::write_event(f, name, call, &outgoing, &incoming, false)?;
            }
            f.write_str("}\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
