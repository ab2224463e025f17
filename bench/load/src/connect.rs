//! Opening sessions: the handshake up to the joined main namespace, over either transport.

use std::time::Instant;

use crate::{
    Result,
    histogram::Histogram,
    http,
    message::shown,
    net::{Load, Message, Net},
};

/// Handshakes that run at the same time.
const AT_ONCE: usize = 64;

/// A CONNECT as `socket.io-msgpack-parser` writes it for a stock client without `auth`.
const PACKED_CONNECT: &[u8] =
    b"\x84\xa4type\x00\xa4data\xd4\x00\x00\xa7options\x81\xa8compress\xc3\xa3nsp\xa1/";

/// Whether a message answers a CONNECT with the id of a socket, in JSON or MessagePack.
fn is_joined(message: &[u8]) -> bool {
    message.starts_with(b"40{\"sid\":\"")
        || message.starts_with(b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid")
}

/// Opens WebSocket sessions until the net has `count` connections.
pub struct Connect {
    count: usize,
    first: usize,
    joined: usize,
    sessions: Vec<(Step, Instant)>,
    pub latency: Histogram,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// `101` is due.
    Upgrade,
    /// `0{..}` is due.
    Open,
    /// `40{..}` is due.
    Join,
    Joined,
}

impl Connect {
    pub fn run(net: &mut Net, count: usize) -> Result<Histogram> {
        let first = net.len();
        let mut it = Self {
            count,
            first,
            joined: first,
            sessions: Vec::new(),
            latency: Histogram::default(),
        };
        for _ in 0..AT_ONCE.min(count.saturating_sub(first)) {
            it.start(net)?;
        }
        net.run(&mut it)?;
        Ok(it.latency)
    }

    fn start(&mut self, net: &mut Net) -> Result<()> {
        let id = net.connect()?;
        let request = http::upgrade(&net.host(), net.headers());
        net.send_http(id, &request);
        self.sessions.push((Step::Upgrade, Instant::now()));
        Ok(())
    }
}

impl Load for Connect {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        now: Instant,
    ) -> Result<()> {
        let (step, started) = &mut self.sessions[id - self.first];
        match (*step, message) {
            (Step::Upgrade, Message::Response(response)) if response.is_upgrade() => {
                net.is_websocket_now(id);
                net.compresses(id, response.keeps_window());
                *step = Step::Open;
            }
            (Step::Open, Message::Text(text)) if text.starts_with(b"0{\"sid\":\"") => {
                match net.packs() {
                    true => net.send_binary(id, PACKED_CONNECT),
                    false => net.send_text(id, b"40"),
                }
                *step = Step::Join;
            }
            (Step::Join, Message::Text(text) | Message::Binary(text)) if is_joined(text) => {
                self.latency.add(now - *started);
                *step = Step::Joined;
                self.joined += 1;
                if net.len() < self.count {
                    self.start(net)?;
                }
            }
            (step, message) => {
                return Err(
                    format!("expected the next of {step:?}, got {}", message.shown()).into(),
                );
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.joined >= self.count
    }

    fn waits_for(&self) -> String {
        format!("{} connections, {} joined", self.count, self.joined)
    }
}

/// Opens long-polling sessions, each on one connection, and leaves each with a poll that waits.
pub struct Poll {
    count: usize,
    waiting: usize,
    sessions: Vec<Polling>,
}

struct Polling {
    step: PollStep,
    sid: String,
    is_joined: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PollStep {
    /// `0{..}` is due.
    Open,
    /// `ok` is due, to the `40` or to a heartbeat's answer.
    Post,
    /// `40{..}` is due, or a heartbeat, or both.
    Poll,
}

/// The session's id in `0{"sid":"..",..}`.
pub fn sid_in(body: &[u8]) -> Option<String> {
    let rest = std::str::from_utf8(body)
        .ok()?
        .strip_prefix("0{\"sid\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

impl Poll {
    /// Opens `count` sessions.
    pub fn run(net: &mut Net, count: usize) -> Result<Self> {
        let mut it = Self {
            count,
            waiting: 0,
            sessions: Vec::new(),
        };
        for _ in 0..AT_ONCE.min(count) {
            it.start(net)?;
        }
        net.run(&mut it)?;
        Ok(it)
    }

    fn start(&mut self, net: &mut Net) -> Result<()> {
        let id = net.connect()?;
        let request = http::get(&net.host(), None);
        net.send_http(id, &request);
        self.sessions.push(Polling {
            step: PollStep::Open,
            sid: String::new(),
            is_joined: false,
        });
        Ok(())
    }
}

impl Load for Poll {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        _: Instant,
    ) -> Result<()> {
        let Message::Response(response) = message else {
            return Err(format!("expected a response, got {}", message.shown()).into());
        };
        let host = net.host();
        let is_full = net.len() >= self.count;
        let it = &mut self.sessions[id];
        let body = response.body;
        match (it.step, response.status) {
            (PollStep::Open, 200) if sid_in(body).is_some() => {
                it.sid = sid_in(body).unwrap_or_default();
                it.step = PollStep::Post;
                net.send_http(id, &http::post(&host, &it.sid, "40"));
            }
            (PollStep::Post, 200) if body == b"ok" => {
                it.step = PollStep::Poll;
                net.send_http(id, &http::get(&host, Some(&it.sid)));
            }
            (PollStep::Poll, 200) => {
                let mut has_ping = false;
                for packet in body.split(|byte| *byte == 0x1e) {
                    if packet == b"2" && !has_ping {
                        has_ping = true;
                    } else if packet.starts_with(b"40{\"sid\":\"") && !it.is_joined {
                        it.is_joined = true;
                        self.waiting += 1;
                    } else {
                        return Err(format!("expected to join once, got {}", shown(body)).into());
                    }
                }
                if has_ping {
                    it.step = PollStep::Post;
                    net.send_http(id, &http::post(&host, &it.sid, "3"));
                } else {
                    net.send_http(id, &http::get(&host, Some(&it.sid)));
                }
                if it.is_joined && !is_full {
                    self.start(net)?;
                }
            }
            (step, status) => {
                let body = shown(body);
                return Err(
                    format!("expected the next of {step:?}, got HTTP {status} {body}").into(),
                );
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.waiting >= self.count
    }

    fn waits_for(&self) -> String {
        format!("{} polling sessions, {} joined", self.count, self.waiting)
    }
}
