//! What a large attachment takes in memory on its way: itself, and little more.
//!
//! The allocator counts what is taken at once. A buffer that grows is a new one to it, as if each
//! were copied, which an allocator does at the worst.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use antiphon::{Args, Binary, Bytes, Data, Parser, QueueLimits, Server, ServerBuilder, Socket};
use antiphon_protocol::websocket::{Opcode, masked_frame};
use peak_alloc::PeakAlloc;
use support::{WEBSOCKET, WebSocket, serve, until, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Mutex, mpsc},
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One test at a time: all have one allocator.
static ALONE: Mutex<()> = Mutex::const_new(());

const SIZE: usize = 50 << 20;

/// What is taken anyway: read buffers of threads, clients, the runtime.
const ALWAYS: usize = 2 << 20;

const EVENT: &str = r#"451-["file",{"_placeholder":true,"num":0}]"#;

/// The most memory that was taken during this, beyond what was taken before.
async fn peak<T>(work: impl Future<Output = T>) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let done = work.await;
    (done, ALLOCATOR.peak_usage() - before)
}

fn builder() -> ServerBuilder {
    Server::builder().max_payload(2 * SIZE)
}

/// A server whose handler gives the bytes of a `file` away, by what it takes.
async fn server(builder: ServerBuilder, kind: &str) -> (SocketAddr, mpsc::Receiver<Bytes>) {
    let io = builder.build();
    let (sender, files) = mpsc::channel(1);
    let sender = Arc::new(sender);
    let give = move |bytes: Bytes| sender.try_send(bytes).unwrap();
    let namespace = io.of("/");
    match kind {
        "Args" => namespace.on("file", move |args: Args| {
            give(args.attachments()[0].clone());
            async {}
        }),
        "Binary" => namespace.on("file", move |Data(file): Data<Binary>| {
            give(file.into());
            async {}
        }),
        _ => namespace.on("file", move |Data(file): Data<Bytes>| {
            give(file);
            async {}
        }),
    };
    (serve(&io).await, files)
}

/// Bytes that are written without being anywhere as a whole: with a mask of zeros they are as they
/// are sent.
async fn write_zeros(client: &mut TcpStream, mut count: usize) {
    let piece = [0; 64 << 10];
    while count > 0 {
        let some = count.min(piece.len());
        client.write_all(&piece[..some]).await.unwrap();
        count -= some;
    }
}

/// The header of a masked frame of so many bytes.
fn header(first: u8, length: usize) -> [u8; 14] {
    let mut header = [0; 14];
    header[..2].copy_from_slice(&[first, 0x80 | 127]);
    header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
    header
}

/// A connection that has joined, as a stream of bytes.
async fn joined(address: SocketAddr, path: &str) -> TcpStream {
    let mut client = WebSocket::connect(address, path).await;
    client.join().await;
    client.into_stream()
}

async fn announce(client: &mut TcpStream, event: &str) {
    let frame = masked_frame(Opcode::Text, event.as_bytes(), [0; 4]);
    client.write_all(&frame).await.unwrap();
}

async fn taken(files: &mut mpsc::Receiver<Bytes>) -> Bytes {
    within("the file", files.recv()).await.unwrap()
}

/// What the upload of one frame takes.
async fn upload(kind: &str) -> usize {
    let (address, mut files) = server(builder(), kind).await;
    let mut client = joined(address, WEBSOCKET).await;
    let (file, peak) = peak(async {
        announce(&mut client, EVENT).await;
        client.write_all(&header(0x82, SIZE)).await.unwrap();
        write_zeros(&mut client, SIZE).await;
        taken(&mut files).await
    })
    .await;
    assert_eq!(file.len(), SIZE);
    assert!(file.iter().all(|&byte| byte == 0));
    peak
}

#[tokio::test]
async fn an_upload_is_held_once() {
    let _alone = ALONE.lock().await;
    for kind in ["Args", "Binary"] {
        let peak = upload(kind).await;
        assert!(peak < SIZE / 4 * 5 + ALWAYS, "{kind}: {peak}");
    }
    // A type of its own: serde has no way to share.
    let peak = upload("Bytes").await;
    assert!(peak < SIZE * 2 + ALWAYS, "{peak}");
}

#[tokio::test]
async fn of_fragments_each_is_copied_once() {
    let _alone = ALONE.lock().await;
    let (address, mut files) = server(builder(), "Binary").await;
    let mut client = joined(address, WEBSOCKET).await;
    const FRAGMENT: usize = 1 << 20;
    let (file, peak) = peak(async {
        announce(&mut client, EVENT).await;
        for nth in 0..SIZE / FRAGMENT {
            let first = match nth {
                0 => 0x02,
                _ if nth == SIZE / FRAGMENT - 1 => 0x80,
                _ => 0x00,
            };
            client.write_all(&header(first, FRAGMENT)).await.unwrap();
            write_zeros(&mut client, FRAGMENT).await;
        }
        taken(&mut files).await
    })
    .await;
    assert_eq!(file.len(), SIZE);
    // How much comes isn't known: the buffer doubles, and is cut to its length in the end. Where an
    // allocator copies, both are there meanwhile.
    assert!(peak < SIZE / 2 * 5 + ALWAYS, "{peak}");
    // What was reserved and not needed is given back.
    let held = ALLOCATOR.current_usage();
    drop(file);
    let freed = held - ALLOCATOR.current_usage();
    assert!(freed < SIZE + ALWAYS, "{freed}");
}

