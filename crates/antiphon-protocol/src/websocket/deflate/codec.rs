//! One message in, one message out: what compresses and inflates.
//!
//! Both are the thread's, and made once. A message that takes long to inflate is an [`Inflation`],
//! which has the thread's inflater meanwhile.

use std::{cell::Cell, thread::LocalKey};

use flate2::{Compress, CompressError, Compression, Decompress, FlushCompress};

use super::{Level, Window};
use crate::{
    inflate::{InflateError, Inflated},
    websocket::{FrameError, Opcode, frame},
};

/// What ends a compressed message, and is left out (RFC 7692 §7.2.1).
const LEFT_OUT: [u8; 4] = [0, 0, 0xff, 0xff];

/// What takes its place at the receiver: the same, and an empty last block. Only data that ended
/// where a block may begin comes to its end with that, and with nothing more inflated.
const END: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// The most compressed bytes in one call.
const CHUNK: usize = 4 << 10;

/// Compressed bytes that one step reads, in pieces: no piece inflates to more than some megabytes.
const READ_A_STEP: usize = 32 << 10;
const PIECE: usize = 4 << 10;

/// Bytes after which a step ends.
const MADE_A_STEP: usize = 256 << 10;

thread_local! {
    static BITS_9: Cell<Option<Compressor>> = const { Cell::new(None) };
    static BITS_12: Cell<Option<Compressor>> = const { Cell::new(None) };
    static BITS_15: Cell<Option<Compressor>> = const { Cell::new(None) };
    static INFLATER: Cell<Option<Decompress>> = const { Cell::new(None) };
}

/// A compressor, and the level that it was made for: one server has one.
type Compressor = (Level, Compress);

impl Window {
    const fn compressor(self) -> &'static LocalKey<Cell<Option<Compressor>>> {
        match self {
            Self::Bits9 => &BITS_9,
            Self::Bits12 => &BITS_12,
            Self::Bits15 => &BITS_15,
        }
    }
}

/// Lends what the thread keeps in `slot`, which `make` makes the first time.
fn with<T, R>(
    slot: &'static LocalKey<Cell<Option<T>>>,
    make: impl FnOnce() -> T,
    job: impl FnOnce(&mut T) -> R,
) -> R {
    // Where the thread ends, nothing is kept any more.
    let kept = slot.try_with(Cell::take).ok().flatten();
    let mut kept = kept.unwrap_or_else(make);
    let result = job(&mut kept);
    let _ = slot.try_with(|slot| slot.set(Some(kept)));
    result
}

/// Appends one whole message as a compressed frame, masked for a client, for a server not. Returns
/// `false` and appends nothing if that would be no shorter than the message itself, or if `opcode`
/// is neither text nor binary, which alone may be compressed. Send the frame as it is then.
///
/// ```
/// use antiphon_protocol::websocket::{
///     Decoder, Event, Opcode, Role,
///     deflate::{Window, append_compressed_frame},
/// };
///
/// let text = "tick tock ".repeat(100);
/// let mut frames = Vec::new();
/// let opcode = Opcode::Text;
/// assert!(append_compressed_frame(opcode, text.as_bytes(), Window::Bits15, None, &mut frames));
/// assert!(frames.len() < 50);
///
/// let mut decoder = Decoder::new(Role::Client, 1_000).with_deflate();
/// let event = decoder.decode(&mut frames)?.event;
/// assert_eq!(event, Some(Event::Text(text.into())));
/// # Ok::<_, antiphon_protocol::websocket::FrameError>(())
/// ```
pub fn append_compressed_frame(
    opcode: Opcode,
    data: &[u8],
    window: Window,
    mask: Option<[u8; 4]>,
    frames: &mut Vec<u8>,
) -> bool {
    append_frame_at_level(opcode, data, (window, Level::default()), mask, frames)
}

/// As [`append_compressed_frame`], with more or less work.
pub(crate) fn append_frame_at_level(
    opcode: Opcode,
    data: &[u8],
    (window, level): (Window, Level),
    mask: Option<[u8; 4]>,
    frames: &mut Vec<u8>,
) -> bool {
    if !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return false;
    }
    with_compressor(window, level, |compressor| {
        frame::append_compressed_frame(opcode, mask, frames, |frames| {
            compress(compressor, data, frames).unwrap_or_else(|_| {
                *compressor = self::compressor(window, level);
                false
            })
        })
    })
}

/// Lends the thread's compressor for a window, which is made anew for another level.
fn with_compressor<R>(window: Window, level: Level, job: impl FnOnce(&mut Compress) -> R) -> R {
    let make = || (level, compressor(window, level));
    with(window.compressor(), make, |kept| {
        if kept.0 != level {
            *kept = make();
        }
        job(&mut kept.1)
    })
}

/// Appends a compressed message. Returns `false` if it is no shorter; what was appended is of no
/// use then.
fn compress(
    compressor: &mut Compress,
    data: &[u8],
    output: &mut Vec<u8>,
) -> Result<bool, CompressError> {
    let end = output.len() + data.len();
    if !append_blocks(compressor, data, output)? {
        return Ok(false);
    }
    output.truncate(output.len() - LEFT_OUT.len());
    Ok(output.len() < end)
}

