//! The arguments of events, as the user sees them: [`Args`] as they came, [`IntoArgs`] what can be
//! emitted, [`IntoReply`] what a handler can return, [`FromArgs`] what an acknowledgement can be
//! taken as.
//!
//! A thin layer over the protocol crate's arguments, which know the rules. Everything of serde fits
//! all of them, and `Args` besides, unparsed. `IntoArgs` and `IntoReply` are sealed, so that
//! nothing is sent that isn't well-formed. Errors are the protocol crate's, and say where.

use antiphon_protocol::socket::{Args as RawArgs, ArgsError, Draft, EncodeError, OwnedArgs, Shape};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::server::Emitted;

use crate::server::Rejection;

/// The arguments of an event as they came: any number, of any types, with their attachments.
///
/// They can be emitted again without being parsed.
#[derive(Debug, Clone, Default)]
pub struct Args(OwnedArgs);

impl Args {
    /// The arguments as a `T`, by the rules of [`Data`](crate::Data).
    ///
    /// # Errors
    /// If they don't fit; the error names the path of what was wrong.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.0.as_args().deserialize()
    }

    /// The arguments as JSON, separated by commas. Attachments stand in it as placeholders.
    #[must_use]
    pub fn json(&self) -> &str {
        self.as_raw().json()
    }

    /// The binary attachments, in the order of their placeholders. They share the memory in which
    /// they came.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        self.as_raw().attachments()
    }

    pub(crate) const fn new(args: OwnedArgs) -> Self {
        Self(args)
    }

    pub(crate) fn as_raw(&self) -> RawArgs<'_> {
        self.0.as_args()
    }
}

/// The event that a middleware puts in the place of the one that came: see
/// [`Socket::map_events`](crate::Socket::map_events).
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub(crate) name: String,
    pub(crate) args: OwnedArgs,
}

impl NewEvent {
    /// An event of this name, with these arguments: [`Args`] as they came, or others.
    ///
    /// # Errors
    /// [`Rejection`] if the arguments can't be written, or the name is reserved.
    pub fn new(name: impl Into<String>, args: impl IntoArgs) -> Result<Self, Rejection> {
        let name = name.into();
        let mut draft = Draft::new(usize::MAX);
        match args.encode_event(&mut draft, "", None, &name) {
            Ok(()) => Ok(Self {
                args: draft.finish_event().with_args(|args| args.to_owned()),
                name,
            }),
            Err(error) => {
                tracing::error!(event = name, %error, "a middleware can't change an event");
                Err(Rejection::new(
                    "internal_error",
                    "the event can't be changed",
                ))
            }
        }
    }
}

/// The arguments of an event.
///
/// Implemented for everything that serde can serialize: a tuple is the list of arguments, so that
/// `()` is none, and a value of any other type, an array or a tuple struct too, is the one
/// argument. `Bytes` anywhere inside is sent as a binary attachment. Also for [`Args`], which sends
/// on what came, unparsed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent as the arguments of an event",
    note = "derive `serde::Serialize` for it; several arguments are a tuple, none are `()`"
)]
pub trait IntoArgs: Sealed {
    /// Writes an event with these arguments.
    ///
    /// # Errors
    /// If the arguments can't be encoded, or the event's name is reserved. The draft is empty then.
    fn encode_event(
        &self,
        draft: &mut Draft,
        namespace: &str,
        id: Option<u64>,
        event: &str,
    ) -> Result<(), EncodeError>;
}

/// Keeps the trait to those types whose events are well-formed.
pub trait Sealed {}

impl<T: Serialize> Sealed for T {}
impl Sealed for Args {}
impl Sealed for Emitted {}
impl Sealed for &Args {}

// Errors are said of the trait, whose notes say what to do, and not of serde's. So below.
#[diagnostic::do_not_recommend]
impl<T: Serialize> IntoArgs for T {
    fn encode_event(
        &self,
        draft: &mut Draft,
        namespace: &str,
        id: Option<u64>,
        event: &str,
    ) -> Result<(), EncodeError> {
        draft.event(namespace, id, event, self)
    }
}

impl IntoArgs for Args {
    fn encode_event(
        &self,
        draft: &mut Draft,
        namespace: &str,
        id: Option<u64>,
        event: &str,
    ) -> Result<(), EncodeError> {
        draft.event_from(namespace, id, event, self.as_raw())
    }
}

