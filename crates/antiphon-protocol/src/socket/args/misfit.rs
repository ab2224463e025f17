//! Messages of serde for others than the program's author: a client has no use for names of Rust
//! types, and a log must not show what the client has sent.

use std::borrow::Cow;

/// Stands for a message that is made of names of the program.
const NO_FIT: &str = "the value doesn't fit";

/// What a message may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Show {
    /// Names of Rust types.
    pub(super) types: bool,
    /// The value that didn't fit.
    pub(super) value: bool,
}

/// A message of serde, without what isn't to be shown.
pub(super) fn message(text: &str, show: Show) -> Cow<'_, str> {
    let standard = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|kind| Some((*kind, text.strip_prefix(kind)?)));
    if let Some((kind, rest)) = standard {
        // A value may hold these words; what is expected doesn't.
        let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, ""));
        let found = if show.value {
            found
        } else {
            without_value(found)
        };
        let expected = match show.types {
            true => Cow::Borrowed(expected),
            false => in_json(expected),
        };
        if expected.is_empty() {
            return format!("{kind}{found}").into();
        }
        return format!("{kind}{found}, expected {expected}").into();
    }
    for unknown in ["unknown variant", "unknown field"] {
        // Both are names of the wire: the found one is the client's.
        if let Some(rest) = text.strip_prefix(unknown)
            && !show.value
        {
            return format!("{unknown}{}", expected_names(rest)).into();
        }
    }
    let known = [
        "missing field ",
        "duplicate field ",
        "unknown variant ",
        "unknown field ",
    ];
    if known.iter().any(|known| text.starts_with(known)) {
        return text.into();
    }
    // It may quote the value.
    let is_secret = !show.types && !show.value;
    if is_secret || !show.types && names_types(text) {
        return NO_FIT.into();
    }
    text.into()
}

/// What follows the name that was found, which may hold these words itself.
fn expected_names(rest: &str) -> &str {
    let starts = ["`, expected ", "`, there are no "];
    let start = starts.iter().filter_map(|start| rest.rfind(start)).max();
    start.map_or("", |start| &rest[start + 1..])
}

/// The kind of a value, without the value: `string` of `string "x"`.
fn without_value(found: &str) -> &str {
    let end = found.find(['`', '"']).unwrap_or(found.len());
    found[..end].trim_end()
}

/// What is expected, in the words of JSON.
fn in_json(expected: &str) -> Cow<'_, str> {
    let fixed = match expected {
        "i8" => "a whole number from -128 to 127",
        "i16" => "a whole number from -32768 to 32767",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "i64" | "i128" | "isize" => "a whole number",
        "u64" | "u128" | "usize" => "a whole number from 0",
        "f32" | "f64" => "a number",
        "unit" => "null",
        "option" => "a value or null",
        "a sequence" => "an array",
        "a map" | "map" => "an object",
        "a borrowed string" | "string" | "str" => "a string",
        "byte array" | "a byte array" | "borrowed byte array" | "a borrowed byte array" => {
            "binary data"
        }
        _ => "",
    };
    if !fixed.is_empty() {
        return fixed.into();
    }
    let elements = |prefix: &str, suffix: &str| {
        let count = expected.strip_prefix(prefix)?.strip_suffix(suffix)?;
        count.parse::<usize>().ok()
    };
    let count = elements("a tuple of size ", "").or_else(|| elements("an array of length ", ""));
    if let Some(count) = count {
        return format!("an array of {count}").into();
    }
    if expected.starts_with("a nonzero ") {
        return "a whole number other than 0".into();
    }
    // `struct Position with 2 elements`: the count says more than the name.
    let count = expected.rsplit_once(" with ").and_then(|(_, counted)| {
        let counted = counted.strip_suffix('s').unwrap_or(counted);
        counted.strip_suffix(" element")?.parse::<usize>().ok()
    });
    let first = |words: &[&str]| words.iter().any(|word| expected.starts_with(word));
    if first(&["tuple struct ", "tuple variant "]) {
        return count.map_or("an array".into(), |count| {
            format!("an array of {count}").into()
        });
    }
    if first(&[
        "struct ",
        "struct variant ",
        "internally tagged enum ",
        "adjacently tagged enum ",
    ]) {
        return count.map_or("an object".into(), |count| {
            format!("an object, or an array of {count}").into()
        });
    }
    if first(&["unit struct ", "unit variant "]) {
        return "null".into();
    }
    if first(&["enum ", "untagged enum ", "variant of enum "]) {
        return "a string, or an object with one field".into();
    }
    if names_types(expected) {
        return "something else".into();
    }
    expected.into()
}

