//! One packet of Socket.IO, and how it is read from a text (docs/protocol.md 14):
//! `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`.
//!
//! All of it is checked first, JSON and placeholders included, and gives a `Layout`: where the
//! parts stand. So the [`Decoder`](super::Decoder) can keep the text beside it until the
//! attachments have come, and lend a [`Packet`] either way without parsing again. What breaks a
//! rule or a limit is a [`DecodeError`].

use std::borrow::Cow;

use bytes::Bytes;

use super::args::Args;
use super::error::DecodeError;
use super::json::{self, Bounds, Fault, Span};
use super::proof::{bounds, refused};
use super::{Limits, placeholder, reserved};
use crate::engine::Revision;

/// A packet of the Socket.IO protocol (revision 4 or 5), borrowed from what it was read from. JSON
/// in it is valid and no deeper than [`Limits::depth`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Asks to join a namespace (client), or says that it has been joined (server).
    Connect {
        /// The namespace, `/` if the packet names none.
        namespace: &'a str,
        /// Revision 4 only: what follows `?` in the namespace.
        query: Option<&'a str>,
        /// The payload, a JSON object: credentials from a client, `{"sid":...}` from a server.
        auth: Option<&'a str>,
    },
    /// Leaves a namespace. The connection stays for the others.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// An event, with or without attachments.
    Event {
        /// The namespace.
        namespace: &'a str,
        /// The id under which the sender waits for an ack.
        id: Option<u64>,
        /// The name; of a numeric name its decimal text.
        name: Cow<'a, str>,
        /// The arguments after the name.
        args: Args<'a>,
    },
    /// The answer to an event, with or without attachments.
    Ack {
        /// The namespace.
        namespace: &'a str,
        /// The id of the event.
        id: u64,
        /// The arguments.
        args: Args<'a>,
    },
    /// A namespace could not be joined (`ERROR` in revision 4). Only servers send it.
    ConnectError {
        /// The namespace.
        namespace: &'a str,
        /// The payload as JSON: an object or a string in revision 5, anything in revision 4.
        data: &'a str,
    },
}

impl<'a> Packet<'a> {
    /// The namespace that the packet is for.
    #[must_use]
    pub const fn namespace(&self) -> &'a str {
        match *self {
            Self::Connect { namespace, .. }
            | Self::Disconnect { namespace }
            | Self::Event { namespace, .. }
            | Self::Ack { namespace, .. }
            | Self::ConnectError { namespace, .. } => namespace,
        }
    }
}

/// Where the parts of a packet stand in its text, so that the text can be kept beside it.
#[derive(Debug)]
pub(super) struct Layout {
    /// `None` is `/`.
    pub(super) namespace: Option<Span>,
    pub(super) body: Body,
    /// How many attachments the packet waits for.
    pub(super) attachments: usize,
    /// The name of the event, if its text holds escapes.
    pub(super) unescaped: Option<String>,
}

/// What stands in a packet beside its namespace, by its type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    Connect {
        query: Option<Span>,
        auth: Option<Span>,
    },
    Disconnect,
    Event {
        id: Option<u64>,
        name: Span,
        args: Span,
    },
    Ack {
        id: u64,
        args: Span,
    },
    ConnectError {
        data: Span,
    },
}

impl Layout {
    /// The namespace, from the text that was read.
    pub(super) fn namespace<'a>(&self, text: &'a str) -> &'a str {
        self.namespace.map_or("/", |span| span.of(text))
    }

    /// The packet, from the text that was read.
    pub(super) fn packet<'a>(
        &self,
        text: &'a str,
        attachments: &'a [Bytes],
        unescaped: Option<Cow<'a, str>>,
    ) -> Packet<'a> {
        let namespace = self.namespace(text);
        match self.body {
            Body::Connect { query, auth } => Packet::Connect {
                namespace,
                query: query.map(|span| span.of(text)),
                auth: auth.map(|span| span.of(text)),
            },
            Body::Disconnect => Packet::Disconnect { namespace },
            Body::Event { id, name, args } => Packet::Event {
                namespace,
                id,
                name: unescaped.unwrap_or(Cow::Borrowed(name.of(text))),
                args: Args::new(args.of(text), attachments),
            },
            Body::Ack { id, args } => Packet::Ack {
                namespace,
                id,
                args: Args::new(args.of(text), attachments),
            },
            Body::ConnectError { data } => Packet::ConnectError {
                namespace,
                data: data.of(text),
            },
        }
    }
}

/// Reads and validates one packet.
pub(super) fn parse(
    text: &str,
    revision: Revision,
    limits: &Limits,
) -> Result<Layout, DecodeError> {
    let kind = *text.as_bytes().first().ok_or(DecodeError::Empty)?;
    let mut reader = Reader {
        text,
        at: 1,
        limits,
    };
    let attachments = match kind {
        b'0'..=b'4' => 0,
        b'5' | b'6' => reader.attachment_count()?,
        _ => return Err(DecodeError::UnknownType(text.chars().next().unwrap_or('?'))),
    };
    let mut namespace = reader.namespace()?;
    let mut query = None;
    if revision.dialect().has_namespace_queries
        && let Some(span) = &mut namespace
        && let Some(mark) = span.of(text).find('?')
    {
        let mark = span.start + mark;
        query = Some(Span {
            start: mark + 1,
            end: span.end,
        });
        span.end = mark;
    }
    let mut unescaped = None;
    let body = match kind {
        b'0' => Body::Connect {
            query,
            auth: reader.auth()?,
        },
        b'1' => {
            if reader.at < text.len() {
                return Err(DecodeError::InvalidPayload {
                    packet: "DISCONNECT",
                    expected: "no payload",
                });
            }
            Body::Disconnect
        }
        b'2' | b'5' => {
            let id = reader.ack_id()?;
            let list = reader.list("EVENT")?;
            let first = list.first.ok_or(DecodeError::MissingEventName)?;
            let (name, escaped) = event_name(text, first, limits)?;
            unescaped = escaped;
            Body::Event {
                id,
                name,
                args: list.rest,
            }
        }
        b'3' | b'6' => Body::Ack {
            id: reader.ack_id()?.ok_or(DecodeError::MissingAckId)?,
            args: reader.list("ACK")?.all,
        },
        _ => Body::ConnectError {
            data: reader.connect_error(revision)?,
        },
    };
    // Node looks only when all attachments are there; nothing is gained by waiting for them.
    if attachments > 0
        && let Body::Event { args, .. } | Body::Ack { args, .. } = body
    {
        placeholder::check(args.of(text), attachments)?;
    }
    Ok(Layout {
        namespace,
        body,
        attachments,
        unescaped,
    })
}

