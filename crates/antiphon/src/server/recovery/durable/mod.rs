//! The log in a file: events and sessions outlive the process.
//!
//! ```text
//! append -> Events in memory -> queue -> writer: commits in groups    (delivered at once)
//! append -> queue -> writer: commits in groups -> Events in memory    (stored before delivery)
//! ```
//!
//! A [`LogFile`] is one file of redb for a whole server; each namespace has a log of it, which the
//! namespace owns. What is read comes from memory, as from [`MemoryLog`](super::MemoryLog). One
//! thread has the file ([`writer`]); what it is given waits in a bounded [`queue`]. When the file is
//! opened again, epochs and sequences go on where they were. What was delivered and not stored is
//! known by the [`mark`]: its place stays a hole, and a client that may have missed something of it
//! is told that this can't be given.

mod entry;
mod front;
mod mark;
mod queue;
mod store;
mod writer;

use std::{
    fmt,
    future::{poll_fn, ready},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
};

use antiphon_protocol::socket::Outgoing;

use self::{
    entry::Entry,
    front::Front,
    mark::Mark,
    queue::{Promise, Told, Waiting},
    store::Failed,
    writer::File,
};
use super::{
    log::{Appending, Bounds, Log, LogError, Missed, Page, SavedSession},
    memory::segment::now,
};
use crate::server::{Room, Target, adapter::Flags, handlers::future::BoxFuture};

/// A file that keeps events and sessions over restarts of the server, and over its crashes: see
/// [`Recovery::durable`](super::Recovery::durable). A cheap handle.
///
/// Events are delivered at once and stored some milliseconds later, many with one write to the
/// disk. If the process is killed in between, what was not stored yet is known to be missing:
/// clients that have had it and clients that may have missed it begin anew, and are told why. With
/// [`stored_before_delivery`](Self::stored_before_delivery) that can't happen.
///
/// A disk that is full or fails stops neither the server nor, unless they are to be stored before,
/// the events: it is logged as an error, once in a while, and counted
/// ([`Stats::log_failures`](crate::Stats)).
///
/// The file belongs to one process at a time. A second one, with the suffix `.mark`, lies beside
/// it; a copy without that, or of a system that has crashed, counts as one in which the last events
/// may be missing.
///
/// ```
/// # fn main() -> Result<(), antiphon::recovery::LogFileError> {
/// # let folder = std::env::temp_dir().join(format!("antiphon-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).map_err(antiphon::recovery::LogFileError::Io)?;
/// # let path = folder.join("events.redb");
/// use antiphon::{Recovery, Server, recovery::LogFile};
///
/// let file = LogFile::open(path)?;
/// let io = Server::builder()
///     .recovery(Recovery::new().durable(file))
///     .build();
/// # drop(io);
/// # let _ = std::fs::remove_dir_all(folder);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LogFile {
    owner: Arc<Owner>,
    stores_first: bool,
}

/// Why a file can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogFileError {
    /// Another process has it, or another [`LogFile`] of this one.
    #[error("the file of the log is in use: one process has it at a time")]
    InUse,
    /// It can't be read or written.
    #[error("the file of the log can't be opened: {0}")]
    Io(#[source] io::Error),
    /// It is no such file, or damaged beyond repair. Moved away, the server begins with a new one.
    #[error("the file of the log is damaged: {0}; move it away to begin with a new one")]
    Damaged(String),
}

