//! [`Binary`]: the attachment of an event, as a handler's type names it.
//!
//! It is `Bytes` but for how it is read: it shares the memory in which the attachment came.

use std::ops::Deref;

use antiphon_protocol::socket::shared;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

/// A binary attachment, anywhere in what is sent or taken.
///
/// It is what `Bytes` are, but that reading it out of an event copies nothing: serde has no bytes
/// that are shared, so a [`Data<Bytes>`](crate::Data) is a copy of the attachment, where a
/// `Data<Binary>` has the memory that the message was received in. That matters for large ones.
/// (Serde copies it inside of untagged enums and flattened fields all the same.) Sending copies
/// either once, into the frame that all receivers share.
///
/// To TypeScript it is an `ArrayBuffer`, or on the way to the server also a view of one, as Node's
/// `Buffer` is. A field that is to stay `Bytes` may have
/// `#[serde(deserialize_with = "antiphon::shared")]`, and
/// `#[schemars(with = "antiphon::Binary")]`.
///
/// ```
/// use antiphon::{Binary, Data, Server};
///
/// let io = Server::builder().max_payload(64 << 20).build();
/// io.of("/").on("upload", async |Data((name, file)): Data<(String, Binary)>| {
///     println!("{name}: {} bytes", file.len());
/// });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Binary(pub Bytes);

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shared(deserializer).map(Self)
    }
}

impl Deref for Binary {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl From<Bytes> for Binary {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Binary> for Bytes {
    fn from(binary: Binary) -> Self {
        binary.0
    }
}
