//! JSONP: long-polling for pages that can't use `XMLHttpRequest`.
//!
//! The client fetches a payload with a `<script>`, so the payload comes as a call of one of its
//! functions; and it posts one with a `<form>`. It is asked for with `j=<index>` in the query.
//!
//! | direction | body |
//! |---|---|
//! | server to client | `___eio[<index>](<the payload as a string of JavaScript>);` |
//! | client to server | `d=<the payload>`, as a form: newlines are escaped, see [`decode_form`] |
//!
//! Payloads are always text: in revision 3 binary messages go as base64. Source:
//! docs/protocol.md 7.

use std::fmt::Write as _;

/// The function of a page that gets payloads: its index in the page's list `___eio`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callback(u32);

/// The query parameter `j` is no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the query parameter `j` is no index of a callback: expected digits, at most {}",
    u32::MAX
)]
pub struct CallbackError;

impl Callback {
    /// Reads the query parameter `j`.
    ///
    /// # Errors
    /// [`CallbackError`] for anything but decimal digits, and for a number above 4,294,967,295.
    /// What is let through here becomes a part of a script.
    pub fn parse(j: &str) -> Result<Self, CallbackError> {
        if !j.bytes().all(|byte| byte.is_ascii_digit()) {
            // The standard library would take a sign.
            return Err(CallbackError);
        }
        j.parse().map(Self).map_err(|_| CallbackError)
    }

    /// The script that hands a payload to this callback.
    #[must_use]
    pub fn script(self, payload: &[u8]) -> Vec<u8> {
        let mut head = String::with_capacity(24);
        // Writing to a string can't fail.
        let _ = write!(head, "___eio[{}](", self.0);
        let mut script = head.into_bytes();
        // Payloads are JSON mostly, where each quote is escaped once more.
        script.reserve(payload.len() + payload.len() / 4 + 8);
        append_string(&mut script, payload);
        script.extend_from_slice(b");");
        script
    }
}

/// Appends a UTF-8 text as a string literal, which is one of JSON and of JavaScript as well: U+2028
/// and U+2029 ended a line in JavaScript before 2019, even within a string.
fn append_string(script: &mut Vec<u8>, text: &[u8]) {
    script.push(b'"');
    let mut rest = text;
    while let Some(plain) = rest.iter().position(|&byte| needs_look(byte)) {
        script.extend_from_slice(&rest[..plain]);
        let taken = match &rest[plain..] {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                script.extend_from_slice(if *last == 0xa8 {
                    br"\u2028"
                } else {
                    br"\u2029"
                });
                3
            }
            [byte, ..] => {
                append_escaped(script, *byte);
                1
            }
            [] => break,
        };
        rest = &rest[plain + taken..];
    }
    script.extend_from_slice(rest);
    script.push(b'"');
}

/// Whether a byte has to be escaped, or may begin something that has.
const fn needs_look(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | 0xe2)
}

fn append_escaped(script: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        b'"' | b'\\' => byte,
        0..0x20 => {
            script.extend_from_slice(br"\u00");
            script.push(HEX[usize::from(byte >> 4)]);
            script.push(HEX[usize::from(byte & 15)]);
            return;
        }
        _ => {
            script.push(byte);
            return;
        }
    };
    script.extend_from_slice(&[b'\\', short]);
}

/// Why the body of a POST could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// The form has no field `d`.
    #[error(
        "the form has no field `d`: with `j` in the query a payload is posted as `d=<payload>`"
    )]
    NoField,
    /// The form has more than one field `d`.
    #[error("the form has more than one field `d`")]
    Repeated,
}

/// The payload in the body of a POST: its form field `d`, percent-decoded, and with its newlines
/// back. It is never longer than the body. Whether it is UTF-8 is for
/// [`payload::decode`](super::payload::decode) to say.
///
/// Browsers write each newline of a form as CR LF, so a client sends `\n` (two characters) in its
/// place, and puts one more backslash in front of a `\n` that was there: `\n` is a newline, and of
/// `\\n` one backslash is taken away. A newline that follows a backslash can't be told from that:
/// JSON never has one.
///
/// # Errors
/// [`FormError`] if there isn't just one field `d`. Other fields are passed over.
pub fn decode_form(body: &[u8]) -> Result<Vec<u8>, FormError> {
    let mut fields =
        (body.split(|&byte| byte == b'&')).filter_map(|field| field.strip_prefix(b"d="));
    let field = fields.next().ok_or(FormError::NoField)?;
    if fields.next().is_some() {
        return Err(FormError::Repeated);
    }
    let mut payload = percent_decoded(field);
    restore_newlines(&mut payload);
    Ok(payload)
}

