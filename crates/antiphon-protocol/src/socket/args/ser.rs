//! Writes a value as a list of arguments.
//!
//! `serde_json` does the writing; what is added here is the rule of the outermost tuple, and the
//! attachments: bytes become packets of their own, with a placeholder in their place. What can't be
//! JSON is an error of `serde_json`; what has been written by then is for the caller to forget.

use std::cell::Cell;
use std::fmt::Display;
use std::io;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeTuple, SerializeTupleStruct, Serializer};
use serde_json::Error;
use serde_json::ser::Formatter;

use crate::engine::{EncodedPacket, Revision};

type Json<'b> = serde_json::Serializer<Sink<'b>, Placeholders<'b>>;

/// Where arguments are written to.
#[derive(Debug)]
pub(in super::super) struct Output<'b> {
    text: &'b mut Vec<u8>,
    attachments: &'b mut Vec<EncodedPacket>,
    comma: bool,
}

impl<'b> Output<'b> {
    /// Appends JSON to the text, and attachments of revision 4 to the others. With `comma` a comma
    /// is written before the first argument, if there is one.
    pub(in super::super) const fn new(
        text: &'b mut Vec<u8>,
        attachments: &'b mut Vec<EncodedPacket>,
        comma: bool,
    ) -> Self {
        Self {
            text,
            attachments,
            comma,
        }
    }

    /// Writes a value as arguments.
    pub(in super::super) fn args<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.write(value, false)
    }

    /// Writes a value as the arguments of an ack: takes a [`Result`] apart.
    pub(in super::super) fn reply<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.write(value, true)
    }

    fn write<T: Serialize + ?Sized>(self, value: &T, reply: bool) -> Result<(), Error> {
        let comma = Cell::new(self.comma);
        let sink = Sink {
            text: self.text,
            comma: &comma,
        };
        let placeholders = Placeholders(self.attachments);
        let mut json = serde_json::Serializer::with_formatter(sink, placeholders);
        value.serialize(Outermost {
            json: &mut json,
            comma: &comma,
            reply,
        })
    }
}

/// The text, and whether it owes a comma: the first byte of the next argument pays it. The
/// serializer holds the text, so that nobody else could write the commas between arguments.
struct Sink<'b> {
    text: &'b mut Vec<u8>,
    comma: &'b Cell<bool>,
}

impl io::Write for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.comma.get() {
            self.comma.set(false);
            self.text.push(b',');
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        write!(writer, r#"{{"_placeholder":true,"num":{num}}}"#)
    }
}

/// Serializes the outermost value: a tuple as arguments, anything else as the one argument.
struct Outermost<'s, 'b> {
    json: &'s mut Json<'b>,
    comma: &'b Cell<bool>,
    /// Whether a `Result` is taken apart.
    reply: bool,
}

impl<'s, 'b> Outermost<'s, 'b> {
    const fn list(self) -> List<'s, 'b> {
        List {
            json: self.json,
            comma: self.comma,
            first: true,
        }
    }
}

/// Passes values of a single kind on to the serializer of JSON.
macro_rules! one_argument {
    ($($method:ident($value:ty)),* $(,)?) => {$(
        #[inline]
        fn $method(self, value: $value) -> Result<(), Error> {
            self.json.$method(value)
        }
    )*};
}

impl<'s, 'b> Serializer for Outermost<'s, 'b> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <&'s mut Json<'b> as Serializer>::SerializeSeq;
    type SerializeTuple = List<'s, 'b>;
    type SerializeTupleStruct = List<'s, 'b>;
    type SerializeTupleVariant = <&'s mut Json<'b> as Serializer>::SerializeTupleVariant;
    type SerializeMap = <&'s mut Json<'b> as Serializer>::SerializeMap;
    type SerializeStruct = <&'s mut Json<'b> as Serializer>::SerializeStruct;
    type SerializeStructVariant = <&'s mut Json<'b> as Serializer>::SerializeStructVariant;

    one_argument! {
        serialize_bool(bool), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_i128(i128), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64),
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.json.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.json.serialize_some(value)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.json.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        match (self.reply, name, variant) {
            (true, "Result", "Ok") => value.serialize(Outermost {
                reply: false,
                ..self
            }),
            (true, "Result", "Err") => {
                let mut object = self.json.serialize_map(Some(1))?;
                object.serialize_entry("error", value)?;
                SerializeMap::end(object)
            }
            _ => self
                .json
                .serialize_newtype_variant(name, index, variant, value),
        }
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        self.json.serialize_seq(len)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Error> {
        Ok(self.list())
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Ok(self.list())
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        self.json.serialize_tuple_variant(name, index, variant, len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, Error> {
        self.json.serialize_map(len)
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, Error> {
        self.json.serialize_struct(name, len)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        self.json
            .serialize_struct_variant(name, index, variant, len)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.json.collect_str(value)
    }
}

/// The elements of the outermost tuple, each an argument.
struct List<'s, 'b> {
    json: &'s mut Json<'b>,
    comma: &'b Cell<bool>,
    first: bool,
}

impl List<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if !self.first {
            self.comma.set(true);
        }
        self.first = false;
        value.serialize(&mut *self.json)
    }
}

impl SerializeTuple for List<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeTupleStruct for List<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
