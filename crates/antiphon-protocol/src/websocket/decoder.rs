//! Frames on their way in.
//!
//! The caller keeps the bytes of a frame that has not arrived as a whole, and knows from
//! [`Decoder::frame_length`] how many there will be. A frame is unmasked where it lies and lent as
//! an [`Event`]; only the fragments of a message are copied, to be put together. A compressed
//! message is inflated once it is whole: a small one at once, a large one in steps, of which each
//! [`decode`](Decoder::decode) does one (`inflating`).

#[cfg(feature = "deflate")]
mod inflating;

use std::borrow::Cow;

use super::{
    FrameError, Opcode,
    frame::{Header, apply_mask},
};
use crate::BinaryMessage;

/// How many fragments a message may have, however short they are.
const FREE_FRAGMENTS: usize = 1_000;

/// How many bytes of a message pay for one fragment more. Each costs the work of a frame, so the
/// limit of bytes is none for a message that comes byte by byte.
const BYTES_A_FRAGMENT: usize = 64;

/// Which side of the connection this is. Clients mask their frames, servers don't (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// This side is the server: frames that come in must be masked.
    Server,
    /// This side is the client: frames that come in must not be masked.
    Client,
}

/// What a peer has sent: a whole message or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message; owned if it came compressed or in fragments.
    Text(Cow<'a, str>),
    /// A binary message; owned if it came compressed or in fragments.
    Binary(BinaryMessage<'a>),
    /// A ping: answer it with a pong of the same data.
    Ping(&'a [u8]),
    /// A pong, whether or not it was asked for.
    Pong(&'a [u8]),
    /// The peer closes the connection: nothing that comes after it is to be read.
    Close(Option<CloseFrame<'a>>),
}

/// Why a peer closes the connection (RFC 6455 §5.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// A code that may be sent (RFC 6455 §7.4).
    pub code: u16,
    /// A text for humans, often empty.
    pub reason: &'a str,
}

/// What [`Decoder::decode`] found at the start of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The length of the frame, header included; 0 if it has not arrived as a whole, or if a
    /// message before it [is still inflated](Decoder::is_inflating).
    pub consumed: usize,
    /// What was completed. A fragment that is not the last of its message completes nothing.
    pub event: Option<Event<'a>>,
}

/// Decodes what comes in on one connection. Owns no memory but that of an unfinished message.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    /// Whether compression was agreed on.
    allows_compressed: bool,
    max_payload: usize,
    unfinished: Option<Box<Unfinished>>,
}

/// A message that hasn't been given yet.
#[derive(Debug)]
enum Unfinished {
    Fragments(Fragments),
    #[cfg(feature = "deflate")]
    Inflating(inflating::Inflating),
}

/// A message of which the last fragment has not come.
#[derive(Debug)]
struct Fragments {
    is_text: bool,
    is_compressed: bool,
    payload: Vec<u8>,
    /// Bytes of a text that are known to be UTF-8.
    checked: usize,
    /// How many fragments have come.
    count: usize,
}

impl Decoder {
    /// A decoder for one connection; `max_payload` is the most bytes of one message, put together
    /// from its fragments.
    #[must_use]
    pub const fn new(role: Role, max_payload: usize) -> Self {
        Self {
            role,
            allows_compressed: false,
            max_payload,
            unfinished: None,
        }
    }

    /// Takes compressed messages too, for a connection on which
    /// [`permessage-deflate`](super::deflate) was agreed on. They may have `max_payload` bytes at
    /// most as they come, and inflated.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn with_deflate(mut self) -> Self {
        self.allows_compressed = true;
        self
    }

    /// The most bytes of one message.
    #[must_use]
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Changes the most bytes of one message, from the next frame on. After
    /// [`FrameError::TooBig`] the same frame may be decoded once more.
    pub const fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// How long the frame at the start of `input` is, header included, once its header has arrived:
    /// what the caller needs room for.
    ///
    /// # Errors
    /// [`FrameError`] for a header that is wrong, out of order or of a message that is too big.
    pub fn frame_length(&self, input: &[u8]) -> Result<Option<usize>, FrameError> {
        if self.is_inflating() {
            // What is wrong with it is said after that message has been given.
            return Ok(None);
        }
        let header = self.parse_header(input)?;
        Ok(header.map(|(header, payload)| header.length.saturating_add(payload)))
    }

    /// Whether a compressed message is being inflated, which takes long: each
    /// [`decode`](Self::decode) inflates some of it, until it has been given. So others can have
    /// their turn in between.
    #[must_use]
    pub fn is_inflating(&self) -> bool {
        !matches!(
            self.unfinished.as_deref(),
            None | Some(Unfinished::Fragments(_))
        )
    }

    /// Decodes the first frame of `input`, if all of it is there, and unmasks it in place: what was
    /// consumed must not be decoded again. While a message [is inflated](Self::is_inflating), some
    /// more of it is, and nothing is consumed.
    ///
    /// # Errors
    /// [`FrameError`] for a header as in [`frame_length`](Self::frame_length), for text that is not
    /// UTF-8, for an invalid close frame, and for a compressed message that can't be inflated or is
    /// too big then. Nothing more can be decoded then, but what was
    /// too big with [another limit](Self::set_max_payload).
    pub fn decode<'a>(&mut self, input: &'a mut [u8]) -> Result<Decoded<'a>, FrameError> {
        const INCOMPLETE: Decoded<'_> = Decoded {
            consumed: 0,
            event: None,
        };
        if self.is_inflating() {
            let event = self.inflate_more()?;
            return Ok(Decoded { consumed: 0, event });
        }
        let Some((header, length)) = self.parse_header(input)? else {
            return Ok(INCOMPLETE);
        };
        let consumed = header.length.saturating_add(length);
        let Some(frame) = input.get_mut(..consumed) else {
            return Ok(INCOMPLETE);
        };
        let payload = &mut frame[header.length..];
        if let Some(mask) = header.mask {
            apply_mask(payload, mask);
        }
        let is_whole = header.is_final && !header.is_compressed;
        let event = match header.opcode {
            Opcode::Text if is_whole => Some(Event::Text(Cow::Borrowed(utf8(payload)?))),
            Opcode::Binary if is_whole => Some(Event::Binary(BinaryMessage::Lent(payload))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.handle_part(header, payload)?
            }
            Opcode::Close => Some(Event::Close(parse_close(payload)?)),
            Opcode::Ping => Some(Event::Ping(payload)),
            Opcode::Pong => Some(Event::Pong(payload)),
        };
        Ok(Decoded { consumed, event })
    }

    /// Reads a header and checks it against the state of the connection; returns it with the length
    /// of the payload.
    fn parse_header(&self, input: &[u8]) -> Result<Option<(Header, usize)>, FrameError> {
        let Some(header) = Header::parse(input, self.allows_compressed)? else {
            return Ok(None);
        };
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(FrameError::NotMasked),
            (Role::Client, Some(_)) => return Err(FrameError::Masked),
            (Role::Server, Some(_)) | (Role::Client, None) => {}
        }
        let fragments = match self.unfinished.as_deref() {
            Some(Unfinished::Fragments(fragments)) => Some(fragments),
            _ => None,
        };
        let held = match (fragments, header.opcode) {
            (_, Opcode::Close | Opcode::Ping | Opcode::Pong) => {
                // 125 bytes at most, whatever the limit of messages is.
                return Ok(Some((header, header.payload as usize)));
            }
            (Some(fragments), Opcode::Continuation) => fragments.payload.len(),
            (None, Opcode::Continuation) => return Err(FrameError::UnexpectedContinuation),
            (None, Opcode::Text | Opcode::Binary) => 0,
            (Some(_), opcode) => return Err(FrameError::ExpectedContinuation(opcode)),
        };
        let max = self.max_payload;
        match usize::try_from(header.payload) {
            Ok(length) if length <= max.saturating_sub(held) => Ok(Some((header, length))),
            _ => Err(FrameError::TooBig {
                length: header.payload + held as u64,
                max,
            }),
        }
    }

    /// Takes a compressed message, or the first, an inner or the last fragment of one.
    fn handle_part<'a>(
        &mut self,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'a>>, FrameError> {
        if header.is_final && header.is_compressed {
            return self.inflate(header.opcode == Opcode::Text, payload.into());
        }
        let mut fragments = match self.unfinished.take().map(|unfinished| *unfinished) {
            Some(Unfinished::Fragments(fragments)) => fragments,
            _ => Fragments {
                is_text: header.opcode == Opcode::Text,
                is_compressed: header.is_compressed,
                payload: Vec::new(),
                checked: 0,
                count: 0,
            },
        };
        fragments.append(payload)?;
        if !header.is_final {
            self.unfinished = Some(Box::new(Unfinished::Fragments(fragments)));
            return Ok(None);
        }
        if fragments.is_compressed {
            return self.inflate(fragments.is_text, fragments.payload.into());
        }
        // Whoever keeps the message keeps no more than its bytes.
        fragments.payload.shrink_to_fit();
        owned(fragments.is_text, fragments.payload).map(Some)
    }
}

