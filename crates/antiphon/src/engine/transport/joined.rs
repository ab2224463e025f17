//! Small pieces side by side: up to 16 KiB are copied into a buffer of the thread and written as one.
//!
//! For lists of short pieces the kernel takes longer than the copy does. Larger ones are for the caller
//! to write as a list.

use std::{cell::Cell, io::IoSlice};

/// Pieces of at most so many bytes together are copied.
const JOINED: usize = 16 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Gives the pieces side by side to `write`. Returns `None` if they are too large to be copied.
pub(crate) fn joined<T>(pieces: &[IoSlice<'_>], write: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > JOINED {
        return None;
    }
    let mut buffer = BUFFER.take();
    buffer.reserve(JOINED);
    for piece in pieces {
        buffer.extend_from_slice(piece);
    }
    let written = write(&buffer);
    buffer.clear();
    BUFFER.set(buffer);
    Some(written)
}
