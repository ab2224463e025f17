//! A connection of HTTP/2 on our own listener.
//!
//! `serve` owns it until it ends. Each request is a stream with a task of its own, by hyper, which
//! keeps the bounds on streams, headers and resets. A WebSocket is a stream, too (RFC 8441): its
//! session's driver has it, once the request is answered.
//!
//! The connection ends when its client hangs up or doesn't answer pings. One without requests for a
//! while is told to go (GOAWAY): streams that there are go on, so a WebSocket keeps its connection,
//! and whatever else the client wants comes on another.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::requests::{OpenConnection, Requests, ResponseBody};
use crate::{engine::ReadAhead, server::Server};

/// How long a connection may be without a request: as long as one of HTTP/1.1.
const IDLE: Duration = Duration::from_secs(30);

/// After so long without a word of the client it is pinged, and has as long again to answer.
const SILENCE: Duration = Duration::from_secs(20);

/// Bytes that a client may send on one stream before they are taken, and on all together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of one stream that wait to be sent.
const SEND_BUFFER: usize = 64 << 10;

/// Streams of a connection at a time.
const STREAMS: u32 = 200;

/// Bytes of a request's headers.
const HEADERS: u32 = 16 << 10;

/// Serves a connection until it ends. When the server is closed and the last session has ended, it
/// ends with the requests that are under way.
pub(super) async fn serve(
    server: Server,
    requests: Requests,
    stream: ReadAhead,
    _open: Option<OpenConnection>,
) {
    let activity = Arc::new(Activity::new());
    let answer = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: Request<Incoming>| {
            let busy = Busy::begin(&activity);
            let answer = requests.answer(request);
            async move {
                let answer = answer.await;
                Ok::<_, Infallible>(answer.map(|body| Counted { body, _busy: busy }))
            }
        })
    };
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let mut drained = pin!(server.engine().drained());
    let mut alarm = pin!(tokio::time::sleep(IDLE));
    let mut closing = false;
    let ended = poll_fn(|context| {
        loop {
            let polled = connection.as_mut().poll(context);
            if polled.is_ready() || closing {
                return polled;
            }
            let ends = drained.as_mut().poll(context).is_ready();
            if !ends {
                ready!(alarm.as_mut().poll(context));
                let until = match activity.state() {
                    // It hasn't even shaken hands, or has never wanted anything.
                    state if !state.has_begun => return Poll::Ready(Ok(())),
                    state if state.under_way > 0 => Instant::now() + IDLE,
                    state => state.since + IDLE,
                };
                if until > Instant::now() {
                    alarm.as_mut().reset(until);
                    continue;
                }
            }
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection of HTTP/2 failed");
    }
}

/// What is known of the requests of a connection.
struct Activity(Mutex<State>);

#[derive(Clone, Copy)]
struct State {
    under_way: usize,
    /// Since when there has been none.
    since: Instant,
    /// There was one.
    has_begun: bool,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State {
            under_way: 0,
            since: Instant::now(),
            has_begun: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> State {
        *self.lock()
    }
}

/// A request that is under way, until its response has ended.
struct Busy(Arc<Activity>);

impl Busy {
    fn begin(activity: &Arc<Activity>) -> Self {
        let mut state = activity.lock();
        state.under_way += 1;
        state.has_begun = true;
        drop(state);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way -= 1;
        state.since = Instant::now();
    }
}

pin_project! {
    /// The body of a response, with whose end its request is over.
    struct Counted {
        #[pin]
        body: ResponseBody,
        _busy: Busy,
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
