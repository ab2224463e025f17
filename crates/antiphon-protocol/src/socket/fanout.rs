//! One message on its way to one session, or to many.
//!
//! A [`Fanout`] makes each [`Form`] of its message once, when the first receiver of that form comes
//! up. For one receiver a small message is copied from where it was written ([`Draft`]); for many
//! it begins a [`Bundle`], to which the next message to the same receivers can be appended.

use std::{str, sync::Arc};

use bytes::Bytes;

use super::{Draft, msgpack, packet};
use crate::engine::{
    Bundle, Encoded, EncodedMessage, EncodedPacket, Form, Forms, PacketType, Parser, Revision,
};

/// One message, in all forms that its receivers need.
#[derive(Debug)]
pub struct Fanout<'d> {
    source: Source<'d>,
    forms: Vec<(Form, Encoded)>,
    bundle: Option<Arc<Bundle>>,
    /// Bytes of the offset behind its arguments, which is for clients that know of it.
    offset: usize,
}

#[derive(Debug)]
enum Source<'d> {
    Draft(&'d mut Draft),
    Finished(EncodedMessage),
}

impl<'d> Fanout<'d> {
    /// What has been written.
    #[inline]
    #[must_use]
    pub const fn new(draft: &'d mut Draft) -> Self {
        let offset = draft.offset();
        let mut message = Self::from_source(Source::Draft(draft));
        message.offset = offset;
        message
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

    const fn from_source(source: Source<'d>) -> Self {
        Self {
            source,
            forms: Vec::new(),
            bundle: None,
            offset: 0,
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
            let mut message = self.finished();
            let without = hides_offset.then(|| without_offset(message, offset));
            if let Some(without) = &without {
                message = without;
            }
            let message = match form.parser {
                Parser::Json => message.in_form(form),
                Parser::Msgpack => match as_msgpack(message) {
                    Some(message) => message.in_form(form),
                    // An empty draft, after an error: it means nothing to a peer. All else that is
                    // written here has this form.
                    None => Encoded::Frames(Bytes::new()),
                },
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

impl From<EncodedMessage> for Fanout<'_> {
    fn from(message: EncodedMessage) -> Self {
        Self::from_source(Source::Finished(message))
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
        let is_as_written = form.parser == Parser::Json && !form.compresses(frame.len());
        is_as_written.then_some(frame)
    }

    fn encoded(&mut self, form: Form) -> &Encoded {
        let index = self.made(form);
        &self.forms[index].1
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

/// The message as `socket.io-msgpack-parser` has it: one binary packet.
fn as_msgpack(message: &EncodedMessage) -> Option<EncodedMessage> {
    let text = str::from_utf8(message.first().payload().get(1..)?).ok()?;
    let attachments = message.attachments().iter();
    let attachments: Vec<_> = attachments.map(EncodedPacket::shared_payload).collect();
    let mut bytes = Vec::with_capacity(text.len() + 32);
    msgpack::encode(&packet::written(text, &attachments)?, &mut bytes).ok()?;
    Some(EncodedPacket::binary(&bytes, Revision::V4).into())
}
