//! What is emitted, before it has a form.
//!
//! An [`Outgoing`] has the event's name and its arguments, written once as JSON and attachments.
//! Outgoing listeners, adapters and other servers get this; a [`Draft`](super::Draft) makes a
//! packet for one namespace of it, and a [`Fanout`](super::Fanout) that packet's forms. Clones
//! share the bytes.

use std::{borrow::Cow, fmt, str, sync::Arc};

use bytes::Bytes;

use super::{Args, DecodeError, Limits, json, msgpack, packet, proof};
use crate::engine::{EncodedPacket, Revision};

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

    /// An event from its parts, as [`name`](Self::name), [`json`](Self::json) and
    /// [`attachments`](Self::attachments) gave them on another server. They are proven as a
    /// packet's are, since whoever carried them may have changed them.
    ///
    /// A server may emit what it takes from no client: the limits are those of servers among each
    /// other.
    ///
    /// ```
    /// use antiphon_protocol::socket::{Limits, Outgoing};
    ///
    /// let sent = Outgoing::event("add", &(1, 2))?;
    /// let (name, json) = (sent.name(), sent.json());
    /// let came = Outgoing::from_parts(&name, json, sent.attachments(), &Limits::default())?;
    /// assert_eq!(came, sent);
    /// assert!(Outgoing::from_parts("add", "1],[2", [], &Limits::default()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the name is reserved, the JSON is no list of values separated by commas, a placeholder
    /// names no attachment or that of another, or something is beyond a limit.
    pub fn from_parts(
        name: &str,
        json: &str,
        attachments: impl IntoIterator<Item = Bytes>,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let name = serde_json::Value::from(name).to_string();
        let comma = if json.is_empty() { "" } else { "," };
        // One more than the limit is enough to see that there are too many.
        let most = limits.attachments.saturating_add(1);
        let attachments = attachments.into_iter().take(most);
        let attachments = attachments.map(|data| EncodedPacket::binary(&data, Revision::V4));
        let list = Bytes::from(format!("{name}{comma}{json}"));
        Self::new(list, name.len(), attachments.collect()).proven(limits)
    }

    /// Proves an event of which somebody else has [written](Self::written) the parts, as a packet's
    /// are: see [`from_parts`](Self::from_parts).
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts).
    pub fn proven(self, limits: &Limits) -> Result<Self, DecodeError> {
        let text = format!("[{}]", self.list());
        let list = proof::prove(&text, self.packets().len(), limits)?;
        let first = list.first.ok_or(DecodeError::MissingEventName)?;
        packet::event_name(&text, first, limits)?;
        // The list is behind a bracket.
        if (first.start, first.end) != (1, 1 + self.name) {
            return Err(DecodeError::MissingEventName);
        }
        Ok(self)
    }

    /// An event from a JSON array of its name and its arguments, as servers of Node have it.
    pub(crate) fn from_json(array: &str, limits: &Limits) -> Result<Self, DecodeError> {
        let list = proof::prove(array, 0, limits)?;
        Self::from_list(array, &list, &[], limits)
    }

    /// An event from an array of MessagePack, with binary values where they belong.
    pub(crate) fn from_msgpack(array: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let (values, list) = msgpack::decode::list(array, limits)?;
        Self::from_list(&values.text, &list, &values.attachments, limits)
    }

    /// From a list that has been proven, the name first.
    fn from_list(
        text: &str,
        list: &json::List,
        attachments: &[Bytes],
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let first = list.first.ok_or(DecodeError::MissingEventName)?;
        packet::event_name(text, first, limits)?;
        let (token, rest) = (first.of(text), list.rest.of(text));
        let mut event = String::with_capacity(token.len() + rest.len() + 3);
        // A name that is a number becomes its text.
        let quote = if token.starts_with('"') { "" } else { "\"" };
        event.extend([quote, token, quote]);
        let name = event.len();
        if !rest.is_empty() {
            event.extend([",", rest]);
        }
        let packets = attachments.iter();
        let packets = packets.map(|data| EncodedPacket::binary(data, Revision::V4));
        Ok(Self::new(event.into(), name, packets.collect()))
    }

    /// An event as [`written`](Self::written) gave it, from where nobody has changed it: nothing is
    /// proven. What may have been changed is to be [proven](Self::proven).
    ///
    /// Returns `None` if it can't have been given by that.
    #[must_use]
    pub fn from_written(
        list: Bytes,
        name: usize,
        attachments: impl IntoIterator<Item = Bytes>,
    ) -> Option<Self> {
        let text = str::from_utf8(&list).ok()?;
        if !matches!(text.get(name..)?.as_bytes().first(), None | Some(b',')) {
            return None;
        }
        let attachments = attachments.into_iter();
        let attachments = attachments.map(|data| EncodedPacket::binary(&data, Revision::V4));
        Some(Self::new(list, name, attachments.collect()))
    }

    /// The name as JSON with the arguments behind it, and the length of the name in that: what a
    /// log keeps, together with the [`attachments`](Self::attachments).
    ///
    /// ```
    /// use antiphon_protocol::socket::Outgoing;
    ///
    /// let event = Outgoing::event("add", &(1, 2))?;
    /// let (list, name) = event.written();
    /// assert_eq!((list, name), (r#""add",1,2"#, 5));
    /// let read = Outgoing::from_written(list.to_owned().into(), name, event.attachments());
    /// assert_eq!(read, Some(event));
    /// # Ok::<(), antiphon_protocol::socket::EncodeError>(())
    /// ```
    #[must_use]
    pub fn written(&self) -> (&str, usize) {
        (self.list(), self.name)
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

    /// Bytes of the name and the arguments as JSON, and of the attachments.
    ///
    /// ```
    /// use antiphon_protocol::socket::Outgoing;
    ///
    /// assert_eq!(Outgoing::event("add", &(1, 2))?.len_bytes(), r#""add",1,2"#.len());
    /// # Ok::<(), antiphon_protocol::socket::EncodeError>(())
    /// ```
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let attachments = self.packets().iter().map(|packet| packet.payload().len());
        self.list.len() + attachments.sum::<usize>()
    }

    /// The attachments.
    pub fn attachments(&self) -> impl Iterator<Item = Bytes> {
        self.packets().iter().map(EncodedPacket::shared_payload)
    }

    /// Gives the arguments to `read`. What was written isn't checked again, so that no limit of a
    /// decoder applies.
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

    pub(crate) fn list(&self) -> &str {
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
