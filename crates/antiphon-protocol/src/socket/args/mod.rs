//! The arguments of an event or an ack: JSON text and attachments on one side, Rust types on the
//! other.
//!
//! [`Args`] lend what a packet holds: JSON that the decoder has proven to be valid and not too
//! deep. They stay text until [`Args::deserialize`] reads a type (`de`; with attachments `input`).
//! [`OwnedArgs`] keep them beyond the packet. The way out is `ser`. Which types are a list of
//! arguments is the same both ways (`shape`). What doesn't fit is an [`ArgsError`], which says
//! where.

mod de;
mod error;
mod input;
mod key;
mod misfit;
mod ser;
mod shape;
mod shared;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::error::ArgsError;
pub(super) use self::ser::{Opening, Output};
pub use self::shape::Shape;
pub use self::shared::shared;
use super::error::{DecodeError, EncodeError};
use super::{Limits, proof};
use crate::engine::EncodedPacket;

/// Reads one JSON value of a peer, as its `auth`, as a type.
///
/// As `serde_json::from_str`, but that a lone surrogate is U+FFFD: a string like `"\ud83d"`, half
/// of a pair, is what JavaScript's `slice` may leave of an emoji, and `serde_json` refuses it. A
/// `RawValue` keeps the text as it came.
///
/// ```
/// use antiphon_protocol::socket::from_json;
///
/// assert_eq!(from_json::<String>(r#""half \ud83d""#)?, "half \u{fffd}");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
///
/// If the text isn't JSON, or doesn't fit the type.
pub fn from_json<'de, T: Deserialize<'de>>(json: &'de str) -> serde_json::Result<T> {
    de::from_value(json)
}

/// The arguments of one event or ack: JSON, known to be valid, and attachments. Borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Args<'a> {
    json: &'a str,
    attachments: &'a [Bytes],
}

impl<'a> Args<'a> {
    /// No arguments.
    #[must_use]
    pub const fn empty() -> Args<'static> {
        Args {
            json: "",
            attachments: &[],
        }
    }

    /// From JSON values that are known to be valid, separated by commas.
    pub(crate) const fn new(json: &'a str, attachments: &'a [Bytes]) -> Self {
        Self { json, attachments }
    }

    /// The values as JSON, separated by commas, without the brackets of a list: `1,{"a":2}`.
    /// Empty if there are no arguments.
    #[must_use]
    pub const fn json(&self) -> &'a str {
        self.json
    }

    /// The attachments, in the order in which they came. Placeholders in the JSON name them by
    /// their index.
    #[must_use]
    pub const fn attachments(&self) -> &'a [Bytes] {
        self.attachments
    }

    /// Reads the arguments as a type, by the rules of the [module](super#arguments-and-types).
    ///
    /// `&str`, `&[u8]` and `&RawValue` borrow if the text and the attachments let them. A lone
    /// surrogate in a text or a key (`"\ud83d"`) is U+FFFD; a `RawValue` keeps it as it came.
    ///
    /// # Errors
    ///
    /// If an argument is missing or doesn't fit the type: the error says which one and where.
    pub fn deserialize<T: Deserialize<'a>>(&self) -> Result<T, ArgsError> {
        de::from_args(*self)
    }

    /// The arguments with a copy of the text. The attachments are shared.
    #[must_use]
    pub fn to_owned(&self) -> OwnedArgs {
        OwnedArgs {
            json: self.json.into(),
            attachments: self.attachments.to_vec(),
        }
    }
}

impl Default for Args<'_> {
    fn default() -> Self {
        Args::empty()
    }
}

/// [`Args`] that own their text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    json: Box<str>,
    attachments: Vec<Bytes>,
}

impl OwnedArgs {
    /// The arguments that a type stands for, by the rules of the
    /// [module](super#arguments-and-types).
    ///
    /// # Errors
    ///
    /// If the value can't be written as JSON.
    pub fn new<T: Serialize + ?Sized>(args: &T) -> Result<Self, EncodeError> {
        let mut json = Vec::new();
        let mut attachments = Vec::new();
        Output::new(&mut json, &mut attachments, Opening::Bracket).args(args)?;
        // Written by a JSON serializer, behind a bracket.
        let json = str::from_utf8(&json).unwrap_or_default();
        let json = json.strip_prefix('[').unwrap_or_default();
        if !attachments.is_empty() && super::placeholder::check(json, attachments.len()).is_err() {
            return Err(EncodeError::IllegalPlaceholder);
        }
        Ok(Self {
            json: json.into(),
            attachments: attachments
                .iter()
                .map(EncodedPacket::shared_payload)
                .collect(),
        })
    }

    /// Arguments from their parts, as [`Args::json`] and [`Args::attachments`] gave them on another
    /// server. They are proven as a packet's are: see
    /// [`Outgoing::from_parts`](super::Outgoing::from_parts).
    ///
    /// # Errors
    ///
    /// If the JSON is no list of values separated by commas, a placeholder names no attachment or
    /// that of another, or something is beyond a limit.
    pub fn from_parts(
        json: &str,
        attachments: Vec<Bytes>,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        proof::prove(&format!("[{json}]"), attachments.len(), limits)?;
        Ok(Self {
            json: json.into(),
            attachments,
        })
    }

    /// One argument, from its JSON as servers of Node have it.
    pub(crate) fn from_json(value: &str, limits: &Limits) -> Result<Self, DecodeError> {
        Self::from_parts(value, Vec::new(), limits)
    }

    /// From what a draft has written.
    pub(super) fn written(json: &str, attachments: Vec<Bytes>) -> Self {
        Self {
            json: json.into(),
            attachments,
        }
    }

    /// Borrows the arguments.
    #[must_use]
    pub fn as_args(&self) -> Args<'_> {
        Args {
            json: &self.json,
            attachments: &self.attachments,
        }
    }
}
