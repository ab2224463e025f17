//! What is right compiles, without a warning: each form of a handler, and how they are registered.

use std::pin::Pin;

use antiphon::{
    Auth, ConnectError, Context, Data, Event, Handler, HandlerError, IntoReply, Namespace, OnEvent,
    Rejection, Server, Socket, State,
};

fn length(Data(text): Data<String>) -> usize {
    text.len()
}

fn parsed(Data(text): Data<String>) -> Result<u32, HandlerError> {
    Ok(text.parse::<u32>()?)
}

async fn told(socket: Socket, Data(text): Data<String>) -> String {
    socket.flushed().await;
    text
}

fn boxed(_: Socket) -> Pin<Box<dyn Future<Output = u32> + Send>> {
    Box::pin(async { 1 })
}

fn named(_: Socket) -> impl Future<Output = u32> {
    std::future::ready(1)
}

pub fn register(io: &Server) -> Namespace {
    let name = "lobby".to_owned();
    let greeting = name.clone();
    io.on("length", length)
        .on("parsed", parsed)
        .on("told", told)
        .on("boxed", boxed)
        .on("named", named)
        .on("own", move || name.clone())
        .on("clone", move || {
            let greeting = greeting.clone();
            async move { greeting }
        })
        .on("nothing", || {})
        .on("nothing", || async {})
        .on("nothing", async || {})
        .on("number", || 1)
        .on("option", || None::<u32>)
        .on("several", || (1, "two".to_owned(), [3.0]))
        .on("panics", || {
            if true {
                panic!("what a test of this would say");
            }
        })
        .on("option", |socket: Option<Socket>| socket.is_some())
        .on("tuple", async |(_, Data(n)): (Socket, Data<u32>)| n)
        .on_any(|Event(name): Event| println!("{name}"))
        .on_disconnect(|_: Socket| {})
        .middleware(|State(is_open): State<bool>| match is_open {
            true => Ok(()),
            false => Err(ConnectError::new("closed")),
        })
        .middleware(async |Auth(_): Auth<Option<String>>| Ok(()))
        .middleware(|| Ok(()));
    // A namespace that something is registered on may be kept.
    let chat = io.of("/chat").on("tail", |socket: Socket| socket.emit("seen", ()));
    chat.on_connect(|socket: Socket| {
        socket
            .on("tail", async |socket: Socket| socket.emit("seen", ()))
            .middleware(|Event(name): Event| match &*name {
                "admin" => Err(Rejection::new("forbidden", "no")),
                _ => Ok(()),
            });
    })
}

/// A handler of the program's own.
pub struct Answer(pub u32);

impl Handler<OnEvent, ()> for Answer {
    type Output = u32;
    type Future = std::future::Ready<u32>;

    fn call(&self, _: &Context<'_>) -> Result<Self::Future, Rejection> {
        Ok(std::future::ready(self.0))
    }
}

pub fn register_any<A, H>(io: &Server, handler: H)
where
    H: Handler<OnEvent, A>,
    H::Output: IntoReply + Send,
{
    io.on("any", handler);
}

pub fn register_each(io: &Server) {
    register_any(io, Answer(42));
    register_any(io, || 42);
    register_any(io, async || 42);
}
