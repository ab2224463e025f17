//! One message on its way to one session, or to many.
//!
//! A [`Fanout`] makes each [`Form`] of its message once, when the first receiver of that form comes
//! up. For one receiver a small message is copied from where it was written ([`Draft`]); for many
//! it begins a [`Bundle`], to which the next message to the same receivers can be appended.

use std::{str, sync::Arc};

use bytes::Bytes;

use super::{Draft, Parser, parser};
use crate::engine::{Bundle, Encoded, EncodedMessage, EncodedPacket, Form, Forms, PacketType};

/// One message, in all forms that its receivers need.
#[derive(Debug)]
pub struct Fanout<'d> {
    source: Source<'d>,
    forms: Vec<(Form, Encoded)>,
    bundle: Option<Arc<Bundle>>,
    /// Bytes of the offset behind its arguments, which is for clients that know of it.
    offset: usize,
    /// For forms that are transcoded.
    parser: &'d Parser,
    is_unwritten: bool,
}

#[derive(Debug)]
enum Source<'d> {
    Draft(&'d mut Draft),
    Finished(EncodedMessage),
}

impl<'d> Fanout<'d> {
    /// What has been written, for sessions of a server with this parser.
    #[inline]
    #[must_use]
    pub const fn new(draft: &'d mut Draft, parser: &'d Parser) -> Self {
        let offset = draft.offset();
        let mut message = Self::from_source(Source::Draft(draft), parser);
        message.offset = offset;
        message
    }

    /// A message that has memory of its own, for sessions of a server with this parser.
    #[must_use]
    pub const fn of(message: EncodedMessage, parser: &'d Parser) -> Self {
        Self::from_source(Source::Finished(message), parser)
    }

    /// Begins a bundle that the receivers from now on may share. Returns `None` if the message is
    /// too large for one.
    pub fn begin_bundle(&mut self) -> Option<Arc<Bundle>> {
        if !Bundle::takes(self.finished().len_bytes()) {
            return None;
        }
        let bundle = Arc::<Bundle>::default();
        for (form, message) in &self.forms {
            bundle.begin(*form, message);
        }
        self.bundle = Some(Arc::clone(&bundle));
        Some(bundle)
    }

    const fn from_source(source: Source<'d>, parser: &'d Parser) -> Self {
        Self {
            source,
            forms: Vec::new(),
            bundle: None,
            offset: 0,
            parser,
            is_unwritten: false,
        }
    }

    /// Whether a client of this form is not to see the offset.
    const fn hides_offset(&self, form: Form) -> bool {
        self.offset > 0 && !form.revision.dialect().recovers
    }

    /// Where this form is, which is made where it lacks.
    fn made(&mut self, form: Form) -> usize {
        let known = self.forms.iter().position(|(known, _)| *known == form);
        known.unwrap_or_else(|| {
            let hides_offset = self.hides_offset(form);
            let offset = self.offset;
            let parser = self.parser.packets().filter(|_| form.is_transcoded);
            let mut message = self.finished();
            let without = hides_offset.then(|| without_offset(message, offset));
            if let Some(without) = &without {
                message = without;
            }
            let message = match parser.map(|parser| parser::transcode(parser, message)) {
                None => message.in_form(form),
                Some(Ok(message)) => message.in_form(form),
                Some(Err(_)) => {
                    self.is_unwritten = true;
                    Encoded::Frames(Bytes::new())
                }
            };
            if let Some(bundle) = &self.bundle {
                bundle.begin(form, &message);
            }
            self.forms.push((form, message));
            self.forms.len() - 1
        })
    }

    /// The message as it was written: JSON, in revision 4.
    fn finished(&mut self) -> &EncodedMessage {
        if let Source::Draft(draft) = &mut self.source {
            self.source = Source::Finished(draft.finish());
        }
        match &self.source {
            Source::Finished(message) => message,
            Source::Draft(_) => unreachable!("it has just been finished"),
        }
    }
}

impl Forms for Fanout<'_> {
    #[inline]
    fn frame(&mut self, form: Form) -> Option<&[u8]> {
        if self.hides_offset(form) {
            return None;
        }
        let Source::Draft(draft) = &mut self.source else {
            return None;
        };
        let frame = draft.frame()?;
        let is_as_written = !form.is_transcoded && !form.compresses(frame.len());
        is_as_written.then_some(frame)
    }

    fn encoded(&mut self, form: Form) -> &Encoded {
        let index = self.made(form);
        &self.forms[index].1
    }

    fn is_unwritten(&self) -> bool {
        self.is_unwritten
    }

    fn bundle(&mut self, form: Form) -> Option<&Arc<Bundle>> {
        if self.bundle.is_some() {
            self.made(form);
        }
        self.bundle.as_ref()
    }
}

/// The message without the offset that its list ends with.
fn without_offset(message: &EncodedMessage, offset: usize) -> EncodedMessage {
    // The payload begins with the type of Engine.IO's packet.
    let payload = message.first().payload();
    let text = payload.get(1..payload.len().saturating_sub(offset + 1));
    let text = text.and_then(|text| str::from_utf8(text).ok());
    let packet = format!("{}]", text.unwrap_or_default());
    let first = EncodedPacket::text(PacketType::Message, &packet);
    EncodedMessage::new(first, message.attachments().to_vec())
}