/// Appends data as blocks of deflate, of which the last is empty and ends at a byte. Returns
/// `false` if it could not.
///
/// It goes on to the end even if they are no shorter: `zlib-rs` 0.6.8 mixes a compressor that was
/// left amidst a block and reset with the next message, and panics at times. The end is near, as
/// deflate adds little to what it can't compress.
fn append_blocks(
    compressor: &mut Compress,
    mut data: &[u8],
    output: &mut Vec<u8>,
) -> Result<bool, CompressError> {
    compressor.reset();
    let start = output.len();
    let mut chunk = [0; CHUNK];
    loop {
        let (read, written) = (compressor.total_in(), compressor.total_out());
        compressor.compress(data, &mut chunk, FlushCompress::Sync)?;
        data = &data[(compressor.total_in() - read) as usize..];
        let written = (compressor.total_out() - written) as usize;
        output.extend_from_slice(&chunk[..written]);
        if written < CHUNK {
            break;
        }
    }
    Ok(data.is_empty() && output[start..].ends_with(&LEFT_OUT))
}

/// Appends data as blocks of deflate that refer to nothing before them, and end at a byte: more may
/// follow. What can't be compressed is stored.
pub(crate) fn append_deflated(data: &[u8], output: &mut Vec<u8>) {
    let start = output.len();
    let (window, level) = (Window::Bits15, Level::default());
    let compressed = with_compressor(window, level, |compressor| {
        append_blocks(compressor, data, output).unwrap_or_else(|_| {
            *compressor = self::compressor(window, level);
            false
        })
    });
    if !compressed {
        output.truncate(start);
        for part in data.chunks(usize::from(u16::MAX)) {
            // No longer than the largest block.
            let length = part.len() as u16;
            output.push(0);
            output.extend_from_slice(&length.to_le_bytes());
            output.extend_from_slice(&(!length).to_le_bytes());
            output.extend_from_slice(part);
        }
    }
}

fn compressor(window: Window, level: Level) -> Compress {
    let level = Compression::new(level.number().into());
    Compress::new_with_window_bits(level, false, window.bits())
}

/// A message that is inflated in steps, since one may take long: one of 1 MB that is all tables of
/// codes takes 60 ms.
#[derive(Debug)]
pub(in crate::websocket) struct Inflation {
    /// The thread's. Given back to the one that this ends on.
    inflater: Option<Decompress>,
    inflated: Inflated,
    /// A last block has ended, where what was read so far does.
    has_ended: bool,
}

impl Inflation {
    /// Nothing is inflated yet.
    pub(in crate::websocket) fn new() -> Self {
        // Where the thread ends, nothing is kept any more.
        let inflater = INFLATER.try_with(Cell::take).ok().flatten();
        let mut inflater = inflater.unwrap_or_else(|| Decompress::new(false));
        inflater.reset(false);
        Self {
            inflater: Some(inflater),
            inflated: Inflated::default(),
            has_ended: false,
        }
    }

    /// Inflates as much of the message as one step may, and leaves the rest in `payload`. The
    /// message may have `max` bytes.
    ///
    /// # Errors
    /// [`FrameError::TooBig`] as soon as there are more than `max` bytes: with a larger limit the
    /// same may be tried again. [`FrameError::Deflate`] for what is no compressed message.
    pub(in crate::websocket) fn step(
        &mut self,
        payload: &mut &[u8],
        max: usize,
    ) -> Result<(), FrameError> {
        let most = self.inflated.0.len() + MADE_A_STEP;
        let mut read = 0;
        while !payload.is_empty() && read < READ_A_STEP && self.inflated.0.len() < most {
            let length = payload.len().min(PIECE);
            let mut piece = &payload[..length];
            let inflated = self.add(&mut piece, max);
            // All of it, but for an error.
            let taken = length - piece.len();
            read += taken;
            *payload = &payload[taken..];
            inflated?;
        }
        Ok(())
    }

    /// Blocks may follow a last one (RFC 7692 §7.2.3.4). As its sender has begun anew, so do we.
    fn add(&mut self, part: &mut &[u8], max: usize) -> Result<(), FrameError> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        while !part.is_empty() {
            if std::mem::take(&mut self.has_ended) {
                inflater.reset(false);
            }
            self.has_ended = match self.inflated.add(inflater, part, max) {
                Ok(has_ended) => has_ended,
                Err(InflateError::TooBig) => {
                    return Err(FrameError::TooBig {
                        length: self.inflated.0.len() as u64,
                        max,
                    });
                }
                Err(InflateError::Invalid) => return Err(FrameError::Deflate),
            };
        }
        Ok(())
    }

    /// The message, once all of it has been read.
    ///
    /// # Errors
    /// [`FrameError::Deflate`] if it ends within a block.
    pub(in crate::websocket) fn finish(mut self) -> Result<Vec<u8>, FrameError> {
        // Some senders forget what has to follow a last block of their own.
        if !self.has_ended {
            let length = self.inflated.0.len();
            self.add(&mut &END[..], length)
                .map_err(|_| FrameError::Deflate)?;
            if !self.has_ended {
                return Err(FrameError::Deflate);
            }
        }
        Ok(std::mem::take(&mut self.inflated.0))
    }
}

impl Drop for Inflation {
    fn drop(&mut self) {
        let _ = INFLATER.try_with(|slot| slot.set(self.inflater.take()));
    }
}
