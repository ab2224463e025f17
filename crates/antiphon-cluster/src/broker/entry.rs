//! Entries of streams as frames: an id, and fields with their values.
//!
//! A frame is one piece of bytes, and an entry is several. A broker with streams takes a frame that
//! is published under a [stream](crate::Topic::stream) apart, and puts what it reads there together.
//! Rows of Node's table of attachments ([`NodeWire::Postgres`](crate::node::NodeWire)) are packed so,
//! too.
//!
//! ```
//! use antiphon_cluster::broker::entry;
//!
//! let fields = [(&b"nsp"[..], &b"/"[..]), (b"type", b"3")];
//! let frame = entry::pack(b"1700000000000-0", fields);
//! let (id, read) = entry::unpack(&frame).unwrap();
//! assert_eq!((id, &read[..]), (&b"1700000000000-0"[..], &fields[..]));
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};

/// A field and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// In the place of an entry: entries before the next one were trimmed before they could be read.
pub const TRIMMED: &[u8] = b"";

/// In the place of an entry: the stream begins anew, and what was in it is gone.
pub const ANEW: &[u8] = b"\0";

/// The field with the number that the sender of an entry has given it.
pub(crate) const NUMBER: &[u8] = b"n";

/// The frame of an entry. One that is to be appended has an empty id: the broker gives it one.
pub fn pack<'a>(id: &[u8], fields: impl IntoIterator<Item = Field<'a>>) -> Bytes {
    let mut frame = BytesMut::new();
    put(&mut frame, id);
    for (field, value) in fields {
        put(&mut frame, field);
        put(&mut frame, value);
    }
    frame.freeze()
}

fn put(frame: &mut BytesMut, part: &[u8]) {
    frame.reserve(8 + part.len());
    frame.put_u64(part.len() as u64);
    frame.put_slice(part);
}

/// The id and the fields of an entry. Returns `None` if this is no frame of one.
#[must_use]
pub fn unpack(mut frame: &[u8]) -> Option<(&[u8], Vec<Field<'_>>)> {
    let id = take(&mut frame)?;
    let mut fields = Vec::new();
    while !frame.is_empty() {
        fields.push((take(&mut frame)?, take(&mut frame)?));
    }
    Some((id, fields))
}

/// The server that has sent an entry, and the number that it has given it. Returns `None` if there is no
/// number: nobody waits for the entry to come back.
#[must_use]
pub fn sender<'a>(fields: &[Field<'a>]) -> Option<(&'a str, u64)> {
    let text = |name: &[u8]| {
        let field = fields.iter().find(|(field, _)| *field == name);
        field.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    Some((text(b"uid")?, text(NUMBER)?.parse().ok()?))
}

fn take<'a>(frame: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = frame.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (part, rest) = rest.split_at_checked(length)?;
    *frame = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_comes_back_as_it_was(
            id in ".*",
            fields in proptest::collection::vec((".*", ".*"), 0..8),
        ) {
            let fields: Vec<Field<'_>> =
                fields.iter().map(|(field, value)| (field.as_bytes(), value.as_bytes())).collect();
            let frame = pack(id.as_bytes(), fields.iter().copied());
            prop_assert_eq!(unpack(&frame), Some((id.as_bytes(), fields)));
            for end in 0..frame.len() {
                if let Some((_, part)) = unpack(&frame[..end]) {
                    prop_assert!(part.len() < frame.len());
                }
            }
        }

        #[test]
        fn whatever_comes_is_proven(frame: Vec<u8>) {
            let _ = unpack(&frame);
        }
    }

    #[test]
    fn a_length_beyond_the_frame_is_no_entry() {
        assert_eq!(unpack(&[0xff; 8]), None);
        assert_eq!(unpack(&[]), None);
    }
}
