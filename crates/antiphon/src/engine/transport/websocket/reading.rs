//! The way in of a WebSocket: bytes become frames, and frames events.
//!
//! Most frames are read into a buffer of the thread and decoded where they lie; of one that isn't
//! complete the rest is kept. A large one is read into memory of its own, which grows as it comes
//! and has exactly its length in the end: a binary message takes that memory along to its handler,
//! so that what the kernel writes to is what the handler gets.

use std::{
    future::Future as _,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use antiphon_protocol::{
    BinaryMessage,
    websocket::{Event, FrameError},
};
use bytes::{BufMut as _, Bytes};
use tokio::io::{AsyncReadExt as _, ReadBuf};

use super::{WebSocket, error::ReadError};
use crate::engine::{
    Session,
    room::room,
    transport::buffer::{READ_BUFFER, with_buffer},
};

/// A frame of so many bytes is read into memory of its own.
const LARGE: usize = 64 << 10;

impl WebSocket {
    /// Reads once and gives every whole event to `handle`, until that returns `false`. Messages may
    /// be as large as those of `session` now. Returns how many bytes were read.
    pub(super) fn poll_read(
        &mut self,
        session: Option<&Session>,
        context: &mut Context<'_>,
        handle: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Poll<Result<usize, ReadError>> {
        if let Some(length) = self.large_frame() {
            let count = ready!(self.poll_read_large(length, context))?;
            if self.partial.len() == length {
                self.decode_large(session, handle)?;
            }
            return Poll::Ready(Ok(count));
        }
        with_buffer(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let polled = Pin::new(self.stream.reader()).poll_read(context, &mut read);
            let count = read.filled().len();
            ready!(outcome(polled.map_ok(|()| count)))?;
            self.decode(session, &mut buffer[..count], handle)?;
            Poll::Ready(Ok(count))
        })
    }

    /// The length of the frame that has begun, if it is large and not complete.
    fn large_frame(&self) -> Option<usize> {
        if self.partial.is_empty() {
            return None;
        }
        // What is wrong with it, or beyond a limit, was found where it was kept.
        let length = self.decoder.frame_length(&self.partial).ok().flatten()?;
        (length >= LARGE && length > self.partial.len()).then_some(length)
    }

    /// Reads once of a frame of this length, to where it is kept, and nothing beyond it.
    fn poll_read_large(
        &mut self,
        length: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize, ReadError>> {
        let come = self.partial.len();
        if come == self.partial.capacity() {
            self.partial.reserve_exact(room(length, come) - come);
        }
        let mut free = (&mut self.partial).limit((length - come).min(READ_BUFFER));
        let mut read = pin!(self.stream.reader().read_buf(&mut free));
        outcome(read.as_mut().poll(context))
    }

    /// Gives what the one frame that is kept completes to `handle`. A binary message takes the
    /// frame's memory along.
    fn decode_large(
        &mut self,
        session: Option<&Session>,
        handle: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), ReadError> {
        let mut frame = std::mem::take(&mut self.partial);
        let length = frame.len();
        let mut payload = None;
        self.decode_whole(session, &mut frame, &mut |event| match event {
            Event::Binary(BinaryMessage::Lent(data)) => {
                payload = Some(length - data.len()..);
                true
            }
            event => handle(event),
        })?;
        if let Some(payload) = payload {
            handle(Event::Binary(Bytes::from(frame).slice(payload).into()));
        }
        Ok(())
    }

    /// Gives every whole event in what was kept and `data` to `handle`, and keeps the rest. Ends
    /// early if `handle` returns `false`, or if a message takes long to be inflated.
    pub(super) fn decode(
        &mut self,
        session: Option<&Session>,
        data: &mut [u8],
        handle: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), ReadError> {
        if self.partial.is_empty() {
            let consumed = self.decode_whole(session, data, handle)?;
            let rest = &data[consumed..];
            if !rest.is_empty() {
                let length = self.frame_length(session, rest)?;
                let expected = length.map_or(0, |length| room(length, rest.len()));
                self.partial.reserve_exact(expected.max(rest.len()));
                self.partial.extend_from_slice(rest);
            }
            return Ok(());
        }
        let mut kept = std::mem::take(&mut self.partial);
        kept.extend_from_slice(data);
        let consumed = self.decode_whole(session, &mut kept, handle)?;
        if consumed < kept.len() {
            kept.drain(..consumed);
            let length = self.frame_length(session, &kept)?;
            // What one read brought may be much more than what is left of it.
            let expected = length.map_or(0, |length| room(length, kept.len()));
            if kept.capacity() > kept.len() * 2 + LARGE {
                kept.shrink_to(expected);
            }
            self.partial = kept;
        }
        Ok(())
    }

    /// How long the frame at the start of `data` is, if its header has come.
    fn frame_length(
        &mut self,
        session: Option<&Session>,
        data: &[u8],
    ) -> Result<Option<usize>, ReadError> {
        match self.decoder.frame_length(data) {
            Err(FrameError::TooBig { .. }) if self.raise_limit(session) => {
                self.decoder.frame_length(data).map_err(ReadError::Frame)
            }
            length => length.map_err(ReadError::Frame),
        }
    }

    /// Lets messages be as large as those of the session may be now. Returns `false` if they were.
    #[cold]
    fn raise_limit(&mut self, session: Option<&Session>) -> bool {
        let limit = session.map_or(0, Session::max_payload);
        let is_more = limit > self.decoder.max_payload();
        if is_more {
            self.decoder.set_max_payload(limit);
        }
        is_more
    }

    fn decode_whole(
        &mut self,
        session: Option<&Session>,
        data: &mut [u8],
        handle: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<usize, ReadError> {
        let mut consumed = 0;
        while consumed < data.len() || self.decoder.is_inflating() {
            let decoded = match self.decoder.decode(&mut data[consumed..]) {
                Ok(decoded) => decoded,
                Err(FrameError::TooBig { .. }) if self.raise_limit(session) => continue,
                Err(error) => return Err(ReadError::Frame(error)),
            };
            consumed += decoded.consumed;
            let goes_on = match decoded.event {
                Some(event) => handle(event),
                // What takes long gives way to others.
                None => decoded.consumed > 0 && !self.decoder.is_inflating(),
            };
            if !goes_on {
                break;
            }
        }
        Ok(consumed)
    }
}

/// What a read comes to. One that has read nothing is at the end.
fn outcome(read: Poll<io::Result<usize>>) -> Poll<Result<usize, ReadError>> {
    read.map(|read| match read {
        Ok(0) => Err(ReadError::Closed),
        Ok(count) => Ok(count),
        // TLS whose client has gone without a word, as most do. Frames tell what is whole.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Closed),
        Err(error) => Err(ReadError::Io(error)),
    })
}
