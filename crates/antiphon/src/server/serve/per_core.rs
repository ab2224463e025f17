//! A thread, a runtime and a listener for each processor core.
//!
//! A connection stays with the core that took it: its tasks are never handed from thread to thread,
//! which costs a wake-up each time. The kernel spreads new connections over the listeners. Emits
//! and broadcasts reach all connections, on whatever thread they are.

use std::{
    future::{Future, pending},
    io,
    net::{SocketAddr, ToSocketAddrs},
    num::NonZero,
    thread,
};

use tokio::runtime::{Builder, Handle, Runtime};

use super::{Listener, Serving};
use crate::server::Server;

/// A server that listens, to be run with one thread for each processor core. Made by
/// [`Server::per_core`] and [`Serving::per_core`].
#[derive(Debug)]
#[must_use = "nothing is accepted until it is run"]
pub struct PerCore {
    serving: Serving,
    threads: usize,
}

impl Server {
    /// Listens on an address, to serve it without a runtime of the program's own: with a thread and
    /// a single-threaded tokio runtime for each processor core, which costs less than one runtime
    /// for all. See [`PerCore::run`]. For several addresses, an app or TLS there is
    /// [`Serving::per_core`].
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
        self.serving([Listener::tcp(address)?]).per_core()
    }
}

impl Serving {
    /// Serves without a runtime of the program's own: with a thread and a single-threaded tokio
    /// runtime for each processor core, see [`Server::per_core`].
    ///
    /// # Errors
    /// If an address can't be listened on for several threads.
    pub fn per_core(self) -> io::Result<PerCore> {
        PerCore::new(self)
    }
}

impl PerCore {
    fn new(mut serving: Serving) -> io::Result<Self> {
        let listeners = serving.listeners.into_iter();
        serving.listeners = listeners
            .map(Listener::shareable)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            serving,
            threads: thread::available_parallelism().map_or(1, NonZero::get),
        })
    }

    /// How many threads, at least one, instead of one for each processor core that the process may
    /// use.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The addresses of TCP that are listened on: with the port, if 0 was asked for.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.serving.local_addrs()
    }

    /// Serves until [`Server::close`] is called; this thread is one of them.
    ///
    /// # Errors
    /// If a thread, a runtime or a listener can't be made. Also inside a tokio runtime, whose thread
    /// must not be blocked: call it from a `main` without `#[tokio::main]`, or on a thread of its own
    /// (`std::thread::spawn`), or use [`Serving::run`] there.
    pub fn run(self) -> io::Result<()> {
        self.run_until(pending::<()>())
    }

    /// As [`run`](Self::run), and closes the server when `shutdown` resolves, which runs on the
    /// first of its runtimes: a signal, or whatever else ends the program.
    ///
    /// # Errors
    /// As with [`run`](Self::run).
    pub fn run_until<T>(self, shutdown: impl Future<Output = T>) -> io::Result<()> {
        if Handle::try_current().is_ok() {
            return Err(io::Error::other(
                "`PerCore::run` blocks its thread, and this one belongs to a tokio runtime: call it \
                 from a `main` without `#[tokio::main]`, or on a thread of its own \
                 (`std::thread::spawn`), or use `Server::serving(..).run().await` here",
            ));
        }
        self.serving.server.check_open()?;
        let mut cores = Vec::new();
        for _ in 1..self.threads {
            cores.push(Core::new(self.serving.shared()?)?);
        }
        let first = Core::new(self.serving)?;
        let (mut threads, mut failed) = (Vec::new(), None);
        for core in cores {
            let thread = thread::Builder::new().name("antiphon".to_owned());
            match thread.spawn(move || core.run(pending::<()>())) {
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
    serving: Serving,
    runtime: Runtime,
}

impl Core {
    fn new(serving: Serving) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        Ok(Self { serving, runtime })
    }

    /// Serves until the server is closed, or `shutdown` asks for it; then until its sessions have
    /// ended.
    fn run<T>(self, shutdown: impl Future<Output = T>) -> io::Result<()> {
        self.runtime.block_on(self.serving.run_open(shutdown))
    }
}
