//! The wire of Node's adapter, as long as one connection holds: a frame is a notification, or a row
//! of the table of attachments and a notification that names it.
//!
//! ```text
//! queue --- pg_notify, insert ---> Postgres --- notification --> notes --- rows fetched --> inbox
//! wanted -- LISTEN, UNLISTEN --------^
//! ```
//!
//! Notifications wait for the rows that were named before them, so that frames stay in order.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use antiphon_cluster::{
    Change, Topic, Wanted,
    broker::{Inbox, entry},
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_postgres::{Notification, types::ToSql};

use crate::{
    attachments::{Attachments, Statements},
    error::Error,
    server::{Driver, Session},
    shared::Shared,
};

/// Postgres notifies under names of up to so many bytes, and no more bytes at a time.
const CHANNEL: usize = 63;
const PAYLOAD: usize = 7_999;

/// So many notifications may wait, and so many of them are looked at together.
const NOTES: usize = 8_192;
const BATCH: usize = 16;

/// So many channels are listened to by one statement.
const CHANNELS: usize = 512;

/// So often an idle connection is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(2);

/// Rows are kept for so long, and deleted as often: Node's `cleanupInterval`.
const KEEP: Duration = Duration::from_secs(30);

/// Why a frame can't be published under a topic, if it can't.
pub(crate) fn refusal(topic: &Topic) -> Option<String> {
    let name = topic.name();
    if name.len() > CHANNEL {
        let length = name.len();
        return Some(format!(
            "Postgres has no channels with names of {length} bytes, {CHANNEL} are possible: give the \
             namespace a shorter name"
        ));
    }
    let is_text = !name.contains('\0');
    (!is_text).then(|| "Postgres has no channels with a NUL in their names".to_owned())
}

/// A notification that has come.
#[derive(Debug, PartialEq, Eq)]
enum Note {
    /// A frame.
    Frame { topic: String, payload: String },
    /// A row that is to be fetched.
    Row { topic: String, id: i64 },
}

impl Note {
    /// What a notification says. Returns `None` for one of our own that names a row: only others
    /// read it.
    fn of(notification: &Notification, me: i32) -> Option<Self> {
        let topic = notification.channel().to_owned();
        let payload = notification.payload();
        match attachment(payload) {
            Some(_) if notification.process_id() == me => None,
            Some(id) => Some(Self::Row { topic, id }),
            None => Some(Self::Frame {
                topic,
                payload: payload.to_owned(),
            }),
        }
    }
}

/// The row that a notification names, if it names one.
fn attachment(payload: &str) -> Option<i64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Header {
        attachment_id: String,
    }
    if !payload.contains("\"attachmentId\"") {
        return None;
    }
    let header: Header = serde_json::from_str(payload).ok()?;
    header.attachment_id.parse().ok()
}

/// Publishes and listens until the connection fails.
pub(crate) async fn run(
    shared: &Shared,
    attachments: &Attachments,
    (session, driver): (Session<'_>, Driver<'_>),
    (wanted, inbox): (&Wanted, &Inbox),
) -> Error {
    let (notes, noted) = mpsc::channel(NOTES);
    let notified = |notification| {
        if notes.try_send(notification).is_err() {
            inbox.dropped(1);
        }
    };
    let works = async {
        let statements = attachments.open(&session).await?;
        let me = session.one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let mut listener = Listener {
            session: &session,
            held: HashSet::new(),
        };
        let version = listener.catch_up(wanted).await?;
        inbox.subscribed(version);
        shared.line.up(inbox);
        tokio::try_join!(
            publish(shared, &session, &statements),
            keep(attachments, &session),
            listener.follow(wanted, inbox, version),
            hear(&session, &statements, noted, me, inbox),
        )?;
        Ok(())
    };
    tokio::select! {
        biased;
        error = driver.run(notified) => error,
        worked = works => match worked {
            Err(error) => error,
            Ok(()) => session.context.silent(),
        }
    }
}

/// Notifies of what waits.
async fn publish(
    shared: &Shared,
    session: &Session<'_>,
    statements: &Statements,
) -> Result<Infallible, Error> {
    let queue = shared.line.queue();
    loop {
        let batch = queue.take().await;
        let mut run = Run::default();
        for (topic, frame) in &batch.frames {
            match std::str::from_utf8(frame) {
                Ok(payload) if payload.len() <= PAYLOAD && payload.starts_with('{') => {
                    if run.has(topic.name(), payload) {
                        run.send(session, statements).await?;
                    }
                    run.push(topic.name(), payload);
                }
                _ => {
                    run.send(session, statements).await?;
                    insert(session, statements, topic, frame).await?;
                }
            }
        }
        run.send(session, statements).await?;
        queue.done(batch.size);
    }
}

/// Notifications of one transaction. Postgres takes two of one transaction that are alike for one,
/// so no two are.
#[derive(Default)]
struct Run<'f> {
    channels: Vec<&'f str>,
    payloads: Vec<&'f str>,
    known: HashSet<(&'f str, &'f str)>,
}

impl<'f> Run<'f> {
    fn has(&self, channel: &'f str, payload: &'f str) -> bool {
        self.known.contains(&(channel, payload))
    }

    fn push(&mut self, channel: &'f str, payload: &'f str) {
        self.channels.push(channel);
        self.payloads.push(payload);
        self.known.insert((channel, payload));
    }

