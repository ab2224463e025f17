//! The body of a POST, read up to a bound.
//!
//! `read` owns the bytes until they are whole, and gives them as one block, without a copy if they
//! came as one. Beyond the bound it reads on and throws away up to 8 times as much, so that the
//! client gets the 413 and no reset. It fails with `PayloadTooLarge`, or with `BodyFailed` if the
//! connection is lost; its deadline is the caller's.

use std::pin::pin;

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::BodyExt;

use super::error::RequestError;
use crate::engine::room::room;

/// Of a body that is too large so many times the bound is read and thrown away, so that its client
/// gets the answer: a connection that is closed with unread bytes is reset.
const DISCARD_FACTOR: usize = 8;

/// Reads a body of at most `limit` bytes.
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Bytes, RequestError>
where
    B: Body + Send,
{
    let mut body = pin!(body);
    let announced = body.size_hint().exact();
    let expected = body.size_hint().lower().min(limit as u64) as usize;
    let mut read = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| RequestError::BodyFailed("connection lost".to_owned()))?;
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        total += data.remaining();
        if total > limit {
            read = Vec::new();
            if total > limit.saturating_mul(DISCARD_FACTOR) {
                break;
            }
            continue;
        }
        if read.is_empty() && body.is_end_stream() {
            return Ok(data.copy_to_bytes(data.remaining()));
        }
        let come = read.len() + data.remaining();
        if come > read.capacity() && come <= expected {
            read.reserve_exact(room(expected, come) - read.len());
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            read.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    if total > limit {
        return Err(RequestError::PayloadTooLarge { limit });
    }
    if announced.is_some_and(|announced| announced != total as u64) {
        return Err(RequestError::BodyFailed("connection lost".to_owned()));
    }
    Ok(read.into())
}
