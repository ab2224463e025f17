//! WebSocket: reads frames, hands packets on, and ends the connection properly.
//!
//! An idle connection owns no buffer: bytes are read into a buffer of the thread ([`reading`]), and
//! only a frame that is not complete is kept. A connection of TCP or of a Unix socket is taken back from the HTTP
//! server, so that senders write to it directly; any other (TLS, for one) is written to by the
//! driver.

mod error;
mod reading;

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use antiphon_protocol::{
    engine::{CloseReason, Encoded, Packet, PacketError, session::server::Input},
    websocket::{Decoder, Event, FrameError, Role, close_frame, deflate::Window, pong_frame},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Sleep,
};

use error::ReadError;

use crate::engine::{
    ReadAhead, Session,
    session::turn,
    session::{FRAMES_A_WRITE, Failure, Sending},
    transport::driver::{self, Driven},
    transport::joined::joined,
    transport::stream::{Io, Reader, Wire, Writer},
};

/// So much is written at once to a connection that takes no lists.
const PIECE: usize = 64 << 10;

/// How long a closed connection waits for its client to hang up, so that the client gets the close
/// frame: a socket that is dropped with unread bytes is reset.
const LINGER: Duration = Duration::from_secs(2);

/// Close code of a connection that has done its work (RFC 6455 §7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

/// The connection below an upgrade, if it is one that we know, and what was read ahead of it. Any
/// other is given back.
fn take_back(upgraded: Upgraded) -> Result<(Wire, Vec<u8>), Upgraded> {
    use hyper_util::server::conn::auto;
    let tcp = |io: TokioIo<TcpStream>| Wire::Tcp(io.into_inner());
    // Under axum; under hyper; of our own listener.
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Ok((tcp(parts.io), parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((tcp(parts.io), parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<ReadAhead>>()?;
    let (wire, rest) = parts.io.into_inner().into_parts();
    // The HTTP server has read what comes first.
    Ok((wire, [parts.read_buf, rest].concat()))
}

enum Stream {
    /// Its way out is the session's.
    Half(Reader),
    Whole(Box<dyn Io>),
}

/// An open WebSocket.
pub(crate) struct WebSocket {
    stream: Stream,
    /// The way out of a connection that was split, until the session takes it.
    writer: Option<Writer>,
    decoder: Decoder,
    /// The frame that is not complete, and what was read ahead.
    partial: Vec<u8>,
    /// Messages are compressed in this window.
    window: Option<Window>,
    /// There may be whole frames in `partial`, or a message is being inflated: the connection has
    /// given way to others.
    has_backlog: bool,
}

impl Stream {
    fn reader(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        match self {
            Self::Half(reader) => reader,
            Self::Whole(io) => io,
        }
    }
}

fn decoder(max_payload: usize, window: Option<Window>) -> Decoder {
    let decoder = Decoder::new(Role::Server, max_payload);
    match window {
        #[cfg(feature = "deflate")]
        Some(_) => decoder.with_deflate(),
        _ => decoder,
    }
}

impl WebSocket {
    /// The connection that an HTTP request was upgraded to.
    pub(crate) fn new(upgraded: Upgraded, max_payload: usize, window: Option<Window>) -> Self {
        match take_back(upgraded) {
            Ok((wire, read)) => Self::over(wire, read, max_payload, window),
            Err(upgraded) => {
                let stream = Stream::Whole(Box::new(TokioIo::new(upgraded)));
                Self::open(
                    stream,
                    None,
                    Vec::new(),
                    decoder(max_payload, window),
                    window,
                )
            }
        }
    }

    /// A connection whose opening handshake is over, and what was read behind that.
    pub(crate) fn over(
        wire: Wire,
        read: Vec<u8>,
        max_payload: usize,
        window: Option<Window>,
    ) -> Self {
        wire.hurry();
        let (stream, writer) = match wire.split() {
            Ok((reader, writer)) => (Stream::Half(reader), Some(writer)),
            Err(whole) => (Stream::Whole(whole), None),
        };
        let decoder = decoder(max_payload, window);
        Self::open(stream, writer, read, decoder, window)
    }

    const fn open(
        stream: Stream,
        writer: Option<Writer>,
        partial: Vec<u8>,
        decoder: Decoder,
        window: Option<Window>,
    ) -> Self {
        Self {
            stream,
            writer,
            decoder,
            partial,
            window,
            has_backlog: false,
        }
    }

    /// Writes a whole frame, before a session has taken the way out.
    pub(crate) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        match (&mut self.writer, &mut self.stream) {
            (Some(writer), _) => writer.waiting().write_all(frame).await,
            (None, Stream::Whole(io)) => {
                io.write_all(frame).await?;
                io.flush().await
            }
            (None, Stream::Half(_)) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says goodbye and waits a little for the client to hang up.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let goodbye = async {
            self.write(&close_frame(code, reason)).await?;
            match (&mut self.writer, &mut self.stream) {
                (Some(writer), _) => writer.waiting().shutdown().await?,
                (None, Stream::Whole(io)) => io.shutdown().await?,
                (None, Stream::Half(_)) => {}
            }
            // What still comes is of no interest.
            std::future::poll_fn(|context| {
                self.decoder = Decoder::new(Role::Server, 0);
                self.partial = Vec::new();
                loop {
                    let mut ignored = |_: Event<'_>| false;
                    match ready!(self.poll_read(None, context, &mut ignored)) {
                        Ok(_) | Err(ReadError::Frame(_)) => self.partial = Vec::new(),
                        Err(ReadError::Closed | ReadError::Io(_)) => return Poll::Ready(()),
                    }
                }
            })
            .await;
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, goodbye).await;
    }

    /// One event of the probe: what `handle` makes of the next text. Returns `None` if the
    /// connection is gone.
    pub(crate) fn poll_text<T>(
        &mut self,
        context: &mut Context<'_>,
        handle: &mut dyn FnMut(&str) -> T,
    ) -> Poll<Option<T>> {
        let stopped = Cell::new(false);
        let mut found = None;
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Text(text) => found = Some(handle(&text)),
                Event::Binary(_) | Event::Close(_) => {}
                Event::Ping(_) | Event::Pong(_) => return true,
            }
            stopped.set(true);
            false
        };
        // What was read ahead comes first.
        let mut read = self.decode(None, &mut [], &mut on_event);
        while read.is_ok() && !stopped.get() {
            if self.decoder.is_inflating() {
                turn::wake_behind_io(context.waker());
                return Poll::Pending;
            }
            read = ready!(self.poll_read(None, context, &mut on_event)).map(drop);
        }
        Poll::Ready(found)
    }
}

/// Reads a session's WebSocket and watches its deadlines until the session is closed.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function has room for its arguments twice, in each idle connection"
)]
pub(crate) fn drive(driven: Driven, mut websocket: WebSocket) -> impl Future<Output = ()> + Send {
    async move {
        let session = driven.session();
        {
            let mut state = session.lock();
            state.leave_http();
            session.compress(websocket.window);
            state.writer = websocket.writer.take();
            state.write(Failure::ForTheDriver);
        }
        // What was read ahead, with the request or behind the end of an upgrade, comes first.
        websocket.has_backlog = !websocket.partial.is_empty();
        let mut goodbye = Goodbye {
            code: NORMAL_CLOSURE,
            reason: String::new(),
        };
        let mut sleep = pin!(driver::sleep(session));
        let reason = std::future::poll_fn(|context| {
            turn::scope_of(session, || {
                poll_session(
                    session,
                    &mut websocket,
                    &mut goodbye,
                    sleep.as_mut(),
                    context,
                )
            })
        })
        .await;
        websocket.writer = {
            let mut state = session.lock();
            // Half a frame may have been written: nothing can follow it then.
            let writer = state.writer.take();
            writer.filter(|_| !state.machine.is_blocked())
        };
        driven.finish(reason);
        if goodbye.reason.is_empty() {
            reason.as_str().clone_into(&mut goodbye.reason);
        }
        // Boxed, so that a connection that lives has no room for its end.
        Box::pin(websocket.close(goodbye.code, &goodbye.reason)).await;
    }
}

