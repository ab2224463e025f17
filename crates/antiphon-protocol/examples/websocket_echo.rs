//! A WebSocket server that sends every message back, for the Autobahn test cases: `websocket_echo
//! PORT` (0: any free one) prints `listening on 127.0.0.1:PORT` once it does.
//!
//! All of WebSocket is the protocol crate's, with compression: here are only the reads and writes. A
//! message is compressed if that makes it shorter.

use std::{env, error::Error, time::Duration};

use antiphon_protocol::websocket::{
    Decoder, Event, FrameError, Opcode, Role, accept_key, append_frame, close_frame,
    deflate::{Agreement, Window, append_compressed_frame, negotiate},
    is_valid_key, pong_frame,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// The longest message that a case sends has 16 MiB.
const MAX_PAYLOAD: usize = 16 << 20;
const LONGEST_HEAD: usize = 16 << 10;
const LINGER: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).ok_or("which port?")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        tokio::spawn(async {
            if let Err(error) = serve(tcp).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn serve(mut tcp: TcpStream) -> Result<(), Box<dyn Error>> {
    tcp.set_nodelay(true)?;
    let mut input = Vec::new();
    let window = open(&mut tcp, &mut input).await?;
    let mut decoder = Decoder::new(Role::Server, MAX_PAYLOAD);
    if window.is_some() {
        decoder = decoder.with_deflate();
    }
    let mut output = Vec::new();
    loop {
        let is_over = echo(&mut decoder, &mut input, window, &mut output);
        tcp.write_all(&output).await?;
        output.clear();
        if is_over {
            tcp.shutdown().await?;
            // A socket that is dropped with unread bytes is reset, and the close frame may be lost.
            let mut nowhere = tokio::io::sink();
            let _ = timeout(LINGER, tokio::io::copy(&mut tcp, &mut nowhere)).await;
            return Ok(());
        }
        if tcp.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Takes the frames that are whole out of `input` and appends what answers them. Returns whether the
/// connection is over.
fn echo(
    decoder: &mut Decoder,
    input: &mut Vec<u8>,
    window: Option<Window>,
    output: &mut Vec<u8>,
) -> bool {
    let mut start = 0;
    let is_over = loop {
        match decoder.decode(&mut input[start..]) {
            Ok(decoded) if decoded.consumed == 0 => {
                break refuse_next(decoder, &input[start..], output);
            }
            Ok(decoded) => {
                start += decoded.consumed;
                if decoded
                    .event
                    .is_some_and(|event| answer(&event, window, output))
                {
                    break true;
                }
            }
            Err(error) => break refuse(error, output),
        }
    };
    input.drain(..start);
    is_over
}

/// Refuses the frame that has not come as a whole, if its header is wrong. Returns whether it is.
fn refuse_next(decoder: &Decoder, input: &[u8], output: &mut Vec<u8>) -> bool {
    match decoder.frame_length(input) {
        Ok(_) => false,
        Err(error) => refuse(error, output),
    }
}

fn refuse(error: FrameError, output: &mut Vec<u8>) -> bool {
    output.extend(close_frame(error.close_code(), &error.to_string()));
    true
}

/// Appends the answer to an event. Returns whether it is the last.
fn answer(event: &Event<'_>, window: Option<Window>, output: &mut Vec<u8>) -> bool {
    let (opcode, data) = match event {
        Event::Text(text) => (Opcode::Text, text.as_bytes()),
        Event::Binary(data) => (Opcode::Binary, &data[..]),
        Event::Ping(data) => {
            output.extend(pong_frame(data));
            return false;
        }
        Event::Pong(_) => return false,
        Event::Close(close) => {
            output.extend(close_frame(close.map_or(1000, |close| close.code), ""));
            return true;
        }
    };
    let is_compressed =
        window.is_some_and(|window| append_compressed_frame(opcode, data, window, None, output));
    if !is_compressed {
        append_frame(opcode, data, None, output);
    }
    false
}

/// The opening handshake. Returns the window to compress for, if that was agreed on; what was read
/// behind the request is left in `input`.
async fn open(tcp: &mut TcpStream, input: &mut Vec<u8>) -> Result<Option<Window>, Box<dyn Error>> {
    let end = loop {
        if let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if input.len() > LONGEST_HEAD || tcp.read_buf(input).await? == 0 {
            return Err("no request".into());
        }
    };
    let head: Vec<u8> = input.drain(..end).collect();
    let head = str::from_utf8(&head)?;
    let headers = |wanted: &'static str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    let key = headers("Sec-WebSocket-Key").find(|key| is_valid_key(key));
    let accept = accept_key(key.ok_or("no key")?);
    let agreement = negotiate(headers("Sec-WebSocket-Extensions"));
    let extension = agreement.map_or(String::new(), |Agreement { response, .. }| {
        format!("Sec-WebSocket-Extensions: {response}\r\n")
    });
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extension}\r\n"
    );
    tcp.write_all(response.as_bytes()).await?;
    Ok(agreement.map(|agreement| agreement.window))
}
