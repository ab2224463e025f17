//! Messages that take long to inflate.

use super::*;

/// Blocks of which each is a table of two codes, the letter `a` so many times, and its end: what
/// takes longest for its bytes.
fn tables(length: usize, letters: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    while bits.0.len() < length {
        // A block with codes of its own, of which 257 are for letters, one for a distance, and 18
        // for the lengths of these: of those only the code for 1, `0`, and for many zeros, `1`.
        bits.put(0b100, 3);
        bits.put((18 - 4) << 10, 14);
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
            bits.put(u32::from(matches!(symbol, 18 | 1)), 3);
        }
        let zeros = |bits: &mut Bits, count: u32| bits.put((count - 11) << 1 | 1, 8);
        zeros(&mut bits, 97);
        bits.put(0, 1);
        zeros(&mut bits, 138);
        zeros(&mut bits, 20);
        bits.put(0b00, 2);
        (0..letters).for_each(|_| bits.put(0, 1));
        bits.put(1, 1);
    }
    // The empty block of which the rest is left out.
    bits.put(0, 3);
    bits.0
}

/// Bits side by side, the lowest of each byte first.
#[derive(Default)]
struct Bits(Vec<u8>, usize);

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for bit in 0..count {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            *self.0.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.1 % 8);
            self.1 += 1;
        }
    }
}

#[test]
fn a_message_that_takes_long_gives_way_after_each_step() {
    let max = 1 << 20;
    let letters = vec![b'a'; max];
    let messages = [
        (tables(1 << 19, 0), Vec::new()),
        (
            tables(1 << 19, 5),
            inflate(&tables(1 << 19, 5), max).unwrap(),
        ),
        (deflate(&letters, 9), letters),
        (deflate(&noise(1 << 19), 9), noise(1 << 19)),
    ];
    for (message, expected) in messages {
        let length = message.len();
        let mut decoder = Decoder::new(Role::Server, max).with_deflate();
        let fragments = message.chunks(60_000).enumerate().map(|(part, payload)| {
            let (bits, opcode) = match part {
                0 => (COMPRESSED, Opcode::Binary),
                _ => (MORE, Opcode::Continuation),
            };
            frame(bits, opcode, payload)
        });
        let fragments: Vec<_> = fragments.collect();
        assert_eq!(read(&mut decoder, &fragments).unwrap().len(), 0);
        let mut end = frame(FINAL, Opcode::Continuation, b"");
        let mut message = decoder.decode(&mut end).unwrap().event.map(bytes);
        // Another message is behind it.
        let mut next = frame(FINAL, Opcode::Text, b"next");
        let mut steps = 1;
        while message.is_none() {
            assert!(decoder.is_inflating());
            assert_eq!(decoder.frame_length(&next), Ok(None));
            let decoded = decoder.decode(&mut next).unwrap();
            assert_eq!(decoded.consumed, 0);
            message = decoded.event.map(bytes);
            steps += 1;
        }
        assert!(!decoder.is_inflating());
        assert!(message.unwrap() == expected);
        assert!(steps > length / (64 << 10), "{steps}");
        assert!(steps > expected.len() / (8 << 20), "{steps}");
        let event = decoder.decode(&mut next).unwrap().event;
        assert_eq!(event, Some(Event::Text(Cow::Borrowed("next"))));
    }
}
