//! A session's two machines, the server's and the client's, with the network between them in the
//! hands of the test.
//!
//! Nothing moves by itself: each [`Event`] moves one request, response, frame or the time, in
//! whatever order the test likes. Each side does what the driver of its session does, and no more:
//! a poll is looked at by the server only after an output that wakes it; the client sends what its
//! machine gives to be sent, as soon as it does.

mod client;
mod server;

use super::*;
use crate::engine::session::ClientSession;

/// Short deadlines and a small queue, so that all of them are met.
pub(super) const SHORT: SessionConfig = SessionConfig {
    ping_interval: seconds(2),
    ping_timeout: seconds(1),
    upgrade_timeout: seconds(1),
    close_timeout: seconds(3),
    packets_per_poll: usize::MAX,
    queue: QueueLimits {
        packets: 12,
        bytes: 60,
        burst: 1,
    },
};

/// Bytes that are on their way to the client at the most, before the WebSocket blocks.
const NETWORK_ROOM: usize = 16;

/// Frames that are on their way to the server at the most, before the client's WebSocket blocks.
const FRAMES_ON_THE_WAY: usize = 4;

/// What may happen next. It does nothing where there is nothing to move.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    ServerSends,
    ServerCloses,
    ClientSends,
    ClientCloses,
    PollArrives,
    PollIsAnswered,
    PollReturns,
    /// The poll has waited for as long as the client wants.
    PollExpires,
    PostArrives,
    PostIsAnswered,
    PostReturns,
    /// The server has too much to do, and reads nothing.
    ServerPauses,
    ServerResumes,
    ProbeOpens,
    ProbeIsLost,
    /// A second client, or a confused one, opens one more WebSocket.
    OtherProbeOpens,
    FrameArrives,
    BytesReturn(usize),
    TimePasses(Duration),
}

impl Event {
    /// What a network that works does with all that is on its way.
    const DELIVERIES: [Self; 9] = [
        Self::ServerResumes,
        Self::PollArrives,
        Self::PollIsAnswered,
        Self::PollReturns,
        Self::PostArrives,
        Self::PostIsAnswered,
        Self::PostReturns,
        Self::FrameArrives,
        Self::BytesReturn(NETWORK_ROOM),
    ];
}

/// Where the one GET or POST of a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request<Up, Down> {
    Idle,
    ToServer(Up),
    AtServer,
    ToClient(Down),
    Refused,
}

/// The client's WebSocket.
#[derive(Debug)]
struct WebSocket {
    to_server: VecDeque<Frame>,
    to_client: Vec<u8>,
    /// What the server takes it for.
    server: ServerSide,
    /// The client has given it up.
    lost: bool,
    /// What the client has of a frame that is not complete.
    partial: Vec<u8>,
}

#[derive(Debug)]
enum Frame {
    Open,
    Packet(String),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerSide {
    Unopened,
    Probing,
    Carrying,
    Closed,
}

pub(super) struct Pair {
    pub(super) server: Server,
    pub(super) client: ClientSession,
    revision: Revision,
    /// The client's application has closed its session.
    leaving: bool,
    /// The client has ended the session by itself, although its application hasn't: it has heard
    /// nothing, or could not send.
    pub(super) gave_up: bool,
    /// The server gave the WebSocket up while the client's packet `5` was on its way: the client
    /// has left polling for nothing, and comes back with a new session.
    pub(super) missed: bool,
    /// The client reads too little: its WebSocket was blocked for too long, or its ping came while
    /// the queue had no room for the pong.
    pub(super) overwhelmed: bool,
    poll: Request<(), Vec<u8>>,
    /// The task of the poll that waits was woken.
    poll_woken: bool,
    post: Request<Vec<String>, ()>,
    websocket: Option<WebSocket>,
    /// When the server's application has closed the session.
    pub(super) closed_at: Option<Instant>,
    /// Numbers of the messages that the session has accepted, and that the client has got.
    pub(super) accepted: Vec<u32>,
    pub(super) received: Vec<u32>,
    /// Numbers of the messages that the client has sent, and that the application has got.
    pub(super) client_sent: Vec<u32>,
    pub(super) heard: Vec<u32>,
    number: u32,
}

impl Pair {
    /// A client that has just shaken hands by polling.
    pub(super) fn new(revision: Revision) -> Self {
        let server = Server::with(revision, POLLING, SHORT);
        let mut pair = Self {
            client: ClientSession::on_polling(revision, SHORT, server.now),
            server,
            revision,
            leaving: false,
            gave_up: false,
            missed: false,
            overwhelmed: false,
            poll: Request::Idle,
            poll_woken: false,
            post: Request::Idle,
            websocket: None,
            closed_at: None,
            accepted: Vec::new(),
            received: Vec::new(),
            client_sent: Vec::new(),
            heard: Vec::new(),
            number: 0,
        };
        pair.client_acts();
        pair
    }

