//! The chat on several servers at a Redis: what each tells the others, and what it tells its pages of
//! them.
//!
//! Messages and arrivals are emitted to rooms, and so come to the sockets of all servers; who is
//! where is asked of all (`people.rs`). What is left for servers to tell each other is which rooms
//! there are, and what was said while one of them was away. They do it by events that no socket
//! gets, to which handlers with `on_server_side` answer. A server that is alone has none to tell.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon::{Namespace, ServerBuilder, adapter::NodeId};
use antiphon_redis::{Health, Redis};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

use crate::{
    chat::{Chat, Message, Person},
    history::{self, FileData, said},
    people::{self, People, here},
};

/// So often it is looked at which servers there are.
const LOOK: Duration = Duration::from_secs(1);

/// A handle to what this server knows of itself and the others.
#[derive(Clone, Default)]
pub(crate) struct Servers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    redis: Option<Redis>,
    /// The address of this one's page, and those of the others.
    addresses: Mutex<Addresses>,
    /// The list of rooms, or of how many are in them, may have changed.
    changed: Notify,
}

/// What the page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Addresses {
    me: String,
    others: Vec<String>,
}

/// What servers tell each other when they meet.
#[derive(Serialize, Deserialize)]
struct About {
    address: String,
    rooms: Vec<String>,
}

impl Servers {
    /// By the Redis that `REDIS` names. Without it, this server is alone.
    pub(crate) async fn connect() -> Result<Self, String> {
        let Ok(url) = std::env::var("REDIS") else {
            return Ok(Self::default());
        };
        let redis = Redis::connect(&url).await.map_err(|it| it.to_string())?;
        Ok(Self(Arc::new(Inner {
            redis: Some(redis),
            ..Inner::default()
        })))
    }

    pub(crate) fn connects(&self, builder: ServerBuilder) -> ServerBuilder {
        match &self.0.redis {
            Some(redis) => builder.adapter(redis.clone()),
            None => builder,
        }
    }

    /// The list of rooms, or of how many are in them, may have changed: all servers look.
    pub(crate) fn tell_rooms(&self, namespace: &Namespace) {
        self.0.changed.notify_one();
        namespace.server_side_emit("changed", ());
    }

    /// A room may be new to the others, too.
    pub(crate) fn made(&self, namespace: &Namespace, room: &str) {
        namespace.server_side_emit("made", room);
    }

    /// From now on this person has this name, on all servers.
    pub(crate) fn rename(&self, namespace: &Namespace, person: &Person) {
        people::rename(namespace, person);
        namespace.server_side_emit("renamed", person);
    }

    /// What the page shows of the servers, if there is more than one.
    pub(crate) fn addresses(&self) -> Option<Addresses> {
        self.0.redis.as_ref()?;
        Some(self.known().clone())
    }

    fn known(&self) -> MutexGuard<'_, Addresses> {
        let known = &self.0.addresses;
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the other servers, and fetches what was said while this one was away. Then it goes on
    /// to tell pages what has changed.
    pub(crate) async fn start(&self, namespace: &Namespace, chat: &Chat, address: &str) {
        address.clone_into(&mut self.known().me);
        tokio::spawn(tell_rooms(self.clone(), namespace.clone(), chat.clone()));
        let Some(redis) = self.0.redis.clone() else {
            return;
        };
        self.listen(namespace, chat);
        redis.started().await;
        catch_up(namespace, chat).await;
        let watches = watch(self.clone(), redis, namespace.clone(), chat.clone());
        tokio::spawn(watches);
    }

    fn listen(&self, namespace: &Namespace, chat: &Chat) {
        let this = self.clone();
        namespace.on_server_side("changed", move |()| {
            this.0.changed.notify_one();
            async {}
        });
        let (this, of) = (self.clone(), chat.clone());
        namespace.on_server_side("made", move |room: String| {
            of.restore([room]);
            this.0.changed.notify_one();
            async {}
        });
        let at = namespace.clone();
        namespace.on_server_side("renamed", move |person: Person| {
            people::rename(&at, &person);
            async {}
        });
        let (this, of) = (self.clone(), chat.clone());
        namespace.on_server_side("about", move |about: About| {
            of.restore(about.rooms);
            let about = this.about(&of);
            async move { about }
        });
        let at = namespace.clone();
        namespace.on_server_side("said", move |newest: HashMap<String, u64>| {
            let at = at.clone();
            async move { said_since(&at, newest).await }
        });
        let at = namespace.clone();
        namespace.on_server_side("file", move |(room, id): (String, u64)| {
            let at = at.clone();
            async move { history::file(&at, &room, id).await.ok() }
        });
    }