#[tokio::test]
async fn an_upload_in_message_pack_is_held_once() {
    let _alone = ALONE.lock().await;
    let (address, mut files) = server(builder().parser(Parser::Msgpack), "Binary").await;
    let mut client = WebSocket::connect(address, WEBSOCKET).await;
    client
        .send_frame(Opcode::Binary, b"\x82\xa4type\x00\xa3nsp\xa1/")
        .await;
    client.next().await;
    client.next().await;
    let mut client = client.into_stream();
    let mut head = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa4file\xc6".to_vec();
    head.extend((SIZE as u32).to_be_bytes());
    let (file, peak) = peak(async {
        let length = head.len() + SIZE;
        client.write_all(&header(0x82, length)).await.unwrap();
        client.write_all(&head).await.unwrap();
        write_zeros(&mut client, SIZE).await;
        taken(&mut files).await
    })
    .await;
    assert_eq!(file.len(), SIZE);
    assert!(peak < SIZE / 4 * 5 + ALWAYS, "{peak}");
}

/// A session by polling: its id.
async fn polling(address: SocketAddr, revision: u8) -> String {
    let request = format!("/socket.io/?EIO={revision}&transport=polling");
    let (_, open) = support::http(address, &format!("GET {request}"), "").await;
    let sid = support::sid(&open).to_owned();
    if revision == 4 {
        support::http(address, &format!("POST {request}&sid={sid}"), "40").await;
    }
    sid
}

async fn post(
    address: SocketAddr,
    path: String,
    kind: &str,
    head: &[u8],
    (byte, count): (u8, usize),
) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let length = head.len() + count;
    let lines = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    client.write_all(lines.as_bytes()).await.unwrap();
    client.write_all(head).await.unwrap();
    let piece = [byte; 64 << 10];
    let mut left = count;
    while left > 0 {
        let some = left.min(piece.len());
        client.write_all(&piece[..some]).await.unwrap();
        left -= some;
    }
    let mut answer = [0; 12];
    within("the answer", client.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_binary_post_is_held_once() {
    let _alone = ALONE.lock().await;
    let (address, mut files) = server(builder(), "Binary").await;
    let sid = polling(address, 3).await;
    let path = format!("/socket.io/?EIO=3&transport=polling&sid={sid}");
    // A text and a binary packet, each behind its length in digits as bytes.
    let event = EVENT.as_bytes();
    let mut head = vec![0, (event.len() / 10) as u8, (event.len() % 10) as u8, 0xff];
    head.extend_from_slice(event);
    head.push(1);
    head.extend((SIZE + 1).to_string().bytes().map(|digit| digit - b'0'));
    head.extend([0xff, 4]);
    let (file, peak) = peak(async {
        post(address, path, "application/octet-stream", &head, (0, SIZE)).await;
        taken(&mut files).await
    })
    .await;
    assert_eq!(file.len(), SIZE);
    assert!(peak < SIZE / 4 * 5 + ALWAYS, "{peak}");
}

#[tokio::test]
async fn base64_is_held_beside_its_text() {
    let _alone = ALONE.lock().await;
    let (address, mut files) = server(builder(), "Binary").await;
    let sid = polling(address, 4).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let text = SIZE / 3 * 4;
    let head = format!("{EVENT}\x1eb");
    let (file, peak) = peak(async {
        post(address, path, "text/plain", head.as_bytes(), (b'A', text)).await;
        taken(&mut files).await
    })
    .await;
    assert_eq!(file.len(), SIZE / 3 * 3);
    assert!(peak < text + SIZE + text / 4 + ALWAYS, "{peak}");
}

#[tokio::test]
async fn an_announcement_takes_next_to_nothing() {
    let _alone = ALONE.lock().await;
    let (address, _files) = server(builder(), "Binary").await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(joined(address, WEBSOCKET).await);
    }
    let come = 300 << 10;
    let ((), peak) = peak(async {
        for client in &mut clients {
            announce(client, EVENT).await;
            client.write_all(&header(0x82, SIZE)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    })
    .await;
    assert!(peak < 10 * (64 << 10) + ALWAYS / 2, "{peak}");
    let ((), peak) = self::peak(async {
        for client in &mut clients {
            write_zeros(client, come).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    })
    .await;
    assert!(peak < 10 * come * 5 + ALWAYS, "{peak}");
}

#[tokio::test]
async fn what_goes_out_to_many_is_one_frame() {
    let _alone = ALONE.lock().await;
    const RECEIVERS: usize = 5;
    let io = builder()
        .outbound(QueueLimits::new().bytes(2 * SIZE))
        .build();
    io.of("/").on("go", async |socket: Socket| {
        let file = Bytes::from(vec![1; SIZE]);
        socket.namespace().emit("file", file);
    });
    let address = serve(&io).await;
    let mut clients = Vec::new();
    for _ in 0..RECEIVERS {
        clients.push(joined(address, WEBSOCKET).await);
    }
    let received = Arc::new(AtomicUsize::new(0));
    let ((), peak) = peak(async {
        announce(&mut clients[0], r#"42["go"]"#).await;
        for mut client in clients {
            let received = Arc::clone(&received);
            tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                loop {
                    let count = client.read(&mut piece).await.unwrap();
                    received.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
        until("it has gone out", || {
            received.load(Ordering::Relaxed) > RECEIVERS * SIZE
        })
        .await;
    })
    .await;
    // What the handler has, and the frame.
    assert!(peak < SIZE * 2 + ALWAYS, "{peak}");
}