    async fn send(&mut self, session: &Session<'_>, statements: &Statements) -> Result<(), Error> {
        let Self {
            channels, payloads, ..
        } = std::mem::take(self);
        if channels.is_empty() {
            return Ok(());
        }
        let params: [&(dyn ToSql + Sync); 2] = [&channels, &payloads];
        let notifies = session.client.execute(&statements.notify, &params);
        session.answer(notifies).await.map(drop)
    }
}

/// Puts a frame into the table, and tells of the row.
async fn insert(
    session: &Session<'_>,
    statements: &Statements,
    topic: &Topic,
    frame: &[u8],
) -> Result<(), Error> {
    // It was packed by the one who publishes.
    let Some((before, fields)) = entry::unpack(frame) else {
        return Ok(());
    };
    let Some((behind, row)) = fields.first() else {
        return Ok(());
    };
    let texts = [before, behind].map(String::from_utf8_lossy);
    let texts = texts.each_ref().map(|text| &**text);
    let params: [&(dyn ToSql + Sync); 4] = [&topic.name(), &texts[0], &texts[1], row];
    let inserts = session.client.execute(&statements.insert, &params);
    session.answer(inserts).await.map(drop)
}

/// Asks whether the connection is there, and deletes old rows.
async fn keep(attachments: &Attachments, session: &Session<'_>) -> Result<Infallible, Error> {
    let (table, seconds) = (&attachments.table, KEEP.as_secs());
    let delete =
        format!("DELETE FROM {table} WHERE created_at < now() - interval '{seconds} seconds'");
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(PROBE).await;
        if last.elapsed() < KEEP {
            session.say("").await?;
        } else {
            session.say(&delete).await?;
            last = Instant::now();
        }
    }
}

/// Gives what comes to the inbox, in its order.
async fn hear(
    session: &Session<'_>,
    statements: &Statements,
    mut noted: mpsc::Receiver<Notification>,
    me: i32,
    inbox: &Inbox,
) -> Result<Infallible, Error> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if noted.recv_many(&mut batch, BATCH).await == 0 {
            // Its sender lives as long as the connection.
            std::future::pending::<()>().await;
        }
        for note in batch.drain(..).filter_map(|note| Note::of(&note, me)) {
            match note {
                Note::Frame { topic, payload } => inbox.frame(topic.into(), payload.into()),
                Note::Row { topic, id } => {
                    let params: [&(dyn ToSql + Sync); 1] = [&id];
                    let fetches = session.client.query_opt(&statements.fetch, &params);
                    match session.answer(fetches).await? {
                        Some(row) => inbox.frame(topic.into(), packed(row.get(0))),
                        // Deleted, or too large.
                        None => inbox.dropped(1),
                    }
                }
            }
        }
    }
}

fn packed(row: &[u8]) -> Bytes {
    entry::pack(b"", [(&b""[..], row)])
}

/// What a connection listens to.
struct Listener<'s> {
    session: &'s Session<'s>,
    held: HashSet<Topic>,
}

impl Listener<'_> {
    /// Follows what is wanted.
    async fn follow(
        &mut self,
        wanted: &Wanted,
        inbox: &Inbox,
        mut version: u64,
    ) -> Result<Infallible, Error> {
        loop {
            wanted.changed(version).await;
            version = match wanted.since(version) {
                Some((now, changes)) => {
                    self.apply(changes).await?;
                    now
                }
                None => self.catch_up(wanted).await?,
            };
            inbox.subscribed(version);
        }
    }

    /// Makes all that is wanted true, whatever was before. Returns its version.
    async fn catch_up(&mut self, wanted: &Wanted) -> Result<u64, Error> {
        let (version, topics) = wanted.all();
        let topics: HashSet<_> = topics.into_iter().collect();
        let gone = self.held.difference(&topics).map(|topic| (topic, false));
        let new = topics.difference(&self.held).map(|topic| (topic, true));
        let changes = gone.chain(new).map(|(topic, is_wanted)| Change {
            topic: topic.clone(),
            is_wanted,
        });
        self.apply(changes.collect()).await?;
        Ok(version)
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        for part in changes.chunks(CHANNELS) {
            let mut sql = String::new();
            for Change { topic, is_wanted } in part {
                // Nothing comes under it: nobody can publish there.
                if refusal(topic).is_some() {
                    continue;
                }
                let verb = match is_wanted {
                    true => "LISTEN",
                    false => "UNLISTEN",
                };
                let name = topic.name().replace('"', "\"\"");
                sql.push_str(&format!("{verb} \"{name}\";"));
                match is_wanted {
                    true => self.held.insert(topic.clone()),
                    false => self.held.remove(topic),
                };
            }
            self.session.say(&sql).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_may_name_a_row() {
        for (payload, id) in [
            (r#"{"uid":"ab","type":3,"attachmentId":"7"}"#, Some(7)),
            (r#"{"data":{"attachmentId":"7"},"type":3}"#, None),
            (r#"{"attachmentId":"seven"}"#, None),
            (r#"{"attachmentId":7"#, None),
            ("garbage", None),
        ] {
            assert_eq!(attachment(payload), id, "{payload}");
        }
    }

    #[test]
    fn channels_that_postgres_doesnt_have_are_refused() {
        assert_eq!(refusal(&Topic::new("socket.io#/\"ä")), None);
        assert!(refusal(&Topic::new("x".repeat(64))).is_some());
        assert!(refusal(&Topic::new("a\0")).is_some());
    }
}
