//! The connections that our own listener takes, and what is left of them once a WebSocket is open.
//!
//! A [`Wire`] is whole while HTTP is spoken on it. A WebSocket splits one that isn't encrypted
//! ([`Wire::split`]): its driver reads, and whoever has something to send writes to the
//! [`Writer`] that the session owns. Neither half owns a buffer. TLS has one state for both
//! directions, and stays whole.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(unix)]
use tokio::net::{UnixStream, unix};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, tcp},
};
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

/// Bytes that the kernel takes beyond what it can send (docs/performance.md). What is on its way is
/// not among them, so that no connection is slower for it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 << 10;

/// A connection that is neither closed nor idle in a way that its types tell.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection as it was accepted.
pub(crate) enum Wire {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// TLS over one of the others, whose handshake is over.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Self>>),
}

impl Wire {
    /// Readies it for messages, which are small and awaited.
    pub(crate) fn hurry(&self) {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            #[cfg(unix)]
            Self::Unix(_) => return,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => return tls.get_ref().0.hurry(),
        };
        // None waits for the one before to be acknowledged.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set");
        }
        keep_little_unsent(tcp);
    }

    /// The way in and the way out. One that can't be split is given back.
    pub(crate) fn split(self) -> Result<(Reader, Writer), Box<dyn Io>> {
        match self {
            Self::Tcp(tcp) => {
                let (reader, writer) = tcp.into_split();
                Ok((Reader::Tcp(reader), Writer::Tcp(writer)))
            }
            #[cfg(unix)]
            Self::Unix(unix) => {
                let (reader, writer) = unix.into_split();
                Ok((Reader::Unix(reader), Writer::Unix(writer)))
            }
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Err(tls),
        }
    }

    fn io(&mut self) -> Pin<&mut dyn Io> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Pin::new(&mut **tls),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().io().poll_write(context, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().io().poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        // All of them take lists.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io().poll_shutdown(context)
    }
}

/// Has the kernel hold few bytes that it can't send yet, where it knows such a bound: what waits in
/// the session can still be replaced by something newer.
fn keep_little_unsent(tcp: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT can't be set");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = tcp;
}

/// The way in.
pub(crate) enum Reader {
    Tcp(tcp::OwnedReadHalf),
    #[cfg(unix)]
    Unix(unix::OwnedReadHalf),
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(reader) => Pin::new(reader).poll_read(context, buffer),
            #[cfg(unix)]
            Self::Unix(reader) => Pin::new(reader).poll_read(context, buffer),
        }
    }
}

/// The way out.
pub(crate) enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    #[cfg(unix)]
    Unix(unix::OwnedWriteHalf),
}

impl Writer {
    /// Writes what is taken at once.
    pub(crate) fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(writer) => writer.try_write(data),
            #[cfg(unix)]
            Self::Unix(writer) => writer.try_write(data),
        }
    }

    /// As [`try_write`](Self::try_write), of several pieces.
    pub(crate) fn try_write_vectored(&self, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(writer) => writer.try_write_vectored(data),
            #[cfg(unix)]
            Self::Unix(writer) => writer.try_write_vectored(data),
        }
    }

    /// Ready when something may be taken again.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(writer) => writer.as_ref().poll_write_ready(context),
            #[cfg(unix)]
            Self::Unix(writer) => writer.as_ref().poll_write_ready(context),
        }
    }

    /// Itself, for a caller that waits until all is taken.
    pub(crate) fn waiting(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Self::Tcp(writer) => writer,
            #[cfg(unix)]
            Self::Unix(writer) => writer,
        }
    }
}