/// What the close frame will say.
struct Goodbye {
    code: u16,
    reason: String,
}

fn poll_session(
    session: &Arc<Session>,
    websocket: &mut WebSocket,
    goodbye: &mut Goodbye,
    sleep: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<CloseReason> {
    {
        let mut state = session.lock();
        let registered = state.driver.as_ref();
        if !registered.is_some_and(|waker| waker.will_wake(context.waker())) {
            state.driver = Some(context.waker().clone());
        }
        state.pause_reading(false);
    }
    let failure = match websocket.poll_receive(session, goodbye, context) {
        true => Failure::ForTheDriver,
        false => Failure::Ends,
    };
    websocket.poll_send(session, failure, context);
    driver::poll_deadlines(session, sleep, context)
}

impl WebSocket {
    /// Reads until nothing more is there, or others should have a turn: then it returns `true`.
    fn poll_receive(
        &mut self,
        session: &Arc<Session>,
        goodbye: &mut Goodbye,
        context: &mut Context<'_>,
    ) -> bool {
        let mut budget = turn::Budget::default();
        let mut bytes = 0;
        while bytes < turn::BYTES && !budget.is_spent() {
            if session.is_saturated() {
                session.lock().pause_reading(true);
                return false;
            }
            let mut handle = |event: Event<'_>| {
                let length = match &event {
                    Event::Text(text) => text.len(),
                    Event::Binary(data) => data.len(),
                    Event::Ping(_) | Event::Pong(_) | Event::Close(_) => 0,
                };
                receive(session, event) && budget.spend(length)
            };
            let read = match std::mem::take(&mut self.has_backlog) {
                true => {
                    let decoded = self.decode(Some(session), &mut [], &mut handle);
                    Poll::Ready(decoded.map(|()| 0))
                }
                false => self.poll_read(Some(session), context, &mut handle),
            };
            match read {
                Poll::Pending => return false,
                Poll::Ready(Ok(count)) => bytes += count,
                Poll::Ready(Err(error)) => {
                    failed(session, error, goodbye);
                    return false;
                }
            }
            if self.decoder.is_inflating() {
                break;
            }
        }
        self.has_backlog = budget.is_spent() || self.decoder.is_inflating();
        turn::wake_behind_io(context.waker());
        true
    }

    /// Writes what the senders could not.
    fn poll_send(&mut self, session: &Session, failure: Failure, context: &mut Context<'_>) {
        let mut state = session.lock();
        let state = &mut *state;
        if let Some(writer) = &state.writer {
            if state.machine.is_blocked()
                && let Poll::Ready(ready) = writer.poll_ready(context)
            {
                state.machine.handle(Input::Writable, crate::clock::now());
                if ready.is_ok() {
                    state.write(failure);
                    session.has_flushed(state);
                }
            }
            return;
        }
        let Stream::Whole(io) = &mut self.stream else {
            return;
        };
        loop {
            let mut slices = [io::IoSlice::new(&[]); FRAMES_A_WRITE];
            let filled = state.machine.frames(&mut slices);
            if filled == 0 {
                break;
            }
            match poll_write_some(&mut **io, context, &slices[..filled]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    if state.machine.is_blocked() {
                        state.machine.handle(Input::Writable, crate::clock::now());
                    }
                    state.machine.written(count);
                }
                Poll::Ready(_) if failure == Failure::ForTheDriver => return,
                Poll::Ready(_) => {
                    state
                        .machine
                        .handle(Input::TransportFailed, crate::clock::now());
                    session.note_end(state);
                    return;
                }
                Poll::Pending => {
                    state.machine.handle(Input::Blocked, crate::clock::now());
                    return;
                }
            }
        }
        if Pin::new(io).poll_flush(context).is_ready() {
            state.drained();
        }
        session.has_flushed(state);
    }
}