/// Without the feature no decoder lets a compressed frame pass.
#[cfg(not(feature = "deflate"))]
impl Decoder {
    fn inflate<'a>(&self, _: bool, _: Cow<'_, [u8]>) -> Result<Option<Event<'a>>, FrameError> {
        Err(FrameError::Deflate)
    }

    fn inflate_more<'a>(&self) -> Result<Option<Event<'a>>, FrameError> {
        Ok(None)
    }
}

impl Fragments {
    fn append(&mut self, fragment: &[u8]) -> Result<(), FrameError> {
        self.payload.extend_from_slice(fragment);
        self.count += 1;
        let max = FREE_FRAGMENTS + self.payload.len() / BYTES_A_FRAGMENT;
        if self.count > max {
            return Err(FrameError::Fragments { max });
        }
        if self.is_text && !self.is_compressed {
            // A fragment may end within a character (RFC 6455 §5.6).
            self.checked += match simdutf8::compat::from_utf8(&self.payload[self.checked..]) {
                Ok(text) => text.len(),
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(FrameError::NotUtf8),
            };
        }
        Ok(())
    }
}

/// A message that owns its bytes.
fn owned<'a>(is_text: bool, payload: Vec<u8>) -> Result<Event<'a>, FrameError> {
    if !is_text {
        return Ok(Event::Binary(payload.into()));
    }
    let text = String::from_utf8(payload).map_err(|_| FrameError::NotUtf8)?;
    Ok(Event::Text(Cow::Owned(text)))
}

fn utf8(bytes: &[u8]) -> Result<&str, FrameError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| FrameError::NotUtf8)
}

fn parse_close(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, FrameError> {
    match payload.split_first_chunk() {
        None if payload.is_empty() => Ok(None),
        None => Err(FrameError::CloseLength),
        Some((code, reason)) => {
            let code = u16::from_be_bytes(*code);
            match code {
                // 1004 is reserved; 1005, 1006 and 1015 only ever stand for a missing code. Codes
                // up to 1014 are registered, those from 3000 are for libraries and applications.
                1000..=1003 | 1007..=1014 | 3000..=4999 => {}
                _ => return Err(FrameError::CloseCode(code)),
            }
            let reason = utf8(reason)?;
            Ok(Some(CloseFrame { code, reason }))
        }
    }
}

#[cfg(test)]
mod tests;
