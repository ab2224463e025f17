//! Writes what servers of Node read, as JSON or MessagePack, by the same calls.
//!
//! Keys are written in the order in which Node's adapters have them, so that the bytes are theirs.

use std::sync::Arc;

use super::{Flags, SocketDetails, Sockets};
use crate::socket::msgpack::encode;
use crate::socket::{Args, EncodeError, Outgoing, OwnedArgs, json};

/// What is being written.
#[derive(Debug)]
pub(super) struct Document {
    out: Vec<u8>,
    is_json: bool,
    failed: Option<EncodeError>,
}

impl Document {
    /// One that can hold binary values if it must, and else is JSON.
    pub(super) const fn for_values(has_binary: bool) -> Self {
        Self {
            out: Vec::new(),
            is_json: !has_binary,
            failed: None,
        }
    }

    /// MessagePack, whatever it holds.
    pub(super) const fn msgpack() -> Self {
        Self::for_values(true)
    }

    /// What was written.
    pub(super) fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.out),
        }
    }

    /// Writes a map with so many entries, each by [`key`](Self::key) and a value.
    pub(super) fn map(&mut self, entries: usize, write: impl FnOnce(&mut Self)) {
        self.nest(b'{', b'}', (0x80, 0xde), entries, write);
    }

    /// Writes an array with so many elements.
    pub(super) fn list(&mut self, elements: usize, write: impl FnOnce(&mut Self)) {
        self.nest(b'[', b']', (0x90, 0xdc), elements, write);
    }

    fn nest(
        &mut self,
        open: u8,
        close: u8,
        (few, many): (u8, u8),
        count: usize,
        write: impl FnOnce(&mut Self),
    ) {
        self.separate();
        if self.is_json {
            self.out.push(open);
            write(self);
            self.out.push(close);
            return;
        }
        let length = u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
        match count {
            ..=15 => self.out.push(few | count as u8),
            16..=0xffff => self.out.extend([many, length[2], length[3]]),
            _ => {
                self.out.push(many + 1);
                self.out.extend(length);
            }
        }
        write(self);
    }

    pub(super) fn key(&mut self, key: &str) -> &mut Self {
        self.text(key);
        if self.is_json {
            self.out.push(b':');
        }
        self
    }

    pub(super) fn text(&mut self, text: &str) {
        self.separate();
        match self.is_json {
            // A string has no way to fail, nor has the vector.
            true => drop(serde_json::to_writer(&mut self.out, text)),
            false => self.tried(|out| encode::text(text, out)),
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        self.separate();
        match self.is_json {
            true => self.out.extend(number.to_string().bytes()),
            false => encode::unsigned(number, &mut self.out),
        }
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.separate();
        match (self.is_json, value) {
            (true, true) => self.out.extend(b"true"),
            (true, false) => self.out.extend(b"false"),
            (false, _) => self.out.push(0xc2 + u8::from(value)),
        }
    }

    pub(super) fn texts(&mut self, texts: &[Arc<str>]) {
        self.list(texts.len(), |document| {
            for text in texts {
                document.text(text);
            }
        });
    }

    /// Writes the name and the arguments of an event, as an array.
    pub(super) fn event(&mut self, event: &Outgoing) {
        self.separate();
        if self.is_json {
            self.out.push(b'[');
            self.out.extend(event.list().bytes());
            self.out.push(b']');
            return;
        }
        let attachments: Vec<_> = event.attachments().collect();
        let list = Args::new(event.list(), &attachments);
        self.tried(|out| encode::list(None, list, out));
    }

    /// Writes the first of these arguments under this key, or nothing if there are none.
    pub(super) fn argument(&mut self, key: &str, args: &OwnedArgs) {
        if count(args) == 0 {
            return;
        }
        self.key(key);
        let args = args.as_args();
        if !self.is_json {
            return self.tried(|out| encode::first(args, out));
        }
        let bytes = args.json().as_bytes();
        let start = json::whitespace(bytes, 0);
        let end = json::value(bytes, start, usize::MAX).ok();
        let first = end.and_then(|end| args.json().get(start..end));
        self.out.extend(first.unwrap_or("null").bytes());
    }

    /// Writes rooms and exceptions, and the flags if they are asked for.
    pub(super) fn options(&mut self, target: &Sockets, flags: Option<Flags>) {
        self.map(2 + usize::from(flags.is_some()), |document| {
            document.key("rooms").texts(&target.rooms);
            document.key("except").texts(&target.except);
            if let Some(flags) = flags {
                document.key("flags").flags(flags);
            }
        });
    }

    fn flags(&mut self, flags: Flags) {
        let entries = usize::from(flags.volatile)
            + usize::from(flags.compress.is_some())
            + usize::from(flags.timeout.is_some());
        self.map(entries, |document| {
            if flags.volatile {
                document.key("volatile").boolean(true);
            }
            if let Some(compress) = flags.compress {
                document.key("compress").boolean(compress);
            }
            if let Some(timeout) = flags.timeout {
                let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                document.key("timeout").number(millis);
            }
        });
    }

    pub(super) fn sockets(&mut self, sockets: &[SocketDetails]) {
        self.list(sockets.len(), |document| {
            for socket in sockets {
                let entries = 2 + count(&socket.handshake) + count(&socket.data);
                document.map(entries, |document| {
                    document.key("id").text(&socket.id);
                    document.argument("handshake", &socket.handshake);
                    document.key("rooms").texts(&socket.rooms);
                    document.argument("data", &socket.data);
                });
            }
        });
    }

    /// Writes a comma if something stands before.
    fn separate(&mut self) {
        if self.is_json && !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    fn tried(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        if let Err(error) = write(&mut self.out) {
            self.failed.get_or_insert(error);
        }
    }
}

/// One if there is an argument, of which the first is written.
pub(super) fn count(args: &OwnedArgs) -> usize {
    usize::from(!args.as_args().json().trim_ascii().is_empty())
}
