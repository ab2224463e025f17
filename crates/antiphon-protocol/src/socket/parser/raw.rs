//! A packet as parsers have it: its fields, with JSON for the payload.
//!
//! On the way out it is split from the text that was written here, without a look at the payload.
//! On the way in it is what a parser claims to have read, and nothing of it is known to be true
//! until [`RawPacket::prove`] has written it as the text of the standard parser and read that: so
//! the rules and the limits are the same for all parsers, and are written down once.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use crate::engine::Revision;
use crate::socket::args::Args;
use crate::socket::{Assembled, DecodeError, EncodeError, Limits};
use crate::socket::{packet, placeholder};

/// The type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketKind {
    /// 0: asks to join a namespace, or says that it has been joined.
    Connect,
    /// 1: leaves a namespace.
    Disconnect,
    /// 2: an event, with binary values or without.
    Event,
    /// 3: the answer to an event, with binary values or without.
    Ack,
    /// 4: a namespace can't be joined.
    ConnectError,
}

impl PacketKind {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Connect => 0,
            Self::Disconnect => 1,
            Self::Event => 2,
            Self::Ack => 3,
            Self::ConnectError => 4,
        }
    }

    /// The type of this number. 5 and 6, by which the standard parser says that attachments follow,
    /// are events and acks.
    ///
    /// ```
    /// use antiphon_protocol::socket::PacketKind;
    ///
    /// assert_eq!(PacketKind::from_number(2)?, PacketKind::Event);
    /// assert!(PacketKind::from_number(7).is_err());
    /// # Ok::<(), antiphon_protocol::socket::DecodeError>(())
    /// ```
    ///
    /// # Errors
    /// If there is none.
    pub const fn from_number(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            0 => Self::Connect,
            1 => Self::Disconnect,
            2 | 5 => Self::Event,
            3 | 6 => Self::Ack,
            4 => Self::ConnectError,
            _ => return Err(DecodeError::UnknownKind(number)),
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Disconnect => "DISCONNECT",
            Self::Event => "EVENT",
            Self::Ack => "ACK",
            Self::ConnectError => "CONNECT_ERROR",
        }
    }
}

/// A packet as a [`PacketParser`](super::PacketParser) writes it, and as its decoder reads it: the
/// object `{ type, nsp, id, data }` that parsers have in Node.
///
/// ```
/// use antiphon_protocol::socket::{Limits, PacketKind, RawPacket};
///
/// let packet = RawPacket {
///     id: Some(7),
///     ..RawPacket::new(PacketKind::Event, "/chat").with_data(&("add", 1, 2), &Limits::default())?
/// };
/// assert_eq!(packet.data.as_deref(), Some(r#"["add",1,2]"#));
/// assert_eq!(packet.read_data::<(String, u8, u8)>()?, Some(("add".to_owned(), 1, 2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPacket<'a> {
    /// The type.
    pub kind: PacketKind,
    /// The namespace. One that is empty is `/`.
    pub namespace: Cow<'a, str>,
    /// Of an event, the id under which the sender waits for an ack; of an ack, that of the event.
    pub id: Option<u64>,
    /// The payload as JSON, if there is one. Of an event it is an array of its name and its
    /// arguments, of an ack that of the arguments, of a CONNECT an object.
    pub data: Option<Cow<'a, str>>,
    /// The binary values of an event or an ack. Where they belong in the JSON stands
    /// `{"_placeholder":true,"num":0}`, with the index of each.
    pub attachments: Cow<'a, [Bytes]>,
}

