//! Messages that a server has compressed (RFC 7692), inflated to be compared.

use flate2::{Decompress, FlushDecompress};

use crate::Result;

/// What a compressor's flush ends with, and a message leaves out (RFC 7692 §7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A message may have so many bytes.
const MOST: usize = 1 << 20;

/// Memory for messages one after the other.
#[derive(Default)]
pub struct Inflater {
    /// The last one that was compressed by itself. A broadcast's others are the same.
    last: Vec<u8>,
    inflated: Vec<u8>,
}

/// What inflates the messages of one connection, each with what came before it.
pub fn decompress() -> Box<Decompress> {
    Box::new(Decompress::new(false))
}

impl Inflater {
    /// Inflates a message that was compressed by itself.
    pub fn alone(&mut self, payload: &[u8]) -> Result<&[u8]> {
        if self.last != payload {
            self.with(&mut decompress(), payload)?;
            self.last.extend_from_slice(payload);
        }
        Ok(&self.inflated)
    }

    /// Inflates the next message of a connection.
    pub fn with(&mut self, own: &mut Decompress, payload: &[u8]) -> Result<&[u8]> {
        self.last.clear();
        self.inflated.clear();
        for mut part in [payload, &TAIL] {
            while !part.is_empty() {
                if self.inflated.len() >= MOST {
                    return Err("a compressed message doesn't end".into());
                }
                self.inflated.reserve(payload.len() * 4 + 1024);
                let before = own.total_in();
                own.decompress_vec(part, &mut self.inflated, FlushDecompress::Sync)?;
                let read = own.total_in() - before;
                part = &part[read as usize..];
            }
        }
        Ok(&self.inflated)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// Messages in one window.
    fn deflated(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 64);
        let flush = FlushCompress::Sync;
        compress.compress_vec(message, &mut out, flush).unwrap();
        out.strip_suffix(&TAIL).unwrap().to_vec()
    }

    #[test]
    fn messages_are_what_was_compressed() {
        let messages = [vec![b'a'; 100], b"abc".to_vec(), vec![b'b'; 100_000]];
        let mut compress = Compress::new(Compression::default(), false);
        let (mut inflater, mut own) = (Inflater::default(), decompress());
        for message in &messages {
            let alone = deflated(&mut Compress::new(Compression::default(), false), message);
            for _ in 0..2 {
                assert_eq!(inflater.alone(&alone).unwrap(), message);
            }
            let with = deflated(&mut compress, message);
            assert_eq!(inflater.with(&mut own, &with).unwrap(), message);
        }
    }
}
