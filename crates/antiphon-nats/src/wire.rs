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
    Message(Message),
    Ping,
    Pong,
    Ok,
    Error(String),
}

/// A message, for the subscription of this number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) sid: u64,
    /// What it was published under.
    pub(crate) subject: Bytes,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
}

/// The headers of a message as they came: a line that may have a status, and lines of names and
/// values. Most messages have none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(Bytes);

impl Headers {
    #[cfg(test)]
    pub(crate) const fn of(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The status by which a server says that it has no message.
    pub(crate) fn status(&self) -> Option<u16> {
        let status = self.0.strip_prefix(b"NATS/1.0 ")?.get(..3)?;
        str::from_utf8(status).ok()?.parse().ok()
    }

    /// The value of a name. Servers put theirs behind those of whoever published.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let text = str::from_utf8(&self.0).ok()?;
        text.rsplit("\r\n").find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What a server says of itself.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub(crate) max_payload: usize,
    pub(crate) tls_required: bool,
    /// What is to be signed by those who log in by a key.
    pub(crate) nonce: String,
    /// Whether JetStream is enabled there.
    pub(crate) jetstream: bool,
    /// A name that no other run of a server has.
    pub(crate) server_id: String,
    /// The number of the connection there.
    pub(crate) client_id: u64,
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
    let has_headers = verb.eq_ignore_ascii_case(b"HMSG");
    let op = if has_headers || verb.eq_ignore_ascii_case(b"MSG") {
        let start = verb.len() + 1;
        let head = Head::parse(rest()?, has_headers).ok_or_else(malformed)?;
        let whole = end + 1 + head.length + 2;
        if buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            return Ok(None);
        }
        if &buffer[whole - 2..whole] != b"\r\n" {
            return Err(malformed());
        }
        let message = buffer.split_to(whole).freeze();
        let payload = end + 1 + head.headers;
        return Ok(Some(Op::Message(Message {
            sid: head.sid,
            subject: message.slice(start..start + head.subject),
            headers: Headers(message.slice(end + 1..payload)),
            payload: message.slice(payload..whole - 2),
        })));
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

/// What the line of a message says, which its bytes follow.
struct Head {
    /// How long the subject is.
    subject: usize,
    sid: u64,
    /// How long the headers are.
    headers: usize,
    /// How long the headers and the payload are.
    length: usize,
}

impl Head {
    /// From `<subject> <sid> [reply-to] [#header bytes] <#bytes>`.
    fn parse(words: &str, has_headers: bool) -> Option<Self> {
        let mut words = words.split(' ');
        let subject = words.next().filter(|subject| !subject.is_empty())?;
        let sid = words.next()?.parse().ok()?;
        let mut rest: Vec<_> = words.filter(|word| !word.is_empty()).take(4).collect();
        let length = rest.pop()?.trim_end().parse().ok()?;
        let headers = match has_headers {
            true => rest.pop()?.parse().ok()?,
            false => 0,
        };
        (rest.len() < 2 && headers <= length && length <= PAYLOAD).then_some(Self {
            subject: subject.len(),
            sid,
            headers,
            length,
        })
    }
}

/// How a server of ours logs in, and what it says of itself.
#[derive(Default, Serialize)]
pub(crate) struct Connect<'c> {
    pub(crate) user: Option<&'c str>,
    pub(crate) pass: Option<&'c str>,
    pub(crate) auth_token: Option<&'c str>,
    /// A public key, or a JWT with one, and what the server has said, signed by it.
    pub(crate) nkey: Option<String>,
    pub(crate) jwt: Option<String>,
    pub(crate) sig: Option<String>,
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
    /// A request that nobody hears is answered at once.
    no_responders: bool,
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
        headers: true,
        no_responders: true,
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

/// As [`publish`], with headers, and a subject to which the response goes.
pub(crate) fn request(
    subject: &str,
    reply: &str,
    headers: &[(&str, String)],
    length: usize,
    out: &mut Vec<u8>,
) {
    if headers.is_empty() {
        let _ = write!(out, "PUB {subject} {reply} {length}\r\n");
        return;
    }
    let mut head = "NATS/1.0\r\n".to_owned();
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    let (headers, length) = (head.len(), head.len() + length);
    let _ = write!(out, "HPUB {subject} {reply} {headers} {length}\r\n{head}");
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
        let message = |sid, payload: &'static str| {
            Op::Message(Message {
                sid,
                subject: "a.b".into(),
                headers: Headers::default(),
                payload: payload.into(),
            })
        };
        let info = Info {
            max_payload: 77,
            tls_required: true,
            server_id: "N".to_owned(),
            ..Info::default()
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
    fn headers_come_before_the_payload() {
        let headers = "NATS/1.0\r\nNats-Sequence: 1\r\nA:b\r\nNats-Sequence: 22\r\n\r\n";
        let status = "NATS/1.0 503\r\n\r\n";
        let hmsg = |line: &str, headers: &str, payload: &str| {
            let (head, whole) = (headers.len(), headers.len() + payload.len());
            format!("HMSG {line} {head} {whole}\r\n{headers}{payload}\r\n")
        };
        let said = hmsg("a.b 9", headers, "abc") + &hmsg("a 10 reply", status, "");
        let ops = all(said.as_bytes()).unwrap();
        let [Op::Message(one), Op::Message(two)] = &ops[..] else {
            panic!("{ops:?}");
        };
        assert_eq!(
            (one.sid, &one.subject[..], &one.payload[..]),
            (9, &b"a.b"[..], &b"abc"[..])
        );
        // What the server says counts, not what somebody else has put before it.
        assert_eq!(one.headers.get("nats-sequence"), Some("22"));
        assert_eq!(
            (one.headers.get("a"), one.headers.get("b")),
            (Some("b"), None)
        );
        assert_eq!(one.headers.status(), None);
        assert_eq!(
            (two.headers.status(), &two.payload[..]),
            (Some(503), &b""[..])
        );
    }

    #[test]
    fn a_request_has_headers_and_a_subject_for_the_response() {
        let mut out = Vec::new();
        request("a", "r", &[], 2, &mut out);
        request("a", "r", &[("X", "y".to_owned())], 2, &mut out);
        let said = "PUB a r 2\r\nHPUB a r 18 20\r\nNATS/1.0\r\nX: y\r\n\r\n";
        assert_eq!(str::from_utf8(&out).unwrap(), said);
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
            "HMSG a 1 1\r\na\r\n",
            "HMSG a 1 2 1\r\na\r\n",
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
            ..Connect::default()
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
