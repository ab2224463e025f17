//! What is emitted, before it has a form.
//!
//! An [`Outgoing`] has the event's name and its arguments, written once as JSON and attachments. Outgoing
//! listeners, adapters and other servers get this; a [`Draft`](super::Draft) makes a packet for one namespace of it,
//! and a [`Fanout`](super::Fanout) that packet's forms. Clones share the bytes.

use std::{borrow::Cow, fmt, str, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use super::{Args, Draft, EncodeError, json};
use crate::engine::EncodedPacket;

/// An event that is emitted: its name and its arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The name as JSON, and behind a comma the arguments.
    list: Bytes,
    /// The length of the name as JSON.
    name: usize,
    attachments: Option<Arc<[EncodedPacket]>>,
}

impl Outgoing {
    pub(super) fn new(list: Bytes, name: usize, attachments: Vec<EncodedPacket>) -> Self {
        Self {
            list,
            name,
            attachments: (!attachments.is_empty()).then(|| attachments.into()),
        }
    }

    /// An event with its arguments, by the rules of the [module](super#arguments-and-types).
    ///
    /// ```
    /// use antiphon_protocol::socket::Outgoing;
    ///
    /// let event = Outgoing::event("add", &(1, 2))?;
    /// assert_eq!(event.name(), "add");
    /// assert_eq!(event.json(), "1,2");
    /// # Ok::<(), antiphon_protocol::socket::EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// If the name is reserved, the arguments can't be written as JSON, or hold more than
    /// [`MAX_ATTACHMENTS`](super::MAX_ATTACHMENTS) binary values.
    pub fn event<T: Serialize + ?Sized>(name: &str, args: &T) -> Result<Self, EncodeError> {
        let mut draft = Draft::default();
        draft.event("", None, name, args)?;
        Ok(draft.finish_event())
    }

    /// An event with arguments as they came from a peer: nothing is parsed.
    ///
    /// # Errors
    /// If the name is reserved, or the arguments have more than
    /// [`MAX_ATTACHMENTS`](super::MAX_ATTACHMENTS) attachments.
    pub fn event_from(name: &str, args: Args<'_>) -> Result<Self, EncodeError> {
        let mut draft = Draft::default();
        draft.event_from("", None, name, args)?;
        Ok(draft.finish_event())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        json::unescape(&self.list()[..self.name]).unwrap_or_default()
    }

    /// The arguments as JSON, separated by commas. Attachments stand in it as placeholders.
    #[must_use]
    pub fn json(&self) -> &str {
        // Behind the name is a comma, or nothing.
        self.list().get(self.name + 1..).unwrap_or_default()
    }

    /// The attachments.
    pub fn attachments(&self) -> impl Iterator<Item = Bytes> {
        let packets = self.packets().iter();
        packets.map(|packet| packet.frame().slice_ref(packet.payload()))
    }

    /// Gives the arguments to `read`. What was written isn't checked again, so that no limit of a decoder
    /// applies.
    ///
    /// ```
    /// # use antiphon_protocol::socket::Outgoing;
    /// let event = Outgoing::event("add", &(1, 2))?;
    /// let sum = event.with_args(|args| args.deserialize::<(i64, i64)>().map(|(a, b)| a + b));
    /// assert_eq!(sum, Ok(3));
    /// # Ok::<(), antiphon_protocol::socket::EncodeError>(())
    /// ```
    pub fn with_args<R>(&self, read: impl FnOnce(Args<'_>) -> R) -> R {
        let attachments: Vec<_> = self.attachments().collect();
        read(Args::new(self.json(), &attachments))
    }

    pub(super) fn list(&self) -> &str {
        // A draft takes UTF-8 alone.
        str::from_utf8(&self.list).unwrap_or_default()
    }

    pub(super) fn packets(&self) -> &[EncodedPacket] {
        self.attachments.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("name", &self.name())
            .field("json", &self.json())
            .field("attachments", &self.packets().len())
            .finish()
    }
}
