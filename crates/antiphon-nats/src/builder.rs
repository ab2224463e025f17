//! [`Nats`]: what users put into their server's builder, and its options.
//!
//! Connecting makes a broker, begins its cluster, and waits for the first attempt: an [`Error`] says
//! what is wrong, unless the user wants to start without NATS. After that the broker connects again by
//! itself.

use std::{fmt, sync::Arc};

use antiphon_cluster::{Address, Cluster, Emitter};

#[cfg(feature = "keys")]
use crate::keys::Key;
use crate::{api::Storage, broker::NatsBroker, error::Error, server::Servers, subject::Subjects};

/// The names of subjects begin so.
const PREFIX: &str = "antiphon";

/// Connects a server with others by NATS: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle, which is the
/// [`Cluster`], too: by that one sees how it goes.
///
/// One of these belongs to one server.
///
/// ```no_run
/// use antiphon::Server;
/// use antiphon_nats::Nats;
///
/// # async fn example() -> Result<(), antiphon_nats::Error> {
/// let nats = Nats::connect("nats://127.0.0.1").await?;
/// let io = Server::builder().adapter(nats.clone()).build();
/// io.to("lobby").emit("news", "for the sockets of all servers");
/// println!("{}, {} servers", nats.health(), nats.servers().len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Nats {
    cluster: Cluster,
}

impl Nats {
    /// Connects to the NATS server of a URL: `nats://user:password@host:4222`, or
    /// `nats://token@host`, or `tls://host` (feature `tls`). Of several, with commas between them, it takes one that is there.
    ///
    /// Later it connects again by itself, whatever happens.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. [`NatsBuilder::wait`] goes on without.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// As [`connect`](Self::connect), with options.
    pub fn builder(url: &str) -> NatsBuilder {
        NatsBuilder {
            url: url.to_owned(),
            #[cfg(feature = "keys")]
            key: None,
            prefix: PREFIX.to_owned(),
            address: None,
            waits: false,
            jetstream: None,
            storage: Storage {
                replicas: 1,
                in_memory: false,
            },
        }
    }
}

antiphon_cluster::handle!(Nats of Cluster);

/// Options of a [`Nats`].
///
/// ```no_run
/// use antiphon_nats::Nats;
///
/// # async fn example() -> Result<(), antiphon_nats::Error> {
/// let nats = Nats::builder("nats://10.0.0.7,nats://10.0.0.8")
///     .prefix("shop") // another cluster at the same NATS has another one
///     .wait() // start without NATS, if it is away
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until connect is called"]
pub struct NatsBuilder {
    url: String,
    #[cfg(feature = "keys")]
    key: Option<Secret>,
    prefix: String,
    address: Option<Address>,
    waits: bool,
    jetstream: Option<bool>,
    storage: Storage,
}

/// What one logs in by, as it was given.
#[cfg(feature = "keys")]
#[derive(Clone)]
enum Secret {
    Seed(String),
    Credentials(String),
}

impl NatsBuilder {
    /// The first token of all subjects. `antiphon` by default. Servers of one cluster have the same,
    /// and several clusters at one NATS have others.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Logs in by a key: the seed of a user (`SU..`), whose public half the server's configuration has.
    /// What the URL says of a login doesn't count then.
    ///
    /// ```no_run
    /// # use antiphon_nats::Nats;
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let seed = std::env::var("NATS_SEED")?;
    /// let nats = Nats::builder("nats://127.0.0.1").nkey(&seed).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "keys")]
    pub fn nkey(mut self, seed: &str) -> Self {
        self.key = Some(Secret::Seed(seed.to_owned()));
        self
    }

    /// Logs in by a JWT and its key: the text of a `.creds` file, as `nsc` writes it. What the URL says
    /// of a login doesn't count then.
    ///
    /// ```no_run
    /// # use antiphon_nats::Nats;
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let credentials = std::fs::read_to_string("chat.creds")?;
    /// let nats = Nats::builder("nats://127.0.0.1").credentials(&credentials);
    /// let nats = nats.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "keys")]
    pub fn credentials(mut self, text: &str) -> Self {
        self.key = Some(Secret::Credentials(text.to_owned()));
        self
    }

