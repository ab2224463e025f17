//! Inflating the body of a POST ends within its bound, and what it takes `flate2` takes, too. What
//! we compress in parts is read back, by us and by `flate2`. The first byte of the input chooses the
//! coding, the next two the bound.

#![no_main]

use std::io::Read as _;

use antiphon_protocol::content_coding::{ContentCoding, ContentError, Encoder};
use flate2::read::{GzDecoder, ZlibDecoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [coding, a, b, data @ ..] = data else {
        return;
    };
    let coding = match coding % 2 {
        0 => ContentCoding::Gzip,
        _ => ContentCoding::Deflate,
    };
    let bound = u16::from_be_bytes([*a, *b]);
    inflate(coding, data, usize::from(bound));
    round_trip(coding, data, usize::from(bound % 1_000) + 1);
});

/// Takes the data for a body.
fn inflate(coding: ContentCoding, body: &[u8], max: usize) {
    match coding.decode(body, max) {
        Ok(inflated) => {
            assert!(inflated.len() <= max);
            assert_eq!(inflated, theirs(coding, body).expect("what we take is one"));
        }
        Err(ContentError::TooBig { max: said }) => assert_eq!(said, max),
        Err(_) => {}
    }
}

/// Takes the data for what is compressed, in parts of this length.
fn round_trip(coding: ContentCoding, data: &[u8], part: usize) {
    let mut encoder = Encoder::new(coding);
    let mut body = Vec::new();
    let (parts, last) = data.split_at(data.len() / part * part);
    for part in parts.chunks(part) {
        body.extend(encoder.encode(part, false));
    }
    body.extend(encoder.encode(last, true));
    assert_eq!(coding.decode(&body, data.len()).as_deref(), Ok(data));
    assert_eq!(theirs(coding, &body).as_deref(), Some(data));
}

/// What `flate2` makes of a body.
fn theirs(coding: ContentCoding, body: &[u8]) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let read = match coding {
        ContentCoding::Gzip => GzDecoder::new(body).read_to_end(&mut inflated),
        ContentCoding::Deflate => ZlibDecoder::new(body).read_to_end(&mut inflated),
    };
    read.ok().map(|_| inflated)
}
