//! WebSocket frames, by hand: masked on the way out, one whole message each on the way in.

use crate::Result;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The bit of a compressed message, beside its opcode.
pub const COMPRESSED: u8 = 0x40;

/// Appends a client's frame.
pub fn push(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ ..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    let mut wide = [0; 32];
    for (byte, mask) in wide.iter_mut().zip(mask.iter().cycle()) {
        *byte = *mask;
    }
    for chunk in out[start..].chunks_mut(32) {
        for (byte, mask) in chunk.iter_mut().zip(&wide) {
            *byte ^= mask;
        }
    }
}

/// A frame from the server.
pub struct Frame<'a> {
    pub opcode: u8,
    pub is_compressed: bool,
    pub payload: &'a [u8],
    /// How many bytes it took.
    pub size: usize,
}

/// The first frame of `bytes`, if it is complete.
pub fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0xf0 & !COMPRESSED != 0x80 {
        return Err(format!("expected a whole frame, got first byte {first:#04x}").into());
    }
    let (length, header) = match second {
        0..=125 => (usize::from(*second), 2),
        126 => match rest.first_chunk() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length) as usize, 10),
            None => return Ok(None),
        },
        _ => return Err("expected an unmasked frame from the server".into()),
    };
    let size = header + length;
    Ok((bytes.len() >= size).then(|| Frame {
        opcode: first & 0x0f,
        is_compressed: first & COMPRESSED != 0,
        payload: &bytes[header..size],
        size,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_length_forms_are_masked_and_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut out = Vec::new();
            push(&mut out, BINARY, &payload, [0; 4]);
            // With a mask of zeros, a client's frame is a server's but for the mask bit and key.
            out[1] &= 0x7f;
            let key = out.len() - payload.len() - 4;
            out.drain(key..key + 4);
            let frame = parse(&out).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload), (BINARY, &payload[..]));
            assert_eq!(frame.size, out.len());
            assert!(parse(&out[..out.len() - 1]).unwrap().is_none());
        }
    }

    #[test]
    fn the_mask_is_applied_by_position() {
        let mut out = Vec::new();
        push(&mut out, TEXT, &[0; 70], [1, 2, 3, 4]);
        assert_eq!(&out[2..6], &[1, 2, 3, 4]);
        assert_eq!(&out[6 + 64..], &[1, 2, 3, 4, 1, 2]);
    }
}