    /// Where the other servers find this one, as in `http://10.0.0.5:3000`, so that clients may come
    /// to any server with each request: no sticky sessions. It is the address of whatever serves
    /// this server, within the servers' own network. A path in it is put in front of the path of
    /// each request.
    ///
    /// # Panics
    /// If it isn't `http://` with a host, a port (or 80) and maybe a path.
    pub fn advertise(mut self, url: &str) -> Self {
        self.address = Some(Address::new(url));
        self
    }

    /// Begins without NATS if that can't be had now, and goes on trying: until then this server
    /// knows its own sockets alone, and its [health](Cluster::health) says what is wrong.
    pub const fn wait(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Whether servers share the logs of namespaces with recovery, and sessions, in JetStream, so that
    /// clients come back to any server. By default they do if the NATS server has JetStream enabled.
    /// Without, each server has its own log.
    ///
    /// All servers of a cluster need the same: those with a shared log don't hear the logged events
    /// of those without. So a server that [waits](Self::wait) and doesn't know yet what NATS has takes
    /// it to be there.
    pub const fn jetstream(mut self, is_used: bool) -> Self {
        self.jetstream = Some(is_used);
        self
    }

    /// How many NATS servers have each stream. 1 by default; with 3 of a cluster of NATS logs survive
    /// the loss of one.
    ///
    /// # Panics
    /// If it is 0.
    pub const fn replicas(mut self, replicas: u8) -> Self {
        assert!(replicas > 0, "somebody has to store what is logged");
        self.storage.replicas = replicas;
        self
    }

    /// Streams that are made are stored in the memory of NATS, and not in files: clients begin anew if
    /// it is started again.
    pub const fn in_memory(mut self) -> Self {
        self.storage.in_memory = true;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. If it [waits](Self::wait), only what no time
    /// cures is an error: a wrong URL, or key.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Nats, Error> {
        let address = self.address.clone();
        let cluster = self.open(|broker, prefix| {
            let cluster = Cluster::builder(broker).prefix(prefix);
            cluster.advertise(address).start()
        });
        let cluster = cluster.await?;
        Ok(Nats { cluster })
    }

    /// Connects a program that is no server: see [`Emitter`].
    ///
    /// ```no_run
    /// use antiphon_nats::Nats;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let emitter = Nats::builder("nats://127.0.0.1").emitter().await?;
    /// emitter.of("/").to("lobby").emit("news", &"from a job")?;
    /// emitter.close().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn emitter(self) -> Result<Emitter, Error> {
        self.open(|broker, prefix| Emitter::named(broker, prefix))
            .await
    }

    async fn open<C>(self, cluster: impl FnOnce(Arc<NatsBroker>, &str) -> C) -> Result<C, Error> {
        let servers = Servers::new(&self.url)?;
        #[cfg(feature = "keys")]
        let servers = match &self.key {
            Some(Secret::Seed(seed)) => servers.with_key(Key::of_seed(seed)?),
            Some(Secret::Credentials(text)) => servers.with_key(Key::of_credentials(text)?),
            None => servers,
        };
        let subjects = Subjects::new(&self.prefix);
        let broker = NatsBroker::new(servers, subjects, self.jetstream, self.storage);
        let broker = Arc::new(broker);
        let shared = Arc::clone(&broker.0);
        let cluster = cluster(broker, &self.prefix);
        if !self.waits {
            // Dropped, the cluster ends the attempts.
            shared.line.connected().await?;
            let has_jetstream = shared.has_jetstream.get().copied();
            if self.jetstream == Some(true) && has_jetstream == Some(false) {
                let address = shared.asks.address();
                return Err(Error::NoJetStream { address });
            }
        }
        Ok(cluster)
    }
}

impl fmt::Debug for NatsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("NatsBuilder")
            .field("prefix", &self.prefix)
            .field("waits", &self.waits)
            .field("jetstream", &self.jetstream)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
