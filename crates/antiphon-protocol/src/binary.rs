//! Bytes of a message: lent from the buffer that they were read into, or owned.
//!
//! Frames and packets are read where they lie, and most are lent. A large one is read into a buffer
//! of its own, which goes all the way to the handler: its [`BinaryMessage`] is owned, and taking the bytes
//! out of it copies nothing.

use std::{fmt, ops::Deref};

use bytes::Bytes;

/// Bytes that were lent, or that may be kept without a copy. Two are equal if their bytes are.
///
/// ```
/// use antiphon_protocol::BinaryMessage;
/// use bytes::Bytes;
///
/// let lent = BinaryMessage::from(&b"abc"[..]);
/// let owned = BinaryMessage::from(vec![97, 98, 99]);
/// assert_eq!(lent, owned);
/// assert_eq!(Bytes::from(owned), "abc");
/// ```
#[derive(Clone)]
pub enum BinaryMessage<'a> {
    /// They lie in a buffer that has other uses.
    Lent(&'a [u8]),
    /// They are the caller's.
    Owned(Bytes),
}

impl BinaryMessage<'_> {
    /// Takes lent bytes as a share of `whole`, if they lie in it and are at least half of it. A
    /// smaller part stays lent: keeping it must not keep a buffer of more than twice its size.
    ///
    /// ```
    /// use antiphon_protocol::BinaryMessage;
    /// use bytes::Bytes;
    ///
    /// let body = Bytes::from_static(b"4....");
    /// let message = BinaryMessage::from(&body[1..]).shared(&body);
    /// assert!(matches!(message, BinaryMessage::Owned(_)));
    /// let byte = BinaryMessage::from(&body[..1]).shared(&body);
    /// assert!(matches!(byte, BinaryMessage::Lent(b"4")));
    /// ```
    #[must_use]
    pub fn shared(self, whole: &Bytes) -> Self {
        match self {
            Self::Lent(data) if data.len() >= whole.len().div_ceil(2) => {
                let offset = (data.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
                let range = offset.and_then(|start| Some(start..start.checked_add(data.len())?));
                match range.filter(|range| range.end <= whole.len()) {
                    Some(range) => Self::Owned(whole.slice(range)),
                    None => self,
                }
            }
            Self::Lent(_) | Self::Owned(_) => self,
        }
    }

    /// Itself without its first byte, and that byte. Returns `None` if there is none.
    pub(crate) fn split_first(mut self) -> Option<(u8, Self)> {
        let first = *self.first()?;
        match &mut self {
            Self::Lent(data) => *data = &data[1..],
            Self::Owned(data) => *data = data.slice(1..),
        }
        Some((first, self))
    }
}

impl Deref for BinaryMessage<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(data) => data,
            Self::Owned(data) => data,
        }
    }
}

impl fmt::Debug for BinaryMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for BinaryMessage<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for BinaryMessage<'_> {}

impl<'a> From<&'a [u8]> for BinaryMessage<'a> {
    fn from(data: &'a [u8]) -> Self {
        Self::Lent(data)
    }
}

impl From<Vec<u8>> for BinaryMessage<'_> {
    fn from(data: Vec<u8>) -> Self {
        Self::Owned(data.into())
    }
}

impl From<Bytes> for BinaryMessage<'_> {
    fn from(data: Bytes) -> Self {
        Self::Owned(data)
    }
}

impl From<BinaryMessage<'_>> for Bytes {
    /// Copies them only if they are lent.
    fn from(data: BinaryMessage<'_>) -> Self {
        match data {
            BinaryMessage::Lent(data) => Self::copy_from_slice(data),
            BinaryMessage::Owned(data) => data,
        }
    }
}

impl From<BinaryMessage<'_>> for Vec<u8> {
    /// Copies them if they are lent, or somebody else has them too.
    fn from(data: BinaryMessage<'_>) -> Self {
        match data {
            BinaryMessage::Lent(data) => data.to_vec(),
            BinaryMessage::Owned(data) => data.into(),
        }
    }
}
