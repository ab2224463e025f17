//! Reads a type from a list of arguments: the rule of the outermost tuple.
//!
//! Without attachments each argument is given to `serde_json` as it stands; with attachments [`Input`]
//! reads it, since placeholders have to become bytes. If it fails it is read once more, with the path
//! watched: successes pay nothing for the message of an [`ArgsError`].

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Error;
use serde_json::value::RawValue;
use serde_path_to_error::Track;

use super::super::json;
use super::input::{Input, RAW_VALUE};
use super::{Args, ArgsError};

pub(super) fn from_args<'de, T: Deserialize<'de>>(args: Args<'de>) -> Result<T, ArgsError> {
    let mut input = Input::new(args);
    let arguments = Arguments {
        input: &mut input,
        plain: args.attachments.is_empty(),
    };
    T::deserialize(arguments).or_else(|error| again(args, &error))
}

/// Reads one JSON value of a peer as a type; see [`from_json`](super::super::from_json).
pub(super) fn from_value<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, Error> {
    serde_json::from_str(json).or_else(|error| {
        if !json::has_lone_surrogate(json) || serde_json::from_str::<&RawValue>(json).is_err() {
            return Err(error);
        }
        T::deserialize(&mut Input::lossy(Args::new(json, &[])))
    })
}

/// Reads once more what didn't fit: with U+FFFD for lone surrogates, of which `serde_json` wants
/// none. This way only failures pay for looking for them.
#[cold]
#[inline(never)]
fn again<'de, T: Deserialize<'de>>(args: Args<'de>, error: &Error) -> Result<T, ArgsError> {
    if !json::has_lone_surrogate(args.json) {
        return Err(explain::<T>(Input::new(args), error));
    }
    let arguments = Arguments {
        input: &mut Input::lossy(args),
        plain: false,
    };
    T::deserialize(arguments).map_err(|error| explain::<T>(Input::lossy(args), &error))
}

/// Reads once more, and watches where it fails. This way only failures pay for it.
#[cold]
fn explain<'de, T: Deserialize<'de>>(mut input: Input<'de>, error: &Error) -> ArgsError {
    let mut track = Track::new();
    let arguments = Arguments {
        input: &mut input,
        plain: false,
    };
    let again = T::deserialize(serde_path_to_error::Deserializer::new(
        arguments, &mut track,
    ));
    let path = track.path();
    match (again, input.argument) {
        (Err(_), Some(argument)) if input.missing => ArgsError::missing(argument),
        (Err(_), _) if input.tuple => {
            // The first step is the one from the tuple to the argument.
            let argument = path.iter().next().and(input.argument);
            ArgsError::invalid(argument, &path, 1, error)
        }
        (Err(_), argument) => ArgsError::invalid(argument, &path, 0, error),
        (Ok(_), argument) => ArgsError::invalid(argument, &Track::new().path(), 0, error),
    }
}

/// Deserializes the outermost value: a tuple from all arguments, anything else from the first.
struct Arguments<'i, 'de> {
    input: &'i mut Input<'de>,
    /// There are no attachments: `serde_json` reads the text by itself.
    plain: bool,
}

impl<'de> Arguments<'_, 'de> {
    /// Whether the first argument is there.
    fn begin(&mut self) -> bool {
        self.input.argument = Some(0);
        self.input.missing = self.input.peek().is_none();
        !self.input.missing
    }

    fn tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.input.tuple = true;
        visitor.visit_seq(Elements {
            input: self.input,
            plain: self.plain,
            left: len,
        })
    }
}

/// Methods that read the first argument.
macro_rules! first_argument {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(
            mut self,
            $($name: $type,)*
            visitor: V,
        ) -> Result<V::Value, Error> {
            if !self.begin() {
                Missing(0).$method($($name,)* visitor)
            } else if self.plain {
                self.input.plainly(|json| json.$method($($name,)* visitor))
            } else {
                self.input.$method($($name,)* visitor)
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Arguments<'_, 'de> {
    type Error = Error;

    first_argument! {
        deserialize_any() deserialize_ignored_any() deserialize_identifier()
        deserialize_bool() deserialize_char() deserialize_str() deserialize_string()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_bytes() deserialize_byte_buf()
        deserialize_option() deserialize_seq() deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name != RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        if !self.begin() {
            return Missing(0).deserialize_any(visitor);
        }
        self.input
            .plainly(|json| json.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tuple(len, visitor)
    }
}

/// The arguments as the elements of a tuple.
struct Elements<'i, 'de> {
    input: &'i mut Input<'de>,
    plain: bool,
    /// How many elements the tuple still has.
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let index = self.input.argument.map_or(0, |last| last + 1);
        self.input.argument = Some(index);
        if index > 0 {
            self.input.take(b',');
        }
        self.input.missing = self.input.peek().is_none();
        if self.input.missing {
            return seed.deserialize(Missing(index)).map(Some);
        }
        let plain = self.plain;
        let value = self.input.element(|input| {
            if plain {
                input.plainly(|json| seed.deserialize(json))
            } else {
                seed.deserialize(input)
            }
        })?;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// An argument that is not there: `None` for an `Option`, an error for what needs a value.
struct Missing(usize);

impl<'de> Deserializer<'de> for Missing {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom(format_args!(
            "argument {} is missing",
            self.0 + 1
        )))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            return self.deserialize_any(visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq
        tuple tuple_struct map struct enum identifier
    }
}
