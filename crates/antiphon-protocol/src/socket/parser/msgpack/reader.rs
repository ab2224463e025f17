//! Reads the bytes of MessagePack as values, one after the other.
//!
//! An array or a map is a value that says how many others follow: what is inside is for the caller
//! to ask for. So nothing here is as long or as deep as a peer says, and all that can be wrong is a
//! message that ends too early, or a type that is unknown.

use super::time;
use crate::socket::error::DecodeError;

#[cold]
pub(super) const fn invalid(offset: usize, reason: &'static str) -> DecodeError {
    DecodeError::InvalidMsgpack { offset, reason }
}

/// A value, without those inside of an array or a map, which follow it.
pub(crate) enum Value<'m> {
    Nil,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    /// Not known to be UTF-8.
    Text(&'m [u8]),
    Binary(&'m [u8]),
    /// Milliseconds since 1970.
    Time(i64),
    /// So many values follow.
    Array(u32),
    /// So many keys with their values follow.
    Map(u32),
}

impl Value<'_> {
    const fn signed(value: i64) -> Self {
        match value {
            0.. => Self::Unsigned(value.unsigned_abs()),
            _ => Self::Negative(value),
        }
    }
}

/// The message, and how far it has been read.
pub(crate) struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    pub(crate) const fn new(message: &'m [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// How many bytes have been read.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.at == self.message.len()
    }

    fn rest(&self) -> &'m [u8] {
        self.message.get(self.at..).unwrap_or_default()
    }

    #[cold]
    const fn truncated(&self) -> DecodeError {
        invalid(self.message.len(), "it ends too early")
    }

    fn bytes(&mut self, count: u32) -> Result<&'m [u8], DecodeError> {
        let bytes = self.rest().get(..count as usize);
        let bytes = bytes.ok_or_else(|| self.truncated())?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.rest().first_chunk();
        let bytes = *bytes.ok_or_else(|| self.truncated())?;
        self.at += N;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length of one, two or four bytes, for the first, second and third of a family of types.
    fn length(&mut self, size: u8) -> Result<u32, DecodeError> {
        match size {
            0 => self.u8().map(u32::from),
            1 => self.u16().map(u32::from),
            _ => self.u32(),
        }
    }

    /// Takes the value that comes next.
    pub(crate) fn value(&mut self) -> Result<Value<'m>, DecodeError> {
        let at = self.at;
        Ok(match self.u8()? {
            byte @ 0x00..=0x7f => Value::Unsigned(byte.into()),
            byte @ 0x80..=0x8f => self.map(u32::from(byte & 0x0f))?,
            byte @ 0x90..=0x9f => self.list(u32::from(byte & 0x0f))?,
            byte @ 0xa0..=0xbf => Value::Text(self.bytes(u32::from(byte & 0x1f))?),
            0xc0 => Value::Nil,
            0xc1 => return Err(invalid(at, "there is no type 0xc1")),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            byte @ 0xc4..=0xc6 => {
                let length = self.length(byte - 0xc4)?;
                Value::Binary(self.bytes(length)?)
            }
            byte @ 0xc7..=0xc9 => {
                let length = self.length(byte - 0xc7)?;
                self.extension(at, length, false)?
            }
            0xca => Value::Float(f32::from_bits(self.u32()?).into()),
            0xcb => Value::Float(f64::from_bits(self.u64()?)),
            0xcc => Value::Unsigned(self.u8()?.into()),
            0xcd => Value::Unsigned(self.u16()?.into()),
            0xce => Value::Unsigned(self.u32()?.into()),
            0xcf => Value::Unsigned(self.u64()?),
            0xd0 => Value::signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Value::signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Value::signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Value::signed(i64::from_be_bytes(self.array()?)),
            byte @ 0xd4..=0xd8 => self.extension(at, 1 << (byte - 0xd4), true)?,
            byte @ 0xd9..=0xdb => {
                let length = self.length(byte - 0xd9)?;
                Value::Text(self.bytes(length)?)
            }
            byte @ 0xdc..=0xdd => {
                let count = self.length(byte - 0xdc + 1)?;
                self.list(count)?
            }
            byte @ 0xde..=0xdf => {
                let count = self.length(byte - 0xde + 1)?;
                self.map(count)?
            }
            byte @ 0xe0..=0xff => Value::Negative(i8::from_be_bytes([byte]).into()),
        })
    }

    /// An array that can be complete: each of its values takes a byte.
    fn list(&self, count: u32) -> Result<Value<'m>, DecodeError> {
        match self.rest().len() < count as usize {
            true => Err(self.truncated()),
            false => Ok(Value::Array(count)),
        }
    }

    /// A map that can be complete.
    fn map(&self, count: u32) -> Result<Value<'m>, DecodeError> {
        match self.rest().len() / 2 < count as usize {
            true => Err(self.truncated()),
            false => Ok(Value::Map(count)),
        }
    }

    /// The extension that begins at `at`. `notepack.io` tells some apart by whether their length is
    /// `fixed` by their type.
    fn extension(&mut self, at: usize, length: u32, fixed: bool) -> Result<Value<'m>, DecodeError> {
        let number = i8::from_be_bytes(self.array()?);
        let data = self.bytes(length)?;
        let value = match (number, data) {
            (0, _) if !fixed => Some(Value::Binary(data)),
            (0, [_]) => Some(Value::Undefined),
            (0, _) => data
                .try_into()
                .ok()
                .map(i64::from_be_bytes)
                .map(Value::Time),
            (-1, _) => time::of_timestamp(data).map(Value::Time),
            _ => None,
        };
        value.ok_or(invalid(at, "an extension that is unknown"))
    }

    /// Skips the value that comes next, with all that is inside.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        // No more than there are bytes times 2^33.
        let mut left = 1_u64;
        while left > 0 {
            left -= 1;
            match self.value()? {
                Value::Array(count) => left += u64::from(count),
                Value::Map(count) => left += 2 * u64::from(count),
                _ => {}
            }
        }
        Ok(())
    }
}
