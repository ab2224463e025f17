//! Compressed bodies: of responses, by the client's `Accept-Encoding`, and of POSTs, by their
//! `Content-Encoding` (RFC 9110 §8.4). The codec is `antiphon_protocol::content_coding`; without
//! the feature `deflate` nothing is compressed, and a POST that is gets 415.
//!
//! A response that leaves in parts is compressed part by part, as they are read. A POST is read up
//! to the bound and inflated up to the same one.

#[cfg(feature = "deflate")]
use antiphon_protocol::content_coding::{ContentCoding, ContentError, Decoder};
use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_ENCODING};
#[cfg(feature = "deflate")]
use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH},
};

use super::RequestError;
use crate::engine::EngineConfig;
#[cfg(feature = "deflate")]
use crate::engine::EngineResponse;

/// Bytes of a compressed body that are inflated before others have their turn: at most 2 ms.
#[cfg(feature = "deflate")]
const PART: usize = 16 << 10;

/// How the body of a POST is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    Identity,
    #[cfg(feature = "deflate")]
    Compressed(ContentCoding),
}

impl Coding {
    /// What the head of a request says of its body.
    pub(super) fn of(config: &EngineConfig, headers: &HeaderMap) -> Result<Self, RequestError> {
        let Some(name) = headers.get(CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        let name = String::from_utf8_lossy(name.as_bytes());
        let name = name.trim();
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            return Ok(Self::Identity);
        }
        #[cfg(feature = "deflate")]
        if config.http_compression.is_some()
            && let Some(coding) = ContentCoding::from_name(name)
        {
            return Ok(Self::Compressed(coding));
        }
        Err(RequestError::ContentCoding {
            asked: name.to_owned(),
            accepted: accepted(config),
        })
    }

    /// The body of the POST, of at most `limit` bytes. Gives way to others between its parts.
    pub(super) async fn decode(self, body: Bytes, limit: usize) -> Result<Bytes, RequestError> {
        match self {
            Self::Identity => {
                // It was read up to the limit.
                debug_assert!(body.len() <= limit);
                Ok(body)
            }
            #[cfg(feature = "deflate")]
            Self::Compressed(coding) => match inflate(coding, &body, limit).await {
                Ok(inflated) => Ok(inflated.into()),
                Err(ContentError::TooBig { max }) => {
                    Err(RequestError::PayloadTooLarge { limit: max })
                }
                Err(error) => Err(RequestError::BadPayload(error.to_string())),
            },
        }
    }
}

#[cfg(feature = "deflate")]
async fn inflate(
    coding: ContentCoding,
    body: &[u8],
    limit: usize,
) -> Result<Vec<u8>, ContentError> {
    let mut decoder = Decoder::new(coding, limit);
    let mut parts = body.chunks(PART).peekable();
    while let Some(part) = parts.next() {
        decoder.decode(part)?;
        if parts.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
    decoder.finish()
}

/// The codings that a POST may have, as in the header `Accept-Encoding` of a response.
#[cfg(feature = "deflate")]
const fn accepted(config: &EngineConfig) -> &'static str {
    match config.http_compression {
        Some(_) => "gzip, deflate",
        None => "identity",
    }
}

#[cfg(not(feature = "deflate"))]
const fn accepted(_: &EngineConfig) -> &'static str {
    "identity"
}

/// Compresses a response if its client takes that and it is large enough.
#[cfg(feature = "deflate")]
pub(super) fn compress(config: &EngineConfig, request: &HeaderMap, response: &mut EngineResponse) {
    let Some(threshold) = config.http_compression else {
        return;
    };
    let length = response.body().length();
    if response.status() != StatusCode::OK || length.is_none_or(|length| length < threshold) {
        return;
    }
    if response.headers().contains_key(CONTENT_ENCODING) {
        return;
    }
    let accepted = request.get(ACCEPT_ENCODING);
    let accepted = accepted.and_then(|value| ContentCoding::accepted(value.to_str().ok()?));
    if let Some(coding) = accepted
        && response.body_mut().compress(coding)
    {
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    }
}
