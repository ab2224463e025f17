//! A WebSocket whose session another server has: bytes from one connection to the other, both ways,
//! unread.
//!
//! `run` owns both connections from the moment of the upgrade. What one side sends is read into the
//! buffer of the thread and written to the other at once; what that doesn't take is kept, and no
//! more is read until it has gone. A side that ends gives the other a few seconds, and one that
//! fails ends both. So does silence: on a WebSocket of Engine.IO heartbeats go by.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::engine::transport::buffer::with_buffer;

/// So much is read at once.
const PIECE: usize = 16 * 1_024;

/// When one side has ended, the other has so long to say what it has to say.
const REST: Duration = Duration::from_secs(5);

/// Connects a client, of which `behind` has been read already, with the server of its session.
/// Nothing may come from both for as long as `silence`.
pub(super) async fn run<C>(client: C, behind: Vec<u8>, server: OnUpgrade, silence: Duration)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let tunnelled = match server.await {
        Ok(server) => between(client, behind, TokioIo::new(server), silence).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = tunnelled {
        tracing::debug!(%error, "a WebSocket that was passed on has ended");
    }
}

async fn between<C, S>(
    mut client: C,
    behind: Vec<u8>,
    mut server: S,
    silence: Duration,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut inward = Lane {
        rest: behind,
        ..Lane::default()
    };
    let mut outward = Lane::default();
    let mut last = Instant::now();
    let mut alarm = pin!(tokio::time::sleep(silence));
    poll_fn(|context| {
        let before = [inward.is_over, outward.is_over];
        let moved_in = inward.poll(&mut client, &mut server, context)?;
        let moved_out = outward.poll(&mut server, &mut client, context)?;
        let over = [inward.is_over, outward.is_over];
        if over == [true, true] {
            return Poll::Ready(Ok(()));
        }
        let has_one_ended = over.contains(&true);
        if moved_in || moved_out || over != before {
            last = Instant::now();
        }
        let patience = if has_one_ended { REST } else { silence };
        if over != before {
            alarm.as_mut().reset(last + patience);
        }
        // Set again only when it goes off: what comes by is no reason to touch a timer.
        while alarm.as_mut().poll(context).is_ready() {
            if last.elapsed() >= patience {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            alarm.as_mut().reset(last + patience);
        }
        Poll::Pending
    })
    .await
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// What was read and hasn't been taken yet, from `written` on.
    rest: Vec<u8>,
    written: usize,
    /// Something that was written may not have left.
    is_unflushed: bool,
    /// Nothing more comes.
    has_ended: bool,
    /// Nor does anything go.
    is_over: bool,
}

impl Lane {
    /// Moves what can be moved now. Returns whether that was anything.
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        context: &mut Context<'_>,
    ) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut moved = false;
        while !self.is_over {
            match self.step(from, to, context, &mut moved) {
                Poll::Ready(stepped) => stepped?,
                Poll::Pending => break,
            }
        }
        Ok(moved)
    }

    fn step<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        context: &mut Context<'_>,
        moved: &mut bool,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.written < self.rest.len() {
            let count = ready!(Pin::new(to).poll_write(context, &self.rest[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.is_unflushed = true;
            *moved = true;
            if self.written == self.rest.len() {
                (self.rest, self.written) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        if self.has_ended {
            ready!(Pin::new(to).poll_shutdown(context))?;
            self.is_over = true;
            return Poll::Ready(Ok(()));
        }
        let read = with_buffer(|buffer| {
            let length = buffer.len().min(PIECE);
            let mut buffer = ReadBuf::new(&mut buffer[..length]);
            ready!(Pin::new(from).poll_read(context, &mut buffer))?;
            let read = buffer.filled();
            self.has_ended = read.is_empty();
            let written = match Pin::new(&mut *to).poll_write(context, read) {
                _ if read.is_empty() => 0,
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.is_unflushed |= written > 0;
            self.rest = read[written..].to_vec();
            Poll::Ready(Ok(()))
        });
        match read {
            Poll::Ready(read) => {
                *moved = true;
                Poll::Ready(read)
            }
            Poll::Pending => {
                if self.is_unflushed {
                    ready!(Pin::new(to).poll_flush(context))?;
                    self.is_unflushed = false;
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(70);

    #[tokio::test(start_paused = true)]
    async fn what_one_side_says_reaches_the_other_and_the_end_too() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let tunnel = tokio::spawn(between(near, b"ahead ".to_vec(), far, SILENCE));
        let large = vec![7; 100_000];
        let sent = large.clone();
        let client = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read
        });
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [b"ahead ", &large[..]].concat());
        server.write_all(b"bye").await.unwrap();
        drop(server);
        assert_eq!(client.await.unwrap(), b"bye");
        tunnel.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_does_not_end_with_the_other_is_cut() {
        let (_client, near) = duplex(64);
        let (far, server) = duplex(64);
        let begun = Instant::now();
        drop(server);
        let ended = between(near, Vec::new(), far, SILENCE).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), REST);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_heartbeats_do_not() {
        let (mut client, near) = duplex(64);
        let (far, _server) = duplex(64);
        let begun = Instant::now();
        let tunnel = tokio::spawn(between(near, Vec::new(), far, SILENCE));
        for _ in 0..5 {
            tokio::time::sleep(SILENCE / 2).await;
            client.write_all(b"3").await.unwrap();
        }
        let ended = tunnel.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), SILENCE * 7 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_side_whose_other_takes_nothing_little_is_read() {
        let (mut client, near) = duplex(64);
        let (far, _server) = duplex(64);
        let tunnel = tokio::spawn(between(near, Vec::new(), far, SILENCE));
        let written = tokio::time::timeout(SILENCE / 2, client.write_all(&[0; 1_000])).await;
        assert!(written.is_err(), "all was taken");
        let ended = tunnel.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
