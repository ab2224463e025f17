//! Request lines with bytes in them that no URI has.
//!
//! Some clients build their URL by hand and send a raw `"`, `<` or `>` in it. Node's parser takes
//! them, hyper's answers 400 with nothing in it, before any code of ours is asked. On a listener of
//! our own they are percent-encoded on their way to hyper, which is what a browser would have done.
//!
//! To find the request lines of a connection this follows the messages on it as far as it must:
//! heads, and bodies by their length. Where it can't (a body in chunks, two lengths, a WebSocket)
//! it looks at nothing any more. It changes bytes in what it takes for a request line alone, so a
//! client that misleads it has changed what it sent itself.

/// The start of a header's line that is looked at: what matters is shorter.
const LINE: usize = 64;

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct RequestLines {
    place: Place,
    /// The start of the header's line that is being read.
    line: [u8; LINE],
    /// How long that line is so far.
    length: usize,
    /// The length of the body that follows this head.
    body: Option<u64>,
    /// Where the next message begins can't be known.
    is_lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In front of a request, where empty lines may stand.
    Before,
    /// In a request line, in front of its query.
    Target,
    Query,
    Headers,
    Body(u64),
    /// Not followed any more.
    Unknown,
}

impl Default for RequestLines {
    fn default() -> Self {
        Self {
            place: Place::Before,
            line: [0; LINE],
            length: 0,
            body: None,
            is_lost: false,
        }
    }
}

impl RequestLines {
    /// Takes the next bytes of the connection. Returns what to read instead, if that is something
    /// else.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut changed: Option<Vec<u8>> = None;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let end = match self.place {
                Place::Unknown => rest.len(),
                Place::Body(left) => {
                    let here =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.place = match left - here as u64 {
                        0 => Place::Before,
                        left => Place::Body(left),
                    };
                    here
                }
                Place::Headers => self.header(rest),
                Place::Before | Place::Target | Place::Query => {
                    let byte = rest[0];
                    if self.is_escaped(byte) {
                        let changed = changed.get_or_insert_with(|| bytes[..at].to_vec());
                        let digit = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
                        changed.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
                        at += 1;
                        continue;
                    }
                    self.target(byte);
                    1
                }
            };
            if let Some(changed) = &mut changed {
                changed.extend_from_slice(&rest[..end]);
            }
            at += end;
        }
        changed
    }

    /// Whether hyper refuses this byte here.
    const fn is_escaped(&self, byte: u8) -> bool {
        match byte {
            b'"' | b'<' | b'>' => true,
            // hyper takes text here, and Node nothing of it. In a path it is left to the code that
            // compares it.
            0x7f.. => matches!(self.place, Place::Query),
            _ => false,
        }
    }

    /// The next byte of a request line.
    const fn target(&mut self, byte: u8) {
        self.place = match (byte, self.place) {
            (b'\r' | b'\n', Place::Before) => Place::Before,
            (b'\n', _) => {
                self.length = 0;
                self.body = None;
                self.is_lost = false;
                Place::Headers
            }
            (b'?', _) => Place::Query,
            (_, Place::Query) => Place::Query,
            _ => Place::Target,
        };
    }

    /// A piece of the headers, up to the end of its line. How many bytes that is.
    fn header(&mut self, rest: &[u8]) -> usize {
        let newline = rest.iter().position(|byte| *byte == b'\n');
        let piece = &rest[..newline.unwrap_or(rest.len())];
        if let Some(free) = self.line.get_mut(self.length..) {
            let kept = free.len().min(piece.len());
            free[..kept].copy_from_slice(&piece[..kept]);
        }
        self.length = self.length.saturating_add(piece.len());
        let Some(newline) = newline else {
            return rest.len();
        };
        let line = &self.line[..self.length.min(LINE)];
        match line {
            [] | [b'\r'] => self.place = self.next(),
            _ => self.headers_line(),
        }
        self.length = 0;
        newline + 1
    }

    /// A whole header has come.
    fn headers_line(&mut self) {
        let line = &self.line[..self.length.min(LINE)];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).ok().filter(|digits| {
                self.length <= LINE && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            let length = digits.and_then(|digits| digits.parse().ok());
            self.is_lost |= length.is_none() || self.body.is_some();
            self.body = length;
        }
        self.is_lost |= name.eq_ignore_ascii_case(b"transfer-encoding")
            || (name.eq_ignore_ascii_case(b"upgrade") && value.eq_ignore_ascii_case(b"websocket"));
    }

    /// What follows this head.
    const fn next(&self) -> Place {
        match self.body {
            _ if self.is_lost => Place::Unknown,
            None | Some(0) => Place::Before,
            Some(length) => Place::Body(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of these bytes, in pieces of so many.
    fn read(bytes: &[u8], size: usize) -> String {
        let mut lines = RequestLines::default();
        let mut read = Vec::new();
        for piece in bytes.chunks(size) {
            let changed = lines.feed(piece);
            read.extend(changed.unwrap_or_else(|| piece.to_vec()));
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    #[track_caller]
    fn check(sent: &str, expected: &str) {
        for size in 1..=sent.len() {
            assert_eq!(read(sent.as_bytes(), size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn request_lines_are_escaped_and_nothing_else_is() {
        let head = "Host: \"<>\"\r\nX: a?<b>\r\n";
        let get = format!("GET /s/<x>?a=\"b\"&c={{|}}\u{e9} HTTP/1.1\r\n{head}\r\n");
        let got = format!("GET /s/%3Cx%3E?a=%22b%22&c={{|}}%C3%A9 HTTP/1.1\r\n{head}\r\n");
        check(&get, &got);
        let body = "<\"\r\n\r\nGET /?<> HTTP/1.1\r\n\r\n";
        let length = body.len();
        let post = |query| {
            format!("POST /?{query} HTTP/1.1\r\n{head}content-LENGTH:  {length} \r\n\r\n{body}")
        };
        check(
            &[&*post("<"), "\r\n", &get, &post(">"), &get].concat(),
            &[&*post("%3C"), "\r\n", &got, &post("%3E"), &got].concat(),
        );
        check(
            "GET /?> HTTP/1.1\nA: <\n\nGET /?> HTTP/1.1\n\n",
            "GET /?%3E HTTP/1.1\nA: <\n\nGET /?%3E HTTP/1.1\n\n",
        );
        let path = "GET /\u{e9}?x HTTP/1.1\r\n\r\n";
        check(path, path);
    }

    #[test]
    fn where_the_next_request_begins_must_be_certain() {
        let second = "GET /?< HTTP/1.1\r\n\r\n";
        for header in [
            "Transfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            &format!("Content-Length: {}1", " ".repeat(LINE)),
            "upgrade: WebSocket",
        ] {
            let sent = format!("GET / HTTP/1.1\r\n{header}\r\n\r\n{second}");
            check(&sent, &sent);
        }
        let long = format!("X: {}\r\nUpgrade: h2c", "content-length: 5".repeat(LINE));
        let first = format!("GET / HTTP/1.1\r\n{long}\r\n\r\n");
        check(
            &format!("{first}{second}"),
            &format!("{first}GET /?%3C HTTP/1.1\r\n\r\n"),
        );
    }
}
