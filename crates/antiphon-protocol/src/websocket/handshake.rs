//! The keys of the opening handshake (RFC 6455 §4), which prove that both sides mean WebSocket.
//!
//! Functions of texts: a server checks a key and writes its answer, a client makes a key from
//! random bytes that it is given. The request and the response around them are the HTTP server's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

/// The constant of RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

/// Whether the value of `Sec-WebSocket-Key` is what it must be: base64 of 16 bytes (RFC 6455 §4.1).
#[must_use]
pub fn is_valid_key(key: &str) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// The `Sec-WebSocket-Key` that a client sends, from 16 random bytes (RFC 6455 §4.1).
#[must_use]
pub fn encode_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_answered_as_there() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(accept_key(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(encode_key(*b"the sample nonce"), key);
    }

    #[test]
    fn a_key_is_base64_of_16_bytes() {
        assert!(is_valid_key(&encode_key([0xff; 16])));
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",       // not padded
            "dGhlIHNhbXBsZSBub25jZQ=",      // not padded enough
            "dGhlIHNhbXBsZSBub25jZS4=",     // 17 bytes
            "dGhlIHNhbXBsZSBub25jZTEy",     // 18 bytes
            "dGhlIHNhbXBsZSBub24=",         // 14 bytes
            "dGhlIHNhbXBsZSBub25jZ*==",     // another alphabet
            " dGhlIHNhbXBsZSBub25jZQ==",    // not trimmed
            "dGhlIHNhbXBsZSBub25jZQ\u{e9}", // not ASCII
        ] {
            assert!(!is_valid_key(key), "{key}");
        }
    }
}
