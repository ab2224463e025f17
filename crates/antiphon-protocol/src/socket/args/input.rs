//! Reads values in which placeholders stand for attachments.
//!
//! The text has been validated, so that finding a value's parts is a matter of brackets and
//! commas; scalars and keys are left to `serde_json`, so that they mean the same as in arguments
//! without attachments. An object that is a placeholder is given to the type as bytes.
//!
//! It also reads what `serde_json` refuses: texts with lone surrogates, where U+FFFD is put in
//! their places.

use bytes::Bytes;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde_json::Error;
use serde_json::de::StrRead;

use super::super::json;
use super::super::placeholder::{self, Placeholder};
use super::Args;
use super::key::{Key, RAW_VALUE, Token};
use super::shared::{self, SHARED};

/// Levels of arrays and objects in one argument: as many as `serde_json` goes down.
const MOST_LEVELS: u8 = 127;

/// JSON values separated by commas, and how far they have been read.
pub(super) struct Input<'de> {
    args: Args<'de>,
    at: usize,
    /// Levels that are open.
    level: u8,
    /// Whether lone surrogates are looked for, and replaced.
    lossy: bool,
    /// The argument that is being read, or was last.
    pub(super) argument: Option<usize>,
    /// Whether the argument is not there.
    pub(super) missing: bool,
}

impl<'de> Input<'de> {
    pub(super) const fn new(args: Args<'de>) -> Self {
        Self {
            args,
            at: 0,
            level: 0,
            lossy: false,
            argument: None,
            missing: false,
        }
    }

    /// As [`new`](Self::new), with U+FFFD for lone surrogates.
    pub(super) const fn lossy(args: Args<'de>) -> Self {
        Self {
            lossy: true,
            ..Self::new(args)
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
    #[inline]
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

    /// Takes the string that comes next, with its quotes.
    fn string(&mut self) -> Result<&'de str, Error> {
        self.peek();
        let end = json::string(self.args.json.as_bytes(), self.at).map_err(|_| malformed())?;
        let token = self.args.json.get(self.at..end).ok_or_else(malformed)?;
        self.at = end;
        Ok(token)
    }

    /// Takes the string that comes next if it must be repaired: gives it as it should be.
    fn repaired(&mut self) -> Option<String> {
        if !self.lossy || self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at;
        let repaired = json::repair(self.string().ok()?);
        if repaired.is_none() {
            self.at = start;
        }
        repaired
    }

    /// Runs `read` one level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.level == MOST_LEVELS {
            return Err(Error::custom("recursion limit exceeded"));
        }
        self.level += 1;
        let value = read(self);
        self.level -= 1;
        value
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
    fn attachment(&mut self) -> Option<&'de Bytes> {
        if self.peek() != Some(b'{') || self.args.attachments.is_empty() {
            return None;
        }
        let attachments = self.args.attachments;
        match placeholder::at(self.args.json, self.at, attachments.len()) {
            Placeholder::Attachment { num, end } => {
                self.at = end;
                attachments.get(num)
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
        let value = self.nested(|input| visitor.visit_seq(Elements { input, first: true }))?;
        if self.take(b']') {
            Ok(value)
        } else {
            Err(Error::custom("more elements than expected"))
        }
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(b'{')?;
        let value = self.nested(|input| visitor.visit_map(Elements { input, first: true }))?;
        if self.take(b'}') {
            Ok(value)
        } else {
            Err(Error::custom("more fields than expected"))
        }
    }

    /// Takes the key that comes next, and its colon.
    fn key(&mut self) -> Result<Token<'de>, Error> {
        let token = Token::new(self.string()?);
        self.expect(b':')?;
        Ok(token)
    }
}

/// Can't happen: arguments hold valid JSON only.
#[cold]
fn malformed() -> Error {
    Error::custom("malformed JSON")
}

/// Reads one value with a method of `serde_json`'s deserializer.
macro_rules! read {
    ($input:expr, $method:ident($($argument:expr),*)) => {
        match $input.repaired() {
            // From a reader, since the type can't borrow from what isn't in the text.
            Some(json) => {
                serde_json::Deserializer::from_reader(json.as_bytes()).$method($($argument),*)
            }
            None => $input.plainly(|json| json.$method($($argument),*)),
        }
    };
}

/// Methods of `Deserializer` for values that can't be or hold an attachment.
macro_rules! scalar {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.no_attachment(&visitor)?;
            read!(self, $method(visitor))
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
            _ => read!(self, deserialize_any(visitor)),
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
            // To `serde_json` the bytes of a string may hold a surrogate: nothing is replaced.
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
        if name == SHARED
            && let Some(attachment) = self.attachment()
        {
            return shared::lend(attachment, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.no_attachment(&visitor)?;
        match self.peek() {
            Some(b'[') => self.seq(visitor),
            _ => read!(self, deserialize_seq(visitor)),
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
            _ => read!(self, deserialize_map(visitor)),
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
            _ => read!(self, deserialize_struct(name, fields, visitor)),
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
            return read!(self, deserialize_enum(name, variants, visitor));
        }
        self.at += 1;
        if self.peek() == Some(b'}') {
            return Err(Error::custom("expected the name of a variant"));
        }
        let value = self.nested(|input| visitor.visit_enum(Variant(input)))?;
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
        seed.deserialize(&mut *self.input).map(Some)
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
        seed.deserialize(Key(self.input.key()?)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut *self.input)
    }
}

/// `{"variant":value}`.
struct Variant<'i, 'de>(&'i mut Input<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name = self.0.key()?;
        Ok((name.deserialize_seed(seed)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.0)
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
