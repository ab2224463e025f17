//! Patterns of names: `/room-{id}` is every namespace of that form, with its parameter.
//!
//! A pattern is text between slashes, with at most one parameter in each part, so that a name fits
//! in one way or not at all. It is parsed once, where the application says it; a pattern that could
//! never fit a name is a [`PatternError`] that says what to write instead. Names come from clients:
//! matching one takes no memory but for its parameters, and one pass.

use std::fmt;

/// What the names of some namespaces have in common.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<str>,
    parts: Box<[Part]>,
}

/// What stands between two slashes.
#[derive(Clone, PartialEq, Eq)]
struct Part {
    before: Box<str>,
    /// The name of its parameter, and what stands behind that.
    parameter: Option<(Box<str>, Box<str>)>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error(
        "it has no parameter: write `{{name}}` for what differs, or use `of` for one namespace"
    )]
    NoParameter,
    #[error(
        "a part has two parameters, so that a name could fit in several ways: put a slash between them"
    )]
    TwoParameters,
    #[error("the parameter {0:?} is there twice: give each a name of its own")]
    Twice(String),
    #[error("{0:?} is no name of a parameter: use letters, digits and `_`")]
    BadName(String),
    #[error(
        "a brace has no other: write `{{name}}` for a parameter, and `{{{{` or `}}}}` for a brace itself"
    )]
    LoneBrace,
    #[error(
        "{0:?} begins a parameter in other routers: write `{{name}}`, for one part of the name"
    )]
    OtherSyntax(char),
    #[error("no client can join a namespace with {0:?} in its name: leave it out")]
    Unreachable(char),
    #[error(
        "{0} bytes besides the parameters are more than a name may have, which is {1}: see `Limits::namespace`"
    )]
    TooLong(usize, usize),
}

/// A character that no name of a child may have: two end the name in a packet, `#` ends it in the ids of
/// revision 3 and on the channels of Node's adapters, and control characters are trouble wherever names
/// go.
pub(crate) fn is_barred(character: char) -> bool {
    matches!(character, ',' | '?' | '#') || character.is_control()
}

impl Pattern {
    /// Parses a pattern whose names may have so many bytes.
    pub(crate) fn parse(text: &str, longest: usize) -> Result<Self, PatternError> {
        if let Some(character) = text.chars().find(|it| is_barred(*it)) {
            return Err(PatternError::Unreachable(character));
        }
        let rest = text.strip_prefix('/').unwrap_or(text);
        let parts: Box<[Part]> = rest.split('/').map(Part::parse).collect::<Result<_, _>>()?;
        let pattern = Self {
            text: format!("/{rest}").into(),
            parts,
        };
        let names: Vec<_> = pattern.names().collect();
        if names.is_empty() {
            return Err(PatternError::NoParameter);
        }
        for (place, name) in names.iter().enumerate() {
            if names[..place].contains(name) {
                return Err(PatternError::Twice((*name).to_owned()));
            }
        }
        let literal =
            pattern.parts.iter().map(Part::len_bytes).sum::<usize>() + pattern.parts.len();
        if literal + names.len() > longest {
            return Err(PatternError::TooLong(literal, longest));
        }
        Ok(pattern)
    }

    /// The pattern as it was written, with the slash that it begins with.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its parameters, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let parameters = self.parts.iter().filter_map(|part| part.parameter.as_ref());
        parameters.map(|(name, _)| &**name)
    }

    /// The parameters of a name, in their order. Returns `None` if the name doesn't fit.
    pub(crate) fn parameters<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        let mut parts = name.strip_prefix('/')?.split('/');
        let mut values = Vec::new();
        for part in &self.parts {
            values.extend(part.value(parts.next()?)?);
        }
        parts.next().is_none().then_some(values)
    }

    pub(crate) fn fits(&self, name: &str) -> bool {
        self.parameters(name).is_some()
    }

    /// Whether the same names fit both.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let text = |part: &Part| {
            let behind = part.parameter.as_ref().map(|(_, behind)| behind.clone());
            (part.before.clone(), behind)
        };
        self.parts.iter().map(text).eq(other.parts.iter().map(text))
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(first @ (':' | '*')) = text.chars().next() {
            return Err(PatternError::OtherSyntax(first));
        }
        let (before, rest) = literal(text)?;
        let Some(rest) = rest else {
            return Ok(Self {
                before,
                parameter: None,
            });
        };
        let (name, rest) = rest.split_once('}').ok_or(PatternError::LoneBrace)?;
        let is_name = |it: char| it == '_' || it.is_ascii_alphanumeric();
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(PatternError::BadName(name.to_owned()));
        }
        match literal(rest)? {
            (behind, None) => Ok(Self {
                before,
                parameter: Some((name.into(), behind)),
            }),
            (_, Some(_)) => Err(PatternError::TwoParameters),
        }
    }

    /// Its parameter, if it has one, in a part of a name. Returns `None` if that doesn't fit.
    fn value<'n>(&self, part: &'n str) -> Option<Option<&'n str>> {
        let rest = part.strip_prefix(&*self.before)?;
        match &self.parameter {
            None => rest.is_empty().then_some(None),
            Some((_, behind)) => {
                let value = rest.strip_suffix(&**behind)?;
                (!value.is_empty()).then_some(Some(value))
            }
        }
    }

    fn len_bytes(&self) -> usize {
        let behind = self.parameter.as_ref().map(|(_, behind)| behind.len());
        self.before.len() + behind.unwrap_or(0)
    }
}

