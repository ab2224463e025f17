//! Numbers and texts one behind the other: what logs and servers of a cluster write records of.
//!
//! A number takes as many bytes as it needs, seven bits each, the lowest first. A text has its
//! length in front. Reading beyond the end gives `None`, and so does a number that is too large or
//! longer than it needs to be: each record is written in one way.
//!
//! ```
//! use antiphon_protocol::record::{Reader, write, write_bytes};
//!
//! let mut record = Vec::new();
//! write(&mut record, 300);
//! write_bytes(&mut record, b"news");
//! let mut reader = Reader::new(&record);
//! assert_eq!(reader.number(), Some(300));
//! assert_eq!(reader.text(), Some("news"));
//! assert_eq!(reader.number(), None);
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::socket::Outgoing;

/// The bit of a byte that says that the number goes on.
const CONTINUES: u8 = 0x80;

/// Writes a number.
pub fn write(to: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(CONTINUES) {
        to.push(number as u8 | CONTINUES);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Writes bytes, and how many they are before them.
pub fn write_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    write(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Writes texts, and how many they are before them.
pub fn write_texts(to: &mut Vec<u8>, texts: &[Arc<str>]) {
    write(to, texts.len() as u64);
    for text in texts {
        write_bytes(to, text.as_bytes());
    }
}

/// Writes an event with its arguments and attachments.
pub fn write_event(to: &mut Vec<u8>, event: &Outgoing) {
    let (list, name) = event.written();
    write(to, name as u64);
    write_bytes(to, list.as_bytes());
    write_attachments(to, event.attachments());
}

/// Writes attachments, and how many they are before them.
pub fn write_attachments(to: &mut Vec<u8>, attachments: impl Iterator<Item = Bytes>) {
    let attachments: Vec<_> = attachments.collect();
    write(to, attachments.len() as u64);
    for attachment in attachments {
        write_bytes(to, &attachment);
    }
}

/// The rest of a record.
#[derive(Debug, Clone)]
pub struct Reader<'r>(&'r [u8]);

impl<'r> Reader<'r> {
    /// A record from its beginning.
    #[must_use]
    pub const fn new(record: &'r [u8]) -> Self {
        Self(record)
    }

    /// What hasn't been read.
    #[must_use]
    pub const fn rest(&self) -> &'r [u8] {
        self.0
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// So many bytes, without a length before them.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let digits = u64::from(byte & !CONTINUES);
            if digits << shift >> shift != digits || byte == 0 && shift > 0 {
                return None;
            }
            number |= digits << shift;
            if byte & CONTINUES == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A number of things of which each takes a byte at least: no more than are left.
    pub fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Option<&'r [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Bytes that are UTF-8.
    pub fn text(&mut self) -> Option<&'r str> {
        str::from_utf8(self.bytes()?).ok()
    }

    /// As many texts as there were written.
    pub fn texts(&mut self) -> Option<Vec<Arc<str>>> {
        let count = self.count()?;
        (0..count).map(|_| self.text().map(Arc::from)).collect()
    }

    /// An event. What others may have changed is to be [proven](Outgoing::proven).
    pub fn event(&mut self) -> Option<Outgoing> {
        let name = usize::try_from(self.number()?).ok()?;
        let list = Bytes::copy_from_slice(self.bytes()?);
        Outgoing::from_written(list, name, self.attachments()?)
    }

    /// As many attachments as there were written.
    pub fn attachments(&mut self) -> Option<Vec<Bytes>> {
        let count = self.count()?;
        let bytes = (0..count).map(|_| self.bytes().map(Bytes::copy_from_slice));
        bytes.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_are_too_large_or_too_long_are_none() {
        assert_eq!(Reader::new(&[0x80, 0x00]).number(), None);
        let mut largest = Vec::new();
        write(&mut largest, u64::MAX);
        assert_eq!(Reader::new(&largest).number(), Some(u64::MAX));
        *largest.last_mut().unwrap() = 2;
        assert_eq!(Reader::new(&largest).number(), None);
        assert_eq!(Reader::new(&[0xff; 12]).number(), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(numbers: Vec<u64>, text: String) {
            let mut record = Vec::new();
            numbers.iter().for_each(|number| write(&mut record, *number));
            write_bytes(&mut record, text.as_bytes());
            let mut reader = Reader::new(&record);
            for number in numbers {
                prop_assert_eq!(reader.number(), Some(number));
            }
            prop_assert_eq!(reader.text(), Some(&*text));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn any_number_that_is_read_is_written_so(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Some(number) = reader.number() {
                let mut again = Vec::new();
                write(&mut again, number);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.rest().len()]);
            }
        }
    }
}
