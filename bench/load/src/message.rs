//! What is sent and what must come back, byte for byte.
//!
//! Each payload starts with who sent it and the how-manieth it is, in hexadecimal, so that a lost,
//! doubled, mixed up or reordered message can't pass for another. The rest is a pattern without a
//! short period, so that a shifted or repeated piece can't either.

use std::io::Write;

/// The digits at the start of a payload: sender and number, 8 each.
pub const STAMP: usize = 16;

/// The pattern behind the stamp, and a scratch buffer to put a message together.
pub struct Payload {
    text: Vec<u8>,
    binary: Vec<u8>,
    scratch: Vec<u8>,
}

impl Payload {
    /// Payloads of `size` bytes, at least those of the stamp.
    pub fn new(size: usize) -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let binary: Vec<u8> = (STAMP..size.max(STAMP))
            .map(|_| random(&mut state) as u8)
            .collect();
        Self {
            text: binary.iter().map(|byte| b'a' + byte % 26).collect(),
            binary,
            scratch: Vec::new(),
        }
    }

    /// Payloads that are more than one text, `STAMP",[{..},..],"..`: JSON as an application has it,
    /// which can be compressed. They have `size` bytes, at least those of the stamp.
    pub fn json(size: usize) -> Self {
        const NAMES: [&str; 4] = ["apples", "bread", "coffee", "oranges"];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut text = String::from("\",[");
        let size = size.saturating_sub(STAMP);
        loop {
            // No price ends with a zero, which a server that parses would leave out.
            let (id, price) = (random(&mut state) % 100_000, random(&mut state) % 1_000);
            let price = price * 10 + 1 + id % 9;
            let name = NAMES[(random(&mut state) % 4) as usize];
            let row = format!(
                r#"{{"id":{id},"name":"{name}","price":{}.{:02},"isSold":{}}}"#,
                price / 100,
                price % 100,
                price % 2 == 0
            );
            // Brackets and quotes are to follow.
            if text.len() + row.len() + 4 > size {
                break;
            }
            text.push_str(&row);
            text.push(',');
        }
        let text = text.trim_end_matches(',').to_owned() + "],\"";
        let filler = ".".repeat(size.saturating_sub(text.len()));
        Self {
            text: (text + &filler).into_bytes(),
            binary: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// `PREFIX"PAYLOAD"]`, where the prefix is as `42["echo",`.
    pub fn text(&mut self, prefix: &str, sender: usize, number: u64) -> &[u8] {
        self.scratch.clear();
        self.scratch.extend_from_slice(prefix.as_bytes());
        self.scratch.push(b'"');
        stamp(&mut self.scratch, sender, number);
        self.scratch.extend_from_slice(&self.text);
        self.scratch.extend_from_slice(b"\"]");
        &self.scratch
    }

    /// The same with an acknowledgement's id between the type and the rest, as in `427["ack",`.
    pub fn with_id(&mut self, kind: &str, rest: &str, sender: usize, number: u64) -> &[u8] {
        self.scratch.clear();
        write!(self.scratch, "{kind}{number}{rest}\"").expect("memory takes it");
        stamp(&mut self.scratch, sender, number);
        self.scratch.extend_from_slice(&self.text);
        self.scratch.extend_from_slice(b"\"]");
        &self.scratch
    }

    /// The payload as a text of MessagePack, with what is before and behind it.
    pub fn packed(&mut self, prefix: &[u8], suffix: &[u8], sender: usize, number: u64) -> &[u8] {
        self.scratch.clear();
        self.scratch.extend_from_slice(prefix);
        let length = STAMP + self.text.len();
        match length {
            ..=0xff => self.scratch.extend_from_slice(&[0xd9, length as u8]),
            _ => {
                self.scratch.push(0xda);
                self.scratch.extend((length as u16).to_be_bytes());
            }
        }
        stamp(&mut self.scratch, sender, number);
        self.scratch.extend_from_slice(&self.text);
        self.scratch.extend_from_slice(suffix);
        &self.scratch
    }

    /// The payload as bytes of all values.
    pub fn binary(&mut self, sender: usize, number: u64) -> &[u8] {
        self.scratch.clear();
        stamp(&mut self.scratch, sender, number);
        self.scratch.extend_from_slice(&self.binary);
        &self.scratch
    }
}

fn stamp(out: &mut Vec<u8>, sender: usize, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for value in [sender as u32, number as u32] {
        out.extend((0..8).map(|at| DIGITS[(value >> (28 - 4 * at)) as usize & 15]));
    }
}

/// The number in the stamp of a text message.
pub fn number_in(message: &[u8]) -> Option<u64> {
    let message = message.strip_suffix(b"\"]")?;
    let start = message.iter().rposition(|byte| *byte == b'"')? + 1;
    let digits = message.get(start + 8..start + STAMP)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What a person can read of a message in an error.
pub fn shown(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(&message[..message.len().min(120)]);
    format!("{text:?} ({} bytes)", message.len())
}

/// xorshift64: the masks and patterns need no better.
pub fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_sender_and_number() {
        let mut payload = Payload::new(20);
        let text = payload.text("42[\"echo\",", 0xab, 0x1234).to_vec();
        assert!(text.starts_with(b"42[\"echo\",\"000000ab00001234"));
        assert_eq!(text.len(), 10 + 1 + 20 + 2);
        assert_eq!(number_in(&text), Some(0x1234));
        assert!(
            payload
                .with_id("42", "[\"ack\",", 1, 7)
                .starts_with(b"427[\"ack\",\"00000001")
        );
        assert_eq!(payload.binary(1, 7).len(), 20);
        let packed = payload.packed(b"\x92", b"\xc0", 1, 7);
        assert!(packed.starts_with(b"\x92\xd9\x1400000001"));
        assert_eq!(packed.len(), 1 + 2 + 20 + 1);
    }

    #[test]
    fn a_payload_of_json_has_its_size_and_closes_what_it_opens() {
        for size in [40, 200, 1024] {
            let mut payload = Payload::json(size);
            let text = String::from_utf8(payload.text("[", 1, 2).to_vec()).unwrap();
            assert_eq!(text.len(), size + 4);
            let count = |what: char| text.matches(what).count();
            assert_eq!(count('{'), count('}'));
            assert_eq!((count('['), count(']'), count('"') % 2), (2, 2, 0));
            assert!(text.starts_with("[\"0000000100000002\",["));
            assert!(!text.contains(",]"));
        }
    }
}
