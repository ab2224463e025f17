//! As much of HTTP/1.1 as long-polling and the WebSocket upgrade need.

use crate::Result;

/// A key for `Sec-WebSocket-Key` with its answer, from RFC 6455. All connections use it: it proves
/// that the server speaks the protocol, not who the client is.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The header of a WebSocket that offers to compress.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// The request that opens a WebSocket session, with more headers: whole lines, or nothing.
pub fn upgrade(host: &str, headers: &str) -> String {
    format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

/// A poll; without a session's id the one that opens a session.
pub fn get(host: &str, sid: Option<&str>) -> String {
    let (and, sid) = sid.map_or(("", ""), |sid| ("&sid=", sid));
    format!(
        "GET /socket.io/?EIO=4&transport=polling{and}{sid} HTTP/1.1\r\nHost: {host}\r\n\
         Accept: */*\r\n\r\n"
    )
}

/// A request that sends packets.
pub fn post(host: &str, sid: &str, body: &str) -> String {
    format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: {host}\r\n\
         Accept: */*\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An answer of the server.
pub struct Response<'a> {
    pub status: u16,
    head: &'a str,
    pub body: &'a [u8],
    /// How many bytes it took.
    pub size: usize,
}

impl Response<'_> {
    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }

    /// Whether its server keeps the window of what it compresses from one message to the next, if it
    /// compresses at all.
    pub fn keeps_window(&self) -> Option<bool> {
        let extensions = self.header("sec-websocket-extensions")?;
        Some(!extensions.contains("server_no_context_takeover"))
    }

    /// Whether it switches to WebSocket, with the right answer to our key.
    pub fn is_upgrade(&self) -> bool {
        self.status == 101 && self.header("sec-websocket-accept") == Some(ACCEPT)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The first response of `bytes`, if it is complete.
pub fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| format!("expected an HTTP/1.1 response, got {head:?}"))?;
    let length: usize = match header(head, "content-length") {
        Some(length) => length.parse()?,
        None if status == 101 => 0,
        None => return Err(format!("expected a Content-Length, got {head:?}").into()),
    };
    let size = end + 4 + length;
    Ok((bytes.len() >= size).then(|| Response {
        status,
        head,
        body: &bytes[end + 4..size],
        size,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_with_its_body() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP";
        let response = parse(bytes).unwrap().unwrap();
        assert_eq!((response.status, response.body), (200, &b"ok"[..]));
        assert_eq!(response.size, bytes.len() - 4);
        assert!(parse(&bytes[..39]).unwrap().is_none());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