impl From<Failed> for LogFileError {
    fn from(error: Failed) -> Self {
        match error.into_inner() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::Io(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// The last that lets go of the file waits for the writer's end.
struct Owner {
    file: Arc<File>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.file.queue.close();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // It may be the writer itself that has woken what let go.
        if let Some(writer) = writer
            && writer.thread().id() != thread::current().id()
        {
            let _ = writer.join();
        }
    }
}

/// Memory that the file's pages may take.
const CACHE: usize = 16 << 20;

impl LogFile {
    /// Opens a file, or makes it. What a crash has left half is undone.
    ///
    /// # Errors
    /// [`LogFileError`] if it is in use, can't be written, or is damaged beyond repair.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogFileError> {
        let path = path.as_ref().to_owned();
        let mut beside = path.clone().into_os_string();
        beside.push(".mark");
        let open = move || Ok(redb::Builder::new().set_cache_size(CACHE).create(&path)?);
        // The one that has it has its mark, too.
        let file = File::new(Box::new(open))?;
        let mark = Mark::open(Path::new(&beside)).map_err(LogFileError::Io)?;
        Self::start(file, Some(mark))
    }

    fn start(mut file: File, mark: Option<Mark>) -> Result<Self, LogFileError> {
        file.mark = mark;
        let file = Arc::new(file);
        let writer = {
            let file = Arc::clone(&file);
            let thread = thread::Builder::new().name("antiphon-log".to_owned());
            thread.spawn(move || file.run()).map_err(LogFileError::Io)?
        };
        Ok(Self {
            owner: Arc::new(Owner {
                file,
                writer: Mutex::new(Some(writer)),
            }),
            stores_first: false,
        })
    }

    /// Events are stored on the disk before they are delivered, so that none that a client has had
    /// is ever lost. Each waits for one write to the disk, together with all others of that time;
    /// what can't be stored isn't delivered, logged as an error and counted.
    ///
    /// Everything else keeps its place behind them: joins and leaves, emits that ask for an
    /// acknowledgement, acknowledgements, disconnects. So clients get what they would get otherwise, some
    /// milliseconds later. [`Socket::rooms`](crate::Socket::rooms) and
    /// [`Broadcast::sockets`](crate::Broadcast::sockets) say at once what will be, while
    /// [`Namespace::sockets`](crate::Namespace::sockets) and the like say what is. A socket that is
    /// [disconnected](crate::Socket::disconnect) can do nothing more at once, and its client is told
    /// in its turn. Volatile events and other namespaces wait for nothing.
    ///
    /// If very much waits, as for a disk that stalls, all but the events is done without waiting any
    /// longer, and a warning says so.
    #[must_use]
    pub fn stored_before_delivery(mut self) -> Self {
        self.stores_first = true;
        self
    }

    /// The log of a namespace: what [`Recovery::durable`](super::Recovery::durable) uses. A second
    /// one of the same name is the same log.
    #[must_use]
    pub fn log(&self, namespace: &str, bounds: Bounds) -> Arc<dyn Log> {
        let file = &self.owner.file;
        Arc::new(DurableLog {
            front: file.front(namespace, bounds, self.stores_first),
            owner: Arc::clone(&self.owner),
            stores_first: self.stores_first,
        })
    }
}

impl fmt::Debug for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFile")
            .field("stored_before_delivery", &self.stores_first)
            .finish_non_exhaustive()
    }
}

/// The log of one namespace.
struct DurableLog {
    front: Arc<Front>,
    owner: Arc<Owner>,
    stores_first: bool,
}

/// What can't wait is not stored.
const FULL: &str = "too much waits for the disk";

impl DurableLog {
    fn file(&self) -> &File {
        &self.owner.file
    }

    fn push(&self, entry: Entry, promise: Promise) -> bool {
        let front = Arc::clone(&self.front);
        let has_place = self.file().queue.push(Waiting {
            front,
            entry,
            promise,
        });
        if !has_place {
            self.file().failed(&self.front, 1, &FULL);
        }
        has_place
    }

    fn keep(&self, pid: Room, session: Option<SavedSession>) {
        if !self.file().queue.session(self.front.index, pid, session) {
            self.file().failed(&self.front, 1, &FULL);
        }
    }
}

impl Log for DurableLog {
    fn epoch(&self) -> u32 {
        self.front.epoch
    }

    fn last(&self) -> u64 {
        self.front.events().last()
    }

    fn append(&self, event: &Outgoing, target: &Target, _: Flags) -> Appending {
        let entry = Entry {
            at: now(),
            target: target.clone(),
            event: event.clone(),
        };
        if self.stores_first {
            let told = Arc::new(Told::default());
            if !self.push(entry, Promise::Awaited(Arc::clone(&told))) {
                return Appending::Done(Err(LogError::Failed(FULL.to_owned())));
            }
            return Appending::Waiting(Box::pin(poll_fn(move |context| {
                told.poll(context.waker())
            })));
        }
        let sequence = self.front.events().append(entry.at, event, target);
        if let Some(mark) = &self.file().mark
            && let Err(error) = mark.set(self.front.slot, sequence)
        {
            self.file().failed(&self.front, 1, &error);
        }
        if !self.push(entry, Promise::Given(sequence)) {
            self.front.hole(sequence);
        }
        Appending::Done(Ok(sequence))
    }

    fn read(&self, missed: Missed) -> BoxFuture<Result<Page, LogError>> {
        Box::pin(ready(self.front.events().missed(&missed)))
    }

    fn newest(
        &self,
        room: Option<&str>,
        after: u64,
        limit: usize,
    ) -> BoxFuture<Result<Page, LogError>> {
        Box::pin(ready(Ok(self.front.events().newest(room, after, limit))))
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn save(&self, session: SavedSession) {
        self.keep(session.pid.clone(), Some(session));
    }

    fn forget(&self, pid: &str) {
        self.keep(pid.into(), None);
    }

    fn saved(&self) -> Vec<SavedSession> {
        self.front.saved.clone()
    }

    fn sweep(&self) {
        self.front.events().drop_old(now());
        self.file().queue.sweep(&self.front);
    }

    fn flush(&self) -> BoxFuture<()> {
        let flushed = self.file().queue.flush();
        Box::pin(async move {
            let _ = flushed.await;
        })
    }

    fn failures(&self) -> u64 {
        self.front.failures.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
