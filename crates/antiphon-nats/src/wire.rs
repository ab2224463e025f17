//! The protocol of NATS: lines of text, and payloads of a length that the line says.
//!
//! A codec of bytes, without I/O. It knows what this crate uses: see the
//! [client protocol](https://docs.nats.io/reference/reference-protocols/nats-protocol).

use std::io::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The longest line. Those of servers of large clusters, which list their addresses, are long.
const LINE: usize = 256 * 1_024;

/// The largest payload: more than servers let anyone configure.
const PAYLOAD: usize = 64 * 1_024 * 1_024;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Info(Info),
    /// A message, for the subscription of this number.
    Message {
        sid: u64,
        payload: Bytes,
    },
    Ping,
    Pong,
    Ok,
    Error(String),
}

/// What a server says of itself.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub(crate) max_payload: usize,
    pub(crate) tls_required: bool,
}

/// What isn't the protocol of NATS: its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    fn of(line: &[u8]) -> Self {
        let start = &line[..line.len().min(60)];
        Self(start.escape_ascii().to_string())
    }
}

/// Takes what comes next. Returns `None` if it isn't there as a whole.
pub(crate) fn next(buffer: &mut BytesMut) -> Result<Option<Op>, Malformed> {
    let Some(end) = buffer.iter().take(LINE).position(|byte| *byte == b'\n') else {
        return match buffer.len() < LINE {
            true => Ok(None),
            false => Err(Malformed::of(buffer)),
        };
    };
    let line = &buffer[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let malformed = || Malformed::of(line);
    let (verb, rest) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[][..]),
    };
    let rest = || str::from_utf8(rest).map_err(|_| malformed());
    let op = if verb.eq_ignore_ascii_case(b"MSG") {
        // MSG <subject> <sid> [reply-to] <bytes>
        let words: Vec<_> = rest()?.split_ascii_whitespace().collect();
        let (sid, length) = match words[..] {
            [_, sid, length] | [_, sid, _, length] => (sid, length),
            _ => return Err(malformed()),
        };
        let sid = sid.parse().map_err(|_| malformed())?;
        let length: usize = length.parse().map_err(|_| malformed())?;
        if length > PAYLOAD {
            return Err(malformed());
        }
        let whole = end + 1 + length + 2;
        if buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            return Ok(None);
        }
        if &buffer[whole - 2..whole] != b"\r\n" {
            return Err(malformed());
        }
        buffer.advance(end + 1);
        let payload = buffer.split_to(length).freeze();
        buffer.advance(2);
        return Ok(Some(Op::Message { sid, payload }));
    } else if verb.eq_ignore_ascii_case(b"PING") {
        Op::Ping
    } else if verb.eq_ignore_ascii_case(b"PONG") {
        Op::Pong
    } else if verb.eq_ignore_ascii_case(b"+OK") {
        Op::Ok
    } else if verb.eq_ignore_ascii_case(b"-ERR") {
        Op::Error(rest()?.trim().trim_matches('\'').to_owned())
    } else if verb.eq_ignore_ascii_case(b"INFO") {
        Op::Info(serde_json::from_str(rest()?).map_err(|_| malformed())?)
    } else {
        return Err(malformed());
    };
    buffer.advance(end + 1);
    Ok(Some(op))
}

/// Who one is, and how one logs in.
#[derive(Serialize)]
pub(crate) struct Connect<'c> {
    pub(crate) user: Option<&'c str>,
    pub(crate) pass: Option<&'c str>,
    pub(crate) auth_token: Option<&'c str>,
}

/// What of the protocol this crate asks for.
#[derive(Serialize)]
struct Greeting<'c> {
    #[serde(flatten)]
    login: &'c Connect<'c>,
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    /// Our own messages come back: by them the router sees that the connection works.
    echo: bool,
    headers: bool,
    protocol: u8,
    name: &'static str,
    lang: &'static str,
    version: &'static str,
}

