//! Compressed messages that inflate to very much, and the memory that they take (docs/protocol.md
//! 22.3). Memory is the whole process's, so this test has a file of its own.

#![cfg(all(feature = "deflate", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

#[path = "support/deflate.rs"]
mod deflate;
mod support;

use antiphon::Server;
use antiphon_protocol::websocket::{Opcode, deflate::OFFER};
use deflate::{compressed_frame, deflated};
use support::{Received, WEBSOCKET, WebSocket, serve};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Where a compressed message of two parts has the seam (RFC 7692 §7.2.1).
const SEAM: [u8; 4] = [0, 0, 0xff, 0xff];

const MIB: usize = 1 << 20;

/// The most memory that this process has had so far, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let digits: String = line.unwrap().chars().filter(char::is_ascii_digit).collect();
    digits.parse::<usize>().unwrap() << 10
}

async fn joined(io: &Server) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(serve(io).await).await.unwrap();
    let offer = format!("Sec-WebSocket-Extensions: {OFFER}\r\n");
    let (websocket, _) = WebSocket::offering(stream, WEBSOCKET, &offer).await;
    let mut client = websocket.map_decoder(antiphon_protocol::websocket::Decoder::with_deflate);
    client.join().await;
    client
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_takes_memory() {
    let io = Server::builder().compression(1_000).build();
    // Never a long text here either: one part again and again, as often as `maxPayload` has room.
    let part = [&deflated(&vec![b' '; MIB])[..], &SEAM].concat();
    let parts = 999_000 / part.len();
    assert!(parts > 80, "{parts} MiB are no bomb");
    let mut bomb = part.repeat(parts);
    bomb.truncate(bomb.len() - SEAM.len());
    let bomb = compressed_frame(Opcode::Text, &bomb);
    // What is made when first needed.
    let mut client = joined(&io).await;
    let small = compressed_frame(Opcode::Text, &deflated(&[b'2'; 900]));
    client.stream().write_all(&small).await.unwrap();

    let before = peak();
    for _ in 0..10 {
        let mut client = joined(&io).await;
        let _ = client.stream().write_all(&bomb).await;
        assert_eq!(client.next().await, Received::Closed(Some(1009)));
    }
    let grown = peak() - before;
    assert!(grown < 20 * MIB, "{} MiB more", grown / MIB);
}