/// The text up to a parameter, and what stands behind the brace that begins that.
fn literal(text: &str) -> Result<(Box<str>, Option<&str>), PatternError> {
    let mut literal = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(place);
        literal.push_str(before);
        if let Some(behind) = brace.strip_prefix("{{") {
            literal.push('{');
            rest = behind;
        } else if let Some(behind) = brace.strip_prefix("}}") {
            literal.push('}');
            rest = behind;
        } else {
            let parameter = brace.strip_prefix('{').ok_or(PatternError::LoneBrace)?;
            return Ok((literal.into(), Some(parameter)));
        }
    }
    literal.push_str(rest);
    Ok((literal.into(), None))
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Pattern, PatternError> {
        Pattern::parse(text, 256)
    }

    fn parameters<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
        parse(pattern).unwrap().parameters(name)
    }

    #[test]
    fn a_parameter_is_what_differs_in_one_part_of_a_name() {
        for (pattern, name, expected) in [
            ("/room-{id}", "/room-7", Some(vec!["7"])),
            ("room-{id}", "/room-7", Some(vec!["7"])),
            ("/{tenant}/chat", "/acme/chat", Some(vec!["acme"])),
            ("/{tenant}/{room}", "/a/b", Some(vec!["a", "b"])),
            ("/a{id}b", "/aabb", Some(vec!["ab"])),
            ("/{{{id}}}", "/{7}", Some(vec!["7"])),
            (
                "/room-{id}",
                "/room-\u{20ac} %2F",
                Some(vec!["\u{20ac} %2F"]),
            ),
            // What is empty or goes over several parts doesn't fit.
            ("/room-{id}", "/room-", None),
            ("/room-{id}", "/room-7/8", None),
            ("/room-{id}", "/room-7/", None),
            ("/room-{id}", "/Room-7", None),
            ("/room-{id}", "room-7", None),
            ("/{tenant}/chat", "/acme", None),
            ("/a{id}b", "/ab", None),
        ] {
            assert_eq!(parameters(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_can_not_work_says_what_to_write() {
        for (pattern, expected) in [
            ("/room", PatternError::NoParameter),
            ("/", PatternError::NoParameter),
            ("/{a}-{b}", PatternError::TwoParameters),
            ("/{a}/{a}", PatternError::Twice("a".to_owned())),
            ("/{}", PatternError::BadName(String::new())),
            ("/{*rest}", PatternError::BadName("*rest".to_owned())),
            ("/{id", PatternError::LoneBrace),
            ("/id}", PatternError::LoneBrace),
            ("/:id", PatternError::OtherSyntax(':')),
            ("/rooms/*", PatternError::OtherSyntax('*')),
            ("/{id}?x", PatternError::Unreachable('?')),
            ("/{id},", PatternError::Unreachable(',')),
            ("/{id}#", PatternError::Unreachable('#')),
            ("/{id}\n", PatternError::Unreachable('\n')),
        ] {
            assert_eq!(parse(pattern), Err(expected), "{pattern}");
        }
        let long = format!("/{}{{id}}", "a".repeat(255));
        assert_eq!(parse(&long), Err(PatternError::TooLong(256, 256)));
        assert!(parse(&long.replacen('a', "", 1)).is_ok());
    }

    #[test]
    fn patterns_are_alike_if_only_their_parameters_have_other_names() {
        let alike = |one: &str, other: &str| parse(one).unwrap().is_alike(&parse(other).unwrap());
        assert!(alike("/room-{id}", "/room-{name}"));
        assert!(!alike("/room-{id}", "/room-{id}x"));
        assert!(!alike("/{a}/b", "/a/{b}"));
    }

    proptest! {
        /// A name that is made of a pattern gives back what it was made of.
        #[test]
        fn the_parameters_of_a_name_are_those_that_it_was_made_of(
            parts in prop::collection::vec(("[a-z]{0,3}", "[^/,?#\\p{Cc}]{1,4}", "[a-z]{0,3}"), 1..4),
        ) {
            let (mut pattern, mut name) = (String::new(), String::new());
            for (place, (before, value, behind)) in parts.iter().enumerate() {
                pattern += &format!("/{before}{{p{place}}}{behind}");
                name += &format!("/{before}{value}{behind}");
            }
            let values: Vec<_> = parts.iter().map(|(_, value, _)| value.as_str()).collect();
            prop_assert_eq!(parameters(&pattern, &name), Some(values));
        }

        /// No name of a client is trouble.
        #[test]
        fn any_name_fits_or_does_not(name in ".{0,40}") {
            let _ = parameters("/{a}/b{c}d", &name);
        }
    }
}