/// Writes of these frames what is taken at once.
fn poll_write_some(
    io: &mut dyn Io,
    context: &mut Context<'_>,
    frames: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let write = |frames: &[u8]| Pin::new(&mut *io).poll_write(context, frames);
    if let Some(written) = joined(frames, write) {
        return written;
    }
    if io.is_write_vectored() {
        return Pin::new(io).poll_write_vectored(context, frames);
    }
    // A stream of HTTP/2 takes whatever it is given, before its client has room for it.
    let first = frames.iter().find(|frame| !frame.is_empty());
    let first = first.map_or(&[][..], |frame| frame);
    Pin::new(io).poll_write(context, &first[..first.len().min(PIECE)])
}

/// Hands one event to the session. Returns `false` if nothing more is to be read.
fn receive(session: &Arc<Session>, event: Event<'_>) -> bool {
    let revision = session.revision();
    match event {
        Event::Text(text) => receive_packet(session, Packet::from_text(&text, revision)),
        Event::Binary(data) => receive_packet(session, Packet::from_binary(data, revision)),
        Event::Ping(data) => {
            if !session.is_unread() {
                // Whether it has been queued, its driver sees.
                let _ = session.send(&mut Encoded::Frames(pong_frame(data)), Sending::SURE);
            }
            true
        }
        Event::Pong(_) => true,
        Event::Close(_) => {
            session.input(Input::TransportClosed);
            false
        }
    }
}

fn receive_packet(session: &Arc<Session>, packet: Result<Packet<'_>, PacketError>) -> bool {
    match packet {
        Ok(packet) => {
            session.receive(packet);
            true
        }
        Err(error) => {
            session.undecodable(&error);
            false
        }
    }
}

/// Nothing more can be read.
fn failed(session: &Arc<Session>, error: ReadError, goodbye: &mut Goodbye) {
    match error {
        ReadError::Closed => {
            session.input(Input::TransportClosed);
        }
        ReadError::Io(error) => {
            tracing::debug!(session = ?session.id(), %error, "the WebSocket can't be read");
            session.input(Input::TransportFailed);
        }
        ReadError::Frame(error) => {
            tracing::info!(session = ?session.id(), %error, "closing session: bad frame");
            if let FrameError::TooBig { .. } = error
                && let Some(times) = session.engine().warnings().due("frame")
            {
                tracing::warn!(
                    %error,
                    times,
                    hint = "raise `ServerBuilder::max_payload`, or `max_payload_before_join` if it \
                            comes before a namespace is joined; or send it in pieces",
                    "closing session: its client sends more than a message may have (said once a \
                     minute)"
                );
            }
            goodbye.code = error.close_code();
            goodbye.reason = error.to_string();
            session.input(Input::TransportFailed);
        }
    }
}
