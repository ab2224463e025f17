//! A bundle: frames that leave several sessions side by side, put together once for all of them.
//!
//! It is the [`tail`](super::Outbound::share) of all their queues at once. While nobody has looked
//! at any of these, more can be appended, at the cost of one append for each form, however many
//! sessions there are. A queue that writes the bundle, or is given something to put behind it,
//! seals it: nothing is appended any more.
//!
//! What is appended is a message in each of the forms, [`Forms`], which may begin a bundle itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Encoded, Form};

/// The most bytes that may wait in the tail of a queue, its own or a bundle's.
pub(super) const LARGEST: usize = 16 << 10;

/// Frames for the WebSockets of several sessions, in each of their forms.
#[derive(Debug, Default)]
pub struct Bundle(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    is_sealed: bool,
    rows: Vec<Row>,
}

/// The frames in one form.
#[derive(Debug)]
struct Row {
    form: Form,
    frames: RowFrames,
}

#[derive(Debug)]
enum RowFrames {
    /// More may come.
    Open(Vec<u8>),
    Sealed(Bytes),
}

impl Row {
    /// Appends a message. Returns `false` if it would be too large.
    fn append(&mut self, message: &mut impl Forms) -> bool {
        let RowFrames::Open(frames) = &mut self.frames else {
            return false;
        };
        if let Some(frame) = message.frame(self.form) {
            let fits = frames.len() + frame.len() <= LARGEST;
            if fits {
                frames.extend_from_slice(frame);
            }
            return fits;
        }
        let message = message.encoded(self.form);
        let fits = frames.len() + message.len_bytes() <= LARGEST;
        if fits {
            message.append_to(frames);
        }
        fits
    }
}

impl Bundle {
    /// Whether a message is small enough for a bundle in any form.
    #[must_use]
    pub const fn takes(bytes: usize) -> bool {
        bytes <= LARGEST / 4
    }

    /// Makes sure that there is a row of this form, which begins with the first message.
    pub fn begin(&self, form: Form, first: &Encoded) {
        let mut rows = self.lock();
        if rows.rows.iter().all(|row| row.form != form) {
            let mut frames = Vec::new();
            first.append_to(&mut frames);
            rows.rows.push(Row {
                form,
                frames: RowFrames::Open(frames),
            });
        }
    }

    /// Appends a message in every form that the bundle has. Returns `false` if it is sealed, or
    /// would be too large in one of them: nothing is appended then.
    pub fn append(&self, message: &mut impl Forms) -> bool {
        let mut rows = self.lock();
        if rows.is_sealed {
            return false;
        }
        if let [row] = &mut rows.rows[..] {
            return row.append(message);
        }
        let fits = rows.rows.iter().all(|row| {
            let length = message.encoded(row.form).len_bytes();
            row.frames.len() + length <= LARGEST
        });
        fits && rows.rows.iter_mut().all(|row| row.append(message))
    }

    /// The frames in this form. Nothing is appended any more.
    pub(super) fn seal(&self, form: Form) -> Bytes {
        let mut rows = self.lock();
        rows.is_sealed = true;
        let row = rows.rows.iter_mut().find(|row| row.form == form);
        row.map_or_else(Bytes::new, |row| row.frames.seal())
    }

