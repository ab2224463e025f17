//! What goes wrong between servers: [`Malformed`] for what a broker delivers, [`Unsendable`] for
//! what a wire has no form for.

use thiserror::Error;

use crate::socket::{DecodeError, EncodeError};

/// Why something that a broker has delivered is skipped.
///
/// It repeats nothing that came, so that it can be logged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The text isn't UTF-8, or not JSON.
    #[error("invalid JSON at byte {offset}")]
    Json {
        /// Where, in bytes from the beginning of the value that is read.
        offset: usize,
    },
    /// The text of a binary message isn't base64.
    #[error("invalid base64")]
    Base64,
    /// The bytes aren't MessagePack, or the arguments are refused.
    #[error(transparent)]
    Value(#[from] DecodeError),
    /// A field is missing, or of the wrong kind.
    #[error("invalid field {field:?}: expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
    },
    /// A type of message that this wire doesn't have.
    #[error("unknown type {0} of message")]
    UnknownType(u64),
    /// A list with more entries than any server has.
    #[error("too many entries in {field:?}: the limit is {limit}")]
    TooMany {
        /// The field.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A message of another adapter of Node's. The classic adapter and the one for Redis streams
    /// use the same channel by default, and servers of Node with the classic adapter die of it.
    #[error(
        "a message of another adapter: {found}, where {expected} is used; give one of them another \
         prefix of its channels"
    )]
    OtherAdapter {
        /// The adapter that has sent it.
        found: &'static str,
        /// The adapter that is expected here.
        expected: &'static str,
    },
}

/// Why something can't be told to other servers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// This wire has no such message.
    #[error("{adapter} has no message for {what}")]
    NoForm {
        /// The adapter.
        adapter: &'static str,
        /// What can't be told.
        what: &'static str,
    },
    /// The arguments can't be written.
    #[error(transparent)]
    Value(#[from] EncodeError),
}
