//! Inflating up to a bound, part by part: what the compressed messages of a WebSocket and the
//! compressed bodies of HTTP share.
//!
//! Whoever inflates owns the [`Decompress`] and gives it to [`Inflated::add`] with each part. Little
//! may inflate to much, which the bound limits, and much to little, slowly (a block may be all
//! table): so whoever has others to serve gives small parts, and sees to them in between.

use flate2::{Decompress, FlushDecompress, Status};

/// The room that is made at first, in bytes.
const FIRST_ROOM: usize = 1 << 10;

/// What has been inflated so far.
#[derive(Debug, Default)]
pub(crate) struct Inflated(pub(crate) Vec<u8>);

/// Why a part can't be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// There are more bytes than the bound. With a larger one the rest of the part may be added.
    TooBig,
    Invalid,
}

impl Inflated {
    /// Adds what `part` inflates to, up to its end or that of the stream of blocks, and leaves in it
    /// what comes behind. Returns whether the stream has ended.
    ///
    /// # Errors
    /// [`InflateError`] as soon as there are more than `max` bytes together, and for what no
    /// compressor makes.
    pub(crate) fn add(
        &mut self,
        inflater: &mut Decompress,
        part: &mut &[u8],
        max: usize,
    ) -> Result<bool, InflateError> {
        let Self(data) = self;
        loop {
            if data.len() == data.capacity() {
                // Up to one byte more than there may be.
                let most = max.saturating_add(1).saturating_sub(data.len());
                data.reserve_exact(data.len().max(FIRST_ROOM).min(most));
            }
            let read = inflater.total_in();
            let status = inflater
                .decompress_vec(part, data, FlushDecompress::None)
                .map_err(|_| InflateError::Invalid)?;
            *part = &part[(inflater.total_in() - read) as usize..];
            if data.len() > max {
                return Err(InflateError::TooBig);
            }
            match status {
                Status::StreamEnd => return Ok(true),
                // There may be more where this came from.
                _ if data.len() == data.capacity() => {}
                _ if part.is_empty() => return Ok(false),
                Status::Ok => {}
                Status::BufError => return Err(InflateError::Invalid),
            }
        }
    }
}