/// Whether a text that somebody has written names types: by their paths, as `type_name` gives them,
/// or by what they are.
fn names_types(text: &str) -> bool {
    const KINDS: [&str; 7] = [
        "struct", "enum", "variant", "union", "trait", "type", "tuple",
    ];
    let mut words = text.split_whitespace().peekable();
    text.contains("::")
        || std::iter::from_fn(|| {
            let word = words.next()?;
            let next = words
                .peek()
                .and_then(|next| next.trim_start_matches('`').chars().next());
            Some(KINDS.contains(&word) && next.is_some_and(char::is_uppercase))
        })
        .any(|names| names)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const CLIENT: Show = Show {
        types: false,
        value: true,
    };
    const LOG: Show = Show {
        types: true,
        value: false,
    };

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Position {
        x: u8,
        y: f64,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Pair(u8, u8);

    #[derive(Debug, Deserialize)]
    struct Nothing;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Shape {
        Round(u8),
        Long(u8, u8),
        At { x: u8 },
        Flat,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Either {
        Number(u8),
        Flag(bool),
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Tagged {
        One { x: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Checked;

    impl TryFrom<String> for Checked {
        type Error = String;

        fn try_from(_: String) -> Result<Self, String> {
            Err(format!("no {}", std::any::type_name::<Self>()))
        }
    }

    fn error<T: for<'a> Deserialize<'a> + std::fmt::Debug>(json: &str) -> String {
        let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
        error.split(" at line ").next().unwrap().to_owned()
    }

    /// What serde says of every kind of type.
    fn errors() -> Vec<String> {
        vec![
            error::<Position>(r#""SECRET""#),
            error::<Position>("[1]"),
            error::<Position>(r#"{"x":"SECRET"}"#),
            error::<Position>(r#"{"x":300}"#),
            error::<Position>("{}"),
            error::<Pair>("[1]"),
            error::<Pair>(r#""SECRET""#),
            error::<Nothing>(r#""SECRET, expected a b""#),
            error::<Shape>("5"),
            error::<Shape>(r#""SECRET""#),
            error::<Shape>(r#""SECRET`, expected `b""#),
            error::<Shape>(r#"{"Long":[1]}"#),
            error::<Shape>(r#"{"At":5}"#),
            error::<Shape>(r#"{"Flat":5}"#),
            error::<Either>(r#""SECRET""#),
            error::<Tagged>(r#""SECRET""#),
            error::<Tagged>(r#"{"kind":"SECRET"}"#),
            error::<Tagged>(r#"{"kind":"One","x":1,"SECRET":1}"#),
            error::<Checked>(r#""SECRET""#),
            error::<(u8, String)>(r#""SECRET""#),
            error::<[u8; 3]>("[1]"),
            error::<Option<u64>>(r#""SECRET""#),
            error::<Vec<i128>>(r#"["SECRET"]"#),
            error::<std::collections::HashMap<String, u8>>("5"),
            error::<std::num::NonZeroU16>("0"),
            error::<std::time::Duration>("5"),
            error::<std::net::IpAddr>(r#""SECRET""#),
            error::<std::ops::Range<u8>>("5"),
            error::<char>(r#""SECRET""#),
            error::<()>(r#""SECRET""#),
        ]
    }

    #[test]
    fn clients_read_no_names_of_types() {
        let names = [
            "Position", "Pair", "Nothing", "Shape", "Either", "Tagged", "Checked", "Duration",
            "Range", "misfit", "struct", "enum", "tuple", "u8", "u16", "u64", "i128", "f64",
            "unit",
        ];
        for error in errors() {
            let shown = message(&error, CLIENT);
            let expected = shown.replace("SECRET, expected a b", "");
            for name in names {
                assert!(!expected.contains(name), "{shown:?} of {error:?}");
            }
        }
        let shown = |error: String| message(&error, CLIENT).into_owned();
        assert_eq!(
            shown(error::<Position>(r#"{"x":"a"}"#)),
            "invalid type: string \"a\", expected a whole number from 0 to 255"
        );
        assert_eq!(
            shown(error::<Pair>("[1]")),
            "invalid length 1, expected an array of 2"
        );
        assert_eq!(shown(error::<Position>("{}")), "missing field `x`");
        assert_eq!(shown(error::<Either>("[]")), NO_FIT);
        assert_eq!(
            shown(error::<std::net::IpAddr>("5")),
            "invalid type: integer `5`, expected IP address"
        );
        assert_eq!(
            shown(error::<Shape>(r#""a""#)),
            "unknown variant `a`, expected one of `Round`, `Long`, `At`, `Flat`"
        );
    }

    #[test]
    fn logs_show_the_types_and_no_values() {
        for error in errors() {
            let shown = message(&error, LOG);
            assert!(!shown.contains("SECRET"), "{shown:?} of {error:?}");
        }
        let shown = |error: String| message(&error, LOG).into_owned();
        assert_eq!(
            shown(error::<Position>(r#""a""#)),
            "invalid type: string, expected struct Position"
        );
        assert_eq!(
            shown(error::<Shape>(r#""a""#)),
            "unknown variant, expected one of `Round`, `Long`, `At`, `Flat`"
        );
        assert_eq!(shown(error::<Either>("[]")), error::<Either>("[]"));
    }
}
