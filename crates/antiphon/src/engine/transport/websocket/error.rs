//! Why a WebSocket ends.

use std::io;

use antiphon_protocol::websocket::FrameError;

/// Why nothing more can be read.
pub(super) enum ReadError {
    /// The client has closed the connection.
    Closed,
    Io(io::Error),
    Frame(FrameError),
}
