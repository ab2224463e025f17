//! The arguments of events, as the user sees them: [`Args`] as they came, [`IntoArgs`] what can be
//! emitted, [`FromArgs`] what an acknowledgement can be taken as.
//!
//! A thin layer over the protocol crate's arguments, which know the rules. Everything of serde fits
//! both traits, and `Args` besides, unparsed. `IntoArgs` is sealed, so that no event is sent that isn't
//! well-formed. Errors are the protocol crate's, and say where.

use antiphon_protocol::socket::{Args as RawArgs, ArgsError, Draft, EncodeError, OwnedArgs};
use serde::{Serialize, de::DeserializeOwned};

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

    pub(crate) const fn new(args: OwnedArgs) -> Self {
        Self(args)
    }

    pub(crate) fn as_raw(&self) -> RawArgs<'_> {
        self.0.as_args()
    }
}

/// The arguments of an event.
///
/// Implemented for everything that serde can serialize: the outermost tuple (or array) is the list
/// of arguments, `()` is none, and anything else is the only one. `Bytes` anywhere inside is sent
/// as a binary attachment. Also for [`Args`], which sends on what came, unparsed.
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
impl Sealed for &Args {}

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
