//! Connections to other servers, for requests that are passed on to them.
//!
//! The router owns a [`Pool`]. A request takes a connection that is idle, or a new one: each carries
//! one request at a time (HTTP/1.1), and an upgrade for good. A connection is given back when the
//! body of its response has been read, and closed if that isn't read to its end. Bounded are all
//! connections together, those that are idle at a server, and for how long; and connecting.
//!
//! A request that a connection has refused unsent goes to the next one. One that may have been sent
//! is never repeated.

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use antiphon::adapter::{NotRelayed, RelayBody};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::Address;

/// All connections to other servers: each poll that waits there has one.
const MOST: usize = 16_384;

/// Connections to one server that wait for a request.
const MOST_IDLE: usize = 256;

/// For so long, which is less than any HTTP server waits for the next request.
const LONGEST_IDLE: Duration = Duration::from_secs(4);

/// So much of a response is read ahead of the client that takes it.
const BUFFER: usize = 64 * 1_024;

/// Connecting takes so long at the most: it is to a server nearby.
const CONNECTING: Duration = Duration::from_secs(3);

/// Connections to other servers.
pub(crate) struct Pool {
    permits: Arc<Semaphore>,
    idle: Mutex<HashMap<Address, Vec<Idle>>>,
}

type Sender = SendRequest<RelayBody>;

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Idle {
    fn is_fresh(&self) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < LONGEST_IDLE
    }
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self::of(MOST)
    }

    fn of(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Address, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to a server, and returns its response when the head of that is there.
    pub(crate) async fn send(
        self: &Arc<Self>,
        address: &Address,
        mut request: Request<RelayBody>,
    ) -> Result<Response<RelayBody>, NotRelayed> {
        loop {
            let (mut sender, is_new) = match self.take(address) {
                Some(sender) => (sender, false),
                None => (self.connect(address).await?, true),
            };
            if !is_new && sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.answered(response, sender, address)),
                Err(mut failed) => match failed.take_message().filter(|_| !is_new) {
                    Some(unsent) => request = unsent,
                    None => return Err(unreachable(failed.into_error())),
                },
            }
        }
    }

    /// A connection that is idle, the one that was used last.
    fn take(&self, address: &Address) -> Option<Sender> {
        let mut idle = self.idle();
        let idle = idle.get_mut(address)?;
        while let Some(last) = idle.pop() {
            if last.is_fresh() {
                return Some(last.sender);
            }
        }
        None
    }

    async fn connect(&self, address: &Address) -> Result<Sender, NotRelayed> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.try_acquire_owned().map_err(|_| NotRelayed::Full)?;
        let connecting = TcpStream::connect(address.host_and_port());
        let connected = tokio::time::timeout(CONNECTING, connecting).await;
        let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
        let stream = connected.unwrap_or_else(|_| Err(timed_out()));
        let stream = stream.map_err(unreachable)?;
        prepare(&stream);
        let held = Held {
            stream,
            _permit: permit,
        };
        let handshake = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(held));
        let (sender, connection) = handshake.await.map_err(unreachable)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to another server has failed");
            }
        });
        Ok(sender)
    }

    fn answered(
        self: &Arc<Self>,
        response: Response<Incoming>,
        sender: Sender,
        address: &Address,
    ) -> Response<RelayBody> {
        let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let back = (!is_upgraded).then(|| Back {
            pool: Arc::downgrade(self),
            address: address.clone(),
            sender,
        });
        response.map(|body| Answer { body, back }.boxed_unsync())
    }

    fn give_back(&self, address: Address, sender: Sender) {
        let since = Instant::now();
        let mut idle = self.idle();
        let idle = idle.entry(address).or_default();
        if idle.first().is_some_and(|oldest| !oldest.is_fresh()) {
            idle.retain(Idle::is_fresh);
        }
        if idle.len() < MOST_IDLE {
            idle.push(Idle { sender, since });
        }
    }

    /// A server is gone: its connections aren't wanted any more.
    pub(crate) fn forget(&self, address: &Address) {
        self.idle().remove(address);
    }
}

fn unreachable(error: impl fmt::Display) -> NotRelayed {
    NotRelayed::Unreachable {
        reason: error.to_string(),
    }
}

/// Packets are small and awaited, and a machine that is gone is to be found out.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30));
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = prepared {
        tracing::debug!(%error, "options of a connection can't be set");
    }
}

/// A connection that counts among all, wherever it goes.
struct Held {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
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

/// The body of a response. At its end the connection can be used again.
struct Answer {
    body: Incoming,
    back: Option<Back>,
}

struct Back {
    pool: Weak<Pool>,
    address: Address,
    sender: Sender,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        next.map(|frame| frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(back) = self.back.take().filter(|_| self.body.is_end_stream())
            && let Some(pool) = back.pool.upgrade()
        {
            pool.give_back(back.address, back.sender);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("free", &self.permits.available_permits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each request with this body.
    async fn server(body: &'static str) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = service_fn(move |_| async move {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        Address::new(&address)
    }

    fn request() -> Request<RelayBody> {
        let body = Full::new(Bytes::new()).map_err(|never| match never {});
        Request::new(body.boxed_unsync())
    }

    #[tokio::test]
    async fn no_more_connections_are_made_than_may_be() {
        let (pool, address) = (Arc::new(Pool::of(1)), server("ok").await);
        let first = pool.send(&address, request()).await.unwrap();
        let refused = pool.send(&address, request()).await;
        assert_eq!(refused.err(), Some(NotRelayed::Full));
        // Its body has been read, and the connection can be used again.
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "ok");
        assert!(pool.send(&address, request()).await.is_ok());
    }

    #[tokio::test]
    async fn a_connection_whose_answer_is_not_read_is_closed() {
        let (pool, address) = (Arc::new(Pool::of(1)), server("ok").await);
        drop(pool.send(&address, request()).await.unwrap());
        assert!(pool.idle().is_empty());
        while pool.permits.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(pool.send(&address, request()).await.is_ok());
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&format!("http://{}", listener.local_addr().unwrap()));
        let pool = Arc::new(Pool::new());
        for _ in 0..3 {
            let answer = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut read = [0; 1_024];
                assert!(
                    tokio::io::AsyncReadExt::read(&mut stream, &mut read)
                        .await
                        .unwrap()
                        > 0
                );
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                    .await
                    .unwrap();
            };
            let (response, ()) = tokio::join!(pool.send(&address, request()), answer);
            response.unwrap().into_body().collect().await.unwrap();
            let is_closed = || {
                pool.idle()
                    .values()
                    .flatten()
                    .all(|idle| idle.sender.is_closed())
            };
            while !is_closed() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unreachable() {
        let pool = Arc::new(Pool::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&format!("http://{}", listener.local_addr().unwrap()));
        drop(listener);
        let refused = pool.send(&address, request()).await.err();
        assert!(
            matches!(refused, Some(NotRelayed::Unreachable { .. })),
            "{refused:?}"
        );
        assert_eq!(pool.permits.available_permits(), MOST);
    }
}