pub(crate) fn connect(login: &Connect<'_>, out: &mut Vec<u8>) {
    let greeting = Greeting {
        login,
        verbose: false,
        pedantic: false,
        tls_required: false,
        echo: true,
        headers: false,
        protocol: 1,
        name: "antiphon",
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
    };
    out.extend(b"CONNECT ");
    // Texts and truths in memory: neither can fail to be written.
    let _ = serde_json::to_writer(&mut *out, &greeting);
    out.extend(b"\r\n");
}

pub(crate) fn ping(out: &mut Vec<u8>) {
    out.extend(b"PING\r\n");
}

pub(crate) fn pong(out: &mut Vec<u8>) {
    out.extend(b"PONG\r\n");
}

pub(crate) fn subscribe(subject: &str, sid: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "SUB {subject} {sid}\r\n");
}

pub(crate) fn unsubscribe(sid: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "UNSUB {sid}\r\n");
}

/// The line before a payload, and its end after it.
pub(crate) fn publish(subject: &str, length: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "PUB {subject} {length}\r\n");
}

pub(crate) fn end(out: &mut Vec<u8>) {
    out.extend(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Op>, Malformed> {
        let (mut buffer, mut ops) = (BytesMut::from(bytes), Vec::new());
        while let Some(op) = next(&mut buffer)? {
            ops.push(op);
        }
        Ok(ops)
    }

    #[test]
    fn what_a_server_says_is_understood() {
        let said = b"INFO {\"server_id\":\"N\",\"max_payload\":77,\"tls_required\":true} \r\n\
            PING\r\n+OK\r\npong\r\n-ERR 'Authorization Violation'\r\n\
            MSG a.b 9 3\r\na\r\n\r\nMSG a.b 10 reply 0\r\n\r\n";
        let message = |sid, payload: &'static str| Op::Message {
            sid,
            payload: payload.into(),
        };
        let info = Info {
            max_payload: 77,
            tls_required: true,
        };
        let expected = vec![
            Op::Info(info),
            Op::Ping,
            Op::Ok,
            Op::Pong,
            Op::Error("Authorization Violation".to_owned()),
            message(9, "a\r\n"),
            message(10, ""),
        ];
        assert_eq!(all(said), Ok(expected));
    }

    #[test]
    fn what_is_no_nats_is_an_error() {
        for said in [
            "HTTP/1.1 400 Bad Request\r\n",
            "INFO nonsense\r\n",
            "MSG a 1\r\n",
            "MSG a x 1\r\na\r\n",
            "MSG a 1 99999999999\r\n",
            "MSG a 1 1\r\nabc",
            "\r\n",
        ] {
            assert!(all(said.as_bytes()).is_err(), "{said}");
        }
        assert!(all(&vec![b'x'; LINE]).is_err());
        assert_eq!(all(&vec![b'x'; LINE - 1]), Ok(vec![]));
    }

    #[test]
    fn a_login_is_told_and_what_isnt_known_is_left_out_of_the_way() {
        let login = Connect {
            user: Some("u"),
            pass: Some("p\"\r\n"),
            auth_token: None,
        };
        let mut out = Vec::new();
        connect(&login, &mut out);
        let line = str::from_utf8(&out).unwrap();
        assert!(line.starts_with("CONNECT {\"user\":\"u\",\"pass\":\"p\\\"\\r\\n\""));
        assert_eq!(line.matches('\n').count(), 1);
    }

    proptest! {
        /// However the bytes are cut, the same comes out; and garbage is never a panic.
        #[test]
        fn pieces_are_put_together(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cuts in prop::collection::vec(1usize..30, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (sid, payload) in payloads.iter().enumerate() {
                bytes.extend(format!("MSG s {sid} {}\r\n", payload.len()).bytes());
                bytes.extend(payload);
                bytes.extend(b"\r\nPING\r\n");
            }
            let whole = all(&bytes).unwrap();
            prop_assert_eq!(whole.len(), payloads.len() * 2);
            let (mut buffer, mut ops, mut rest) = (BytesMut::new(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                buffer.extend_from_slice(piece);
                while let Some(op) = next(&mut buffer).unwrap() {
                    ops.push(op);
                }
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(ops, whole);
        }

        #[test]
        fn garbage_is_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&bytes);
        }
    }
}