    /// Lets one thing happen. False: there was nothing to move.
    pub(super) fn apply(&mut self, event: Event) -> bool {
        let moved = match event {
            Event::ServerSends => self.server_sends(),
            Event::ServerCloses => self.server_closes(),
            Event::ClientSends => self.client_sends(),
            Event::ClientCloses => self.client_closes(),
            Event::PollArrives => self.poll_arrives(),
            Event::PollIsAnswered => self.poll_is_answered(),
            Event::PollReturns => self.poll_returns(),
            Event::PollExpires => self.poll_expires(),
            Event::ServerPauses => self.server_pauses(),
            Event::ServerResumes => self.server_resumes(),
            Event::PostArrives => self.post_arrives(),
            Event::PostIsAnswered => self.post_is_answered(),
            Event::PostReturns => self.post_returns(),
            Event::ProbeOpens => self.probe_opens(),
            Event::ProbeIsLost => self.probe_is_lost(),
            Event::OtherProbeOpens => self.other_probe_opens(),
            Event::FrameArrives => self.frame_arrives(),
            Event::BytesReturn(count) => self.bytes_return(count),
            Event::TimePasses(duration) => self.time_passes(duration),
        };
        self.client_acts();
        self.check();
        moved
    }

    /// The network delivers all that is on its way, until both sides have nothing more to say.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut moved = false;
            for event in Event::DELIVERIES {
                moved |= self.apply(event);
            }
            let closing = self.server.session.is_closing() || self.client.is_closing();
            if !moved && !self.client.is_upgrading() && !closing {
                return;
            }
            if !moved {
                // The client pauses until a noop comes, or somebody waits for a deadline.
                self.apply(Event::TimePasses(NOOP_INTERVAL));
            }
        }
        panic!("the two never come to rest");
    }

    /// The client is gone without a word.
    pub(super) fn vanish(&mut self, duration: Duration) {
        self.server_resumes();
        self.client_vanishes();
        self.time_passes(duration);
    }

    pub(super) const fn client_is_closed(&self) -> bool {
        self.client.closed().is_some()
    }

    pub(super) const fn client_is_leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn poll_waits(&self) -> bool {
        self.poll == Request::AtServer
    }

    /// What holds at every moment.
    fn check(&self) {
        let session = &self.server.session;
        assert_eq!(session.deadline().is_none(), session.closed().is_some());
        assert!(session.closed().is_none() || !session.is_upgrading(TO_WEBSOCKET));
        let client = &self.client;
        assert_eq!(client.deadline().is_none(), client.closed().is_some());
        assert!(client.closed().is_none() || !client.is_upgrading());
        assert!(client.queued_bytes() <= SHORT.queue.bytes + 2 * 3);
        // A ping, a noop and a close packet have room in any queue.
        assert!(session.queued_bytes() <= SHORT.queue.bytes + 3 * 3);
        assert!(self.accepted.starts_with(&self.received), "lost or doubled");
        assert!(self.client_sent.starts_with(&self.heard), "lost or doubled");
    }
}
