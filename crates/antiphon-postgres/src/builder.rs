//! [`Postgres`] and [`NodePostgres`]: what users put into their server's builder, and the options of
//! both.
//!
//! Connecting makes a broker, begins its cluster, and waits for the first attempt: an [`Error`] says
//! what is wrong, unless the user wants to start without the Postgres. After that the broker connects
//! again by itself.

use std::{fmt, sync::Arc, time::Duration};

use antiphon_cluster::{
    Address, Cluster, Emitter,
    node::{NodeCluster, NodeWire},
};

use crate::{
    attachments::Attachments, broker::PostgresBroker, error::Error, outbox::Outbox, schema::Schema,
    server::Server, shared::Wire, table::Table,
};

/// The names of the tables begin so.
const PREFIX: &str = "antiphon";

/// What the names of Node's channels begin with, and its table: the defaults of its adapter.
const NODE_PREFIX: &str = "socket.io";
const ATTACHMENTS: &str = "socket_io_attachments";

/// How long Node's adapter waits for answers.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects a server with others by a Postgres: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle, which is the
/// [`Cluster`], too: by that one sees how it goes.
///
/// One of these belongs to one server.
///
/// ```no_run
/// use antiphon::Server;
/// use antiphon_postgres::Postgres;
///
/// # async fn example() -> Result<(), antiphon_postgres::Error> {
/// let postgres = Postgres::connect("postgres://user:password@127.0.0.1/shop").await?;
/// let io = Server::builder().adapter(postgres.clone()).build();
/// io.to("lobby").emit("news", "for the sockets of all servers");
/// println!("{}, {} servers", postgres.health(), postgres.servers().len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Postgres {
    cluster: Cluster,
    table: Arc<Table>,
}

impl Postgres {
    /// Connects to the Postgres of a URL, `postgres://user:password@host:5432/name` (with
    /// `?sslmode=require` behind it by TLS, feature `tls`), and makes the
    /// tables if they aren't there. Of several hosts, with commas between them, it takes the one
    /// that can be written to.
    ///
    /// Later it connects again by itself, whatever happens.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. [`PostgresBuilder::wait`] goes on without.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// As [`connect`](Self::connect), with options.
    pub fn builder(url: &str) -> PostgresBuilder {
        PostgresBuilder {
            url: url.to_owned(),
            prefix: None,
            attachments: ATTACHMENTS.to_owned(),
            creates: true,
            keep: None,
            address: None,
            requests_timeout: REQUESTS_TIMEOUT,
            waits: false,
        }
    }

    /// What is emitted by a transaction of your own: see [`Outbox`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(&self.table)
    }
}

antiphon_cluster::handle!(Postgres of Cluster);

/// Options of a [`Postgres`].
///
/// ```no_run
/// use antiphon_postgres::Postgres;
///
/// # async fn example() -> Result<(), antiphon_postgres::Error> {
/// let postgres = Postgres::builder("postgres://10.0.0.7,10.0.0.8/shop")
///     .prefix("shop") // another cluster in the same database has another one
///     .create(false) // the tables were made by a migration
///     .wait() // start without the Postgres, if it is away
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until connect is called"]
pub struct PostgresBuilder {
    url: String,
    prefix: Option<String>,
    attachments: String,
    creates: bool,
    keep: Option<(Duration, u32)>,
    address: Option<Address>,
    requests_timeout: Duration,
    waits: bool,
}

impl PostgresBuilder {
    /// The names of the tables, their channel and the functions begin with this, and an underscore.
    /// `antiphon` by default. Servers of one cluster have the same, and several clusters in one
    /// database have others.
    ///
    /// In a cluster with servers of Node it is the option `channelPrefix` of their adapter,
    /// `socket.io` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The table for what notifications can't carry, in a cluster with servers of Node: the option
    /// `tableName` of their adapter. `socket_io_attachments` by default.
    pub fn attachments(mut self, table: impl Into<String>) -> Self {
        self.attachments = table.into();
        self
    }

