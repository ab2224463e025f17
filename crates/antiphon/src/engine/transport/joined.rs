//! Small pieces side by side: up to 16 KiB are copied into a buffer of the thread and written as
//! one.
//!
//! For lists of short pieces the kernel takes longer than the copy does. Larger ones are for the
//! caller to write as a list.

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
    // Where the thread ends, and pays what it owes, its buffer may be gone.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.reserve(JOINED);
    for piece in pieces {
        buffer.extend_from_slice(piece);
    }
    let written = write(&buffer);
    buffer.clear();
    let _ = BUFFER.try_with(|kept| kept.set(buffer));
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() {
        let joined = joined(&[IoSlice::new(b"a"), IoSlice::new(b"b")], <[u8]>::to_vec);
        assert_eq!(joined, Some(b"ab".to_vec()));
    }

    /// A panic here would end the process.
    #[test]
    fn pieces_are_joined_also_while_the_thread_ends() {
        struct Ending;
        impl Drop for Ending {
            fn drop(&mut self) {
                join();
            }
        }
        thread_local! {
            static ENDING: Ending = const { Ending };
        }
        // What a thread makes first is dropped last.
        let thread = std::thread::spawn(|| {
            ENDING.with(|_| ());
            join();
        });
        thread.join().unwrap();
    }
}
