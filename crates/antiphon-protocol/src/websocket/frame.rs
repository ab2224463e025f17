//! The layout of a frame (RFC 6455 §5.2): headers on their way in, and frames on their way out.
//!
//! In: `Header::parse` reads the header of the bytes that have come and checks what needs no state;
//! the [`Decoder`](super::Decoder) checks the rest. Out: functions that write one whole frame,
//! control frames of a server and all frames of a client. A server's data frames are written by
//! [`EncodedPacket`](crate::engine::EncodedPacket). Data too long for a control frame is cut.

use bytes::Bytes;

use super::{FrameError, Opcode};

/// Bit of the first byte: the last frame of a message.
const FIN: u8 = 0x80;
/// Bits of the first byte that only extensions may set.
const RESERVED: u8 = 0x70;
/// The first of them: the message is compressed (RFC 7692 §6).
pub(super) const COMPRESSED: u8 = 0x40;
/// Bit of the second byte: the payload is masked.
const MASKED: u8 = 0x80;
/// The length that says that two bytes of length follow.
const LENGTH_16: u8 = 126;
/// The length that says that eight bytes of length follow.
const LENGTH_64: u8 = 127;
/// The most bytes that a control frame carries (RFC 6455 §5.5).
const LONGEST_CONTROL: usize = 125;
/// The longest header: two bytes, a length of eight and a mask of four.
const LONGEST_HEADER: usize = 14;

/// What stands in front of the payload of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Whether this frame ends its message.
    pub(super) is_final: bool,
    /// Whether the message that this frame begins is compressed.
    pub(super) is_compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub(super) length: usize,
    /// Bytes of the payload.
    pub(super) payload: u64,
}

impl Header {
    /// Reads the header at the start of `input`, if all of it is there.
    pub(super) fn parse(input: &[u8], may_be_compressed: bool) -> Result<Option<Self>, FrameError> {
        let Some((&first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let reserved = first & RESERVED;
        let bits = first & !(FIN | RESERVED);
        let opcode = Opcode::from_bits(bits);
        if reserved != 0 {
            // Only the first frame of a data message says that it is compressed (RFC 7692 §6.1).
            let begins_message = matches!(opcode, Some(Opcode::Text | Opcode::Binary));
            if reserved != COMPRESSED || !may_be_compressed || !begins_message {
                return Err(FrameError::ReservedBits(reserved));
            }
        }
        let is_final = first & FIN != 0;
        let opcode = opcode.ok_or(FrameError::UnknownOpcode(bits))?;
        if opcode.is_control() && !is_final {
            return Err(FrameError::FragmentedControl(opcode));
        }
        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > LONGEST_CONTROL {
            return Err(FrameError::LongControl(opcode));
        }
        let Some((payload, rest)) = split_length(short, rest) else {
            return Ok(None);
        };
        if payload >> 63 != 0 {
            return Err(FrameError::Length(payload));
        }
        let (mask, rest) = match rest.split_first_chunk() {
            _ if second & MASKED == 0 => (None, rest),
            Some((mask, rest)) => (Some(*mask), rest),
            None => return Ok(None),
        };
        Ok(Some(Self {
            is_final,
            is_compressed: reserved != 0,
            opcode,
            mask,
            length: input.len() - rest.len(),
            payload,
        }))
    }
}

/// The length of the payload, from the seven bits in the second byte and what follows it.
fn split_length(short: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    match short {
        LENGTH_16 => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u64::from(u16::from_be_bytes(*length)), rest))
        }
        LENGTH_64 => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u64::from_be_bytes(*length), rest))
        }
        _ => Some((u64::from(short), rest)),
    }
}

/// Masks a payload, or takes the mask off (RFC 6455 §5.3). Eight bytes at a time, which the
/// compiler turns into vectors.
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// A close frame of a server. The code is not checked; a reason of more than 123 bytes is cut.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    encode(Opcode::Close, &close_payload(code, reason), None).into()
}

/// A ping frame of a server. Data of more than 125 bytes is cut.
#[must_use]
pub fn ping_frame(data: &[u8]) -> Bytes {
    encode(Opcode::Ping, data, None).into()
}

/// A pong frame of a server, with the data of the ping. Data of more than 125 bytes is cut.
#[must_use]
pub fn pong_frame(data: &[u8]) -> Bytes {
    encode(Opcode::Pong, data, None).into()
}

/// A final frame of a client. The mask must be random and new for each frame (RFC 6455 §5.3). The
/// data of a control frame is cut after 125 bytes.
#[must_use]
pub fn masked_frame(opcode: Opcode, data: &[u8], mask: [u8; 4]) -> Vec<u8> {
    encode(opcode, data, Some(mask))
}

