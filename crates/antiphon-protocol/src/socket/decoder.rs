//! The way in of a connection: messages become packets, and attachments are put to the packet that
//! announced them (docs/protocol.md 14 and 17).
//!
//! One [`Decoder`] belongs to one connection. A packet without attachments is lent from the text;
//! one with attachments is kept until the last has come, and given back as [`Assembled`]. It keeps
//! at most one text and [`Limits::attachments`] messages; when they must have come is for its owner
//! to say ([`Decoder::is_incomplete`]). After a [`DecodeError`] the connection is to be closed.

use std::borrow::Cow;
use std::mem;

use bytes::Bytes;

use super::Limits;
use super::error::DecodeError;
use super::packet::{self, Layout, Packet};
use crate::engine::Revision;

/// Reads the messages of one connection as packets, and puts attachments together with the packet
/// that announced them (docs/protocol.md 14 and 17).
///
/// It holds nothing while no attachments are outstanding. What it holds otherwise is the text and
/// the attachments that have come: at most [`Limits::attachments`] messages and one.
/// [`outstanding_namespace`](Self::outstanding_namespace) says for whom.
///
/// After an error the connection is to be closed, as Node does it.
///
/// ```
/// use antiphon_protocol::engine::Revision;
/// use antiphon_protocol::socket::{Decoder, Limits, Packet};
///
/// let mut decoder = Decoder::new(Revision::V4, Limits::default());
/// let packet = decoder.text(r#"2/chat,7["add",1,2]"#)?;
/// let Some(Packet::Event { namespace, id, name, args }) = packet else { panic!() };
/// assert_eq!((namespace, id, &*name), ("/chat", Some(7), "add"));
/// assert_eq!(args.deserialize::<(i64, i64)>()?, (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    revision: Revision,
    // Boxed, so that an idle connection pays one pointer.
    pending: Option<Box<Assembled>>,
}

impl Decoder {
    /// A decoder for a connection of this revision.
    #[must_use]
    pub const fn new(revision: Revision, limits: Limits) -> Self {
        Self {
            limits,
            revision,
            pending: None,
        }
    }

    /// Reads a text. `None` if attachments are to follow.
    ///
    /// A packet without attachments borrows from the text; only a name with escapes is copied.
    ///
    /// # Errors
    ///
    /// If the text is not a packet, is beyond a limit, or interrupts another packet.
    pub fn text<'a>(&mut self, text: &'a str) -> Result<Option<Packet<'a>>, DecodeError> {
        if let Some(pending) = self.pending.take() {
            return Err(DecodeError::UnexpectedText {
                outstanding: pending.outstanding(),
            });
        }
        let mut layout = packet::parse(text, self.revision, &self.limits)?;
        if layout.attachments == 0 {
            let unescaped = layout.unescaped.take().map(Cow::Owned);
            return Ok(Some(layout.packet(text, &[], unescaped)));
        }
        self.pending = Some(Box::new(Assembled {
            text: text.into(),
            layout,
            attachments: Vec::new(),
        }));
        Ok(None)
    }

    /// Takes a binary message: the next attachment. Gives the packet once it is whole.
    ///
    /// # Errors
    ///
    /// If no packet has announced it.
    pub fn binary(&mut self, data: Bytes) -> Result<Option<Assembled>, DecodeError> {
        let Some(pending) = &mut self.pending else {
            return Err(DecodeError::UnexpectedBinary);
        };
        pending.attachments.push(data);
        if pending.outstanding() > 0 {
            return Ok(None);
        }
        Ok(mem::take(&mut self.pending).map(|assembled| *assembled))
    }

    /// The namespace of the packet whose attachments are outstanding, if any are: so that a packet
    /// that isn't wanted can be refused before they come.
    #[must_use]
    pub fn outstanding_namespace(&self) -> Option<&str> {
        let pending = self.pending.as_ref()?;
        Some(pending.layout.namespace(&pending.text))
    }

    /// Forgets the packet whose attachments are outstanding, if any are.
    pub fn discard(&mut self) {
        self.pending = None;
    }

    /// Whether attachments are outstanding.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.pending.is_some()
    }
}

/// A packet with all of its attachments.
#[derive(Debug)]
pub struct Assembled {
    text: Box<str>,
    layout: Layout,
    attachments: Vec<Bytes>,
}

impl Assembled {
    pub(super) fn new(text: String, layout: Layout, attachments: Vec<Bytes>) -> Self {
        Self {
            text: text.into(),
            layout,
            attachments,
        }
    }

    /// The packet: an event or an ack.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        let unescaped = self.layout.unescaped.as_deref().map(Cow::Borrowed);
        self.layout.packet(&self.text, &self.attachments, unescaped)
    }

    fn outstanding(&self) -> usize {
        self.layout
            .attachments
            .saturating_sub(self.attachments.len())
    }
}