/// Decodes `%XX` and `+`. What is no escape stays as it is, as in browsers and in Node.
fn percent_decoded(field: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        decoded.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', &[high, low, ..]) => match (hex_digit(high), hex_digit(low)) {
                (Some(high), Some(low)) => {
                    rest = &after[2..];
                    (high << 4) | low
                }
                _ => b'%',
            },
            _ => first,
        });
    }
    decoded
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Takes one backslash away in front of each `n` that has some, and makes it a newline where that
/// was the only one.
fn restore_newlines(payload: &mut Vec<u8>) {
    let mut backslashes = 0_usize;
    let mut written = 0;
    for read in 0..payload.len() {
        let mut byte = payload[read];
        match byte {
            b'\\' => backslashes += 1,
            b'n' if backslashes > 0 => {
                written -= 1;
                if backslashes == 1 {
                    byte = b'\n';
                }
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        payload[written] = byte;
        written += 1;
    }
    payload.truncate(written);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn script(payload: &str) -> String {
        String::from_utf8(Callback(7).script(payload.as_bytes())).unwrap()
    }

    /// What a stock client does to a payload before it puts it into its form.
    fn escape(payload: &str) -> String {
        payload.replace(r"\n", "\\\n").replace('\n', r"\n")
    }

    /// The body of a form with every byte percent-encoded.
    fn form(text: &str) -> Vec<u8> {
        let encoded = text.bytes().map(|byte| format!("%{byte:02X}"));
        format!("d={}", encoded.collect::<String>()).into_bytes()
    }

    fn payload(body: &str) -> String {
        String::from_utf8(decode_form(body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn an_index_is_digits() {
        assert_eq!(Callback::parse("0"), Ok(Callback(0)));
        assert_eq!(Callback::parse("007"), Ok(Callback(7)));
        assert_eq!(Callback::parse("4294967295"), Ok(Callback(u32::MAX)));
        let long = "1".repeat(10_000);
        for j in [
            "",
            "+1",
            "-1",
            "1.0",
            "0x1",
            " 1",
            "١",
            "0](alert)",
            "4294967296",
            &long,
        ] {
            assert_eq!(Callback::parse(j), Err(CallbackError), "{j}");
        }
    }

    #[test]
    fn a_payload_becomes_a_call() {
        assert_eq!(script("6:4hello"), r#"___eio[7]("6:4hello");"#);
        assert_eq!(
            script("42[\"a\\n\",1]\x1e\u{2028}\u{2029}\n\r\t\u{8}\u{c}\0é🦀€"),
            "___eio[7](\"42[\\\"a\\\\n\\\",1]\\u001e\\u2028\\u2029\\n\\r\\t\\b\\f\\u0000é🦀€\");"
        );
        assert_eq!(Callback(u32::MAX).script(b""), b"___eio[4294967295](\"\");");
    }

    #[test]
    fn the_field_of_a_form_is_decoded() {
        assert_eq!(payload("d=6%3A4hello"), "6:4hello");
        assert_eq!(payload("d=4a+b%2Bc%C3%A9"), "4a b+cé");
        assert_eq!(payload("x=1&d=4&dd=5&d"), "4");
        assert_eq!(payload("d="), "");
        assert_eq!(payload("d=4=%3D="), "4===");
        assert_eq!(payload("d=%%4z%4%"), "%%4z%4%");
    }

    #[test]
    fn a_form_has_one_payload() {
        for body in ["", "4hello", "e=4", "d", "D=4", "%64=4"] {
            assert_eq!(
                decode_form(body.as_bytes()),
                Err(FormError::NoField),
                "{body}"
            );
        }
        assert_eq!(decode_form(b"d=4&d=4"), Err(FormError::Repeated));
    }

    #[test]
    fn newlines_come_back() {
        assert_eq!(payload(r"d=a\nb"), "a\nb");
        assert_eq!(payload(r"d=a\\nb"), r"a\nb");
        assert_eq!(payload(r"d=a\\\nb"), r"a\\nb");
        assert_eq!(payload(r"d=\n\n\\n\n"), "\n\n\\n\n");
        assert_eq!(payload(r"d=\r\\r\"), r"\r\\r\");
        assert_eq!(payload(r"d=%5Cn%5C%5Cn"), "\n\\n");
    }

    proptest! {
        #[test]
        fn a_script_holds_its_payload(text in r#"([ -~"\\\n\u{0}-\u{1f}\u{2027}-\u{202a}é🦀])*"#, other: String) {
            for text in [text, other] {
                let script = script(&text);
                let literal = script.strip_prefix("___eio[7](").unwrap().strip_suffix(");").unwrap();
                prop_assert_eq!(serde_json::from_str::<String>(literal).unwrap(), text);
                let ends_a_line = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\0'..' ');
                prop_assert!(!literal.contains(ends_a_line));
            }
        }

        #[test]
        fn what_a_client_posts_is_read(text in r#"([n\\\n"é🦀a&=+%]|\\\\n){0,40}"#) {
            prop_assume!(!text.contains("\\\n"));
            prop_assert_eq!(decode_form(&form(&escape(&text))).unwrap(), text.as_bytes());
        }

        #[test]
        fn no_body_panics_or_grows(body: Vec<u8>, text in r"(d=|&|%[0-9a-g]{0,2}|\\|n|.){0,30}") {
            for body in [&body, text.as_bytes()] {
                if let Ok(payload) = decode_form(body) {
                    prop_assert!(payload.len() <= body.len());
                }
                let script = Callback(0).script(body);
                prop_assert!(script.len() <= 6 * body.len() + 16);
            }
        }
    }
}
