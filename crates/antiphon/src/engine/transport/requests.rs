//! The requests of a session on HTTP, as far as one must know of another: the GET that waits, the
//! probes, the answer that is still being read, and, in a session with offsets, which GET and POST
//! count.
//!
//! All of it is behind the session's lock, in a box that a session on WebSocket doesn't have.
//! Requests leave their wakers here and get numbers. A newer one takes over, and the older sees by
//! its number that it has been superseded. A POST that a browser repeats is known by its parameter
//! `antiphon-post`.

use std::{sync::Arc, task::Waker, time::Instant};

use crate::engine::transport::unread::Unread;

/// What is remembered of them. A session on WebSocket owns none of it.
#[derive(Default)]
pub(crate) struct Requests {
    /// Wakes the GET that waits, or the streamed response.
    pub(crate) waiting: Option<Waker>,
    /// Wakes the task of the probing WebSocket.
    pub(crate) websocket: Option<Waker>,
    /// Counts those, so that a late one doesn't take itself for its successor.
    pub(crate) websockets: u32,
    /// The number of the GET that packets leave by: the one before has been superseded.
    pub(crate) get: u32,
    /// The number of the POST that is handled.
    post: u32,
    /// A POST that has come whole is being handled.
    pub(crate) handles_post: bool,
    /// What told the last POST that was handled from others.
    handled: Option<Box<str>>,
    /// What the client hasn't read of the last answer.
    unread: Option<Arc<Unread>>,
    /// The stream that is being probed.
    pub(crate) probe: Option<StreamProbe>,
    probes: u32,
}

/// A streamed response that a session on polling may move to.
pub(crate) struct StreamProbe {
    pub(crate) number: u32,
    /// Its answer is to be sent.
    pub(crate) answer_due: bool,
    /// It has become the session's stream, with this number.
    pub(crate) completed: Option<u32>,
    /// Wakes the response.
    pub(crate) waker: Option<Waker>,
}

/// Longer values aren't remembered: clients send some ten characters.
const LONGEST_T: usize = 64;

impl Requests {
    /// Another GET: it supersedes the one before.
    pub(crate) fn begin_get(&mut self) -> u32 {
        self.wake_get();
        self.get = self.get.wrapping_add(1);
        self.get
    }

    /// An answer begins to leave, and takes the place of the one before.
    pub(crate) fn begin_answer(&mut self, unread: &Arc<Unread>) {
        self.forget_answer();
        self.unread = Some(Arc::clone(unread));
    }

    /// When the client has read something of the last answer, if it hasn't read all.
    pub(crate) fn last_read(&self) -> Option<Instant> {
        self.unread.as_ref()?.last_read()
    }

    /// Bytes of the last answer that the client hasn't read.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread.as_ref().map_or(0, |unread| unread.len())
    }

    /// What the client hasn't read of the last answer won't come. Returns `false` if it has read
    /// all.
    pub(crate) fn forget_answer(&mut self) -> bool {
        let unread = self.unread.take().filter(|unread| !unread.is_over());
        unread.inspect(|unread| unread.forget()).is_some()
    }

    /// The last answer has been read, or was cut.
    pub(crate) fn end_answer(&mut self, ended: &Arc<Unread>) {
        self.unread.take_if(|unread| Arc::ptr_eq(unread, ended));
    }

    /// Another POST, which supersedes the one before. Returns `None` if it is the one that was
    /// handled last, made again by a browser whose connection was cut before the answer.
    pub(crate) fn begin_post(&mut self, t: Option<&str>) -> Option<u32> {
        if t.is_some() && t == self.handled.as_deref() {
            return None;
        }
        self.post = self.post.wrapping_add(1);
        Some(self.post)
    }

    /// Whether no other POST has superseded this one.
    pub(crate) const fn is_latest_post(&self, number: u32) -> bool {
        self.post == number
    }

    /// A POST is about to be handled. Returns `false` if another has superseded it.
    pub(crate) fn handle_post(&mut self, number: u32, t: Option<&str>) -> bool {
        let counts = self.post == number;
        if counts {
            self.handled = t.filter(|t| t.len() <= LONGEST_T).map(Box::from);
        }
        counts
    }

    /// Another response is probed, and ends the attempt of the one before.
    pub(crate) fn begin_probe(&mut self) -> u32 {
        self.end_probe();
        self.probes = self.probes.wrapping_add(1);
        self.probe = Some(StreamProbe {
            number: self.probes,
            answer_due: false,
            completed: None,
            waker: None,
        });
        self.probes
    }

    /// The attempt has ended; its response sees that.
    pub(crate) fn end_probe(&mut self) {
        self.wake_probe();
        self.probe = None;
    }

    /// Wakes all tasks that wait for something of the session.
    pub(crate) fn wake(&mut self) {
        self.wake_get();
        self.wake_probe();
        self.websocket.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn wake_get(&mut self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn wake_probe(&mut self) {
        let probe = self.probe.as_mut();
        let waker = probe.and_then(|probe| probe.waker.take());
        waker.into_iter().for_each(Waker::wake);
    }
}
