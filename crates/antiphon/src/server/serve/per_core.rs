//! A thread, a runtime and a listener for each processor core.
//!
//! A connection stays with the core that took it: its tasks are never handed from thread to thread,
//! which costs a wake-up each time. The kernel spreads new connections over the listeners. Emits
//! and broadcasts reach all connections, on whatever thread they are.

use std::{
    future::{Future, pending, poll_fn},
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    num::NonZero,
    pin::pin,
    task::Poll,
    thread,
};

use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};

use crate::server::{Server, serve::BACKLOG};

/// A server that listens, to be run with one thread for each processor core. Made by
/// [`Server::per_core`].
#[derive(Debug)]
#[must_use = "nothing is accepted until it is run"]
pub struct PerCore {
    server: Server,
    listener: TcpListener,
    address: SocketAddr,
    threads: usize,
}

impl Server {
    /// Listens on an address, to serve it without a runtime of the program's own: with a thread and
    /// a single-threaded tokio runtime for each processor core, which costs less than one runtime
    /// for all. See [`PerCore::run`].
    ///
    /// Handlers run on these runtimes. One that blocks holds up all connections of its core: what
    /// takes long belongs into `tokio::task::spawn_blocking`.
    ///
    /// ```no_run
    /// use antiphon::{Args, Server, Socket};
    ///
    /// fn main() -> std::io::Result<()> {
    ///     let io = Server::new();
    ///     io.of("/").on("echo", async |socket: Socket, args: Args| {
    ///         socket.emit("echo", args);
    ///     });
    ///     io.per_core("127.0.0.1:3000")?.run() // until `io.close()` is called
    /// }
    /// ```
    ///
    /// # Errors
    /// If the address can't be listened on, since something else does for one.
    pub fn per_core(&self, address: impl ToSocketAddrs) -> io::Result<PerCore> {
        // Listeners that share a port would share it with those of another process, too: this one
        // has it alone, or fails.
        let address = TcpListener::bind(address)?.local_addr()?;
        Ok(PerCore {
            server: self.clone(),
            listener: listen(address)?,
            address,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
        })
    }
}

impl PerCore {
    /// How many threads, at least one, instead of one for each processor core that the process may
    /// use.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The address that is listened on: with the port, if 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until [`Server::close`] is called; this thread is one of them. Requests for other
    /// paths than the server's are answered with 404.
    ///
    /// # Errors
    /// If a thread, a runtime or a listener can't be made.
    ///
    /// # Panics
    /// Inside a tokio runtime, which must not be blocked.
    pub fn run(self) -> io::Result<()> {
        self.run_until(pending())
    }

    /// As [`run`](Self::run), and closes the server when `shutdown` resolves, which runs on the
    /// first of its runtimes: a signal, or whatever else ends the program.
    ///
    /// # Errors
    /// As with [`run`](Self::run).
    ///
    /// # Panics
    /// As with [`run`](Self::run).
    pub fn run_until(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut cores = vec![Core::new(&self.server, self.listener)?];
        for _ in 1..self.threads {
            cores.push(Core::new(
                &self.server,
                shared(&cores[0].listener, self.address)?,
            )?);
        }
        let first = cores.swap_remove(0);
        let (mut threads, mut failed) = (Vec::new(), None);
        for core in cores {
            let thread = thread::Builder::new().name("antiphon".to_owned());
            match thread.spawn(move || core.run(pending())) {
                Ok(thread) => threads.push(thread),
                Err(error) => failed = Some(error),
            }
        }
        let ended = match failed {
            None => first.run(shutdown),
            Some(error) => first.run(async {}).and(Err(error)),
        };
        threads.into_iter().fold(ended, |ended, thread| {
            let joined = thread.join();
            let other =
                joined.unwrap_or_else(|_| Err(io::Error::other("a core's thread panicked")));
            ended.and(other)
        })
    }
}

/// What one thread runs.
struct Core {
    server: Server,
    listener: TcpListener,
    runtime: Runtime,
}

impl Core {
    fn new(server: &Server, listener: TcpListener) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        Ok(Self {
            server: server.clone(),
            listener,
            runtime,
        })
    }

    /// Serves until the server is closed, or `shutdown` asks for it; then until its sessions have
    /// ended.
    fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self {
            server,
            listener,
            runtime,
        } = self;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let accepting = {
                let server = server.clone();
                // In a task: what is spawned by one costs no wake-up.
                tokio::spawn(async move { server.serve(listener).await })
            };
            let mut shutdown = pin!(shutdown);
            let mut closed = pin!(server.engine().closed());
            poll_fn(|context| {
                let ends = shutdown.as_mut().poll(context).is_ready();
                match ends || closed.as_mut().poll(context).is_ready() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            server.close().await;
            accepting.await.map_err(io::Error::other)
        })
    }
}

/// A listener that shares its address with others of this process, if the system spreads
/// connections over such.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(true)?;
    // What it accepts inherits this.
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG.cast_signed())?;
    Ok(socket.into())
}

/// The listener of another thread: one of its own on Linux, which spreads connections over those of
/// one address (socket(7), `SO_REUSEPORT`); elsewhere the same, and a thread that is idle accepts.
fn shared(first: &TcpListener, address: SocketAddr) -> io::Result<TcpListener> {
    match cfg!(target_os = "linux") {
        true => listen(address),
        false => first.try_clone(),
    }
}
