//! Numbers and texts one behind the other: what logs write records of.
//!
//! A number takes as many bytes as it needs, seven bits each, the lowest first. A text has its
//! length in front. Reading beyond the end gives `None`.

/// The bit of a byte that says that the number goes on.
const CONTINUES: u8 = 0x80;

pub(super) fn write(to: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(CONTINUES) {
        to.push(number as u8 | CONTINUES);
        number >>= 7;
    }
    to.push(number as u8);
}

pub(super) fn write_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    write(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// The rest of a record.
pub(super) struct Reader<'r>(pub(super) &'r [u8]);

impl<'r> Reader<'r> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & !CONTINUES) << shift;
            if byte & CONTINUES == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn bytes(&mut self) -> Option<&'r [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}
