//! How an event reaches its handlers, in order.
//!
//! An event goes straight to its handlers if it can: they are started inside the task that read
//! it. If it can't, since the socket's connect handler or a middleware is still running, it
//! waits in the socket's inbox, and so does what comes after it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use antiphon_protocol::socket::{Args, OwnedArgs};
use tokio::{sync::oneshot, time::timeout};

use crate::server::{
    Context, DisconnectReason, NewEvent, Rejection, Socket,
    acks::Responder,
    delivery::handled::Admission,
    handlers::erased::{self, Erased},
    handlers::future::BoxFuture,
    handlers::listeners::{Listeners, Lists},
    handlers::permits::size,
    socket::inbox::QueuedEvent,
};

/// An event of the client has come.
pub(crate) fn receive(socket: &Socket, id: Option<u64>, event: &str, args: &Args<'_>) {
    let answer = match socket.namespace().handled_once(event) {
        None => id.map(|id| Responder::new(socket.clone(), id)),
        Some(handled) => match handled.admit(socket, id, event, args) {
            Admission::First(answer) => Some(answer),
            Admission::Again => {
                socket.peer().engine().counters().events_repeated.add(1);
                return;
            }
            Admission::NoId(rejection) => {
                let answer = id.map(|id| Responder::new(socket.clone(), id));
                return reject(socket, event, answer.as_ref(), &rejection);
            }
        },
    };
    let own = socket.listeners().map(Listeners::lists);
    let has_middlewares = own.as_ref().is_some_and(|own| !own.middlewares.is_empty());
    if has_middlewares || !socket.inbox().is_open() {
        let first = socket.inbox().push(QueuedEvent {
            event: event.to_owned(),
            args: args.to_owned(),
            answer,
            _permit: socket.peer().permit(size(args)),
        });
        if first {
            socket.peer().run(Box::pin(work(socket.clone())), 0);
        }
        return;
    }
    let context = Context {
        event,
        args: *args,
        answer: answer.as_ref(),
        ..Context::connect(socket)
    };
    call_handlers(socket, own.as_ref().map(|own| &***own), &context);
}

/// Hands the event of a call by HTTP on: as one of a client, but for where its answer goes.
pub(crate) async fn call(socket: Socket, event: String, args: OwnedArgs, answer: Responder) {
    let event = QueuedEvent {
        event,
        args,
        answer: Some(answer),
        _permit: socket.peer().permit(0),
    };
    socket.inbox().push(event);
    work(socket).await;
}

/// Handles the events that wait, one after the other, until none does.
pub(crate) async fn work(socket: Socket) {
    while let Some(mut waiting) = socket.inbox().next_or_open() {
        let own = socket.listeners().map(Listeners::shared);
        if let Err(rejection) = ask_middlewares(&socket, own.as_deref(), &mut waiting).await {
            reject(&socket, &waiting.event, waiting.answer.as_ref(), &rejection);
            continue;
        }
        if socket.inbox().has_ended() {
            // A middleware has disconnected it, or has taken too long.
            let rejection = Rejection::new("disconnected", "the socket is disconnected");
            reject(&socket, &waiting.event, waiting.answer.as_ref(), &rejection);
            continue;
        }
        // A middleware may have changed them.
        let own = socket.listeners().map(Listeners::shared);
        call_handlers(&socket, own.as_deref(), &waiting.context(&socket));
    }
}

impl QueuedEvent {
    fn context<'a>(&'a self, socket: &'a Socket) -> Context<'a> {
        Context {
            event: &self.event,
            args: self.args.as_args(),
            answer: self.answer.as_ref(),
            ..Context::connect(socket)
        }
    }
}

async fn ask_middlewares(
    socket: &Socket,
    own: Option<&Lists>,
    waiting: &mut QueuedEvent,
) -> Result<(), Rejection> {
    for middleware in own.iter().flat_map(|own| &own.middlewares) {
        // The context is borrowed for the call alone: it can't be held across the await.
        let called = erased::call(middleware, &waiting.context(socket));
        if let Some(NewEvent { name, args }) = called?.await? {
            (waiting.event, waiting.args) = (name, args);
        }
    }
    Ok(())
}

/// Starts every handler of an event: those for any first, those of the namespace before the
/// socket's own.
fn call_handlers(socket: &Socket, own: Option<&Lists>, context: &Context<'_>) {
    // Those of a parent, of the namespace, and of the socket: mostly that of the namespace alone.
    let [first, second] = socket
        .namespace()
        .all_listeners()
        .map(|it| it.map(Listeners::lists));
    let shared = [first.as_deref(), second.as_deref()];
    let lists = || shared.iter().flatten().map(|lists| &***lists).chain(own);
    let mut is_watched = false;
    for handler in lists().flat_map(|lists| &lists.any) {
        is_watched = true;
        start(socket, handler, context);
    }
    let mut handled = false;
    for listener in lists().flat_map(|lists| lists.named(context.event)) {
        if let Some(handler) = listener.take(socket) {
            handled = true;
            start(socket, handler, context);
        }
    }
    // A catch-all may only be watching: a client that waits for an answer is told that there will
    // be none.
    let unanswered = context.answer.is_some_and(|answer| !answer.is_taken());
    if !handled && (!is_watched || unanswered) {
        let rejection = Rejection::unknown_event(context.event);
        reject(socket, context.event, context.answer, &rejection);
    }
}

