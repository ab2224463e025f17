//! What can happen to a session, and what it can ask for.

use crate::engine::{
    Packet,
    session::{requests::Refusal, transport::UpgradeTarget, upgrade::ProbeStep},
};

/// What has happened to a session.
///
/// A GET is a poll, or the request whose response is the session's stream.
#[derive(Debug)]
pub enum Input<'a> {
    /// A GET has come and waits for packets. In a session with offsets it may say how many packets
    /// its client has had, and takes over from the one before.
    GetOpened(Option<u64>),
    /// The GET has waited for as long as its client wants it to.
    GetExpired,
    /// The GET has ended. If that was before its answer, its client has gone away, which ends a
    /// session without offsets. With offsets the client comes again in time. Without them nothing
    /// depends on the end of one that was answered: it need not be told.
    GetEnded {
        /// Whether it was answered.
        answered: bool,
    },
    /// What a response carried has not arrived, or not all of it.
    ResponseCut,
    /// A POST has come; its packets follow.
    PostOpened,
    /// The POST is done with.
    PostEnded {
        /// Whether all of it had come, or it was refused: its client hasn't gone away from it.
        whole: bool,
    },
    /// A POST says how many packets its client has had.
    Confirmed(u64),
    /// A packet came on the session's transport. Messages are ignored here: they are for
    /// [`takes_messages`](super::ServerSession::takes_messages).
    Packet(Packet<'a>),
    /// A message came and was taken. Only to be told while
    /// [`awaits_life`](super::ServerSession::awaits_life) says so.
    MessageTaken,
    /// What came on the session's transport could not be decoded.
    Undecodable,
    /// Another transport was opened for this session.
    ProbeOpened(UpgradeTarget),
    /// A packet came on the probing transport.
    ProbePacket(UpgradeTarget, Packet<'a>),
    /// The probing transport was closed or failed.
    ProbeClosed(UpgradeTarget),
    /// The client has closed the session's WebSocket.
    TransportClosed,
    /// The session's transport failed.
    TransportFailed,
    /// The WebSocket takes no more for now. Noted of a closed session too: half a frame may have
    /// left.
    Blocked,
    /// The WebSocket takes more again.
    Writable,
    /// A message has found the queue beyond its limits, and waits.
    FellBehind,
    /// A part of a response was taken, at the time that is given.
    ResponseRead,
    /// All that was queued has been written to the WebSocket, or put into a response.
    Drained,
    /// This side has stopped reading: the client's silence says nothing.
    ReadingPaused,
    /// This side reads again.
    ReadingResumed,
    /// The application closes the session; what is queued may still leave.
    Close,
    /// The application closes the session at once.
    Abort,
    /// Nobody drives the session any more. Over HTTP what is queued may still be asked for; what
    /// nobody will write to the WebSocket is dropped.
    DriverEnded,
    /// The deadline has come. Repeat until the output is [`Output::Nothing`].
    Timeout,
}

/// What is to be done after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    Nothing,
    /// Packets wait for the transport: write them, or answer the GET that waits.
    Flush,
    /// Refuse the HTTP request.
    Refuse(Refusal),
    /// Do this with the probing transport.
    Probe(ProbeStep),
}
