//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1): extensions, each with parameters.

use std::borrow::Cow;

/// One element of the header, as `permessage-deflate; client_max_window_bits=10`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'h> {
    pub(super) name: &'h str,
    pub(super) parameters: Vec<(&'h str, Option<Cow<'h, str>>)>,
}

/// Reads the elements of one header. After what can't be read comes nothing more.
#[derive(Debug)]
pub(super) struct Extensions<'h> {
    rest: &'h str,
}

/// The header is not what the grammar says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'h> Extensions<'h> {
    pub(super) const fn new(header: &'h str) -> Self {
        Self { rest: header }
    }

    fn extension(&mut self) -> Result<Extension<'h>, Malformed> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.take(';') {
            let name = self.token()?;
            let value = if self.take('=') {
                Some(self.value()?)
            } else {
                None
            };
            parameters.push((name, value));
        }
        if self.rest.is_empty() || self.take(',') {
            Ok(Extension { name, parameters })
        } else {
            Err(Malformed)
        }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Takes this character, and the spaces around it, if it comes next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_spaces();
        let Some(rest) = self.rest.strip_prefix(wanted) else {
            return false;
        };
        self.rest = rest;
        self.skip_spaces();
        true
    }

    fn token(&mut self) -> Result<&'h str, Malformed> {
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        if token.is_empty() {
            Err(Malformed)
        } else {
            Ok(token)
        }
    }

    /// A token, or a quoted string that is a token once the quotes are gone.
    fn value(&mut self) -> Result<Cow<'h, str>, Malformed> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.token().map(Cow::Borrowed);
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next().ok_or(Malformed)? {
                '"' => break,
                '\\' => value.push(characters.next().ok_or(Malformed)?),
                character => value.push(character),
            }
        }
        self.rest = characters.as_str();
        if !value.is_empty() && value.chars().all(is_token) {
            Ok(Cow::Owned(value))
        } else {
            Err(Malformed)
        }
    }
}

impl<'h> Iterator for Extensions<'h> {
    type Item = Result<Extension<'h>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        // Elements of a list may be empty (RFC 9110 §5.6.1).
        while self.take(',') {}
        if self.rest.is_empty() {
            return None;
        }
        let extension = self.extension();
        if extension.is_err() {
            self.rest = "";
        }
        Some(extension)
    }
}

/// Whether a token may have this character (RFC 9110 §5.6.2).
const fn is_token(character: char) -> bool {
    matches!(character,
        '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '.' | '^' | '_' | '`' | '|' | '~'
            | '0'..='9' | 'A'..='Z' | 'a'..='z')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Vec<Result<Extension<'_>, Malformed>> {
        Extensions::new(header).collect()
    }

    fn extension<'h>(name: &'h str, parameters: &[(&'h str, Option<&'h str>)]) -> Extension<'h> {
        let owned = |(name, value): &(&'h str, Option<&'h str>)| (*name, value.map(Cow::Borrowed));
        Extension {
            name,
            parameters: parameters.iter().map(owned).collect(),
        }
    }

    #[test]
    fn extensions_have_parameters_with_and_without_values() {
        assert_eq!(
            read("foo, permessage-deflate ;a; b=1 ;c=\"x\\y\",\tbar;d"),
            [
                Ok(extension("foo", &[])),
                Ok(extension(
                    "permessage-deflate",
                    &[("a", None), ("b", Some("1")), ("c", Some("xy"))]
                )),
                Ok(extension("bar", &[("d", None)])),
            ]
        );
    }

    #[test]
    fn empty_elements_are_skipped() {
        assert_eq!(read(""), []);
        assert_eq!(read(" , ,"), []);
        assert_eq!(read(", a,, b ,").len(), 2);
    }

    #[test]
    fn what_breaks_the_grammar_ends_the_list() {
        for header in [
            "a b",
            "a;",
            "a;;b",
            "a;b=",
            "a; b=\"",
            "a; b=\"\"",
            "a; b=\"\\",
            "a; b=\"1,2\"",
            "a; b=\"1\"2",
            "a; b=1=2",
            "a=1",
            ";a",
            "é",
        ] {
            assert_eq!(
                read(&format!("{header}, fine")),
                [Err(Malformed)],
                "{header}"
            );
        }
    }
}