/// Starts one handler. It runs to its first suspension here.
pub(crate) fn start(socket: &Socket, handler: &Erased<()>, context: &Context<'_>) {
    match erased::call(handler, context) {
        Ok(future) => socket.peer().run(future, size(&context.args)),
        Err(rejection) => reject(socket, context.event, context.answer, &rejection),
    }
}

fn reject(socket: &Socket, event: &str, answer: Option<&Responder>, rejection: &Rejection) {
    socket.peer().engine().counters().events_rejected.add(1);
    let (code, detail) = (rejection.code(), rejection.detail());
    tracing::debug!(socket = ?socket.id(), event, code, detail, "event rejected");
    warn_of_rejection(socket, event, rejection);
    if let Some(answer) = answer {
        answer.reject(rejection);
    }
}

/// A client and its server don't agree on an event, or a handler asks for what nobody has provided: what
/// a developer looks for in the log.
pub(crate) fn warn_of_rejection(socket: &Socket, event: &str, rejection: &Rejection) {
    let hint = match rejection.code() {
        "invalid_arguments" => "see the types of the handler's `Data`",
        "unknown_event" => {
            "register a handler with `on` of this namespace, or see how the client spells it"
        }
        "internal_error" if rejection.has_detail() => {
            "the handler or middleware was not called, and asks for what the application has to provide"
        }
        _ => return, // what an application rejects is its business
    };
    if let Some(times) = socket.peer().engine().warnings().due(rejection.code()) {
        tracing::warn!(
            namespace = socket.namespace().name(),
            event,
            code = rejection.code(),
            detail = rejection.detail(),
            times,
            hint,
            "event rejected (said once a minute; each one at level debug)"
        );
    }
}

/// Calls the connect handlers of a socket that has joined, and waits for them.
pub(crate) async fn connected(socket: &Socket) {
    let lifecycle = socket.namespace().lifecycle();
    run_all(socket, &lifecycle.connect, |handler| {
        erased::call(handler, &Context::connect(socket))
    })
    .await;
}

/// Calls the handlers of a socket whose connection has moved to another transport.
pub(crate) fn upgraded(socket: &Socket) {
    let lifecycle = socket.namespace().lifecycle();
    for handler in &lifecycle.upgrade {
        start(socket, handler, &Context::connect(socket));
    }
}

/// Lets a socket go: what was received is handled, then its handlers, its rooms, its handlers
/// again.
///
/// What waits for it, the events that it still has to handle and a socket that comes after it,
/// waits for a bounded time, whatever the handlers do.
pub(crate) fn goodbye(
    socket: Socket,
    reason: DisconnectReason,
    settled: Option<oneshot::Receiver<()>>,
) -> impl Future<Output = ()> + Send {
    let leaving = Leaving(socket);
    async move {
        let socket = &leaving.0;
        let shared = socket.namespace().shared();
        if let Some(mut settled) = settled
            && !ends_within(shared.connect_timeout, Pin::new(&mut settled)).await
        {
            let dropped = socket.inbox().end();
            tracing::warn!(
                socket = ?socket.id(),
                dropped,
                "events of a socket that has left are dropped: its connect handler or a middleware doesn't end"
            );
        }
        let mut handlers = pin!(let_go(socket, reason));
        if !ends_within(shared.leave_timeout, handlers.as_mut()).await {
            tracing::debug!(socket = ?socket.id(), "the next socket isn't kept waiting: disconnect handlers take long");
            socket.departed();
            handlers.await;
        }
    }
}

/// Whether a future ends within this time. Mostly it is ready at once: then no clock is looked at.
async fn ends_within<F: Future>(time: Duration, mut future: Pin<&mut F>) -> bool {
    let ready = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready()));
    ready.await || timeout(time, future).await.is_ok()
}

/// Takes a socket out of its rooms and its connection when it is dropped: also where its runtime
/// ends before its handlers have run.
struct Leaving(Socket);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave_rooms();
        self.0.departed();
    }
}

async fn let_go(socket: &Socket, reason: DisconnectReason) {
    let lifecycle = socket.namespace().lifecycle();
    let call = |handler: &Erased<()>| erased::call(handler, &Context::disconnect(socket, reason));
    let disconnecting = run_all(socket, &lifecycle.disconnecting, call);
    // Started while the socket is in its rooms, but a handler that waits doesn't keep it there.
    let mut disconnecting = pin!(disconnecting);
    let started = poll_fn(|context| Poll::Ready(disconnecting.as_mut().poll(context)));
    let ended = started.await.is_ready();
    socket.leave_rooms();
    if !ended {
        disconnecting.await;
    }
    run_all(socket, &lifecycle.disconnect, call).await;
}

async fn run_all(
    socket: &Socket,
    handlers: &[Arc<Erased<()>>],
    call: impl Fn(&Erased<()>) -> Result<BoxFuture<()>, Rejection>,
) {
    for handler in handlers {
        match call(handler) {
            Ok(future) => future.await,
            Err(rejection) => {
                tracing::warn!(socket = ?socket.id(), detail = rejection.detail(), "a connect or disconnect handler was not called");
            }
        }
    }
}
