//! What waits for the responses of JetStream, on one connection.
//!
//! Requests and entries that are appended have a subject of their own to which the response goes, all
//! below one that the connection has subscribed to. A session owns this: its writer notes what it
//! sends, and what it reads under those subjects comes here. What has no response when the connection
//! ends is dropped: whoever asked learns it, and entries are appended again by the shared log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon_cluster::{
    Topic,
    broker::{Inbox, Refused},
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    api::{Ack, Failed},
    error::Error,
    wire::Message,
};

/// So long a response is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// So long it may take to store an entry: disks have bad moments.
const STORING: Duration = Duration::from_secs(10);

/// So many requests may wait to be sent.
const REQUESTS: usize = 1_024;

/// So many requests may be without a response, and so many entries.
const ASKED: usize = 4_096;
const APPENDED: usize = 65_536;

/// A request, or a message that is to be stored.
pub(crate) struct Question {
    pub(crate) subject: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Bytes,
}

/// A question that is on its way to the connection.
pub(crate) struct Request {
    pub(crate) question: Question,
    pub(crate) reply: Reply,
}

type Reply = oneshot::Sender<Result<Message, Refused>>;

/// How questions come to the connection, if there is one.
#[derive(Default)]
pub(crate) struct Asks(Mutex<Link>);

#[derive(Default)]
struct Link {
    /// Where it is connected to, or was.
    address: String,
    requests: Option<mpsc::Sender<Request>>,
}

impl Asks {
    fn link(&self) -> MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection begins. Returns what gives it the requests.
    pub(crate) fn open(&self, address: &str) -> mpsc::Receiver<Request> {
        let (sender, requests) = mpsc::channel(REQUESTS);
        *self.link() = Link {
            address: address.to_owned(),
            requests: Some(sender),
        };
        requests
    }

    /// It is over.
    pub(crate) fn close(&self) {
        self.link().requests = None;
    }

    /// Where it is connected to, for people.
    pub(crate) fn address(&self) -> String {
        self.link().address.clone()
    }

    pub(crate) async fn ask(&self, question: Question) -> Result<Message, Failed> {
        let mut replies = self.ask_all(vec![question]).await?;
        replies.pop().ok_or(Failed::Silent)
    }

    /// Asks some at once. Returns the responses in their order.
    pub(crate) async fn ask_all(&self, questions: Vec<Question>) -> Result<Vec<Message>, Failed> {
        let lost = || Refused::Down {
            reason: "the connection to NATS is lost".to_owned(),
        };
        let requests = self.link().requests.clone().ok_or_else(lost)?;
        let asks = async {
            let mut replies = Vec::with_capacity(questions.len());
            for question in questions {
                let (reply, replied) = oneshot::channel();
                let request = Request { question, reply };
                requests.send(request).await.map_err(|_| lost())?;
                replies.push(replied);
            }
            let mut messages = Vec::with_capacity(replies.len());
            for replied in replies {
                messages.push(replied.await.map_err(|_| lost())??);
            }
            Ok(messages)
        };
        let asked = tokio::time::timeout(DEADLINE, asks).await;
        asked.unwrap_or(Err(Failed::Silent))
    }
}

/// What waits on one connection.
pub(crate) struct Replies {
    /// What the subjects of responses begin with.
    prefix: String,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    asked: HashMap<u64, Asked>,
    appended: BTreeMap<u64, Appended>,
}

struct Asked {
    subject: String,
    reply: Reply,
}

struct Appended {
    subject: String,
    log: Topic,
    from: Arc<str>,
    number: u64,
    since: Instant,
}

impl Waiting {
    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Replies {
    pub(crate) fn new(prefix: String) -> Self {
        Self {
            prefix,
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What covers all responses.
    pub(crate) fn all(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// A question is sent. Returns where its response goes to.
    pub(crate) fn asked(&self, subject: String, reply: Reply) -> String {
        let mut waiting = self.waiting();
        let number = waiting.number();
        waiting.asked.insert(number, Asked { subject, reply });
        format!("{}{number}", self.prefix)
    }

    /// An entry is sent. Returns where its acknowledgement goes to.
    pub(crate) fn appended(
        &self,
        subject: String,
        log: Topic,
        from: Arc<str>,
        entry: u64,
    ) -> String {
        let mut waiting = self.waiting();
        let number = waiting.number();
        let appended = Appended {
            subject,
            log,
            from,
            number: entry,
            since: Instant::now(),
        };
        waiting.appended.insert(number, appended);
        format!("{}{number}", self.prefix)
    }

    /// A response has come. An error ends the connection.
    pub(crate) fn came(&self, message: Message, inbox: &Inbox, address: &str) -> Result<(), Error> {
        let number = message.subject.strip_prefix(self.prefix.as_bytes());
        let number = number.and_then(|number| str::from_utf8(number).ok()?.parse().ok());
        // One that is too late, or from somebody else, means nothing.
        let Some(number) = number else { return Ok(()) };
        let mut waiting = self.waiting();
        if let Some(asked) = waiting.asked.remove(&number) {
            // It may not be waited for any more.
            let _ = asked.reply.send(Ok(message));
            return Ok(());
        }
        let Some(appended) = waiting.appended.remove(&number) else {
            return Ok(());
        };
        drop(waiting);
        match Ack::of(&message) {
            Ok(_) => Ok(()),
            Err(error) if error.passes() => Err(Error::NotStored {
                address: address.to_owned(),
                answer: error.to_string(),
            }),
            Err(error) => {
                let reason = error.reason(address);
                inbox.refused(appended.log, appended.from, appended.number, reason);
                Ok(())
            }
        }
    }

    /// The user may not publish under a subject. Returns whether something of this has waited for
    /// that.
    pub(crate) fn forbidden(&self, subject: &str, reason: &str, inbox: &Inbox) -> bool {
        let mut waiting = self.waiting();
        let asked: Vec<_> = waiting
            .asked
            .extract_if(|_, asked| asked.subject == subject)
            .collect();
        let appended: Vec<_> = waiting
            .appended
            .iter()
            .filter(|(_, appended)| appended.subject == subject)
            .map(|(number, _)| *number)
            .collect();
        let appended: Vec<_> = appended
            .iter()
            .filter_map(|number| waiting.appended.remove(number))
            .collect();
        drop(waiting);
        let is_ours = !asked.is_empty() || !appended.is_empty();
        for (_, asked) in asked {
            let reason = reason.to_owned();
            let _ = asked.reply.send(Err(Refused::Denied { reason }));
        }
        for entry in appended {
            inbox.refused(entry.log, entry.from, entry.number, reason);
        }
        is_ours
    }

    /// Whether more may be sent.
    pub(crate) fn has_room(&self) -> bool {
        let waiting = self.waiting();
        waiting.asked.len() < ASKED && waiting.appended.len() < APPENDED
    }

    /// Forgets those that nobody waits for, and returns whether an entry waits for too long.
    pub(crate) fn is_late(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.asked.retain(|_, asked| !asked.reply.is_closed());
        let oldest = waiting.appended.values().next();
        oldest.is_some_and(|oldest| oldest.since.elapsed() > STORING)
    }
}