/// A close frame of a client: see [`close_frame`] and [`masked_frame`].
#[must_use]
pub fn masked_close_frame(code: u16, reason: &str, mask: [u8; 4]) -> Vec<u8> {
    encode(Opcode::Close, &close_payload(code, reason), Some(mask))
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(LONGEST_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

fn encode(opcode: Opcode, data: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LONGEST_HEADER + data.len());
    append_frame(opcode, data, mask, &mut frame);
    frame
}

/// Appends a final frame: masked for a client, for a server not. The data of a control frame is cut
/// after 125 bytes.
pub fn append_frame(opcode: Opcode, data: &[u8], mask: Option<[u8; 4]>, frames: &mut Vec<u8>) {
    let limit = if opcode.is_control() {
        LONGEST_CONTROL
    } else {
        usize::MAX
    };
    let data = &data[..data.len().min(limit)];
    append_header(FIN | opcode as u8, data.len(), mask, frames);
    let start = frames.len();
    frames.extend_from_slice(data);
    if let Some(mask) = mask {
        apply_mask(&mut frames[start..], mask);
    }
}

/// Appends the header of a final frame with this first byte.
fn append_header(first: u8, length: usize, mask: Option<[u8; 4]>, frames: &mut Vec<u8>) {
    frames.push(first);
    let masked = if mask.is_some() { MASKED } else { 0 };
    match length {
        0..126 => frames.push(masked | length as u8),
        126..=0xffff => {
            frames.push(masked | LENGTH_16);
            frames.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frames.push(masked | LENGTH_64);
            frames.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        frames.extend_from_slice(&mask);
    }
}

/// Appends a final frame with what `append_payload` makes of a compressed message, unless that
/// returns `false`: then `frames` stays as it was. Returns whether the frame was appended.
#[cfg(feature = "deflate")]
pub(super) fn append_compressed_frame(
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    frames: &mut Vec<u8>,
    append_payload: impl FnOnce(&mut Vec<u8>) -> bool,
) -> bool {
    let start = frames.len();
    // The header's length depends on that of the payload, so the payload comes first.
    if !append_payload(frames) {
        frames.truncate(start);
        return false;
    }
    let length = frames.len() - start;
    if let Some(mask) = mask {
        apply_mask(&mut frames[start..], mask);
    }
    append_header(FIN | COMPRESSED | opcode as u8, length, mask, frames);
    frames[start..].rotate_left(length);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_written_as_there() {
        // RFC 6455 §5.7
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        assert_eq!(
            masked_frame(Opcode::Text, b"Hello", mask),
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        assert_eq!(&ping_frame(b"Hello")[..], b"\x89\x05Hello");
        assert_eq!(&pong_frame(b"Hello")[..], b"\x8a\x05Hello");
    }

    #[test]
    fn a_length_takes_the_shortest_form() {
        for (length, header) in [
            (0, &[0x82, 0x80][..]),
            (125, &[0x82, 0x80 | 125]),
            (126, &[0x82, 0x80 | 126, 0, 126]),
            (0xffff, &[0x82, 0x80 | 126, 0xff, 0xff]),
            (0x1_0000, &[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = masked_frame(Opcode::Binary, &vec![7; length], [0; 4]);
            assert_eq!(&frame[..header.len()], header);
            assert_eq!(frame.len(), header.len() + 4 + length);
        }
    }

    #[test]
    fn a_close_frame_has_a_code_and_a_reason() {
        assert_eq!(&close_frame(1000, "")[..], [0x88, 2, 0x03, 0xe8]);
        assert_eq!(&close_frame(1001, "bye")[..], b"\x88\x05\x03\xe9bye");
        let masked = masked_close_frame(1001, "bye", [0; 4]);
        assert_eq!(&masked[..], b"\x88\x85\0\0\0\0\x03\xe9bye");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close_frame(1000, &"é".repeat(100));
        assert_eq!(frame[1], 2 + 122);
        assert_eq!(&frame[4..], "é".repeat(61).as_bytes());
    }

    #[test]
    fn long_control_data_is_cut() {
        assert_eq!(ping_frame(&[1; 200]).len(), 2 + 125);
        assert_eq!(pong_frame(&[1; 200]).len(), 2 + 125);
        assert_eq!(masked_frame(Opcode::Ping, &[1; 200], [0; 4]).len(), 6 + 125);
    }

    #[test]
    fn a_mask_taken_twice_is_none() {
        let mask = [1, 2, 3, 4];
        for length in 0..40_u8 {
            let data: Vec<u8> = (0..length).collect();
            let mut masked = data.clone();
            apply_mask(&mut masked, mask);
            for (index, (&plain, &byte)) in data.iter().zip(&masked).enumerate() {
                assert_eq!(byte, plain ^ mask[index % 4]);
            }
            apply_mask(&mut masked, mask);
            assert_eq!(masked, data);
        }
    }

    #[test]
    fn a_header_is_read_once_it_is_whole() {
        let frame = masked_frame(Opcode::Binary, &[0; 300], [1, 2, 3, 4]);
        for end in 0..8 {
            assert!(Header::parse(&frame[..end], false).unwrap().is_none());
        }
        let header = Header::parse(&frame[..8], false).unwrap().unwrap();
        assert!(header.is_final);
        assert_eq!(header.opcode, Opcode::Binary);
        assert_eq!(header.mask, Some([1, 2, 3, 4]));
        assert_eq!((header.length, header.payload), (8, 300));
    }
}