    /// Whether the tables are made where they lack, which they are by default. Otherwise the error
    /// has the SQL that makes them.
    pub const fn create(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// How long events stay in the table at least, and how many of them: 60 s and 100,000 by
    /// default. They may stay twice as long, and be twice as many. A server whose connection is lost
    /// for no longer misses nothing.
    pub const fn keep(mut self, time: Duration, events: u32) -> Self {
        self.keep = Some((time, events));
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

    /// How long other servers have for their answers, with servers of Node
    /// ([`connect_node`](Self::connect_node)): 5 s by default, as with their adapter. See
    /// [`NodeCluster::requests_timeout`].
    pub const fn requests_timeout(mut self, time: Duration) -> Self {
        self.requests_timeout = time;
        self
    }

    /// Begins without the Postgres if that can't be had now, and goes on trying: until then this
    /// server knows its own sockets alone, and its [health](Cluster::health) says what is wrong.
    pub const fn wait(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error`] says what is wrong and what to do. If it [waits](Self::wait), only what no time
    /// cures is an error: a wrong URL or prefix.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Postgres, Error> {
        let table = self.table()?;
        let address = self.address.clone();
        let cluster = self.open_own(&table, |broker| {
            let cluster = Cluster::builder(broker).prefix(table.prefix());
            cluster.advertise(address).start()
        });
        Ok(Postgres {
            cluster: cluster.await?,
            table: Arc::new(table),
        })
    }

    /// Connects a program that is no server: see [`Emitter`].
    ///
    /// ```no_run
    /// use antiphon_postgres::Postgres;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let emitter = Postgres::builder("postgres://127.0.0.1/shop").emitter().await?;
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
        let table = self.table()?;
        self.open_own(&table, |broker| Emitter::named(broker, table.prefix()))
            .await
    }

    /// Connects to a cluster that has servers of Node with `@socket.io/postgres-adapter`: says what
    /// that says.
    ///
    /// ```no_run
    /// use antiphon::Server;
    /// use antiphon_postgres::Postgres;
    ///
    /// # async fn example() -> Result<(), antiphon_postgres::Error> {
    /// // const io = new Server({ adapter: createAdapter(pool) });
    /// let postgres = Postgres::builder("postgres://user:password@127.0.0.1/shop");
    /// let io = Server::builder().adapter(postgres.connect_node().await?).build();
    /// io.to("lobby").emit("news", "for the sockets of all servers, of both kinds");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect_node(self) -> Result<NodePostgres, Error> {
        let time = self.requests_timeout;
        let cluster =
            self.open_node(|broker, wire| NodeCluster::new(broker, wire).requests_timeout(time));
        Ok(NodePostgres {
            cluster: cluster.await?,
        })
    }

    /// As [`emitter`](Self::emitter), for a cluster that has servers of Node.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn node_emitter(self) -> Result<Emitter, Error> {
        self.open_node(|broker, wire| Emitter::node(broker, wire))
            .await
    }

    /// What is emitted by a transaction, for programs that are no servers: see [`Outbox`].
    ///
    /// # Errors
    /// If the prefix is wrong.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn outbox(&self) -> Result<Outbox, Error> {
        Ok(Outbox::new(&self.table()?))
    }

    /// The tables of our own wire.
    fn table(&self) -> Result<Table, Error> {
        let prefix = self.prefix.as_deref().unwrap_or(PREFIX);
        let mut table = Table::new(prefix)?;
        table.creates = self.creates;
        if let Some((time, events)) = self.keep {
            (table.keep, table.keep_rows) = (time, events.into());
        }
        Ok(table)
    }

    async fn open_own<C>(
        &self,
        table: &Table,
        cluster: impl FnOnce(Arc<PostgresBroker>) -> C,
    ) -> Result<C, Error> {
        let schema = table.schema();
        self.open(Wire::Frames(table.clone()), &schema, cluster)
            .await
    }

    async fn open_node<C>(
        &self,
        cluster: impl FnOnce(Arc<PostgresBroker>, NodeWire) -> C,
    ) -> Result<C, Error> {
        let attachments = Attachments::new(&self.attachments, self.creates)?;
        let schema = attachments.schema();
        let prefix = self.prefix.as_deref().unwrap_or(NODE_PREFIX).to_owned();
        let cluster = |broker| cluster(broker, NodeWire::Postgres { prefix });
        self.open(Wire::Node(attachments), &schema, cluster).await
    }

    async fn open<C>(
        &self,
        wire: Wire,
        schema: &Schema,
        cluster: impl FnOnce(Arc<PostgresBroker>) -> C,
    ) -> Result<C, Error> {
        let server = Server::new(&self.url, |user| schema.grants(user))?;
        let broker = Arc::new(PostgresBroker::new(server, wire));
        let shared = Arc::clone(&broker.0);
        let cluster = cluster(broker);
        if !self.waits {
            // Dropped, the cluster ends the attempts.
            shared.line.connected().await?;
        }
        Ok(cluster)
    }
}

/// Connects a server with others by a Postgres, servers of Node among them: an argument of
/// [`ServerBuilder::adapter`](antiphon::ServerBuilder::adapter). A cheap handle, which is the
/// [`NodeCluster`], too. See [`PostgresBuilder::connect_node`].
#[derive(Clone)]
pub struct NodePostgres {
    cluster: NodeCluster,
}

antiphon_cluster::handle!(NodePostgres of NodeCluster);

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("PostgresBuilder")
            .field("prefix", &self.prefix)
            .field("attachments", &self.attachments)
            .field("creates", &self.creates)
            .field("keep", &self.keep)
            .field("waits", &self.waits)
            .finish_non_exhaustive()
    }
}
