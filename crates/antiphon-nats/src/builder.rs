//! What users put into their server's builder.

use std::{fmt, ops::Deref, sync::Arc};

use antiphon::adapter::{Adapter, AdapterFactory, Local, Relay};
use antiphon_cluster::{Address, Cluster, Emitter};

use crate::{broker::NatsBroker, error::Error, server::Servers, subject::Subjects};

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
    /// `nats://token@host`. Of several, with commas between them, it takes one that is there.
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
            prefix: PREFIX.to_owned(),
            address: None,
            waits: false,
        }
    }
}

impl Deref for Nats {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl AdapterFactory for Nats {
    fn make(&self, namespace: &str, local: Local) -> Arc<dyn Adapter> {
        self.cluster.make(namespace, local)
    }

    fn relay(&self) -> Option<Arc<dyn Relay>> {
        self.cluster.relay()
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nats").field(&self.cluster).finish()
    }
}

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
    prefix: String,
    address: Option<Address>,
    waits: bool,
}

impl NatsBuilder {
    /// The first token of all subjects. `antiphon` by default. Servers of one cluster have the same,
    /// and several clusters at one NATS have others.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
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

    /// Connects.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. If it [waits](Self::wait), only what no time
    /// cures is an error: a wrong URL.
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
        let broker = Arc::new(NatsBroker::new(servers, Subjects::new(&self.prefix)));
        let shared = Arc::clone(&broker.0);
        let cluster = cluster(broker, &self.prefix);
        if !self.waits {
            // Dropped, the cluster ends the attempts.
            shared.line.connected().await?;
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
            .finish_non_exhaustive()
    }
}
