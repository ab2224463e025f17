//! Compressed messages, of which a large one is inflated in steps.
//!
//! The decoder begins with a message that has come whole. If one step isn't enough, that is its
//! unfinished message, and each call of `decode` does one step more. What is too big is found by a
//! step, and as that message stays, the step may be done again with a larger limit.

use super::{Cow, Decoder, Event, FrameError, Unfinished, owned};
use crate::websocket::deflate::Inflation;

/// A message of which some has been inflated.
#[derive(Debug)]
pub(super) struct Inflating {
    is_text: bool,
    payload: Vec<u8>,
    /// Bytes of the payload that have been read.
    read: usize,
    inflation: Inflation,
}

impl Decoder {
    /// Inflates a message, or begins to.
    pub(super) fn inflate<'a>(
        &mut self,
        is_text: bool,
        payload: Cow<'_, [u8]>,
    ) -> Result<Option<Event<'a>>, FrameError> {
        // No compressor makes this, but there is only one thing that it can mean.
        if payload.is_empty() {
            return owned(is_text, Vec::new()).map(Some);
        }
        let mut inflation = Inflation::new();
        let mut rest = &payload[..];
        match inflation.step(&mut rest, self.max_payload) {
            Ok(()) if rest.is_empty() => return owned(is_text, inflation.finish()?).map(Some),
            Ok(()) | Err(FrameError::TooBig { .. }) => {}
            Err(error) => return Err(error),
        }
        self.unfinished = Some(Box::new(Unfinished::Inflating(Inflating {
            is_text,
            read: payload.len() - rest.len(),
            payload: payload.into_owned(),
            inflation,
        })));
        Ok(None)
    }

    /// Inflates some more of the message that is inflated.
    pub(super) fn inflate_more<'a>(&mut self) -> Result<Option<Event<'a>>, FrameError> {
        let Some(Unfinished::Inflating(inflating)) = self.unfinished.as_deref_mut() else {
            return Ok(None);
        };
        let mut rest = &inflating.payload[inflating.read..];
        let stepped = inflating.inflation.step(&mut rest, self.max_payload);
        let is_whole = rest.is_empty();
        inflating.read = inflating.payload.len() - rest.len();
        stepped?;
        match self
            .unfinished
            .take_if(|_| is_whole)
            .map(|unfinished| *unfinished)
        {
            Some(Unfinished::Inflating(inflating)) => {
                owned(inflating.is_text, inflating.inflation.finish()?).map(Some)
            }
            _ => Ok(None),
        }
    }
}
