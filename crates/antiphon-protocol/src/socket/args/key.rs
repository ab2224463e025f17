//! Strings of the text that are read by themselves: the keys of objects, and the names of variants.
//!
//! `serde_json` has rules of its own for the keys of maps: numbers and booleans stand in strings.
//! It applies them to numbers here, too, so that there is one reading of them.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Error;

use super::super::json;

/// The name by which `serde_json` knows its `RawValue`.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// A string of the text, with its quotes.
pub(super) struct Token<'de> {
    text: &'de str,
    /// What is read in its place, if it holds a lone surrogate.
    repaired: Option<String>,
}

impl<'de> Token<'de> {
    pub(super) fn new(text: &'de str) -> Self {
        let repaired = json::repair(text);
        Self { text, repaired }
    }

    /// Reads it as a string that stands anywhere.
    pub(super) fn deserialize_seed<S: DeserializeSeed<'de>>(
        &self,
        seed: S,
    ) -> Result<S::Value, Error> {
        match &self.repaired {
            // From a reader, since the type can't borrow from what isn't in the text.
            Some(text) => {
                let mut json = serde_json::Deserializer::from_reader(text.as_bytes());
                seed.deserialize(&mut json)
            }
            None => seed.deserialize(&mut serde_json::Deserializer::from_str(self.text)),
        }
    }

    /// Reads it as the key of a map.
    fn deserialize_key<S: DeserializeSeed<'de>>(&self, seed: S) -> Result<S::Value, Error> {
        let text = self.repaired.as_deref().unwrap_or(self.text);
        let object = format!("{{{text}:0}}");
        // As from a reader: the object doesn't live as long as what is read.
        let mut json = serde_json::Deserializer::from_reader(object.as_bytes());
        json.deserialize_map(OnlyKey(seed))
    }
}

/// Takes the key of an object that has one entry.
struct OnlyKey<S>(S);

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for OnlyKey<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<S::Value, A::Error> {
        let key = entries.next_key_seed(self.0)?;
        entries.next_value::<IgnoredAny>()?;
        key.ok_or_else(|| A::Error::custom("no key"))
    }
}

/// Deserializes the key of a map.
pub(super) struct Key<'de>(pub(super) Token<'de>);

/// A call of one of `Deserializer`'s methods, as a seed: so it can be passed to any deserializer.
macro_rules! call {
    ($method:ident, $visitor:ident) => {{
        struct Call<V>(V);
        impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Call<V> {
            type Value = V::Value;
            fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<V::Value, D::Error> {
                json.$method(self.0)
            }
        }
        Call($visitor)
    }};
}

/// Methods for what a string stands for only as a key.
macro_rules! in_string {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.0.deserialize_key(call!($method, visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_seed(call!(deserialize_str, visitor))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        serde_json::Deserializer::from_str(self.0.text).deserialize_bytes(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            let mut json = serde_json::Deserializer::from_str(self.0.text);
            return json.deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.repaired {
            Some(text) => serde_json::Deserializer::from_reader(text.as_bytes())
                .deserialize_enum(name, variants, visitor),
            None => serde_json::Deserializer::from_str(self.0.text)
                .deserialize_enum(name, variants, visitor),
        }
    }

    /// By hand: for a key that begins with a character of several bytes `serde_json` (1.0.154)
    /// writes an error with half of that character in it, and panics.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.text {
            r#""true""# => visitor.visit_bool(true),
            r#""false""# => visitor.visit_bool(false),
            text => Err(Error::invalid_type(Unexpected::Str(text), &visitor)),
        }
    }

    in_string! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
