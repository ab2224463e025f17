//! Writes a value as a list of arguments.
//!
//! `serde_json` does the writing; what is added here is the rule of what a list is ([`Shape`]), and
//! the attachments: bytes become packets of their own, with a placeholder in their place. What
//! can't be JSON is an error of `serde_json`; what has been written by then is for the caller to
//! forget.

use std::io;

use serde::Serialize;
use serde::ser::{Error as _, Impossible, Serializer};
use serde_json::Error;
use serde_json::ser::Formatter;

use super::super::placeholder;
use super::Shape;
use crate::engine::{EncodedPacket, Revision};

/// Where arguments are written to.
#[derive(Debug)]
pub(in super::super) struct Output<'b> {
    text: &'b mut Vec<u8>,
    attachments: &'b mut Vec<EncodedPacket>,
    opening: Opening,
}

/// What stands in front of the first argument. The bracket behind the last is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Opening {
    /// The bracket of their array, also if there are no arguments.
    Bracket,
    /// A comma: something else comes before them in their array. No arguments, no comma.
    Comma,
}

impl Opening {
    const fn byte(self) -> u8 {
        match self {
            Self::Bracket => b'[',
            Self::Comma => b',',
        }
    }
}

impl<'b> Output<'b> {
    /// Appends JSON to the text, and attachments of revision 4 to the others.
    pub(in super::super) const fn new(
        text: &'b mut Vec<u8>,
        attachments: &'b mut Vec<EncodedPacket>,
        opening: Opening,
    ) -> Self {
        Self {
            text,
            attachments,
            opening,
        }
    }

    /// Writes a value as arguments.
    pub(in super::super) fn args<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        match Shape::of::<T>() {
            Shape::Nothing => {
                if self.opening == Opening::Bracket {
                    self.text.push(b'[');
                }
                Ok(())
            }
            Shape::List => self.list(value),
            Shape::Result | Shape::One => self.one(value),
        }
    }

    /// Writes a value as the arguments of an ack: takes a [`Result`] apart.
    pub(in super::super) fn reply<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        match Shape::of::<T>() {
            Shape::Result => value.serialize(TakenApart(self)),
            Shape::Nothing | Shape::List | Shape::One => self.args(value),
        }
    }

    fn one<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Error> {
        self.text.push(self.opening.byte());
        self.json(value)
    }

    /// Writes a tuple: in JSON it is the array of its elements, as serde implements it. Its
    /// brackets give way to the opening, and to what the caller writes behind.
    fn list<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Error> {
        let start = self.text.len();
        self.json(value)?;
        debug_assert_eq!(self.text.get(start), Some(&b'['), "a tuple is an array");
        if let Some(bracket) = self.text.get_mut(start) {
            *bracket = self.opening.byte();
        }
        self.text.pop();
        Ok(())
    }

    /// Writes `{"error": error}`.
    fn error<T: Serialize + ?Sized>(mut self, error: &T) -> Result<(), Error> {
        self.text.push(self.opening.byte());
        self.text.extend_from_slice(br#"{"error":"#);
        self.json(error)?;
        self.text.push(b'}');
        Ok(())
    }

    #[inline]
    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let placeholders = Placeholders(self.attachments);
        let mut json = serde_json::Serializer::with_formatter(&mut *self.text, placeholders);
        value.serialize(&mut json)
    }
}

/// Compact JSON, with a placeholder where bytes stand. The bytes are copied once, into the packet
/// that carries them.
struct Placeholders<'b>(&'b mut Vec<EncodedPacket>);

impl Formatter for Placeholders<'_> {
    fn write_byte_array<W>(&mut self, writer: &mut W, bytes: &[u8]) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let num = self.0.len();
        self.0.push(EncodedPacket::binary(bytes, Revision::V4));
        placeholder::write(num, writer)
    }
}

/// Gets at what is inside a [`Result`], which serde writes as one of two variants.
///
/// It is asked for nothing else: [`Shape`] has said what the type is.
struct TakenApart<'b>(Output<'b>);

/// The methods for whatever isn't a `Result`.
macro_rules! no_result {
    ($($method:ident($($value:ty),*) -> $of:ident),* $(,)?) => {$(
        fn $method(self, $(_: $value),*) -> Result<Self::$of, Error> {
            Err(not_a_result())
        }
    )*};
}

#[cold]
fn not_a_result() -> Error {
    Error::custom("a Result that serde doesn't write as one")
}

impl Serializer for TakenApart<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        match variant {
            "Ok" => self.0.args(value),
            _ => self.0.error(value),
        }
    }

    no_result! {
        serialize_bool(bool) -> Ok, serialize_char(char) -> Ok,
        serialize_i8(i8) -> Ok, serialize_i16(i16) -> Ok, serialize_i32(i32) -> Ok,
        serialize_i64(i64) -> Ok, serialize_u8(u8) -> Ok, serialize_u16(u16) -> Ok,
        serialize_u32(u32) -> Ok, serialize_u64(u64) -> Ok, serialize_f32(f32) -> Ok,
        serialize_f64(f64) -> Ok, serialize_str(&str) -> Ok, serialize_bytes(&[u8]) -> Ok,
        serialize_none() -> Ok, serialize_unit() -> Ok, serialize_unit_struct(&'static str) -> Ok,
        serialize_unit_variant(&'static str, u32, &'static str) -> Ok,
        serialize_seq(Option<usize>) -> SerializeSeq, serialize_map(Option<usize>) -> SerializeMap,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_struct(&'static str, usize) -> SerializeStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant,
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Error> {
        Err(not_a_result())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(not_a_result())
    }
}
