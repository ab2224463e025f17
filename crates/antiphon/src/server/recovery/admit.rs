//! How a socket of a namespace with recovery is let in: as a new one, or as the one that it was.
//!
//! A CONNECT with a private id claims its session before the middlewares are asked. When they have
//! let it in, the session is taken (a live one is ended first), what was missed is sent in portions,
//! and under the namespace's order the last of it, the CONNECT and the rooms: no event comes in
//! between. If anything fails before, the session is put back.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use antiphon_protocol::socket as codec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    log::{LogError, Missed, Offset, Page, Stays},
    ordered::{Ordered, Recoverable, Waiting},
    sessions::{Parked, Taking},
    stays::Tracked,
};
use crate::{
    engine::{Sending, Session, session::id},
    server::{ConnectError, Room, Socket},
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
struct Claim {
    ordered: Arc<Ordered>,
    pid: Room,
    number: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ordered.sessions().unclaim(&self.pid, self.number);
    }
}

/// A session that was taken. It is put back when this is dropped, unless it has been resumed.
struct Taken {
    claim: Claim,
    parked: Option<Parked>,
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
    /// Its session has ended.
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
        let after = resumption.claim(&pid, offset.as_ref(), socket).await;
        resumption.after = Some(after);
        resumption
    }

    async fn claim(
        &mut self,
        pid: &str,
        offset: Option<&Value>,
        socket: &Socket,
    ) -> Result<u64, LogError> {
        let ordered = &self.ordered;
        ordered.expire();
        let found = ordered.sessions().claim(pid).ok_or_else(|| {
            // What was ours begins with our epoch.
            let epoch = pid.split_once('.').map(|(epoch, _)| epoch);
            match epoch == Some(&*ordered.epoch()) {
                true => LogError::Expired,
                false => LogError::Unknown,
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
            Some(Value::String(offset)) => {
                let offset: Offset = offset.parse()?;
                if offset.epoch != ordered.log.epoch() {
                    return Err(LogError::Gap);
                }
                offset.sequence
            }
            // It has had nothing yet.
            _ => stays.came,
        };
        let missed = ordered.missed(stays, after, 0);
        ordered.log.read(missed).await?;
        socket.set_id(found.id);
        Ok(after)
    }

    /// Whether the middlewares need not be asked.
    pub(crate) fn skips_middlewares(&self) -> bool {
        self.ordered.options.skips_middlewares && matches!(self.after, Some(Ok(_)))
    }

    /// Lets the socket in.
    pub(crate) async fn admit(
        self,
        session: &Arc<Session>,
        socket: &Socket,
    ) -> Result<(), NotAdmitted> {
        let Self {
            ordered,
            claim,
            after,
        } = self;
        ordered.sweep_from_time_to_time();
        let mut taken = match claim {
            Some(claim) => claim.take().await?,
            None => None,
        };
        let mut outcome = None;
        if let Some(after) = after {
            outcome = Some(match (&taken, after) {
                (Some(taken), Ok(after)) => taken.replay(session, socket, after).await,
                (_, Err(error)) => Ok(Err(error)),
                (None, Ok(_)) => Ok(Err(LogError::Expired)),
            }?);
        }
        let mut joining = Joining {
            ordered: &ordered,
            session,
            socket,
        };
        loop {
            match outcome {
                Some(Ok(after)) => {
                    if let Some(joined) = joining.resume(&mut taken, after) {
                        match joined? {
                            Ok(()) => return Ok(()),
                            Err(error) => outcome = Some(Err(error)),
                        }
                    } else if let Some(taken) = &taken {
                        // Much has come meanwhile.
                        outcome = Some(taken.replay(session, socket, after).await?);
                    }
                }
                failed => {
                    return joining.begin(taken, failed.and_then(Result::err));
                }
            }
        }
    }
}

impl Claim {
    /// Takes the session, when its socket has ended. `None` if it has been ended meanwhile.
    async fn take(self) -> Result<Option<Taken>, NotAdmitted> {
        let ordered = Arc::clone(&self.ordered);
        loop {
            let mut settled = pin!(ordered.settled.notified());
            settled.as_mut().enable();
            let taking = ordered.sessions().take(&self.pid, self.number);
            match taking {
                Taking::Taken(parked) => {
                    return Ok(Some(Taken {
                        claim: self,
                        parked: Some(parked),
                    }));
                }
                Taking::Lost => return Err(NotAdmitted::Superseded),
                Taking::Gone => return Ok(None),
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

impl Taken {
    fn stays(&self) -> Stays {
        let parked = self.parked.as_ref();
        parked.map_or_else(Stays::default, |parked| parked.stays.clone())
    }

    /// Sends what was missed, portion by portion, until little is left. Gives the last event that
    /// was sent.
    async fn replay(
        &self,
        session: &Arc<Session>,
        socket: &Socket,
        mut after: u64,
    ) -> Result<Result<u64, LogError>, NotAdmitted> {
        let ordered = &self.claim.ordered;
        loop {
            let missed = ordered.missed(self.stays(), after, PORTION);
            let page = match ordered.log.read(missed).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            if !page.has_more {
                // The last is sent together with the answer.
                return Ok(Ok(after));
            }
            ordered.in_order(|_| after = ordered.send_page(socket, page, after));
            self.flushed(session).await?;
        }
    }

    /// Resolves when what was sent has left.
    async fn flushed(&self, session: &Arc<Session>) -> Result<(), NotAdmitted> {
        let mut flushed = pin!(session.flushed());
        loop {
            let mut settled = pin!(self.claim.ordered.settled.notified());
            settled.as_mut().enable();
            if !self.claim.is_latest() {
                return Err(NotAdmitted::Superseded);
            }
            let has_flushed = poll_fn(|context| {
                if flushed.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                settled.as_mut().poll(context).map(|()| false)
            });
            if has_flushed.await {
                return match session.is_open() {
                    true => Ok(()),
                    false => Err(NotAdmitted::Gone),
                };
            }
        }
    }
}

/// A socket that is about to join.
struct Joining<'j> {
    ordered: &'j Arc<Ordered>,
    session: &'j Arc<Session>,
    socket: &'j Socket,
}

impl Joining<'_> {
    /// Resumes a session that was taken, from the event behind `after`. Returns `None` if too much
    /// is missing to be sent at once.
    fn resume(
        &mut self,
        taken: &mut Option<Taken>,
        after: u64,
    ) -> Option<Result<Result<(), LogError>, NotAdmitted>> {
        let (ordered, socket) = (self.ordered, self.socket);
        let stays = taken.as_ref().map(Taken::stays).unwrap_or_default();
        ordered.in_order(|waiting| {
            let missed = ordered.missed(stays.clone(), after, PORTION);
            let page = match now_or_never(ordered.log.read(missed)) {
                Some(Ok(page)) if !page.has_more => page,
                Some(Err(error)) => return Some(Ok(Err(error))),
                Some(Ok(_)) | None => return None,
            };
            if !taken.as_ref().is_some_and(|taken| taken.claim.is_latest()) {
                return Some(Err(NotAdmitted::Superseded));
            }
            let count = page.events.len();
            ordered.send_page(socket, page, after);
            let Some((pid, parked)) = taken
                .as_mut()
                .and_then(|taken| Some((taken.claim.pid.clone(), taken.parked.take()?)))
            else {
                return Some(Err(NotAdmitted::Superseded));
            };
            self.restore(&parked);
            let rooms: Vec<Room> = parked.stays.rooms().cloned().collect();
            let recoverable = Recoverable {
                ordered: Arc::clone(ordered),
                pid,
                tracked: Mutex::new(Tracked::of(parked.stays.clone())),
                outcome: Some(Ok(())),
                data: Mutex::new(Map::new()),
            };
            if let Err(error) = self.enter(waiting, recoverable, Some(&rooms)) {
                if let Some(taken) = taken {
                    taken.parked = Some(parked);
                }
                return Some(Err(error));
            }
            socket.resumed();
            socket.peer().engine().counters().sessions_recovered.add(1);
            tracing::debug!(socket = ?socket.id(), missed = count, "session recovered");
            Some(Ok(Ok(())))
        })
    }

    /// Joins as a new socket.
    fn begin(&self, taken: Option<Taken>, failed: Option<LogError>) -> Result<(), NotAdmitted> {
        let (ordered, socket) = (self.ordered, self.socket);
        if let Some(error) = &failed {
            let counters = socket.peer().engine().counters();
            match error {
                LogError::Unknown => counters.recoveries_unknown.add(1),
                LogError::Expired => counters.recoveries_expired.add(1),
                LogError::Evicted => counters.recoveries_evicted.add(1),
                LogError::Gap => counters.recoveries_gap.add(1),
                LogError::Failed(_) | LogError::NoLog => counters.log_failures.add(1),
            }
            tracing::debug!(socket = ?socket.id(), %error, "session not recovered");
        }
        let recoverable = Recoverable {
            ordered: Arc::clone(ordered),
            pid: Room::from(format!("{}.{}", ordered.epoch(), id::random_id())),
            tracked: Mutex::default(),
            outcome: failed.map(Err),
            data: Mutex::new(Map::new()),
        };
        ordered.in_order(|waiting| self.enter(waiting, recoverable, None))?;
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
            if let Some(value) = parked.stored.get(&*kind.name)
                && let Err(error) = (kind.restore)(self.socket, value.clone())
            {
                tracing::warn!(name = &*kind.name, %error, "a stored value of a session doesn't fit its type");
            }
        }
    }

    /// The socket is connected and in its rooms, and its client is told.
    fn enter(
        &self,
        waiting: &mut Waiting,
        recoverable: Recoverable,
        resumed: Option<&[Room]>,
    ) -> Result<(), NotAdmitted> {
        let (ordered, socket) = (self.ordered, self.socket);
        let pid = recoverable.pid.clone();
        let before = ordered.sessions().insert(&pid, socket);
        socket.set_recoverable(recoverable);
        if !socket.connected() {
            // It puts back what was there.
            ordered.sessions().restore(&pid, before);
            return Err(NotAdmitted::Disconnected);
        }
        self.session.admit();
        let name = socket.namespace().name();
        let sid = socket.id().as_str();
        if let Ok(connect) = codec::connect_with(name, &Connected { sid, pid: &pid }) {
            // A session that has ended has no use for it.
            let _ = socket.send(&mut connect.into(), Sending::SURE);
        }
        let local = socket.namespace().joins();
        local.in_order(waiting, |joins| socket.enter(joins, resumed));
        if let Some(recoverable) = socket.recoverable() {
            recoverable.inserted(socket);
        }
        ordered.settled.notify_waiters();
        Ok(())
    }
}

impl Ordered {
    fn missed(&self, stays: Stays, after: u64, bytes: usize) -> Missed {
        Missed {
            stays,
            after,
            upto: self.delivered(),
            bytes,
        }
    }

    /// Sends missed events, and gives the last. Called in order.
    fn send_page(&self, socket: &Socket, page: Page, mut after: u64) -> u64 {
        for missed in page.events {
            // A session that has ended comes again.
            let _ = self.send_to(socket, &missed.event, missed.offset.sequence, Sending::SURE);
            after = missed.offset.sequence;
        }
        after
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

    /// Drops sessions whose time is up.
    fn expire(&self) {
        let expired = self.sessions().expire(Instant::now());
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