    fn about(&self, chat: &Chat) -> About {
        About {
            address: self.known().me.clone(),
            rooms: chat.rooms(),
        }
    }
}

/// What the other servers answer to an event.
async fn answers<A: Serialize, R: DeserializeOwned + Send + 'static>(
    namespace: &Namespace,
    event: &str,
    args: A,
) -> Vec<R> {
    let asked = namespace.server_side_emit_with_ack::<R>(event, args).await;
    let answers = asked.map(|asked| asked.answers).unwrap_or_default();
    let answers = answers.into_iter();
    answers.filter_map(|(_, answer)| answer.ok()).collect()
}

/// The file of a message that this server doesn't have.
pub(crate) async fn file(namespace: &Namespace, room: &str, id: u64) -> Option<FileData> {
    let found = answers::<_, Option<FileData>>(namespace, "file", (room, id)).await;
    found.into_iter().flatten().next()
}

/// Tells everyone here which rooms there are, and how many people are in them, each time that this
/// may have changed on any server. No other event is for everyone: see `history.rs`.
async fn tell_rooms(servers: Servers, namespace: Namespace, chat: Chat) {
    loop {
        servers.0.changed.notified().await;
        let people = People::of(namespace.broadcast()).await;
        let rooms = people.summaries(chat.rooms());
        namespace.broadcast().local().emit("rooms", rooms);
    }
}

/// The last messages of each room, as far as they are newer than what another server has.
async fn said_since(namespace: &Namespace, newest: HashMap<String, u64>) -> Vec<Message> {
    let mut said = Vec::new();
    for (room, newest) in newest {
        let last = history::messages(namespace, &room).await;
        let new = last.unwrap_or_default().into_iter();
        said.extend(new.filter(|message| message.id > newest));
    }
    said
}

/// Appends to the log what the others have heard and this server hasn't, before any page comes back:
/// so those that recover get it, too.
async fn catch_up(namespace: &Namespace, chat: &Chat) {
    let about = Servers::default().about(chat);
    for about in answers::<_, About>(namespace, "about", about).await {
        chat.restore(about.rooms);
    }
    let mut newest = HashMap::new();
    for room in chat.rooms() {
        let last = history::messages(namespace, &room).await;
        let last = last.unwrap_or_default();
        newest.insert(room, last.last().map_or(0, |message| message.id));
    }
    let mut missed: Vec<Message> = answers::<_, Vec<Message>>(namespace, "said", &newest)
        .await
        .into_iter()
        .flatten()
        .collect();
    missed.sort_by_key(|message| message.id);
    missed.dedup_by_key(|message| message.id);
    if !missed.is_empty() {
        tracing::info!(messages = missed.len(), "heard what was said meanwhile");
    }
    for message in missed {
        let room = namespace.to(said(&message.room)).local();
        room.emit("message", message);
    }
}

/// Until the end: whenever a server comes or goes, or it is known again who is there, pages are told
/// anew. What they were told before may be wrong, since a server that dies doesn't say who leaves with
/// it.
async fn watch(servers: Servers, redis: Redis, namespace: Namespace, chat: Chat) {
    let mut health = redis.watch_health();
    let mut before: Option<(Vec<NodeId>, Health)> = None;
    while redis.health() != Health::Closed {
        let now = (redis.servers(), health.borrow_and_update().clone());
        if before.as_ref() != Some(&now) {
            tracing::info!(servers = now.0.len(), health = %now.1, "the servers have changed");
            tell_all(&servers, &namespace, &chat).await;
            before = Some(now);
        }
        tokio::select! {
            _ = health.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn tell_all(servers: &Servers, namespace: &Namespace, chat: &Chat) {
    #[derive(Serialize)]
    struct Here<'a> {
        room: &'a str,
        people: Vec<Person>,
    }
    let others = answers::<_, About>(namespace, "about", servers.about(chat)).await;
    let mut addresses = Vec::new();
    for about in others {
        chat.restore(about.rooms);
        addresses.push(about.address);
    }
    addresses.sort();
    servers.known().others = addresses;
    let everyone = namespace.broadcast().local();
    // It is of this moment alone, and isn't logged.
    everyone.volatile().emit("servers", servers.addresses());
    let people = People::of(namespace.broadcast()).await;
    for room in &chat.rooms() {
        let those = namespace.to(here(room)).local();
        let people = people.in_room(room);
        those.emit("here", Here { room, people });
    }
    servers.0.changed.notify_one();
}