/// What is left of the text to read.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    limits: &'t Limits,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes the decimal digits that come next.
    fn digits(&mut self) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        &rest[..count]
    }

    fn attachment_count(&mut self) -> Result<usize, DecodeError> {
        let digits = self.digits();
        if digits.is_empty() || self.peek() != Some(b'-') {
            return Err(DecodeError::InvalidAttachmentCount);
        }
        self.at += 1;
        let limit = self.limits.attachments;
        match digits.parse() {
            Ok(0) => Err(DecodeError::NoAttachments),
            Ok(count) if count <= limit => Ok(count),
            _ => Err(DecodeError::TooManyAttachments { limit }),
        }
    }

    /// Takes the namespace and its comma, which may be missing only if nothing follows.
    fn namespace(&mut self) -> Result<Option<Span>, DecodeError> {
        if self.peek() != Some(b'/') {
            return Ok(None);
        }
        let start = self.at;
        let limit = self.limits.namespace;
        let rest = &self.text.as_bytes()[start..];
        // One byte more than the limit, for the comma.
        let window = &rest[..rest.len().min(limit.saturating_add(1))];
        let length = match window.iter().position(|&byte| byte == b',') {
            Some(comma) => comma,
            None if rest.len() <= limit => rest.len(),
            None => return Err(DecodeError::NamespaceTooLong { limit }),
        };
        let end = start + length;
        self.at = self.text.len().min(end + 1);
        Ok(Some(Span { start, end }))
    }

    fn ack_id(&mut self) -> Result<Option<u64>, DecodeError> {
        let digits = self.digits();
        let limit = usize::from(self.limits.ack_digits);
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(id) if digits.len() <= limit => Ok(Some(id)),
            _ => Err(DecodeError::AckIdTooLong { limit }),
        }
    }

    fn auth(&self) -> Result<Option<Span>, DecodeError> {
        match self.peek() {
            None => Ok(None),
            Some(b'{') => self.whole().map(Some),
            Some(_) => Err(DecodeError::InvalidPayload {
                packet: "CONNECT",
                expected: "no payload, or an object",
            }),
        }
    }

    fn connect_error(&self, revision: Revision) -> Result<Span, DecodeError> {
        let expected = match (revision.dialect().has_error_objects, self.peek()) {
            (false, Some(_)) | (true, Some(b'{' | b'"')) => return self.whole(),
            (false, None) => "JSON",
            (true, _) => "an object or a string",
        };
        Err(DecodeError::InvalidPayload {
            packet: "CONNECT_ERROR",
            expected,
        })
    }

    fn list(&self, packet: &'static str) -> Result<json::List, DecodeError> {
        if self.peek() != Some(b'[') {
            return Err(DecodeError::InvalidPayload {
                packet,
                expected: "an array",
            });
        }
        json::list(self.text, self.at, self.bounds()).map_err(|fault| self.fault(fault))
    }

    fn whole(&self) -> Result<Span, DecodeError> {
        json::whole(self.text, self.at, self.bounds()).map_err(|fault| self.fault(fault))
    }

    const fn bounds(&self) -> Bounds {
        bounds(self.limits)
    }

    const fn fault(&self, fault: Fault) -> DecodeError {
        refused(fault, self.limits)
    }
}

/// The name of an event, which is the first value of its list, and its text if that holds escapes.
pub(super) fn event_name(
    text: &str,
    first: Span,
    limits: &Limits,
) -> Result<(Span, Option<String>), DecodeError> {
    let raw = first.of(text);
    let (span, name) = match raw.as_bytes().first() {
        // JavaScript writes a number as its text: `JSON.stringify(1.5) == String(1.5)`.
        Some(b'-' | b'0'..=b'9') => (first, Cow::Borrowed(raw)),
        Some(b'"') => (
            Span {
                start: first.start + 1,
                end: first.end - 1,
            },
            // A lone surrogate is U+FFFD: the name is a text like others.
            json::unescape(raw).ok_or(DecodeError::InvalidEventName)?,
        ),
        _ => return Err(DecodeError::InvalidEventName),
    };
    if name.len() > limits.event_name {
        return Err(DecodeError::EventNameTooLong {
            limit: limits.event_name,
        });
    }
    if let Some(name) = reserved(&name) {
        return Err(DecodeError::ReservedEvent(name));
    }
    let escaped = match name {
        Cow::Borrowed(_) => None,
        Cow::Owned(name) => Some(name),
    };
    Ok((span, escaped))
}
