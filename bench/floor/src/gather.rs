//! The floor of a room in which everyone talks: a loop on one thread that reads all that is ready,
//! appends each broadcast to the buffers of its receivers, and then writes to each of them once.
//!
//! So does uWebSockets. It needs no runtime: what it costs is the kernel's.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::{Frames, JOINED, OPENING, joins};

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    is_open: bool,
    has_joined: bool,
    /// The start of a frame whose rest hasn't come.
    partial: Vec<u8>,
    outbox: Vec<u8>,
    is_dirty: bool,
}

struct Floor {
    /// Those that have gone are `None`: their numbers aren't used again.
    connections: Vec<Option<Connection>>,
    /// Who is in the one room.
    members: Vec<usize>,
    /// Whose outbox has something new.
    dirty: Vec<usize>,
}

pub fn run(address: SocketAddr) -> io::Result<()> {
    let mut listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 512 << 10];
    let mut floor = Floor {
        connections: Vec::new(),
        members: Vec::new(),
        dirty: Vec::new(),
    };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let Token(id) = event.token();
            if event.token() != LISTENER {
                if event.is_writable() {
                    floor.touch(id);
                }
                if let Err(error) = floor.read(id, &mut buffer) {
                    floor.leave(id, Some(error));
                }
                continue;
            }
            loop {
                let mut stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                stream.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut stream, Token(floor.connections.len()), interest)?;
                floor.connections.push(Some(Connection {
                    stream,
                    is_open: false,
                    has_joined: false,
                    partial: Vec::new(),
                    outbox: Vec::new(),
                    is_dirty: false,
                }));
            }
        }
        floor.write();
    }
}

impl Floor {
    fn touch(&mut self, id: usize) {
        if let Some(it) = &mut self.connections[id]
            && !it.is_dirty
            && !it.outbox.is_empty()
        {
            it.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// A client that goes away is no failure. The load says what was lost by it.
    fn leave(&mut self, id: usize, error: Option<io::Error>) {
        if let Some(error) = error {
            eprintln!("a connection failed: {error}");
        }
        self.connections[id] = None;
        self.members.retain(|member| *member != id);
    }

    fn read(&mut self, id: usize, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(it) = &mut self.connections[id] else {
                return Ok(());
            };
            let kept = it.partial.len();
            buffer[..kept].copy_from_slice(&it.partial);
            it.partial.clear();
            let count = match it.stream.read(&mut buffer[kept..]) {
                Ok(0) => {
                    self.leave(id, None);
                    return Ok(());
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    it.partial.extend_from_slice(&buffer[..kept]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let was_full = kept + count == buffer.len();
            if it.is_open {
                let used = self.frames(id, &mut buffer[..kept + count])?;
                if let Some(it) = &mut self.connections[id] {
                    it.partial.extend_from_slice(&buffer[used..kept + count]);
                }
            } else {
                // The request, as the load sends it.
                it.is_open = true;
                it.outbox.extend_from_slice(&OPENING.concat());
                self.touch(id);
            }
            if !was_full {
                return Ok(()); // a short read has emptied the socket
            }
        }
    }

    /// Answers the whole frames, and says how many bytes these were.
    fn frames(&mut self, id: usize, data: &mut [u8]) -> io::Result<usize> {
        let length = data.len();
        let mut frames = Frames { rest: data };
        while let Some(frame) = frames.next()? {
            self.answer(id, frame);
        }
        Ok(length - frames.rest.len())
    }

    /// To all in the room what is said to it, to who sent it all else.
    fn answer(&mut self, id: usize, frame: &[u8]) {
        let Self {
            connections,
            members,
            dirty,
        } = self;
        let has_joined = connections[id].as_ref().is_some_and(|it| it.has_joined);
        let mut push = |id: usize, bytes: &[u8]| {
            if let Some(it) = &mut connections[id] {
                it.outbox.extend_from_slice(bytes);
                if !it.is_dirty {
                    it.is_dirty = true;
                    dirty.push(id);
                }
            }
        };
        let payload = &frame[2..];
        if payload.starts_with(b"42[\"room\",") {
            members.iter().for_each(|member| push(*member, frame));
        } else if let Some(ack) = joins(payload) {
            members.push(id);
            push(id, &[0x81, ack.len() as u8]);
            push(id, &ack);
        } else if has_joined {
            push(id, frame);
        } else if let Some(it) = &mut connections[id] {
            it.has_joined = true;
            it.outbox.extend_from_slice(JOINED);
            self.touch(id);
        }
    }

    /// The end of a turn: to each receiver in one write.
    fn write(&mut self) {
        while let Some(id) = self.dirty.pop() {
            let Some(it) = &mut self.connections[id] else {
                continue;
            };
            it.is_dirty = false;
            match it.stream.write(&it.outbox) {
                Ok(count) if count == it.outbox.len() => it.outbox.clear(),
                Ok(count) => drop(it.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => self.leave(id, Some(error)),
            }
        }
    }
}