    /// Bytes that wait in this form.
    pub(super) fn len(&self, form: Form) -> usize {
        let rows = self.lock();
        let row = rows.rows.iter().find(|row| row.form == form);
        row.map_or(0, |row| row.frames.len())
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RowFrames {
    fn len(&self) -> usize {
        match self {
            Self::Open(frames) => frames.len(),
            Self::Sealed(frames) => frames.len(),
        }
    }

    fn seal(&mut self) -> Bytes {
        let sealed: Bytes = match self {
            Self::Sealed(sealed) => return sealed.clone(),
            // Without spare room: it may wait for a slow reader.
            Self::Open(open) => std::mem::take(open).into_boxed_slice().into(),
        };
        *self = Self::Sealed(sealed.clone());
        sealed
    }
}

/// A message on its way to sessions, in whatever form each of them takes.
pub trait Forms {
    /// The message as one frame of a WebSocket, to be copied. Returns `None` if it has no such
    /// form, or is too large for that.
    fn frame(&mut self, form: Form) -> Option<&[u8]>;

    /// The message in this form. It is made once.
    fn encoded(&mut self, form: Form) -> &Encoded;

    /// Whether there was no way to write it in a form that was asked for: nothing is sent then.
    fn is_unwritten(&self) -> bool {
        false
    }

    /// The bundle that begins with this message, in this form too, if its receivers may share one.
    fn bundle(&mut self, form: Form) -> Option<&Arc<Bundle>> {
        let _ = form;
        None
    }
}

/// A message for one session, in its form already.
impl Forms for Encoded {
    fn frame(&mut self, _: Form) -> Option<&[u8]> {
        None
    }

    fn encoded(&mut self, _: Form) -> &Encoded {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EncodedMessage, EncodedPacket, PacketType, Revision};

    const V3: Form = Form::of(Revision::V3);
    const V4: Form = Form::of(Revision::V4);

    /// Makes each form anew.
    struct Message(EncodedMessage, Option<Encoded>);

    impl Forms for Message {
        fn frame(&mut self, _: Form) -> Option<&[u8]> {
            None
        }

        fn encoded(&mut self, form: Form) -> &Encoded {
            self.1.insert(self.0.in_form(form))
        }
    }

    fn text(text: &str) -> Message {
        let packet = EncodedPacket::text(PacketType::Message, text);
        Message(packet.into(), None)
    }

    fn begun(message: &mut Message, forms: &[Form]) -> Bundle {
        let bundle = Bundle::default();
        for form in forms {
            bundle.begin(*form, message.encoded(*form));
        }
        bundle
    }

    fn frames<const N: usize>(messages: [&mut Message; N], form: Form) -> Vec<u8> {
        let mut frames = Vec::new();
        for message in messages {
            message.encoded(form).append_to(&mut frames);
        }
        frames
    }

    #[test]
    fn nothing_is_appended_to_what_was_sealed() {
        let [mut a, mut b] = [text("a"), text("b")];
        let bundle = begun(&mut a, &[V4]);
        assert!(bundle.append(&mut b));
        assert_eq!(bundle.len(V4), frames([&mut a, &mut b], V4).len());
        assert_eq!(bundle.seal(V4), frames([&mut a, &mut b], V4));
        assert!(!bundle.append(&mut b));
        assert_eq!(bundle.seal(V4), frames([&mut a, &mut b], V4));
    }

    #[test]
    fn each_form_has_its_own_frames() {
        let binary = EncodedPacket::binary(&[1, 2], Revision::V4);
        let mut binary = Message(binary.into(), None);
        let bundle = begun(&mut binary, &[V3, V4]);
        assert!(bundle.append(&mut binary));
        for form in [V3, V4] {
            let once = frames([&mut binary], form);
            assert_eq!(bundle.seal(form), [&once[..], &once].concat());
        }
    }

    #[test]
    fn what_is_sealed_in_one_form_is_sealed_in_all() {
        let mut a = text("a");
        let bundle = begun(&mut a, &[V3, V4]);
        bundle.seal(V3);
        assert!(!bundle.append(&mut a));
        assert_eq!(bundle.seal(V4), frames([&mut a], V4));
    }

    #[test]
    fn a_message_that_is_too_large_in_one_form_is_appended_in_none() {
        let [mut a, mut large] = [text("a"), text(&"x".repeat(LARGEST / 2))];
        let bundle = begun(&mut large, &[V4]);
        bundle.begin(V3, a.encoded(V3));
        assert!(!bundle.append(&mut large));
        assert_eq!(bundle.seal(V4), frames([&mut large], V4));
        assert_eq!(bundle.seal(V3), frames([&mut a], V3));
    }
}