impl IntoArgs for &Args {
    fn encode_event(
        &self,
        draft: &mut Draft,
        namespace: &str,
        id: Option<u64>,
        event: &str,
    ) -> Result<(), EncodeError> {
        (**self).encode_event(draft, namespace, id, event)
    }
}

/// What a handler can return: the acknowledgement of its event.
///
/// | returned | the acknowledgement |
/// |---|---|
/// | `()` | left to the other handlers; without arguments, when all have ended |
/// | [`Emitted`], so that `emit(..)` may be the last expression | as of `()` |
/// | `T: Serialize` | the arguments that [it is](IntoArgs): a tuple is several, all else is one |
/// | `Ok(value)` of a [`Result`] | that of `value`; `Ok(())` is one without arguments |
/// | `Err(error)` of a [`Result`] | one argument, `{"error": error}` |
/// | [`Args`] | the arguments as they are, unparsed |
///
/// ```
/// use antiphon::{Args, Data, Server};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// enum Status {
///     Accepted,
/// }
///
/// let io = Server::new();
/// io.of("/")
///     .on("order", async || Status::Accepted) // "Accepted"
///     .on("center", async || [1.5, 2.5]) // one argument, [1.5,2.5]
///     .on("half", async |Data(n): Data<u32>| match n % 2 {
///         0 => Ok((n / 2, n / 2)), // two arguments
///         _ => Err("odd"),         // {"error":"odd"}
///     })
///     .on("echo", async |args: Args| args);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be what a handler of events returns",
    label = "the handler's reply",
    note = "derive `serde::Serialize` for it; of a `Result` both types must be serializable, or the error is an `antiphon::HandlerError`, which `?` makes of any",
    note = "a future is no reply: `.await` it",
    note = "a tuple is several arguments; a handler that returns `()` leaves the answer to others"
)]
pub trait IntoReply: Sealed {
    /// Whether it is an answer at all: `()` is none.
    fn is_answer(&self) -> bool;

    /// Writes an acknowledgement with this reply.
    ///
    /// # Errors
    /// If the reply can't be encoded. The draft is empty then.
    fn encode_ack(&self, draft: &mut Draft, namespace: &str, id: u64) -> Result<(), EncodeError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> IntoReply for T {
    fn is_answer(&self) -> bool {
        Shape::of::<T>() != Shape::Nothing
    }

    fn encode_ack(&self, draft: &mut Draft, namespace: &str, id: u64) -> Result<(), EncodeError> {
        draft.ack(namespace, id, self)
    }
}

impl IntoReply for Args {
    fn is_answer(&self) -> bool {
        true
    }

    fn encode_ack(&self, draft: &mut Draft, namespace: &str, id: u64) -> Result<(), EncodeError> {
        draft.ack_from(namespace, id, self.as_raw())
    }
}

impl IntoReply for &Args {
    fn is_answer(&self) -> bool {
        true
    }

    fn encode_ack(&self, draft: &mut Draft, namespace: &str, id: u64) -> Result<(), EncodeError> {
        (**self).encode_ack(draft, namespace, id)
    }
}

impl IntoReply for Emitted {
    fn is_answer(&self) -> bool {
        false
    }

    fn encode_ack(&self, draft: &mut Draft, namespace: &str, id: u64) -> Result<(), EncodeError> {
        draft.ack(namespace, id, &())
    }
}

/// What an acknowledgement can be taken as.
///
/// Implemented for everything that serde can deserialize, by the rules of [`Data`](crate::Data),
/// and for [`Args`], which takes any.
#[diagnostic::on_unimplemented(
    message = "an acknowledgement can't be taken as `{Self}`",
    note = "derive `serde::Deserialize` for it; several arguments are a tuple, none are `()`"
)]
pub trait FromArgs: Sized {
    /// Takes the arguments.
    ///
    /// # Errors
    /// If they don't fit; the error names the path of what was wrong.
    fn from_args(args: OwnedArgs) -> Result<Self, ArgsError>;
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> FromArgs for T {
    fn from_args(args: OwnedArgs) -> Result<Self, ArgsError> {
        args.as_args().deserialize()
    }
}

impl FromArgs for Args {
    fn from_args(args: OwnedArgs) -> Result<Self, ArgsError> {
        Ok(Self(args))
    }
}
