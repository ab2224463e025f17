//! Emitting in a transaction of the user's own: events come when it commits, and never if it doesn't.
//!
//! An [`Outbox`] is an [`Emitter`] whose broker takes frames and sends nothing. Publishing puts them
//! into the table by the user's transaction, where servers find them as any others.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use antiphon::adapter::BoxFuture;
use antiphon_cluster::{
    Emission, Emitter, Topic, Wanted,
    broker::{Abilities, Broker, Inbox, Refused},
};
use bytes::Bytes;
use tokio_postgres::types::ToSql;

use crate::{
    server::{MAX_FRAME, check_size},
    table::Table,
};

/// What is emitted when a transaction commits, and only then: made by
/// [`Postgres::outbox`](crate::Postgres::outbox).
///
/// Events wait here until they are [published](Self::publish) in a transaction. Servers get them
/// once it has committed, and never if it doesn't. Others' events aren't held up meanwhile, however
/// long it takes.
///
/// ```no_run
/// use antiphon_postgres::{Postgres, tokio_postgres::Client};
///
/// # async fn example(postgres: Postgres, mut client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let transaction = client.transaction().await?;
/// transaction.execute("UPDATE orders SET paid = true WHERE id = 42", &[]).await?;
/// let outbox = postgres.outbox();
/// outbox.of("/").to("user:7").emit("paid", &42)?;
/// outbox.publish(&transaction).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// Other clients and languages do the same in SQL, where `antiphon` is the prefix:
/// `SELECT antiphon_emit('/', ARRAY['user:7'], 'paid', '[42]')`. It may stand in a trigger.
#[must_use = "nothing is emitted until publish is called"]
pub struct Outbox {
    emitter: Emitter,
    frames: Arc<Frames>,
    insert: String,
}

/// Takes frames instead of a broker.
#[derive(Default)]
struct Frames(Mutex<Vec<(Topic, Bytes)>>);

impl Outbox {
    pub(crate) fn new(table: &Table) -> Self {
        let frames = Arc::new(Frames::default());
        Self {
            emitter: Emitter::named(Arc::clone(&frames) as Arc<dyn Broker>, table.prefix()),
            frames,
            insert: table.insert(),
        }
    }

    /// The sockets of a namespace. What is called on them waits for [`publish`](Self::publish).
    pub fn of(&self, namespace: &str) -> Emission {
        self.emitter.of(namespace)
    }

    /// Puts what waits into the transaction, in its order.
    ///
    /// It is a [`Transaction`](tokio_postgres::Transaction), or a client that has begun one. Its user
    /// needs the right to `INSERT` into the table, and to use its sequence.
    ///
    /// # Errors
    /// What the database says. The transaction has failed then.
    pub async fn publish(
        self,
        transaction: &impl tokio_postgres::GenericClient,
    ) -> Result<(), tokio_postgres::Error> {
        let frames = std::mem::take(&mut *self.frames.list());
        if frames.is_empty() {
            return Ok(());
        }
        let topics = frames.iter().map(|(topic, _)| topic.name().as_bytes());
        let topics: Vec<_> = topics.collect();
        let payloads: Vec<_> = frames.iter().map(|(_, frame)| &frame[..]).collect();
        let params: [&(dyn ToSql + Sync); 2] = [&topics, &payloads];
        transaction.execute(&self.insert, &params).await?;
        Ok(())
    }
}

impl Frames {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<(Topic, Bytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for Frames {
    fn abilities(&self) -> Abilities {
        Abilities {
            max_frame: MAX_FRAME,
            echoes: false,
        }
    }

    fn run(self: Arc<Self>, _: Arc<Wanted>, _: Arc<Inbox>) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), Refused> {
        check_size(&frame)?;
        self.list().push((topic.clone(), frame));
        Ok(())
    }

    fn subscribers(&self, _: &Topic) -> BoxFuture<Result<Option<usize>, Refused>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("waiting", &self.frames.list().len())
            .finish_non_exhaustive()
    }
}
