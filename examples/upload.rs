//! Files come in pieces, at the speed of the disk, and go on after a lost connection.
//!
//! ```sh
//! cargo run --bin upload
//! ```
//!
//! ```js
//! const uploads = io("http://localhost:3000");
//! let { id, received } = await uploads.emitWithAck("begin", { name: file.name, size: file.size });
//! while (received < file.size) {
//!   const piece = await file.slice(received, received + 500_000).arrayBuffer();
//!   received = await uploads.emitWithAck("piece", id, received, piece); // goes on when it is stored
//! }
//! const { sha256 } = await uploads.emitWithAck("end", id);
//! ```
//!
//! The acknowledgement of a piece is the pace: a client has one under way, and the server holds no
//! more of a file than that. After a reconnection `{ id }` asks how much is stored. A piece has to fit
//! into `max_payload`, 1 MB.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon::{Data, Listener, Rejection, Server, State};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncWriteExt, sync::Mutex};

const LARGEST_FILE: u64 = 100_000_000;
const MOST_UPLOADS: usize = 64;
/// An upload to which nothing came for so long is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3600);

/// Uploads under way, and where finished ones go.
#[derive(Clone)]
struct Uploads {
    folder: Arc<PathBuf>,
    open: Arc<Mutex<HashMap<String, Arc<Mutex<Upload>>>>>,
}

struct Upload {
    file: File,
    size: u64,
    received: u64,
    digest: Sha256,
    last: Instant,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Begin {
    Again { id: String },
    New { name: String, size: u64 },
}

#[derive(Serialize)]
struct Begun {
    id: String,
    received: u64,
}

#[derive(Serialize)]
struct Stored {
    size: u64,
    sha256: String,
}

fn refused(code: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(code, message.into())
}

/// The log is told what went wrong with the disk, the client only that something has.
fn broken(error: io::Error) -> Rejection {
    eprintln!("an upload can't be written: {error}");
    refused("not_stored", "the file can't be stored now")
}

impl Uploads {
    async fn find(&self, id: &str) -> Result<Arc<Mutex<Upload>>, Rejection> {
        let open = self.open.lock().await;
        let found = open.get(id).cloned();
        found.ok_or_else(|| refused("unknown_upload", "there is no such upload: begin it anew"))
    }

    async fn begin(&self, name: &str, size: u64) -> Result<Begun, Rejection> {
        if size > LARGEST_FILE {
            let message = format!("a file may have {LARGEST_FILE} bytes");
            return Err(refused("too_large", message));
        }
        // The name is the client's, and so no part of a path. The id can't be guessed.
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| broken(error.into()))?;
        let id = format!("{:032x}", u128::from_be_bytes(id));
        let mut open = self.open.lock().await;
        // One that is locked is being written to.
        open.retain(|_, upload| match upload.try_lock() {
            Ok(upload) => upload.last.elapsed() < GIVEN_UP_AFTER,
            Err(_) => true,
        });
        if open.len() >= MOST_UPLOADS {
            return Err(refused("busy", "too many uploads: try again later"));
        }
        let file = File::create_new(self.folder.join(&id)).await;
        let upload = Upload {
            file: file.map_err(broken)?,
            size,
            received: 0,
            digest: Sha256::new(),
            last: Instant::now(),
        };
        println!("upload {id} of {name:?}: {size} bytes");
        open.insert(id.clone(), Arc::new(Mutex::new(upload)));
        Ok(Begun { id, received: 0 })
    }
}

async fn begin(
    State(uploads): State<Uploads>,
    Data(begin): Data<Begin>,
) -> Result<Begun, Rejection> {
    match begin {
        Begin::New { name, size } => uploads.begin(&name, size).await,
        Begin::Again { id } => {
            let upload = uploads.find(&id).await?;
            let received = upload.lock().await.received;
            Ok(Begun { id, received })
        }
    }
}

/// Stores a piece; the answer is where the next one begins. A piece that comes twice, since its
/// acknowledgement was lost, is stored once.
async fn piece(
    State(uploads): State<Uploads>,
    Data((id, offset, bytes)): Data<(String, u64, Bytes)>,
) -> Result<u64, Rejection> {
    let upload = uploads.find(&id).await?;
    let mut upload = upload.lock().await;
    if offset != upload.received {
        return Ok(upload.received);
    }
    let end = offset + bytes.len() as u64;
    if end > upload.size {
        return Err(refused("too_large", "this is more than was announced"));
    }
    if let Err(error) = upload.file.write_all(&bytes).await {
        uploads.open.lock().await.remove(&id); // how much of it is stored isn't known
        return Err(broken(error));
    }
    upload.digest.update(&bytes);
    upload.received = end;
    upload.last = Instant::now();
    Ok(end)
}

async fn end(State(uploads): State<Uploads>, Data(id): Data<String>) -> Result<Stored, Rejection> {
    let upload = uploads.find(&id).await?;
    let mut upload = upload.lock().await;
    if upload.received < upload.size {
        let lacks = upload.size - upload.received;
        return Err(refused("incomplete", format!("{lacks} bytes lack")));
    }
    upload.file.sync_all().await.map_err(broken)?;
    uploads.open.lock().await.remove(&id);
    let digest = std::mem::take(&mut upload.digest).finalize();
    Ok(Stored {
        size: upload.size,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt::init();
    let port = std::env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let folder = std::env::args()
        .nth(2)
        .map_or_else(std::env::temp_dir, PathBuf::from);

    let uploads = Uploads {
        folder: Arc::new(folder),
        open: Arc::default(),
    };
    let io = Server::builder().state(uploads).build();
    io.of("/")
        .on("begin", begin)
        .on("piece", piece)
        .on("end", end);

    let serving = io.serving([Listener::tcp(format!("127.0.0.1:{port}"))?]);
    println!("listening on {}", serving.local_addrs()[0]);
    serving.run_until(tokio::signal::ctrl_c()).await
}
