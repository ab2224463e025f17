//! Reads a type from a list of arguments: a tuple from all, anything else from the first
//! ([`Shape`]).
//!
//! Without attachments each argument is given to `serde_json` as it stands; with attachments
//! [`Input`] reads it, since placeholders have to become bytes. If it fails it is read once more,
//! with the path watched: successes pay nothing for the message of an [`ArgsError`].

use std::marker::PhantomData;

use serde::de::value::{SeqAccessDeserializer, UnitDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Error;
use serde_json::value::RawValue;
use serde_path_to_error::Track;

use super::super::json;
use super::input::Input;
use super::key::RAW_VALUE;
use super::{Args, ArgsError, Shape};

pub(super) fn from_args<'de, T: Deserialize<'de>>(args: Args<'de>) -> Result<T, ArgsError> {
    let mut input = Input::new(args);
    let arguments = Arguments {
        input: &mut input,
        plain: args.attachments.is_empty(),
    };
    let read = arguments.read(Shape::of::<T>(), PhantomData::<T>);
    read.or_else(|error| again(args, &error))
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
    let read = arguments.read(Shape::of::<T>(), PhantomData::<T>);
    read.map_err(|error| explain::<T>(Input::lossy(args), &error))
}

/// Reads once more, and watches where it fails. This way only failures pay for it.
#[cold]
fn explain<'de, T: Deserialize<'de>>(mut input: Input<'de>, error: &Error) -> ArgsError {
    let mut track = Track::new();
    let arguments = Arguments {
        input: &mut input,
        plain: false,
    };
    let shape = Shape::of::<T>();
    let tracked = Tracked {
        track: &mut track,
        of: PhantomData::<T>,
    };
    let again = arguments.read(shape, tracked);
    match (again, input.argument) {
        (Err(_), Some(argument)) if input.missing => ArgsError::missing(argument),
        (Err(_), argument) => {
            // The first step into a tuple is the one to the argument.
            let skip = usize::from(shape == Shape::List);
            ArgsError::invalid(argument, &track.path(), skip, error)
        }
        (Ok(_), argument) => ArgsError::invalid(argument, &Track::new().path(), 0, error),
    }
}

/// Reads a `T`, and notes the way to where it fails.
struct Tracked<'t, T> {
    track: &'t mut Track,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Tracked<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let tracked = serde_path_to_error::Deserializer::new(deserializer, self.track);
        T::deserialize(tracked)
    }
}

/// The arguments, one after the other. To a tuple they are its elements.
struct Arguments<'i, 'de> {
    input: &'i mut Input<'de>,
    /// There are no attachments: `serde_json` reads the text by itself.
    plain: bool,
}

impl<'de> Arguments<'_, 'de> {
    /// Reads a type of this shape.
    #[inline]
    fn read<S: DeserializeSeed<'de>>(mut self, shape: Shape, seed: S) -> Result<S::Value, Error> {
        match shape {
            Shape::Nothing => seed.deserialize(UnitDeserializer::new()),
            Shape::List => seed.deserialize(SeqAccessDeserializer::new(self)),
            Shape::Result | Shape::One => self.next(seed),
        }
    }

    /// Reads the next argument.
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let index = self.input.argument.map_or(0, |last| last + 1);
        self.input.argument = Some(index);
        if index > 0 {
            self.input.take(b',');
        }
        self.input.missing = self.input.peek().is_none();
        if self.input.missing {
            return seed.deserialize(Missing(index));
        }
        let plain = self.plain;
        self.input.element(|input| {
            if plain {
                input.plainly(|json| seed.deserialize(json))
            } else {
                seed.deserialize(input)
            }
        })
    }
}

/// The elements of a tuple, which asks for as many as it has.
impl<'de> SeqAccess<'de> for Arguments<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(seed).map(Some)
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
