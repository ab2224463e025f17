//! The parameters of a namespace's name, as a type of the handler's.
//!
//! A child of a [pattern](super::pattern) has them in its name; nothing is stored. They are texts of
//! clients: what doesn't parse is a [`Rejection`].

use std::fmt;

use serde::de::{
    self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor,
    value::{MapDeserializer, SeqDeserializer},
};

use super::rule::Rule;
use crate::server::{Context, FromContext, Rejection};

/// The parameters of the namespace's name, as its [pattern](crate::Server::of_pattern) says: a
/// single one as a text, a number or whatever else `T` is, several as a tuple in their order, or as a
/// struct or map by their names.
///
/// What doesn't fit is rejected with the code `invalid_namespace`. So a middleware that takes a
/// `Param<u32>` refuses clients that ask for `/room-abc`.
///
/// ```
/// use antiphon::{Param, Server, Socket};
///
/// let io = Server::new();
/// io.of_pattern("/{tenant}/room-{number}")
///     .middleware(async |Param(_): Param<(String, u32)>| Ok(())) // the number must be one
///     .on("where", async |Param((tenant, number)): Param<(String, u32)>| (tenant, number));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<T>(pub T);

impl<K, T: DeserializeOwned> FromContext<K> for Param<T> {
    fn from_context(context: &Context<'_>) -> Result<Self, Rejection> {
        let namespace = context.socket().namespace();
        let rule = namespace.parent().map(|parent| parent.rule());
        let Some(Rule::Pattern(pattern)) = rule else {
            tracing::error!(
                namespace = namespace.name(),
                "a handler takes `Param`, and its namespace has no pattern: see `Server::of_pattern`"
            );
            return Err(Rejection::new(
                "internal_error",
                "the namespace has no parameters",
            ));
        };
        let values = pattern.parameters(namespace.name()).unwrap_or_default();
        let parameters = Parameters(pattern.names().zip(values).collect());
        let parsed = T::deserialize(parameters);
        parsed
            .map(Self)
            .map_err(|error| Rejection::new("invalid_namespace", error.to_string()))
    }
}

/// Names and values, as serde sees them.
struct Parameters<'p>(Vec<(&'p str, &'p str)>);

/// Why parameters don't fit.
#[derive(Debug, thiserror::Error)]
#[error("the name of the namespace doesn't fit: {0}")]
struct ParamError(String);

impl de::Error for ParamError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'p> Parameters<'p> {
    /// The value, if there is one alone.
    fn single(self) -> Result<Value<'p>, ParamError> {
        match self.0.as_slice() {
            [(_, value)] => Ok(Value(value)),
            all => Err(ParamError(format!(
                "it has {} parameters: take them as a tuple or a struct",
                all.len()
            ))),
        }
    }
}

/// Passes what asks for one value on to the only parameter.
macro_rules! of_the_single {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            self.single()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Parameters<'de> {
    type Error = ParamError;

    of_the_single! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        match self.0.len() {
            1 => self.single()?.deserialize_any(visitor),
            _ => self.deserialize_map(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.single()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let values = self.0.into_iter().map(|(_, value)| Value(value));
        visitor.visit_seq(SeqDeserializer::new(values))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        let count = self.0.len();
        if count != length {
            return Err(ParamError(format!(
                "it has {count} parameters, and not {length}"
            )));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        let pairs = self.0.into_iter().map(|(name, value)| (name, Value(value)));
        visitor.visit_map(MapDeserializer::new(pairs))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_unit()
    }
}

/// One parameter: a text, which is parsed as what is asked for.
#[derive(Clone, Copy)]
struct Value<'p>(&'p str);

impl<'p> IntoDeserializer<'p, ParamError> for Value<'p> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Parses a value by [`FromStr`](std::str::FromStr).
macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
            let parsed: Result<$type, _> = self.0.parse();
            // The value is the client's own: it may see what is wrong with it, and logs don't show it.
            visitor.$visit(parsed.map_err(|_| {
                ParamError(format!("a parameter is no {}", stringify!($type)))
            })?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = ParamError;

    parsed! {
        deserialize_bool visit_bool bool
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
        deserialize_f32 visit_f32 f32
        deserialize_f64 visit_f64 f64
        deserialize_char visit_char char
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ParamError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ParamError> {
        // A variant without fields, by its name.
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;

    fn one<T: DeserializeOwned>(value: &str) -> Result<T, String> {
        T::deserialize(Parameters(vec![("id", value)])).map_err(|error| error.to_string())
    }

    fn two<T: DeserializeOwned>() -> Result<T, String> {
        let parameters = Parameters(vec![("tenant", "acme"), ("room", "7")]);
        T::deserialize(parameters).map_err(|error| error.to_string())
    }

    #[test]
    fn a_single_parameter_is_whatever_its_text_can_be() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Id(u16);
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Color {
            Blue,
        }
        assert_eq!(one("7"), Ok("7".to_owned()));
        assert_eq!(one("7"), Ok(7_u64));
        assert_eq!(one("-7"), Ok(-7_i8));
        assert_eq!(one("7"), Ok(Some(7_u8)));
        assert_eq!(one("7"), Ok(Id(7)));
        assert_eq!(one("7"), Ok((7_u8,)));
        assert_eq!(one("blue"), Ok(Color::Blue));
        assert_eq!(one("true"), Ok(true));
        for wrong in ["", "x", "256", "-1", " 7"] {
            assert!(one::<u8>(wrong).is_err(), "{wrong:?}");
        }
        assert!(one::<Color>("red").is_err());
    }

    #[test]
    fn several_parameters_are_a_tuple_or_have_names() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Place {
            room: u32,
            tenant: String,
        }
        let place = Place {
            room: 7,
            tenant: "acme".to_owned(),
        };
        assert_eq!(two(), Ok(place));
        assert_eq!(two(), Ok(("acme".to_owned(), 7_u8)));
        assert_eq!(two(), Ok(vec!["acme".to_owned(), "7".to_owned()]));
        let named: HashMap<String, String> = two().unwrap();
        assert_eq!(named["tenant"], "acme");
        assert!(
            two::<String>()
                .unwrap_err()
                .contains("take them as a tuple")
        );
        assert!(two::<(String,)>().unwrap_err().contains("2 parameters"));
        assert!(two::<(u8, u8)>().is_err());
    }
}
