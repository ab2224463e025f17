//! Reads values in which placeholders stand for attachments.
//!
//! The text has been validated, so that finding a value's parts is a matter of brackets and
//! commas; scalars are left to `serde_json`. An object that is a placeholder is given to the type
//! as bytes. Recursion follows the nesting of the text, which the decoder has bounded.

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde_json::Error;
use serde_json::de::StrRead;

use super::super::json;
use super::super::placeholder::{self, Placeholder};
use super::Args;
use super::key::Key;

/// The name by which `serde_json` knows its `RawValue`.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// JSON values separated by commas, and how far they have been read.
pub(super) struct Input<'de> {
    args: Args<'de>,
    at: usize,
    /// The argument that is being read, or was last.
    pub(super) argument: Option<usize>,
    /// Whether the outermost type is a tuple.
    pub(super) tuple: bool,
    /// Whether the argument is not there.
    pub(super) missing: bool,
}

impl<'de> Input<'de> {
    pub(super) const fn new(args: Args<'de>) -> Self {
        Self {
            args,
            at: 0,
            argument: None,
            tuple: false,
            missing: false,
        }
    }

    /// The next byte that is not whitespace.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.args.json.as_bytes();
        self.at = json::whitespace(bytes, self.at);
        bytes.get(self.at).copied()
    }

    /// Takes this byte if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(malformed())
        }
    }

    /// Reads one value with `serde_json`: placeholders are objects to it.
    pub(super) fn plainly<T>(
        &mut self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'de>>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let rest = self.args.json.get(self.at..).unwrap_or_default();
        let mut json = serde_json::Deserializer::from_str(rest);
        let value = read(&mut json)?;
        // The only way to ask it how far it has come.
        self.at += json.into_iter::<IgnoredAny>().byte_offset();
        Ok(value)
    }

    /// Runs `read`, and skips the value if that has not touched it.
    pub(super) fn element<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.peek();
        let start = self.at;
        let value = read(self)?;
        if self.at == start {
            self.skip()?;
        }
        Ok(value)
    }

    fn skip(&mut self) -> Result<(), Error> {
        self.peek();
        let bytes = self.args.json.as_bytes();
        self.at = json::value(bytes, self.at, usize::MAX).map_err(|_| malformed())?;
        Ok(())
    }

    /// Takes the placeholder that comes next, if one does.
    fn attachment(&mut self) -> Option<&'de [u8]> {
        if self.peek() != Some(b'{') || self.args.attachments.is_empty() {
            return None;
        }
        let attachments = self.args.attachments;
        match placeholder::at(self.args.json, self.at, attachments.len()) {
            Placeholder::Attachment { num, end } => {
                self.at = end;
                attachments.get(num).map(AsRef::as_ref)
            }
            // The decoder lets no illegal one through.
            Placeholder::Not | Placeholder::Illegal => None,
        }
    }

    /// An error if what comes next is an attachment.
    fn no_attachment(&mut self, expected: &dyn de::Expected) -> Result<(), Error> {
        match self.attachment() {
            Some(bytes) => Err(Error::invalid_type(
                Unexpected::Other(&format!("attachment of {} bytes", bytes.len())),
                expected,
            )),
            None => Ok(()),
        }
    }

    fn seq<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(b'[')?;
        let value = visitor.visit_seq(Elements {
            input: self,
            first: true,
        })?;
        if self.take(b']') {
            Ok(value)
        } else {
            Err(Error::custom("more elements than expected"))
        }
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(b'{')?;
        let value = visitor.visit_map(Elements {
            input: self,
            first: true,
        })?;
        if self.take(b'}') {
            Ok(value)
        } else {
            Err(Error::custom("more fields than expected"))
        }
    }

    fn key(&mut self) -> Result<Key<'de>, Error> {
        self.peek();
        let bytes = self.args.json.as_bytes();
        let end = json::string(bytes, self.at).map_err(|_| malformed())?;
        let quoted = self.args.json.get(self.at..end).unwrap_or_default();
        let key = json::unescape(quoted)
            .ok_or_else(|| Error::custom("a key that is not Unicode: it holds a lone surrogate"))?;
        self.at = end;
        self.expect(b':')?;
        Ok(Key(key))
    }
}

/// Can't happen: arguments hold valid JSON only.
#[cold]
fn malformed() -> Error {
    Error::custom("malformed JSON")
}

/// Methods of `Deserializer` for values that can't be or hold an attachment.
macro_rules! scalar {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.no_attachment(&visitor)?;
            self.plainly(|json| json.$method(visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Input<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(bytes) = self.attachment() {
            return visitor.visit_borrowed_bytes(bytes);
        }
        match self.peek() {
            Some(b'{') => self.map(visitor),
            Some(b'[') => self.seq(visitor),
            _ => self.plainly(|json| json.deserialize_any(visitor)),
        }
    }

    scalar! {
        deserialize_bool deserialize_char deserialize_str deserialize_string
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_unit deserialize_identifier
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(bytes) = self.attachment() {
            return visitor.visit_borrowed_bytes(bytes);
        }
        match self.peek() {
            Some(b'[') => self.seq(visitor),
            _ => self.plainly(|json| json.deserialize_bytes(visitor)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            Some(b'n') => self.plainly(|json| json.deserialize_option(visitor)),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            return self.plainly(|json| json.deserialize_newtype_struct(name, visitor));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.no_attachment(&visitor)?;
        match self.peek() {
            Some(b'[') => self.seq(visitor),
            _ => self.plainly(|json| json.deserialize_seq(visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.no_attachment(&visitor)?;
        match self.peek() {
            Some(b'{') => self.map(visitor),
            _ => self.plainly(|json| json.deserialize_map(visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.no_attachment(&visitor)?;
        match self.peek() {
            Some(b'{') => self.map(visitor),
            Some(b'[') => self.seq(visitor),
            _ => self.plainly(|json| json.deserialize_struct(name, fields, visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.no_attachment(&visitor)?;
        if self.peek() != Some(b'{') {
            return self.plainly(|json| json.deserialize_enum(name, variants, visitor));
        }
        self.at += 1;
        if self.peek() == Some(b'}') {
            return Err(Error::custom("expected the name of a variant"));
        }
        let value = visitor.visit_enum(Variant(self))?;
        if self.take(b'}') {
            Ok(value)
        } else {
            Err(Error::custom("more fields than the name of a variant"))
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// The elements of an array or the entries of an object.
struct Elements<'i, 'de> {
    input: &'i mut Input<'de>,
    first: bool,
}

impl Elements<'_, '_> {
    /// Whether there is another one; takes the comma before it.
    fn another(&mut self, close: u8) -> Result<bool, Error> {
        if self.input.peek() == Some(close) {
            return Ok(false);
        }
        if !self.first {
            self.input.expect(b',')?;
        }
        self.first = false;
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if !self.another(b']')? {
            return Ok(None);
        }
        self.input
            .element(|input| seed.deserialize(input))
            .map(Some)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if !self.another(b'}')? {
            return Ok(None);
        }
        seed.deserialize(self.input.key()?).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.input.element(|input| seed.deserialize(input))
    }
}

/// `{"variant":value}`.
struct Variant<'i, 'de>(&'i mut Input<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let key = self.0.key()?;
        Ok((seed.deserialize(key)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.0.element(|input| seed.deserialize(input))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
