//! One connection to a NATS server, from the login to its end.
//!
//! Nothing is remembered beyond it: on a new one all that is wanted is subscribed to, and from there
//! on the changes, so that no list but [`Wanted`] could be wrong.
//!
//! A server takes what it reads in order, and answers a `PING` when it has taken all before it. So
//! each write ends with one, and its `PONG` says that the frames have been published and the
//! subscriptions hold: a [`Fence`](common::Fence). What hasn't got one when the connection breaks may be lost.
//!
//! ```text
//! queue, wanted -> write ---- .. PING ----> server
//!                    \ fence                  |
//! inbox <----------- read <--- MSG, PONG -----
//! ```

mod common;
mod writer;

use std::{convert::Infallible, io, sync::atomic::Ordering};

use antiphon_cluster::{Wanted, broker::Inbox};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    error::Error,
    replies::{DEADLINE, Replies},
    server::Server,
    shared::Shared,
    subject::token,
    wire::{self, Op},
};
use common::{Common, complaint};
use writer::{PROBE, Writer, Writing, write_probe};

/// So much is read at a time.
const READ: usize = 32 * 1_024;

/// The half of a connection that is read, with TLS or without.
type Reading = Box<dyn AsyncRead + Send + Unpin>;

/// A connection that has been logged in.
pub(crate) struct Session<'s> {
    shared: &'s Shared,
    address: String,
    read: Reading,
    buffer: BytesMut,
    write: Writing,
    replies: Replies,
}

impl<'s> Session<'s> {
    /// Connects and logs in.
    pub(crate) async fn connect(shared: &'s Shared, server: &Server) -> Result<Self, Error> {
        let address = server.address();
        let connects = tokio::time::timeout(DEADLINE, Self::open(shared, server));
        connects.await.unwrap_or(Err(Error::Silent {
            address,
            seconds: DEADLINE.as_secs(),
        }))
    }

    async fn open(shared: &'s Shared, server: &Server) -> Result<Self, Error> {
        let address = server.address();
        let unreachable = |error: io::Error| Error::Unreachable {
            address: address.clone(),
            problem: error.to_string(),
        };
        let mut stream = server.connect().await.map_err(unreachable)?;
        let mut buffer = BytesMut::new();
        // What the server says of itself first.
        let info = match read(&mut stream, &mut buffer, &address).await? {
            Op::Info(info) => info,
            op => return Err(complaint(shared, &address, &op)),
        };
        let (read, write) = match server.wants_tls() || info.tls_required {
            true => secure(server, stream).await?,
            false => {
                let (read, write) = stream.into_split();
                let halves: (Reading, Writing) = (Box::new(read), Box::new(write));
                halves
            }
        };
        let mut session = Self {
            shared,
            address,
            read,
            buffer,
            write,
            replies: Replies::new(String::new()),
        };
        shared
            .max_payload
            .store(info.max_payload, Ordering::Relaxed);
        shared.has_jetstream.get_or_init(|| info.jetstream);
        // No other connection has this name.
        let name = format!("{}-{}", token(&info.server_id).0, info.client_id);
        session.replies = Replies::new(shared.subjects.replies(&name));
        let mut hello = Vec::new();
        wire::connect(&server.login(&info.nonce), &mut hello);
        write_probe(shared, &mut hello);
        // A server that refuses the login closes at once: what it has said is read all the same.
        let _ = session.write.write_all(&hello).await;
        session.welcome().await?;
        Ok(session)
    }

    /// Waits for the answer to the login.
    async fn welcome(&mut self) -> Result<(), Error> {
        loop {
            match read(&mut self.read, &mut self.buffer, &self.address).await? {
                Op::Pong => return Ok(()),
                Op::Ok | Op::Info(_) => {}
                Op::Ping => {
                    let mut out = Vec::new();
                    wire::pong(&mut out);
                    let _ = self.write.write_all(&out).await;
                }
                op => return Err(complaint(self.shared, &self.address, &op)),
            }
        }
    }

    /// Publishes, subscribes and listens until the connection fails.
    pub(crate) async fn run(self, wanted: &Wanted, inbox: &Inbox) -> Error {
        let common = Common::new(self.shared, inbox, &self.address, self.replies);
        let requests = self.shared.asks.open(&self.address);
        let mut writer = Writer::new(&common, self.write, requests);
        let ended = tokio::select! {
            biased;
            // It first: the server says why, and then a write fails.
            ended = listen(&common, self.read, self.buffer) => ended,
            ended = writer.run(wanted) => ended,
            error = silence(&common) => Err(error),
        };
        let Err(error) = ended;
        error
    }
}

/// Begins TLS, which the server or the URL wants.
#[cfg(feature = "tls")]
async fn secure(server: &Server, stream: TcpStream) -> Result<(Reading, Writing), Error> {
    let begins = antiphon_cluster::broker::tls::begin(server.host(), stream);
    let stream = begins.await.map_err(|error| Error::Unreachable {
        address: server.address(),
        problem: format!("no TLS, {error}"),
    })?;
    let (read, write) = tokio::io::split(stream);
    Ok((Box::new(read), Box::new(write)))
}

#[cfg(not(feature = "tls"))]
async fn secure(server: &Server, _: TcpStream) -> Result<(Reading, Writing), Error> {
    let address = server.address();
    Err(Error::NoTls { address })
}

/// What is read next.
async fn read(
    half: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    address: &str,
) -> Result<Op, Error> {
    loop {
        let next = wire::next(buffer).map_err(|malformed| Error::NotNats {
            address: address.to_owned(),
            answer: malformed.0,
        })?;
        if let Some(op) = next {
            return Ok(op);
        }
        buffer.reserve(READ);
        match half.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => {
                let address = address.to_owned();
                return Err(Error::Closed { address });
            }
        }
    }
}

/// Resolves when the server owes an answer for too long. One that answers late but answers is
/// waited for.
async fn silence(common: &Common<'_>) -> Error {
    loop {
        let owes = {
            let fences = common.fences();
            let oldest = fences.waiting.front();
            oldest.map(|fence| fence.since.max(fences.heard))
        };
        let left = match owes {
            Some(since) => DEADLINE.saturating_sub(since.elapsed()),
            None => PROBE / 2,
        };
        if common.replies.is_late() {
            return Error::NotStored {
                address: common.address.to_owned(),
                answer: "it hasn't acknowledged an entry for long".to_owned(),
            };
        }
        if left.is_zero() {
            return Error::Silent {
                address: common.address.to_owned(),
                seconds: DEADLINE.as_secs(),
            };
        }
        tokio::time::sleep(left).await;
    }
}

/// Hears what the server says. It never waits for anyone: the inbox drops what is too much, so that
/// the server has no reason to close the connection of a slow consumer.
async fn listen(
    common: &Common<'_>,
    mut half: Reading,
    mut buffer: BytesMut,
) -> Result<Infallible, Error> {
    loop {
        match read(&mut half, &mut buffer, common.address).await? {
            Op::Message(message) => common.message(message)?,
            Op::Pong => common.pong(),
            Op::Ping => {
                common.asks.store(true, Ordering::Release);
                common.asked.notify_one();
            }
            Op::Info(info) => {
                let limit = &common.shared.max_payload;
                limit.store(info.max_payload, Ordering::Relaxed);
            }
            Op::Ok => {}
            op @ Op::Error(_) => common.complains(&op)?,
        }
    }
}