impl<'a> RawPacket<'a> {
    /// A packet without a payload.
    pub fn new(kind: PacketKind, namespace: impl Into<Cow<'a, str>>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            id: None,
            data: None,
            attachments: Cow::default(),
        }
    }

    /// The same with this payload, for a decoder. What serde calls bytes becomes an attachment, at
    /// any depth. A tuple is an array here, as every value is what serde makes of it.
    ///
    /// # Errors
    /// If the value can't be written as JSON, or holds more binary values than the limits say.
    pub fn with_data<T: Serialize + ?Sized>(
        mut self,
        data: &T,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let mut json = Vec::new();
        let mut attachments = Vec::new();
        let placeholders = Placeholders {
            attachments: &mut attachments,
            most: limits.attachments,
        };
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, placeholders);
        data.serialize(&mut serializer)
            .map_err(|error| match error.is_io() {
                // A vector takes whatever is written to it: it was the formatter.
                true => DecodeError::TooManyAttachments {
                    limit: limits.attachments,
                },
                false => DecodeError::custom(error),
            })?;
        let json = String::from_utf8(json).map_err(DecodeError::custom)?;
        self.data = Some(Cow::Owned(json));
        self.attachments = Cow::Owned(attachments);
        Ok(self)
    }

    /// Reads the payload as a type, with bytes where attachments belong, for an encoder. Returns
    /// `None` if there is no payload.
    ///
    /// # Errors
    /// If the payload doesn't fit the type.
    pub fn read_data<T: for<'de> Deserialize<'de>>(&self) -> Result<Option<T>, EncodeError> {
        let Some(data) = &self.data else {
            return Ok(None);
        };
        // The payload is one value: the first of a list, even if its type is that of a list.
        let args = Args::new(data, &self.attachments);
        let read = args.deserialize::<(T,)>();
        read.map(|(value,)| Some(value))
            .map_err(EncodeError::custom)
    }

    /// The packet in a text that was written here, behind the type of the Engine.IO packet. Nothing
    /// is checked, so that no limit applies; `None` if it is no packet.
    pub(super) fn written(text: &'a str, attachments: &'a [Bytes]) -> Option<Self> {
        let is_digit = |c: char| c.is_ascii_digit();
        let number = text.bytes().next()?.wrapping_sub(b'0');
        let kind = PacketKind::from_number(number).ok()?;
        let mut rest = &text[1..];
        if number > PacketKind::ConnectError.number() {
            rest = rest.trim_start_matches(is_digit).strip_prefix('-')?;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',')?;
        }
        // A payload that is a number is one of a CONNECT_ERROR of revision 3.
        let id = match kind {
            PacketKind::Event | PacketKind::Ack => {
                let data = rest.trim_start_matches(is_digit);
                let id = rest[..rest.len() - data.len()].parse().ok();
                rest = data;
                id
            }
            _ => None,
        };
        Some(Self {
            kind,
            namespace: Cow::Borrowed(namespace),
            id,
            data: (!rest.is_empty()).then_some(Cow::Borrowed(rest)),
            attachments: Cow::Borrowed(attachments),
        })
    }

    /// Proves what a parser claims to have read, by the rules and the limits of the standard parser.
    pub(super) fn prove(
        self,
        revision: Revision,
        limits: &Limits,
    ) -> Result<Assembled, DecodeError> {
        let namespace = match &*self.namespace {
            "" => "/",
            namespace => namespace,
        };
        // The text below could not say it otherwise.
        if !namespace.starts_with('/') || namespace.contains(',') {
            return Err(DecodeError::InvalidField {
                field: "nsp",
                expected: "a string that begins with / and holds no comma",
            });
        }
        let data = self.data.as_deref().unwrap_or_default();
        let data = data.trim_matches([' ', '\t', '\n', '\r']);
        let invalid = |expected| DecodeError::InvalidPayload {
            packet: self.kind.name(),
            expected,
        };
        // It would pass for a part of the id, which is no part of these packets either.
        if data.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid("no number"));
        }
        let mut kind = self.kind.number();
        let mut id = None;
        let mut count = String::new();
        if matches!(self.kind, PacketKind::Event | PacketKind::Ack) {
            id = self.id;
            if !self.attachments.is_empty() {
                kind += 3;
                count = format!("{}-", self.attachments.len());
            }
        } else if !self.attachments.is_empty() {
            return Err(invalid("no binary values"));
        }
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let text = format!("{kind}{count}{namespace},{id}{data}");
        let layout = packet::parse(&text, revision, limits)?;
        Ok(Assembled::new(text, layout, self.attachments.into_owned()))
    }
}

/// Compact JSON, with a placeholder where bytes stand: so many at the most, since a peer may have
/// sent any number.
struct Placeholders<'b> {
    attachments: &'b mut Vec<Bytes>,
    most: usize,
}

impl Formatter for Placeholders<'_> {
    fn write_byte_array<W>(&mut self, writer: &mut W, bytes: &[u8]) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let num = self.attachments.len();
        if num >= self.most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.attachments.push(Bytes::copy_from_slice(bytes));
        placeholder::write(num, writer)
    }
}
