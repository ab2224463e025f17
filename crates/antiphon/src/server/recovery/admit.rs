//! How a socket of a namespace with recovery is let in: as a new one, or as the one that it was.
//!
//! A CONNECT with a private id claims its session before the middlewares are asked. Of those that claim
//! one at about the same time, here or at several servers, one gets it; the others are refused, and where
//! servers share the log they are closed, so that their client comes again.
//!
//! When the middlewares have let it in, the session is taken (a live one is ended first). Then, under the
//! namespace's order, its client is told, gets what it has missed, and enters its rooms: no event comes in
//! between. If much is missed it is sent in portions, and the socket enters its rooms with the last. If
//! anything fails before the client is told, the session is put back.
//!
//! The CONNECT comes first, since a stock client keeps events that come before it also if the
//! connection is lost, and counts none of them as had: it would get them twice.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use antiphon_protocol::socket as codec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    log::{LogError, Missed, Offset, Page, Stays},
    ordered::Ordered,
    recoverable::{ALL, Recoverable},
    sessions::{Parked, Taking},
    stays::Tracked,
};
use crate::{
    engine::{Sending, Session, session::id},
    server::{ConnectError, Room, Socket, delivery::kept},
};

/// Missed events are sent in portions of so many bytes.
const PORTION: usize = 256 << 10;

/// What a CONNECT says of the session that it resumes. Others' values under these names are passed
/// over.
#[derive(Deserialize)]
struct Asked {
    pid: Option<Value>,
    offset: Option<Value>,
}

/// A server's answer to a CONNECT.
#[derive(Serialize)]
struct Connected<'c> {
    sid: &'c str,
    pid: &'c str,
}

/// What is known of a socket's session before its middlewares are asked.
pub(crate) struct Resumption {
    ordered: Arc<Ordered>,
    claim: Option<Claim>,
    /// The last event that its client has had, or why nothing can be resumed. `None` if that
    /// wasn't asked for.
    after: Option<Result<u64, LogError>>,
}

/// A session that is claimed, until this is dropped.
pub(super) struct Claim {
    pub(super) ordered: Arc<Ordered>,
    pub(super) pid: Room,
    pub(super) number: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let waits = self.ordered.sessions().unclaim(&self.pid, self.number);
        if let Some(session) = waits {
            self.ordered.log.park(session);
        }
    }
}

/// A session that was taken. It is put back when this is dropped, unless it has been resumed.
pub(super) struct Taken {
    claim: Claim,
    pub(super) parked: Option<Parked>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            let ordered = &self.claim.ordered;
            let most = ordered.options.max_sessions;
            let dropped = ordered.sessions().park(&self.claim.pid, parked, most);
            ordered.forget(dropped);
            ordered.settled.notify_waiters();
        }
    }
}

/// Why a socket isn't let in after its middlewares have been asked.
pub(crate) enum NotAdmitted {
    /// It has been disconnected meanwhile.
    Disconnected,
    /// The session has been ended since it was claimed.
    Gone,
    /// Its client has resumed the session on another connection.
    Superseded,
}

impl From<NotAdmitted> for ConnectError {
    fn from(why: NotAdmitted) -> Self {
        Self::new(match why {
            NotAdmitted::Superseded => "resumed on another connection",
            NotAdmitted::Disconnected | NotAdmitted::Gone => "disconnected",
        })
    }
}

impl Resumption {
    /// Looks at what a socket asks for with its CONNECT. If its session can be resumed it has that
    /// socket's id from now on.
    pub(crate) async fn of(ordered: &Arc<Ordered>, socket: &Socket) -> Self {
        let mut resumption = Self {
            ordered: Arc::clone(ordered),
            claim: None,
            after: None,
        };
        let asked = socket.auth::<Asked>().ok();
        let Some((Some(Value::String(pid)), offset)) = asked.map(|it| (it.pid, it.offset)) else {
            return resumption;
        };
        let asked = crate::clock::now();
        let after = resumption.claim(&pid, offset.as_ref(), socket, asked).await;
        resumption.after = Some(after);
        resumption
    }

