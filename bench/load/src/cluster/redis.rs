//! The Redis between the servers: a process of this run's own, and its bare round trip.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Deref,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, histogram::Histogram, server::Process};

/// So long it may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A `redis-server` that keeps nothing on disk.
pub struct Redis {
    process: Process,
    address: SocketAddr,
}

impl Redis {
    pub fn start() -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null());
        let process = Process::spawn(&mut command)?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > PATIENCE {
                return Err("redis-server doesn't start".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { process, address })
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From a bare PUBLISH to the message that another connection reads, so many times.
    pub fn round_trips(&self, times: usize) -> Result<Histogram> {
        // About as much as a frame of the cluster has.
        const SIZE: usize = 150;
        let payload = "x".repeat(SIZE);
        let publish = format!("*3\r\n$7\r\nPUBLISH\r\n$5\r\nbench\r\n${SIZE}\r\n{payload}\r\n");
        let message = format!("*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n${SIZE}\r\n{payload}\r\n");
        let (mut publishes, mut listens) = (self.connect()?, self.connect()?);
        listens.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$5\r\nbench\r\n")?;
        expect(
            &mut listens,
            "*3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n",
        )?;
        let mut histogram = Histogram::default();
        for _ in 0..times {
            let start = Instant::now();
            publishes.write_all(publish.as_bytes())?;
            expect(&mut listens, &message)?;
            histogram.add(start.elapsed());
            expect(&mut publishes, ":1\r\n")?;
        }
        Ok(histogram)
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

impl Deref for Redis {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn expect(stream: &mut TcpStream, text: &str) -> Result<()> {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got)?;
    match got == text.as_bytes() {
        true => Ok(()),
        false => Err(format!("expected {text:?}, got {:?}", String::from_utf8_lossy(&got)).into()),
    }
}
