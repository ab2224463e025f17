//! Echo over long-polling: as clients do it, the poll waits on one connection while the message is
//! posted on another.

use std::time::{Duration, Instant};

use crate::{
    Result,
    connect::sid_in,
    histogram::Histogram,
    http,
    message::{Payload, shown},
    net::{Load, Message, Net},
};

/// Sessions with one message in flight each; the polls are the even connections.
pub struct PollingEcho {
    payload: Payload,
    sessions: Vec<Session>,
    host: String,
    busy: usize,
    end: Instant,
    is_open: bool,
    pub answered: u64,
    pub latency: Histogram,
}

struct Session {
    sid: String,
    sent: u64,
    sent_at: Instant,
    /// `ok` is due on the odd connection.
    posts: bool,
    /// The echo is due on the even one.
    polls: bool,
    /// The heartbeat's answer goes with the next message.
    owes_pong: bool,
}

const PREFIX: &str = "42[\"echo\",";

impl PollingEcho {
    pub fn open(net: &mut Net, sessions: usize, size: usize) -> Result<Self> {
        let mut it = Self {
            payload: Payload::new(size),
            sessions: Vec::new(),
            host: net.host(),
            busy: sessions,
            end: Instant::now(),
            is_open: false,
            answered: 0,
            latency: Histogram::default(),
        };
        for _ in 0..sessions {
            let poll = net.connect()?;
            net.connect()?;
            net.send_http(poll, &http::get(&it.host, None));
            it.sessions.push(Session {
                sid: String::new(),
                sent: 0,
                sent_at: Instant::now(),
                posts: false,
                polls: false,
                owes_pong: false,
            });
        }
        net.run(&mut it)?;
        it.is_open = true;
        Ok(it)
    }

    /// Sends for that long, then waits for what is still due.
    pub fn run(&mut self, net: &mut Net, time: Duration) -> Result<()> {
        let now = Instant::now();
        self.end = now + time;
        self.answered = 0;
        self.latency = Histogram::default();
        self.busy = self.sessions.len();
        for at in 0..self.sessions.len() {
            self.send(net, at, now);
        }
        net.run(self)
    }

    fn send(&mut self, net: &mut Net, at: usize, now: Instant) {
        let it = &mut self.sessions[at];
        let text = self.payload.text(PREFIX, at, it.sent);
        let pong = if std::mem::take(&mut it.owes_pong) {
            "3\x1e"
        } else {
            ""
        };
        let body = format!("{pong}{}", String::from_utf8_lossy(text));
        net.send_http(2 * at, &http::get(&self.host, Some(&it.sid)));
        net.send_http(2 * at + 1, &http::post(&self.host, &it.sid, &body));
        it.sent += 1;
        it.sent_at = now;
        it.posts = true;
        it.polls = true;
    }

    /// The handshake: `0{..}`, then `ok` to the `40`, then `40{..}`.
    fn opening(&mut self, net: &mut Net, id: usize, body: &[u8]) -> Result<()> {
        let it = &mut self.sessions[id / 2];
        let is_poll = id.is_multiple_of(2);
        if !is_poll && body == b"ok" {
            net.send_http(id - 1, &http::get(&self.host, Some(&it.sid)));
        } else if is_poll && it.sid.is_empty() {
            it.sid =
                sid_in(body).ok_or_else(|| format!("expected 0{{..}}, got {}", shown(body)))?;
            net.send_http(id + 1, &http::post(&self.host, &it.sid, "40"));
        } else if is_poll {
            let mut is_joined = false;
            for packet in body.split(|byte| *byte == 0x1e) {
                match packet {
                    b"2" => it.owes_pong = true,
                    packet if packet.starts_with(b"40{\"sid\":\"") && !is_joined => {
                        is_joined = true
                    }
                    packet => return Err(format!("expected to join, got {}", shown(packet)).into()),
                }
            }
            if is_joined {
                self.busy -= 1;
            } else {
                net.send_http(id, &http::get(&self.host, Some(&it.sid)));
            }
        } else {
            return Err(format!("expected a handshake, got {}", shown(body)).into());
        }
        Ok(())
    }
}

impl Load for PollingEcho {
    fn message(
        &mut self,
        net: &mut Net,
        id: usize,
        message: Message<'_>,
        now: Instant,
    ) -> Result<()> {
        let body = match message {
            Message::Response(response) if response.status == 200 => response.body,
            message => return Err(format!("expected HTTP 200, got {}", message.shown()).into()),
        };
        if !self.is_open {
            return self.opening(net, id, body);
        }
        let at = id / 2;
        let it = &mut self.sessions[at];
        if id % 2 == 1 {
            if body != b"ok" || !it.posts {
                return Err(format!("expected one \"ok\", got {}", shown(body)).into());
            }
            it.posts = false;
        } else {
            let mut echo = None;
            for packet in body.split(|byte| *byte == 0x1e) {
                match packet {
                    b"2" => it.owes_pong = true,
                    packet if echo.is_none() => echo = Some(packet),
                    packet => {
                        return Err(format!("expected one echo, got also {}", shown(packet)).into());
                    }
                }
            }
            let Some(echo) = echo else {
                net.send_http(id, &http::get(&self.host, Some(&it.sid)));
                return Ok(());
            };
            let expected = self.payload.text(PREFIX, at, it.sent.wrapping_sub(1));
            if echo != expected || !it.polls {
                let (got, expected) = (shown(echo), shown(expected));
                return Err(format!("expected one {expected}, got {got}").into());
            }
            it.polls = false;
            self.latency.add(now - it.sent_at);
        }
        if !it.posts && !it.polls {
            self.answered += 1;
            if now < self.end {
                self.send(net, at, now);
            } else {
                self.busy -= 1;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.busy == 0
    }

    fn waits_for(&self) -> String {
        let due = self
            .sessions
            .iter()
            .position(|it| it.posts || it.polls || it.sid.is_empty());
        format!("{} sessions, of which one is {due:?}", self.busy)
    }
}
