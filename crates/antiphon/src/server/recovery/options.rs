//! Options of recovery: [`Recovery`], which the builder takes, opens the log of each namespace.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[cfg(feature = "redb")]
use super::durable::LogFile;
use super::{
    log::{Bounds, Log},
    memory::MemoryLog,
};
use crate::{
    engine::LONGEST,
    server::{adapter::AdapterFactory, namespace::name::with_slash, socket::values::Values},
};

/// How clients recover what they miss while they are away: see
/// [`ServerBuilder::recovery`](crate::ServerBuilder::recovery).
///
/// The events of a namespace are kept in a log: those that are neither volatile nor ask for an
/// acknowledgement. A client that comes back in time with its socket's private id, as stock clients
/// from 4.6 on do by themselves, is the same [`Socket`](crate::Socket): its id, rooms and values are
/// there again, and it gets the events that it has missed, each once and in order.
///
/// ```
/// use std::time::Duration;
/// use antiphon::{Recovery, Server, Socket};
///
/// let io = Server::builder()
///     .recovery(Recovery::new().duration(Duration::from_secs(300)))
///     .build();
/// io.of("/").on_connect(async |socket: Socket| {
///     if !socket.recovered() {
///         socket.join("lobby");
///         socket.emit("state", "everything anew");
///     }
/// });
/// ```
#[derive(Clone)]
pub struct Recovery {
    pub(super) duration: Duration,
    pub(super) max_events: usize,
    pub(super) max_bytes: usize,
    pub(super) max_sessions: usize,
    pub(super) skips_middlewares: bool,
    namespaces: Option<Vec<String>>,
    pub(super) data: Vec<StoredData>,
    /// Opens a log of the application's. Without, the adapter's log is used, or one in memory.
    log: Option<Arc<OpenLog>>,
}

/// Opens the log of a namespace.
type OpenLog = dyn Fn(&str, Bounds) -> Arc<dyn Log> + Send + Sync;

impl Recovery {
    /// Recovery for all namespaces: 2 minutes, and of each namespace up to 100,000 events, 64 MiB and
    /// 100,000 sessions. The log is the [adapter's](AdapterFactory::log), which servers share, or in
    /// memory if that has none.
    #[must_use]
    pub fn new() -> Self {
        Self {
            duration: Duration::from_secs(120),
            max_events: 100_000,
            max_bytes: 64 << 20,
            max_sessions: 100_000,
            skips_middlewares: false,
            namespaces: None,
            data: Vec::new(),
            log: None,
        }
    }

    /// How long a client may be away, and an event is kept. 2 min, as Node's
    /// `maxDisconnectionDuration`.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration.min(LONGEST);
        self
    }

    /// How many events of a namespace are kept. 100,000.
    #[must_use]
    pub const fn max_events(mut self, count: usize) -> Self {
        self.max_events = count;
        self
    }

    /// How many bytes of events are kept for a namespace: arguments, attachments, and some 20 bytes
    /// for each. 64 MiB.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many sessions of a namespace wait for their clients at a time. 100,000; beyond that, the
    /// oldest is dropped.
    #[must_use]
    pub const fn max_sessions(mut self, count: usize) -> Self {
        self.max_sessions = count;
        self
    }

    /// Lets clients that come back in without asking the namespace's middlewares, as Node does by
    /// default. Here they are asked if this isn't said: before anything that was missed is sent.
    #[must_use]
    #[doc(alias = "skipMiddlewares")]
    pub const fn skip_middlewares(mut self) -> Self {
        self.skips_middlewares = true;
        self
    }

    /// These namespaces only. Others have no log, and it costs them nothing. A
    /// [pattern](crate::Server::of_pattern) stands for all of its children.
    #[must_use]
    pub fn namespaces<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(|name| with_slash(name.as_ref()));
        self.namespaces = Some(names.collect());
        self
    }

    /// Keeps the [value](crate::Socket::insert) of this type, under this name, where sessions are kept outside
    /// of the process: in a file, or in a log that servers share. In memory all values are kept. It is
    /// stored when it is inserted; what changes inside of it isn't noticed.
    #[must_use]
    pub fn data<T>(mut self, name: &str) -> Self
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        self.data.push(StoredData {
            name: name.into(),
            store: |values| serde_json::to_value(values.get::<T>()?).ok(),
            restore: |values, value| {
                let value = serde_json::from_value::<T>(value)?;
                // What a middleware has inserted is newer.
                values.get_or_insert_with(|| value);
                Ok(())
            },
        });
        self
    }

    /// Keeps events and sessions in a log of your own: `open` is called once for each namespace, with its
    /// name and what it is to keep.
    #[must_use]
    pub fn log<F>(mut self, open: F) -> Self
    where
        F: Fn(&str, Bounds) -> Arc<dyn Log> + Send + Sync + 'static,
    {
        self.log = Some(Arc::new(open));
        self
    }

    /// Keeps events and sessions in this file, so that they outlive the process: clients come back
    /// after a restart or a crash, too. Then sessions have the whole
    /// [duration](Self::duration) again.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), antiphon::recovery::LogFileError> {
    /// use antiphon::{Recovery, recovery::LogFile};
    ///
    /// let file = LogFile::open("events.redb")?.stored_before_delivery();
    /// let recovery = Recovery::new().durable(file);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Server::close`](crate::Server::close) stores what is left. Values of sockets are stored if
    /// [`data`](Self::data) names their type.
    #[cfg(feature = "redb")]
    #[must_use]
    pub fn durable(self, file: LogFile) -> Self {
        self.log(move |namespace, bounds| file.log(namespace, bounds))
    }

    /// The log of a namespace, maybe of a child of this parent, if it has one.
    pub(crate) fn open(
        &self,
        namespace: &str,
        parent: Option<&str>,
        adapter: &dyn AdapterFactory,
    ) -> Option<OpenedLog> {
        let pattern = parent.and_then(|name| name.strip_prefix('*'));
        let is_meant = |name: &String| name == namespace || Some(name.as_str()) == pattern;
        let names = self.namespaces.as_ref();
        if names.is_some_and(|names| !names.iter().any(is_meant)) {
            return None;
        }
        let bounds = Bounds {
            duration: self.duration,
            events: self.max_events.max(1),
            bytes: self.max_bytes,
        };
        let shared = match &self.log {
            Some(open) => {
                return Some(OpenedLog {
                    log: open(namespace, bounds),
                    is_shared: false,
                });
            }
            None => adapter.log(namespace, bounds),
        };
        Some(OpenedLog {
            is_shared: shared.is_some(),
            log: shared.unwrap_or_else(|| Arc::new(MemoryLog::new(bounds))),
        })
    }
}

/// The log of a namespace.
pub(crate) struct OpenedLog {
    pub(super) log: Arc<dyn Log>,
    /// Whether other servers append to it, too.
    pub(super) is_shared: bool,
}

impl Default for Recovery {
    /// That of [`Recovery::new`].
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery")
            .field("duration", &self.duration)
            .field("max_events", &self.max_events)
            .field("max_bytes", &self.max_bytes)
            .field("max_sessions", &self.max_sessions)
            .field("namespaces", &self.namespaces)
            .finish_non_exhaustive()
    }
}

/// A type of values that is stored outside of this process.
#[derive(Clone)]
pub(super) struct StoredData {
    pub(super) name: Box<str>,
    pub(super) store: fn(&Values) -> Option<Value>,
    pub(super) restore: fn(&Values, Value) -> Result<(), serde_json::Error>,
}
