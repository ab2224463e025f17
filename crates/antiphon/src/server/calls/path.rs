//! Which event a path calls: `message` is of the namespace `/`, `a/b/message` of `/a/b`.
//!
//! Both directions are here: `parse` for requests, `path` for the description. Segments are
//! percent-encoded UTF-8, each by itself, so that a name may hold a slash. A path that can't be
//! read is a `CallError`; names are looked up later, and nothing is made for an unknown one.

use std::fmt::Write as _;

use super::CallError;

/// What is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) namespace: String,
    pub(super) event: String,
}

impl Address {
    /// Reads what stands in a path behind `/call/`.
    pub(super) fn parse(path: &str) -> Result<Self, CallError> {
        let (namespace, event) = match path.rsplit_once('/') {
            Some((namespace, event)) => (namespace.split('/').collect(), event),
            None => (Vec::new(), path),
        };
        if event.is_empty() {
            return Err(CallError::NoEvent);
        }
        let segments: Result<Vec<_>, _> = namespace.into_iter().map(decode).collect();
        Ok(Self {
            namespace: format!("/{}", segments?.join("/")),
            event: decode(event)?,
        })
    }

    /// The path of an event below `/call`, as the description shows it. Returns `None` if no URL
    /// can have it.
    pub(super) fn path(namespace: &str, event: &str) -> Option<String> {
        let namespace = namespace.strip_prefix('/').unwrap_or(namespace);
        let segments = namespace.split('/').filter(|_| !namespace.is_empty());
        let mut path = String::new();
        for segment in segments.chain([event]) {
            // Resolvers of URLs take these for steps.
            if matches!(segment, "" | "." | "..") {
                return None;
            }
            path.push('/');
            encode(segment, &mut path);
        }
        Some(path)
    }
}

fn decode(segment: &str) -> Result<String, CallError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let Some((&[high, low], after)) = after.split_first_chunk::<2>() else {
            return Err(CallError::BadPath);
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(high), digit(low)) else {
            return Err(CallError::BadPath);
        };
        bytes.push((high << 4 | low) as u8);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| CallError::BadPath)
}

/// As `encodeURIComponent` of JavaScript.
fn encode(segment: &str, path: &mut String) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // A text takes whatever is written to it.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<(String, String)> {
        let address = Address::parse(path).ok()?;
        Some((address.namespace, address.event))
    }

    fn both(namespace: &str, event: &str) -> Option<(String, String)> {
        Some((namespace.to_owned(), event.to_owned()))
    }

    #[test]
    fn the_last_segment_is_the_event() {
        assert_eq!(parse("message"), both("/", "message"));
        assert_eq!(parse("chat/message"), both("/chat", "message"));
        assert_eq!(parse("a/b/x"), both("/a/b", "x"));
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        assert_eq!(parse("a%20b/c%2Fd"), both("/a b", "c/d"));
        assert_eq!(parse("%E2%82%AC"), both("/", "€"));
        assert_eq!(parse("a+b"), both("/", "a+b"));
    }

    #[test]
    fn what_is_no_path_is_an_error() {
        for path in ["%", "%2", "%zz", "%+1", "%FF", "%E2%82", "%C0%AF/x"] {
            assert!(
                matches!(Address::parse(path), Err(CallError::BadPath)),
                "{path}"
            );
        }
        for path in ["", "chat/", "/"] {
            assert!(
                matches!(Address::parse(path), Err(CallError::NoEvent)),
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_reads_back() {
        for (namespace, event) in [("/", "a"), ("/a b/ü", "%2F?#"), ("/chat", "a/b\n{c}€")] {
            let path = Address::path(namespace, event).unwrap();
            assert!(path.is_ascii(), "{path}");
            assert_eq!(parse(&path[1..]), both(namespace, event));
        }
        assert_eq!(Address::path("/", ".."), None);
    }
}
