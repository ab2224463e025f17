//! Integers that are larger than JavaScript's numbers keep: texts in JSON.
//!
//! A number of JavaScript is a float, so beyond 2^53-1 a client reads another integer than was sent.
//! serde writes every integer as a number all the same, and an option of the server's would change
//! the type that a client sees by where an event was made: so it is the type of a field, or of an
//! argument, that says it. Out it is always a text, so that a client needs one way to read it; in
//! it is a text or a number, as in the JSON of Protocol Buffers.
//!
//! For a field of a type of one's own, whose integers stay what they are:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order {
//!     #[serde(with = "antiphon::big_integer")]
//!     id: u64,
//! }
//!
//! let order = Order { id: u64::MAX };
//! let json = r#"{"id":"18446744073709551615"}"#;
//! assert_eq!(serde_json::to_string(&order)?, json);
//! assert_eq!(serde_json::from_str::<Order>(json)?.id, u64::MAX);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! Everywhere else, as in arguments, lists and options: [`BigInt`].

use std::{
    fmt::{self, Display},
    marker::PhantomData,
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};

/// The largest integer up to which all are numbers of JavaScript, `Number.MAX_SAFE_INTEGER`.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// An integer that is a text in JSON, since it may be larger than JavaScript's numbers keep.
///
/// It is written as its decimal digits, which a client reads by `BigInt(text)`. It is read from such
/// a text, or from a number: clients send `big.toString()`, since `JSON.stringify` refuses a
/// `BigInt`. In the declarations of the feature `typescript` it is a `string`.
///
/// ```
/// use antiphon::{BigInt, Data, Server, Socket};
///
/// let io = Server::new();
/// io.of("/").on("next", async |Data(BigInt(id)): Data<BigInt<u64>>| BigInt(id + 1));
/// // const next = BigInt(await socket.emitWithAck("next", (2n ** 60n).toString()));
/// ```
///
/// For fields of a type of one's own: [`big_integer`](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BigInt<T>(pub T);

/// An integer of Rust, of any size.
pub trait Integer: Display + FromStr + TryFrom<i128> + TryFrom<u128> + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl sealed::Sealed for $integer {}
        impl Integer for $integer {}
    )*};
}

integers! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }

/// Writes an integer as a text: for `#[serde(with = "antiphon::big_integer")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<T: Integer, S: Serializer>(integer: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(integer)
}

/// Reads an integer from a text or a number: for `#[serde(with = "antiphon::big_integer")]`.
///
/// # Errors
/// If it is neither, or beyond the bounds of the type.
pub fn deserialize<'de, T: Integer, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(TextOrNumber(PhantomData))
}

impl<T: Integer> Serialize for BigInt<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, to)
    }
}

impl<'de, T: Integer> Deserialize<'de> for BigInt<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from).map(Self)
    }
}

struct TextOrNumber<T>(PhantomData<T>);

impl<T: Integer> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, or the text of one, within its bounds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let invalid = || E::invalid_value(Unexpected::Str(text), &self);
        text.parse().map_err(|_| invalid())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let invalid = || E::invalid_value(Unexpected::Signed(number), &self);
        T::try_from(i128::from(number)).map_err(|_| invalid())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let invalid = || E::invalid_value(Unexpected::Unsigned(number), &self);
        T::try_from(u128::from(number)).map_err(|_| invalid())
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<T, E> {
        let invalid = || E::invalid_value(Unexpected::Other("integer"), &self);
        T::try_from(number).map_err(|_| invalid())
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<T, E> {
        let invalid = || E::invalid_value(Unexpected::Other("integer"), &self);
        T::try_from(number).map_err(|_| invalid())
    }

    /// Some parsers write whole numbers as floats, which is exact as far as it goes.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        let invalid = || E::invalid_value(Unexpected::Float(number), &self);
        if number.fract() != 0.0 || number.abs() > MAX_SAFE {
            return Err(invalid());
        }
        T::try_from(number as i128).map_err(|_| invalid())
    }
}

#[cfg(feature = "typescript")]
impl<T> schemars::JsonSchema for BigInt<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BigInt".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^-?[0-9]+$" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{from_str, to_string};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        #[serde(with = "super")]
        id: u64,
    }

    #[test]
    fn it_is_a_text_whatever_its_size() -> serde_json::Result<()> {
        assert_eq!(to_string(&BigInt(1_u8))?, r#""1""#);
        assert_eq!(to_string(&BigInt(u64::MAX))?, r#""18446744073709551615""#);
        assert_eq!(
            to_string(&[Some(BigInt(i64::MIN)), None])?,
            r#"["-9223372036854775808",null]"#
        );
        assert_eq!(
            to_string(&Order { id: 1 << 60 })?,
            r#"{"id":"1152921504606846976"}"#
        );
        Ok(())
    }

    #[test]
    fn it_is_read_from_a_text_or_a_number() -> serde_json::Result<()> {
        for json in [r#""9007199254740993""#, "9007199254740993"] {
            assert_eq!(
                from_str::<BigInt<u64>>(json)?,
                BigInt(9_007_199_254_740_993)
            );
            assert_eq!(
                from_str::<BigInt<i128>>(json)?,
                BigInt(9_007_199_254_740_993)
            );
        }
        assert_eq!(from_str::<Order>(r#"{"id":7}"#)?, Order { id: 7 });
        assert_eq!(from_str::<BigInt<i8>>("-128")?, BigInt(-128));
        assert_eq!(from_str::<BigInt<u64>>("1099511627776.0")?, BigInt(1 << 40));
        Ok(())
    }

    #[test]
    fn what_is_no_integer_of_its_type_is_refused() {
        let refused = |json: &str| from_str::<BigInt<u64>>(json).unwrap_err().to_string();
        for json in [
            r#""""#,
            r#"" 1""#,
            r#""1n""#,
            r#""1.0""#,
            r#""0x10""#,
            r#""-1""#,
            r#""18446744073709551616""#,
            "-1",
            "1.5",
            "1e300",
            "18446744073709551616",
            "9007199254740992.0",
        ] {
            let error = refused(json);
            assert!(
                error.contains("expected a whole number, or the text of one"),
                "{json}: {error}"
            );
        }
        assert!(refused("null").contains("invalid type: null"));
        assert!(from_str::<BigInt<i8>>("128").is_err());
        assert!(from_str::<BigInt<i8>>(r#""-129""#).is_err());
    }

    proptest! {
        #[test]
        fn any_integer_is_read_as_it_was_written(small: i64, large: u128) {
            let text = |json: serde_json::Result<String>| json.unwrap_or_default();
            prop_assert_eq!(from_str(&text(to_string(&BigInt(small)))).ok(), Some(BigInt(small)));
            prop_assert_eq!(from_str(&text(to_string(&small))).ok(), Some(BigInt(small)));
            prop_assert_eq!(from_str(&text(to_string(&BigInt(large)))).ok(), Some(BigInt(large)));
        }
    }
}
