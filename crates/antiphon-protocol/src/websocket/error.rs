//! What a peer can do wrong on a WebSocket: a violation of RFC 6455, or a limit (docs/protocol.md
//! 8.8).
//!
//! The [`Decoder`](super::Decoder) gives a [`FrameError`]; its owner closes the connection with
//! [`close_code`](FrameError::close_code), and the error's text as the reason. Nothing can be
//! decoded after one.

use super::Opcode;

/// A violation of RFC 6455 or of a limit. The connection is over: close it with
/// [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A bit is set that belongs to an extension (RFC 6455 §5.2).
    #[error("reserved bits {0:#04x} are set: no extension that was agreed on allows them here")]
    ReservedBits(u8),
    /// The opcode is a reserved one (RFC 6455 §5.2).
    #[error("unknown opcode {0:#x}: expected 0, 1, 2, 8, 9 or 0xa")]
    UnknownOpcode(u8),
    /// A control frame is not the whole message (RFC 6455 §5.5).
    #[error("fragmented control frame {0:?}: expected the final bit")]
    FragmentedControl(Opcode),
    /// A control frame has an extended length (RFC 6455 §5.5).
    #[error("control frame {0:?} is too long: expected at most 125 bytes")]
    LongControl(Opcode),
    /// The highest bit of a 64-bit length is set (RFC 6455 §5.2).
    #[error("the length {0:#x} of a frame has its highest bit set")]
    Length(u64),
    /// A client has not masked its frame (RFC 6455 §5.1).
    #[error("the frame of a client is not masked")]
    NotMasked,
    /// A server has masked its frame (RFC 6455 §5.1).
    #[error("the frame of a server is masked")]
    Masked,
    /// A continuation came where no message is unfinished (RFC 6455 §5.4).
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A message began before the one before it ended (RFC 6455 §5.4).
    #[error("{0:?} frame within a fragmented message: expected a continuation")]
    ExpectedContinuation(Opcode),
    /// A message, its fragments together or what it inflates to, is longer than the receiver takes.
    #[error("message of at least {length} bytes: the limit is {max}")]
    TooBig {
        /// What the fragments so far and this frame add up to, or what was inflated so far.
        length: u64,
        /// What the receiver takes.
        max: usize,
    },
    /// A message has come in more fragments than its bytes pay for.
    #[error("message in more than {max} fragments: expected longer ones")]
    Fragments {
        /// What the receiver takes of a message of this length.
        max: usize,
    },
    /// A compressed message is not what a compressor makes (RFC 7692 §6.2).
    #[error("compressed message that can't be inflated")]
    Deflate,
    /// A text or the reason of a close is not UTF-8 (RFC 6455 §8.1).
    #[error("text that is not valid UTF-8")]
    NotUtf8,
    /// The payload of a close frame is too short for a code (RFC 6455 §5.5.1).
    #[error("close frame of one byte: expected none, or a code of two bytes and a reason")]
    CloseLength,
    /// The code of a close frame must not be sent (RFC 6455 §7.4).
    #[error("close code {0}: expected a code that may be sent, as 1000, 1001 or 3000 to 4999")]
    CloseCode(u16),
}

impl FrameError {
    /// The code to close the connection with (RFC 6455 §7.4.1): 1007 for text that is not UTF-8 and
    /// for what can't be inflated, 1008 for too many fragments, 1009 for what is too big, else
    /// 1002.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::NotUtf8 | Self::Deflate => 1007,
            Self::Fragments { .. } => 1008,
            Self::TooBig { .. } => 1009,
            Self::ReservedBits(_)
            | Self::UnknownOpcode(_)
            | Self::FragmentedControl(_)
            | Self::LongControl(_)
            | Self::Length(_)
            | Self::NotMasked
            | Self::Masked
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation(_)
            | Self::CloseLength
            | Self::CloseCode(_) => 1002,
        }
    }
}
