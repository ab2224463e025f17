//! Bytes out of arguments without a copy.
//!
//! Serde knows bytes that are lent or copied, and none that are shared. So an [`Input`] that is
//! asked for [`SHARED`] leaves the attachment in a place of the thread while it lends its bytes, and
//! [`shared`] takes what it finds there, if it is what was lent.
//!
//! [`Input`]: super::input::Input

use std::{cell::Cell, fmt, ptr};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// The name of a newtype struct that takes bytes as they lie in memory.
pub(super) const SHARED: &str = "$antiphon::shared";

thread_local! {
    static LENT: Cell<Option<Bytes>> = const { Cell::new(None) };
}

/// Deserializes [`Bytes`] so that those of an attachment are shared, where the type's own
/// implementation copies them. For `#[serde(deserialize_with)]`.
///
/// They are copied if serde keeps them before it knows the type, as it does for untagged enums and
/// flattened fields.
///
/// ```
/// use antiphon_protocol::engine::Revision;
/// use antiphon_protocol::socket::{Decoder, Limits, Packet, shared};
/// use bytes::Bytes;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct File {
///     #[serde(deserialize_with = "shared")]
///     content: Bytes,
/// }
///
/// let mut decoder = Decoder::new(Revision::V4, Limits::default());
/// decoder.text(r#"51-["file",{"content":{"_placeholder":true,"num":0}}]"#)?;
/// let sent = Bytes::from(vec![7; 1_000]);
/// let packet = decoder.binary(sent.clone())?.expect("it is whole");
/// let Packet::Event { args, .. } = packet.packet() else { panic!() };
/// let file: File = args.deserialize()?;
/// assert_eq!(file.content.as_ptr(), sent.as_ptr());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If there are no bytes.
pub fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_newtype_struct(SHARED, Shared)
}

/// Lends the bytes of an attachment to a visitor, which may be that of [`shared`].
pub(super) fn lend<'de, V: Visitor<'de>, E: Error>(
    attachment: &'de Bytes,
    visitor: V,
) -> Result<V::Value, E> {
    LENT.set(Some(attachment.clone()));
    let value = visitor.visit_borrowed_bytes(attachment);
    LENT.take();
    value
}

struct Shared;

impl<'de> Visitor<'de> for Shared {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, data: &[u8]) -> Result<Bytes, E> {
        let lent = LENT.take().filter(|lent| ptr::eq(&**lent, data));
        Ok(lent.unwrap_or_else(|| Bytes::copy_from_slice(data)))
    }

    /// Of a deserializer that doesn't know the name.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Bytes, D::Error> {
        Bytes::deserialize(inner)
    }
}