    async fn claim(
        &mut self,
        pid: &str,
        offset: Option<&Value>,
        socket: &Socket,
        asked: Instant,
    ) -> Result<u64, LogError> {
        let ordered = &self.ordered;
        ordered.expire();
        let fetched = ordered.fetch(pid, asked).await?;
        let found = {
            let mut sessions = ordered.sessions();
            let now = crate::clock::now();
            // Who has waited for nobody isn't late: of two that come at once the latest claim counts.
            let asked = if fetched.was_here { now } else { asked };
            match sessions.claim(pid, asked) {
                // It has just gone to another server.
                Err(_) if sessions.is_given(pid, now) => Err(LogError::Elsewhere),
                claimed => claimed,
            }
        };
        drop(fetched);
        let found = found.map_err(|error| {
            // What was ours begins with our epoch.
            let epoch = pid.split_once('.').map(|(epoch, _)| epoch);
            match error == LogError::Unknown && epoch == Some(&*ordered.epoch()) {
                true => LogError::Expired,
                false => error,
            }
        })?;
        // Whoever resumes it at this moment gives way.
        ordered.settled.notify_waiters();
        self.claim = Some(Claim {
            ordered: Arc::clone(ordered),
            pid: pid.into(),
            number: found.claim,
        });
        let live = found.live.as_ref().and_then(Socket::recoverable);
        let stays = live.map(Recoverable::stays).or(found.stays);
        let stays = stays.unwrap_or_default();
        let after = match offset {
            Some(Value::String(offset)) => ordered.log.sequence(offset)?,
            Some(_) => return Err(LogError::Gap),
            // It has had nothing yet.
            None => stays.came,
        };
        // What it has had, and what was before its joins, isn't delivered here once more.
        ordered.log.reached(stays.latest().max(after)).await?;
        let missed = Missed {
            bytes: 0,
            ..ordered.missed(&stays, after)
        };
        ordered.log.read(missed).await?;
        socket.set_id(found.id);
        // What middlewares emit comes before what was missed.
        socket.resumes_behind(after);
        Ok(after)
    }

    /// Whether the middlewares need not be asked.
    pub(crate) fn skips_middlewares(&self) -> bool {
        match self.after {
            Some(Ok(_)) => self.ordered.options.skips_middlewares,
            // It isn't let in.
            Some(Err(LogError::Elsewhere)) => true,
            _ => false,
        }
    }

    /// Lets the socket in.
    pub(crate) async fn admit(
        self,
        session: &Arc<Session>,
        socket: &Socket,
    ) -> Result<(), NotAdmitted> {
        let is_shared = self.ordered.is_shared();
        let admitted = self.try_admit(session, socket).await;
        if is_shared && matches!(admitted, Err(NotAdmitted::Superseded)) {
            // Which of them is its client's latest nobody knows for sure where servers differ: the client
            // of a connection that is closed comes again.
            session.close();
        }
        admitted
    }

    async fn try_admit(self, session: &Arc<Session>, socket: &Socket) -> Result<(), NotAdmitted> {
        let Self {
            ordered,
            claim,
            after,
        } = self;
        if matches!(after, Some(Err(LogError::Elsewhere))) {
            return Err(NotAdmitted::Superseded);
        }
        ordered.sweep_from_time_to_time();
        let mut taken = match claim {
            Some(claim) => match claim.take().await {
                Err(NotAdmitted::Gone) if matches!(after, Some(Ok(_))) => {
                    // Its id may be another socket's by now. Its client comes again, and is new then.
                    session.close();
                    return Err(NotAdmitted::Gone);
                }
                Err(NotAdmitted::Gone) => None,
                taken => Some(taken?),
            },
            None => None,
        };
        let joining = Joining {
            ordered: Arc::clone(&ordered),
            session: Arc::clone(session),
            socket: socket.clone(),
        };
        let failed = match (after, &mut taken) {
            (Some(Ok(after)), Some(taken)) => match joining.resume(taken, after).await? {
                Ok(()) => return Ok(()),
                Err(error) => Some(error),
            },
            (Some(Ok(_)), None) => Some(LogError::Expired),
            (Some(Err(error)), _) => Some(error),
            (None, _) => None,
        };
        joining.begin(taken, failed).await
    }
}

impl Claim {
    /// Takes the session, when its socket has ended.
    pub(super) async fn take(self) -> Result<Taken, NotAdmitted> {
        let ordered = Arc::clone(&self.ordered);
        loop {
            let mut settled = pin!(ordered.settled.notified());
            settled.as_mut().enable();
            let taking = ordered.sessions().take(&self.pid, self.number);
            match taking {
                Taking::Taken(parked) => {
                    return Ok(Taken {
                        claim: self,
                        parked: Some(parked),
                    });
                }
                Taking::Lost => return Err(NotAdmitted::Superseded),
                Taking::Gone => return Err(NotAdmitted::Gone),
                Taking::Live(socket) => {
                    socket.taken_over();
                    if ordered.sessions().live(&self.pid) != Some(&socket) {
                        continue;
                    }
                }
                Taking::Busy => {}
            }
            settled.await;
        }
    }

    fn is_latest(&self) -> bool {
        self.ordered
            .sessions()
            .is_claimed_by(&self.pid, self.number)
    }
}

