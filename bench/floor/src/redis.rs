//! The floor of two servers at a Redis: what one is told for all or for a room, it publishes as it came
//! and writes to its own; what it hears, it writes to its own.
//!
//! It asks nobody who is there, counts nothing, and loses what comes while a connection is away.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
};

use tokio::net::{
    TcpListener, TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{Everyone, Frames, JOINED, READ, joins, lock, opened, write};

/// The channels: of all, and of those in the one room.
const CHANNELS: [&str; 2] = ["all", "room"];
const ALL: usize = 0;
const ROOM: usize = 1;

/// Its own process, at the head of what it publishes.
const FROM: usize = 4;

#[derive(Clone)]
struct Floor {
    /// Who hears which channel.
    members: [Everyone; 2],
    publishes: Arc<OwnedWriteHalf>,
    subscribes: Arc<OwnedWriteHalf>,
}

#[tokio::main(flavor = "current_thread")]
pub async fn run(address: SocketAddr, redis: &str) -> io::Result<()> {
    let redis = redis.trim_start_matches("redis://");
    let (answers, publishes) = connect(redis).await?;
    let (heard, subscribes) = connect(redis).await?;
    let floor = Floor {
        members: Default::default(),
        publishes,
        subscribes,
    };
    floor.subscribe(ALL)?;
    tokio::spawn(async move {
        // How many have got something is nothing to it.
        read_all(answers, |data| Ok(data.len())).await
    });
    let members = floor.members.clone();
    tokio::spawn(async move { read_all(heard, |data| hear(&members, data)).await });
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let floor = floor.clone();
        tokio::spawn(async move {
            // The load says what was lost by it.
            if let Err(error) = floor.serve(stream).await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}

async fn connect(redis: &str) -> io::Result<(OwnedReadHalf, Arc<OwnedWriteHalf>)> {
    let stream = TcpStream::connect(redis).await?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok((reader, Arc::new(writer)))
}

/// Gives what is read to `take`, which says how much of it that was.
async fn read_all(
    reader: OwnedReadHalf,
    mut take: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut partial = Vec::new();
    loop {
        reader.readable().await?;
        let goes_on = READ.with_borrow_mut(|buffer| {
            let kept = partial.len();
            buffer[..kept].copy_from_slice(&partial);
            let count = match reader.try_read(&mut buffer[kept..]) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            let data = &mut buffer[..kept + count];
            let used = take(data)?;
            partial.clear();
            partial.extend_from_slice(&data[used..]);
            Ok(count > 0)
        });
        if !goes_on? {
            return Ok(());
        }
    }
}

/// Writes what others have published to those whom it is for, in one write each.
fn hear(members: &[Everyone; 2], data: &[u8]) -> io::Result<usize> {
    let mut frames = [Vec::new(), Vec::new()];
    let mut rest = data;
    while let Some((message, behind)) = message(rest) {
        rest = behind;
        let [kind, channel, payload] = message;
        let own = std::process::id().to_le_bytes();
        if kind == b"message" && payload.get(..FROM) != Some(&own) {
            let channel = usize::from(channel == CHANNELS[ROOM].as_bytes());
            frames[channel].extend_from_slice(payload.get(FROM..).unwrap_or_default());
        }
    }
    for (members, frames) in members.iter().zip(frames) {
        write_to(members, &frames);
    }
    Ok(data.len() - rest.len())
}

/// The three strings of a message, or of the answer to a subscription, whose last is a number.
fn message(data: &[u8]) -> Option<([&[u8]; 3], &[u8])> {
    let mut rest = data.strip_prefix(b"*3\r\n")?;
    let mut strings = [&rest[..0]; 3];
    for string in &mut strings {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let (head, behind) = (&rest[..line], &rest[line + 2..]);
        if head.first() == Some(&b':') {
            rest = behind;
            continue;
        }
        let length: usize = std::str::from_utf8(head.get(1..)?).ok()?.parse().ok()?;
        *string = behind.get(..length)?;
        rest = behind.get(length + 2..)?;
    }
    Some((strings, rest))
}

fn write_to(members: &Everyone, frames: &[u8]) {
    if !frames.is_empty() {
        for one in &*lock(members) {
            // Who has gone doesn't come back: each run has its own server.
            let _ = write(one, frames);
        }
    }
}

impl Floor {
    fn subscribe(&self, channel: usize) -> io::Result<()> {
        let name = CHANNELS[channel];
        let command = format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{name}\r\n", name.len());
        write(&self.subscribes, command.as_bytes())
    }

    fn join(&self, channel: usize, member: &Arc<OwnedWriteHalf>) -> io::Result<()> {
        let mut members = lock(&self.members[channel]);
        members.push(Arc::clone(member));
        match members.len() {
            1 if channel == ROOM => self.subscribe(channel),
            _ => Ok(()),
        }
    }

    async fn serve(self, stream: TcpStream) -> io::Result<()> {
        let Some((reader, writer)) = opened(stream).await? else {
            return Ok(());
        };
        let mut has_joined = false;
        let (mut commands, mut shared) = (Vec::new(), [Vec::new(), Vec::new()]);
        read_all(reader, |data| {
            let length = data.len();
            let mut frames = Frames { rest: data };
            while let Some(frame) = frames.next()? {
                let payload = &frame[2..];
                if let Some(ack) = joins(payload) {
                    self.join(ROOM, &writer)?;
                    write(&writer, &[&[0x81, ack.len() as u8], &*ack].concat())?;
                } else if !has_joined {
                    has_joined = true;
                    self.join(ALL, &writer)?;
                    write(&writer, JOINED)?;
                } else {
                    let channel = usize::from(payload.starts_with(b"42[\"room\","));
                    publish(&mut commands, CHANNELS[channel], frame);
                    shared[channel].extend_from_slice(frame);
                }
            }
            let used = length - frames.rest.len();
            if !commands.is_empty() {
                write(&self.publishes, &commands)?;
                commands.clear();
                for (members, frames) in self.members.iter().zip(&mut shared) {
                    write_to(members, frames);
                    frames.clear();
                }
            }
            Ok(used)
        })
        .await
    }
}

fn publish(commands: &mut Vec<u8>, channel: &str, frame: &[u8]) {
    let (name, length) = (channel.len(), FROM + frame.len());
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{channel}\r\n${length}\r\n");
    commands.extend_from_slice(head.as_bytes());
    commands.extend_from_slice(&std::process::id().to_le_bytes());
    commands.extend_from_slice(frame);
    commands.extend_from_slice(b"\r\n");
}
