//! One connection that sends as fast as the server takes it, on a thread of its own, so that
//! another's echo can be timed meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use flate2::{Compress, Compression, FlushCompress};

use crate::{Result, connect::sid_in, frame, http};

/// What comes in a flood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Water {
    /// Events whose handler does nothing.
    Cheap,
    /// Events whose handler computes for 12 us.
    Dear,
    /// Events of 64 KiB whose handler does nothing.
    Large,
    /// Compressed events of 1 KiB that are almost as large as they may be, inflated, and dear to
    /// read.
    Bombs,
    /// Messages to a room of 20.
    Broadcasts,
    /// Joins of some thousand rooms.
    Joins,
    /// Events whose handler panics.
    Panics,
    /// Requests with an event each, one behind the other without waiting for the answers.
    Posts,
}

/// How much is written at once, at least.
const CHUNK: usize = 256 * 1024;
const LARGE: usize = 64 * 1024;

/// Of a bomb, inflated; `maxPayload` is 1,000,000.
const BOMB: usize = 999_000;

/// How many are in the room of the broadcasts.
const MEMBERS: usize = 20;

impl Water {
    /// One message of it.
    fn message(self, number: usize) -> String {
        match self {
            Self::Cheap | Self::Posts => r#"42["none"]"#.to_owned(),
            Self::Dear => r#"42["work"]"#.to_owned(),
            Self::Large => format!(r#"42["none","{}"]"#, "x".repeat(LARGE)),
            // Of all that becomes so short, escapes take longest to be read.
            Self::Bombs => format!(r#"42["none","{}"]"#, r"\n".repeat(BOMB / 2)),
            Self::Broadcasts => format!(r#"42["room","{number:064}"]"#),
            Self::Joins => format!(r#"42["join","room-{number}"]"#),
            Self::Panics => r#"42["panic"]"#.to_owned(),
        }
    }

    /// As many as are written at once, and their number.
    fn chunk(self, host: &str, sid: &str) -> Result<(Vec<u8>, u64)> {
        let (mut chunk, mut count) = (Vec::new(), 0);
        while chunk.len() < CHUNK {
            let message = self.message(count as usize);
            match self {
                Self::Posts => {
                    chunk.extend_from_slice(http::post(host, sid, &message).as_bytes());
                }
                Self::Bombs => {
                    let deflated = deflated(message.as_bytes())?;
                    let opcode = frame::TEXT | frame::COMPRESSED;
                    frame::push(&mut chunk, opcode, &deflated, [1, 2, 3, 4]);
                }
                _ => frame::push(&mut chunk, frame::TEXT, message.as_bytes(), [1, 2, 3, 4]),
            }
            count += 1;
        }
        Ok((chunk, count))
    }

    /// The headers of its opening handshake.
    const fn headers(self) -> &'static str {
        match self {
            Self::Bombs => http::OFFER,
            _ => "",
        }
    }
}

/// A flood that is going on. It ends with this value.
pub struct Flood {
    streams: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// Connections that the server closed.
    closed: Arc<AtomicU64>,
}

impl Flood {
    /// Opens what it takes and starts.
    pub fn start(server: SocketAddr, water: Water, connections: usize) -> Result<Self> {
        let mut it = Self {
            streams: Vec::new(),
            threads: Vec::new(),
            ends: Arc::default(),
            sent: Arc::default(),
            closed: Arc::default(),
        };
        if water == Water::Broadcasts {
            for _ in 0..MEMBERS {
                let (mut stream, mut inbox) = open(server, "")?;
                stream.write_all(&text(r#"420["join","r"]"#))?;
                read_until(&mut stream, &mut inbox, b"430[\"r\"]")?;
                it.drain(stream)?;
            }
        }
        for _ in 0..connections {
            let (stream, sid) = match water {
                Water::Posts => open_polling(server)?,
                _ => (open(server, water.headers())?.0, String::new()),
            };
            let chunk = water.chunk(&server.to_string(), &sid)?;
            it.drain(stream.try_clone()?)?;
            it.pour(stream, chunk);
        }
        Ok(it)
    }

    /// How many messages were written so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many of its connections the server closed.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    fn pour(&mut self, mut stream: TcpStream, (chunk, count): (Vec<u8>, u64)) {
        let (ends, sent) = (Arc::clone(&self.ends), Arc::clone(&self.sent));
        self.threads.push(thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) && stream.write_all(&chunk).is_ok() {
                sent.fetch_add(count, Ordering::Relaxed);
            }
        }));
    }

    /// Reads what comes and forgets it.
    fn drain(&mut self, mut stream: TcpStream) -> Result<()> {
        self.streams.push(stream.try_clone()?);
        let (ends, closed) = (Arc::clone(&self.ends), Arc::clone(&self.closed));
        self.threads.push(thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                match stream.read(&mut buffer) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
            if !ends.load(Ordering::Relaxed) {
                closed.fetch_add(1, Ordering::Relaxed);
            }
        }));
        Ok(())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            // The server may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::push(&mut out, frame::TEXT, text.as_bytes(), [1, 2, 3, 4]);
    out
}

/// A compressed message (RFC 7692 §7.2.1).
fn deflated(message: &[u8]) -> Result<Vec<u8>> {
    let mut deflated = Vec::with_capacity(message.len() + 64);
    let mut compressor = Compress::new(Compression::best(), false);
    compressor.compress_vec(message, &mut deflated, FlushCompress::Sync)?;
    let end = deflated.strip_suffix(&[0, 0, 0xff, 0xff]);
    Ok(end.ok_or("expected a flushed block")?.to_vec())
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A WebSocket that has joined the main namespace, and what came on it.
fn open(server: SocketAddr, headers: &str) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = connect(server)?;
    let mut inbox = Vec::new();
    stream.write_all(http::upgrade(&server.to_string(), headers).as_bytes())?;
    read_until(&mut stream, &mut inbox, b"0{\"sid\":\"")?;
    stream.write_all(&text("40"))?;
    read_until(&mut stream, &mut inbox, b"40{\"sid\":\"")?;
    // What comes from here on is read by the one who drains.
    Ok((stream, inbox))
}

/// A polling session that has joined the main namespace, and its id.
fn open_polling(server: SocketAddr) -> Result<(TcpStream, String)> {
    let host = server.to_string();
    let mut stream = connect(server)?;
    let opening = exchange(&mut stream, &http::get(&host, None))?;
    let sid = sid_in(&opening).ok_or("expected 0{..}")?;
    exchange(&mut stream, &http::post(&host, &sid, "40"))?;
    exchange(&mut stream, &http::get(&host, Some(&sid)))?;
    Ok((stream, sid))
}

/// The body of the answer to a request.
fn exchange(stream: &mut TcpStream, request: &str) -> Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut inbox = Vec::new();
    loop {
        if let Some(response) = http::parse(&inbox)? {
            return match response.status {
                200 => Ok(response.body.to_vec()),
                status => Err(format!("expected HTTP 200, got {status}").into()),
            };
        }
        read_more(stream, &mut inbox)?;
    }
}

fn read_until(stream: &mut TcpStream, inbox: &mut Vec<u8>, sign: &[u8]) -> Result<()> {
    while !inbox.windows(sign.len()).any(|it| it == sign) {
        read_more(stream, inbox)?;
    }
    Ok(())
}

fn read_more(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer)? {
        0 => return Err("expected it to stay open, the server closed it".into()),
        count => inbox.extend_from_slice(&buffer[..count]),
    }
    stream.set_read_timeout(None)?;
    Ok(())
}