/// A socket that is about to join.
#[derive(Clone)]
struct Joining {
    ordered: Arc<Ordered>,
    session: Arc<Session>,
    socket: Socket,
}

impl Joining {
    /// Resumes a session that was taken, from the event behind `after`.
    async fn resume(
        &self,
        taken: &mut Taken,
        after: u64,
    ) -> Result<Result<(), LogError>, NotAdmitted> {
        let ordered = &self.ordered;
        // What was asked of rooms before it came back is not for it.
        ordered.caught_up().await;
        let parked = taken.parked.as_ref();
        let stays = parked.map_or_else(Stays::default, |parked| parked.stays.clone());
        let page = match ordered.log.read(ordered.missed(&stays, after)).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        let entered = ordered.in_order(|_| {
            if !taken.claim.is_latest() {
                return Err(NotAdmitted::Superseded);
            }
            // What can't be given is known before the client is told.
            let page = match self.newest(page, &stays, after) {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            let parked = taken.parked.take().ok_or(NotAdmitted::Superseded)?;
            let recoverable = Recoverable {
                ordered: Arc::clone(ordered),
                pid: taken.claim.pid.clone(),
                tracked: Mutex::new(Tracked::of(stays.clone())),
                outcome: Some(Ok(())),
                data: Mutex::new(Map::new()),
                replayed: AtomicU64::new(after),
                left_own: AtomicBool::new(false),
                is_over: AtomicBool::new(false),
            };
            if let Err(error) = self.connect(recoverable, Some(&parked)) {
                taken.parked = Some(parked);
                return Err(error);
            }
            Ok(Ok(self.replay(page, &stays, after)))
        });
        let mut replayed = match entered? {
            Ok(replayed) => replayed,
            Err(error) => return Ok(Err(error)),
        };
        let counters = self.socket.peer().engine().counters();
        counters.sessions_recovered.add(1);
        tracing::debug!(socket = ?self.socket.id(), "session recovered");
        // The session is live from here on: if its connection ends, it is parked again.
        while let Replayed::Upto(after) = replayed {
            self.session.flushed().await;
            if !self.socket.is_connected() {
                break;
            }
            let read = ordered.log.read(ordered.missed(&stays, after)).await;
            let sent = ordered.in_order(|_| {
                let page = self.newest(read?, &stays, after)?;
                Ok::<_, LogError>(self.replay(page, &stays, after))
            });
            match sent {
                Ok(upto) => replayed = upto,
                Err(error) => {
                    // Its client comes back, and is told so.
                    tracing::debug!(socket = ?self.socket.id(), %error, "closing session: what it has missed is dropped while it is sent");
                    self.session.close();
                    break;
                }
            }
        }
        if matches!(replayed, Replayed::All) {
            // Not in order: it has a lock of its own, under which others emit.
            kept::resumed(&self.socket);
        }
        Ok(Ok(()))
    }

    /// The last portion as it is now, if this is that. Called in order.
    fn newest(&self, page: Page, stays: &Stays, after: u64) -> Result<Page, LogError> {
        if page.has_more {
            return Ok(page);
        }
        match now_or_never(self.ordered.log.read(self.ordered.missed(stays, after))) {
            Some(newer) => newer,
            // It is waited for without the lock.
            None => Ok(Page {
                has_more: true,
                ..page
            }),
        }
    }

    /// Sends a portion of what was missed. The socket enters its rooms with the last. Called in
    /// order.
    fn replay(&self, page: Page, stays: &Stays, mut after: u64) -> Replayed {
        let socket = &self.socket;
        for missed in page.events {
            after = missed.offset.sequence;
            // A session that has ended comes again.
            let _ = self
                .ordered
                .send_to(socket, &missed.event, after, Sending::SURE);
        }
        let recoverable = socket.recoverable();
        if page.has_more {
            recoverable.inspect(|it| it.has_replayed(after));
            return Replayed::Upto(after);
        }
        let rooms = recoverable.map_or_else(Vec::new, |it| {
            it.has_replayed(ALL);
            stays.rooms(&it.pid)
        });
        socket.namespace().joins().add_again(socket, &rooms);
        recoverable.inspect(|it| it.inserted(socket));
        Replayed::All
    }

    /// Joins as a new socket.
    async fn begin(
        &self,
        taken: Option<Taken>,
        failed: Option<LogError>,
    ) -> Result<(), NotAdmitted> {
        let (ordered, socket) = (&self.ordered, &self.socket);
        if let Some(error) = &failed {
            let counters = socket.peer().engine().counters();
            match error {
                LogError::Unknown => counters.recoveries_unknown.add(1),
                LogError::Expired | LogError::Elsewhere => counters.recoveries_expired.add(1),
                LogError::Evicted => counters.recoveries_evicted.add(1),
                LogError::Gap => counters.recoveries_gap.add(1),
                LogError::Failed(_) | LogError::NoLog => counters.log_failures.add(1),
            }
            tracing::debug!(socket = ?socket.id(), %error, "session not recovered");
        }
        let recoverable = Recoverable {
            ordered: Arc::clone(ordered),
            pid: Room::from(format!("{}.{}", ordered.epoch(), id::random_id(None))),
            tracked: Mutex::default(),
            outcome: failed.map(Err),
            data: Mutex::new(Map::new()),
            replayed: AtomicU64::new(ALL),
            left_own: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        };
        let joining = self.clone();
        let connect = move || joining.connect(recoverable, None).is_ok();
        if !socket.namespace().joins().let_in(socket, connect).await {
            return Err(NotAdmitted::Disconnected);
        }
        socket.recoverable().inspect(|it| it.inserted(socket));
        if let Some(mut taken) = taken {
            // Its client begins anew.
            let values = taken.parked.take().and_then(|parked| parked.data);
            ordered.sessions().remove(&taken.claim.pid);
            ordered.forget(vec![(taken.claim.pid.clone(), values)]);
            ordered.settled.notify_waiters();
        }
        Ok(())
    }

    /// Gives the socket the values of the session that it resumes. What its middlewares have
    /// inserted counts.
    fn restore(&self, parked: &Parked) {
        if let Some(data) = &parked.data {
            self.socket.adopt(data);
        }
        for kind in &self.ordered.options.data {
            let Some(value) = parked.stored.get(&*kind.name) else {
                continue;
            };
            match (kind.restore)(&self.socket.own_values(), value.clone()) {
                Ok(()) => self.socket.values_changed(),
                Err(error) => {
                    tracing::warn!(name = &*kind.name, %error, "a stored value of a session doesn't fit its type");
                }
            }
        }
    }

    /// The socket is connected, and its client is told.
    fn connect(
        &self,
        recoverable: Recoverable,
        parked: Option<&Parked>,
    ) -> Result<(), NotAdmitted> {
        let (ordered, socket) = (&self.ordered, &self.socket);
        let pid = recoverable.pid.clone();
        let before = ordered.sessions().insert(&pid, socket);
        socket.set_recoverable(recoverable);
        if !socket.connected() {
            // It puts back what was there.
            ordered.sessions().restore(&pid, before);
            return Err(NotAdmitted::Disconnected);
        }
        socket.forget_place();
        if let Some(parked) = parked {
            self.restore(parked);
        }
        self.session.admit();
        let name = socket.namespace().name();
        let sid = socket.id().as_str();
        if let Ok(connect) = codec::connect_with(name, &Connected { sid, pid: &pid }) {
            // A session that has ended has no use for it.
            let _ = socket.send_message(connect, Sending::SURE);
        }
        ordered.settled.notify_waiters();
        Ok(())
    }
}

/// How much has been sent of what was missed.
enum Replayed {
    All,
    /// Up to this event: the rest is sent when that has left.
    Upto(u64),
}

impl Ordered {
    /// The next portion of what a socket has missed.
    fn missed(&self, stays: &Stays, after: u64) -> Missed {
        Missed {
            stays: stays.clone(),
            after,
            upto: self.delivered(),
            bytes: PORTION,
        }
    }

    /// What the private ids of this log begin with.
    fn epoch(&self) -> String {
        let epoch = Offset {
            epoch: self.log.epoch(),
            sequence: 0,
        };
        epoch
            .to_string()
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    /// Drops sessions whose time is up, and tells the application of what was kept for them.
    pub(crate) fn expire(&self) {
        let expired = self.sessions().expire(crate::clock::now());
        self.forget(expired);
    }

    /// Sees that what is too old is dropped, also if nothing happens any more.
    fn sweep_from_time_to_time(self: &Arc<Self>) {
        use std::sync::atomic::Ordering;

        /// Ends with the task, also if its runtime does.
        struct Sweeping(Weak<Ordered>);

        impl Drop for Sweeping {
            fn drop(&mut self) {
                if let Some(ordered) = self.0.upgrade() {
                    ordered.is_swept.store(false, Ordering::Relaxed);
                }
            }
        }

        if self.is_swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let sweeping = Sweeping(Arc::downgrade(self));
        let pause = (self.options.duration / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(ordered) = sweeping.0.upgrade() else {
                    return;
                };
                ordered.expire();
                ordered.log.sweep();
            }
        });
    }
}

/// How often what is too old is looked for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a future gives at once.
fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
