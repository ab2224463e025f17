//! A connection of which something was read before its HTTP server, or its WebSocket, gets it.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::request_lines::RequestLines;
use crate::engine::transport::{joined::joined, stream::Wire};

/// A connection, and what was read of it, which is read again first. Its request lines can be
/// parsed.
///
/// What is written must be taken, some of it within the patience: an HTTP server waits for ever.
pub(crate) struct ReadAhead {
    stream: Wire,
    read: Bytes,
    /// Boxed, since it is large and few connections stay on HTTP. HTTP/2 has none.
    lines: Option<Box<RequestLines>>,
    patience: Duration,
    /// By when something of what waits must have been taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ReadAhead {
    pub(super) fn new(stream: Wire, read: Vec<u8>, patience: Duration) -> Self {
        let mut lines = Box::<RequestLines>::default();
        let read = lines.feed(&read).unwrap_or(read);
        let lines = Some(lines);
        Self {
            lines,
            ..Self::raw(stream, read, patience)
        }
    }

    /// As it comes.
    pub(crate) fn raw(stream: Wire, read: Vec<u8>, patience: Duration) -> Self {
        Self {
            stream,
            read: read.into(),
            lines: None,
            patience,
            stalled: None,
        }
    }

    /// The outcome of a write, or an error if none has come for too long.
    fn unless_stalled(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The connection, and what is left of what was read.
    pub(crate) fn into_parts(self) -> (Wire, Bytes) {
        (self.stream, self.read)
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            let lines = self.lines.as_mut();
            let Some(escaped) = lines.and_then(|it| it.feed(&buffer.filled()[before..])) else {
                return Poll::Ready(Ok(()));
            };
            buffer.set_filled(before);
            self.read = escaped.into();
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(count));
        if self.read.is_empty() {
            // An empty rest still shares the memory.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, data);
        self.unless_stalled(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut self.stream;
        let written = joined(data, |data| {
            Pin::new(&mut *stream).poll_write(context, data)
        })
        .unwrap_or_else(|| Pin::new(stream).poll_write_vectored(context, data));
        self.unless_stalled(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
