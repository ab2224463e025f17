//! The read buffer of a thread: what one task reads into it is gone when the next one reads.

use std::cell::Cell;

/// Bytes of the thread's read buffer.
pub(super) const READ_BUFFER: usize = 256 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Gives a read buffer of the thread to `read`.
pub(crate) fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    if buffer.is_empty() {
        // Fresh from the system, so that what is never read into takes no memory.
        buffer = vec![0; READ_BUFFER];
    }
    let result = read(&mut buffer);
    BUFFER.set(buffer);
    result
}
