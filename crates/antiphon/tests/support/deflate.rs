//! What is compressed, as clients send it.

use antiphon_protocol::websocket::{Opcode, masked_frame};

use crate::support::RSV1;

/// The payload of the frame that a message is compressed to.
pub(crate) fn deflated(message: &[u8]) -> Vec<u8> {
    use antiphon_protocol::websocket::deflate::{Window, append_compressed_frame};

    let mut frame = Vec::new();
    let opcode = Opcode::Binary;
    assert!(append_compressed_frame(
        opcode,
        message,
        Window::Bits15,
        None,
        &mut frame
    ));
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.split_off(header)
}

/// A masked frame with a payload that is compressed.
pub(crate) fn compressed_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked_frame(opcode, payload, [1, 2, 3, 4]).to_vec();
    frame[0] |= RSV1;
    frame
}
