//! One session: the machine of the protocol crate under a lock, with what does its I/O.
//!
//! The engine's registry and every handle share an `Arc<Session>`; it keeps no connection alive.
//! Callers that hold one can `send` a message, in whatever form its client takes. Transports report
//! what has happened by `input`, and packets by `receive`, which hands messages to the application
//! without the lock. A session whose queue is full is closed; its driver does the rest (`finish`).
//! The lock is never held across an await or a call of the application.

pub(in crate::engine) mod backlog;
pub(crate) mod id;
mod sending;
mod shedding;
mod state;
pub(crate) mod turn;
pub(crate) mod waiters;
mod waiting;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::Waker,
    time::Instant,
};

use antiphon_protocol::{
    engine::{
        CloseReason, Encoded, EncodedPacket, Form, Open, Packet, PacketType, QueuePolicy, Revision,
        ServerSession as Machine, Timer, TransportKind,
        session::server::{Input, Output, Refusal},
    },
    websocket::deflate::Window,
};
use bytes::Bytes;

use crate::engine::{Connection, Engine, SessionId, SessionOptions, transport::unread::Reading};
pub use sending::SendError;
pub(crate) use sending::{Sending, Sent};
pub(crate) use state::{FRAMES_A_WRITE, Failure, SessionState};
use turn::Mark;
use waiters::Waiters;

/// Bytes that may wait for a client that the application doesn't know yet, before it is answered no
/// more.
const MOST_UNREAD: usize = 64 << 10;

/// The session takes no messages any more.
const ENDED: u8 = 1;

/// A message is a sign of life that the machine waits for.
const AWAITS_LIFE: u8 = 2;

/// The application observes packets.
const OBSERVED: u8 = 4;

/// The application observes packets that are sent. More than a window has bits.
const OUTGOING_OBSERVED: u8 = 0x80;

/// One session of Engine.IO: a connection that survives the change of its transport.
///
/// A handle keeps no connection alive: when the session has ended, sending to it is an error.
pub struct Session {
    id: SessionId,
    /// The form in which its client takes messages, but for compression.
    form: Form,
    /// What a message that is sent has to look at: the bits of the window that was agreed on for its
    /// WebSocket (0 if nothing is compressed), and [`OUTGOING_OBSERVED`].
    outgoing: AtomicU8,
    engine: Arc<Engine>,
    connection: OnceLock<Arc<dyn Connection>>,
    /// What a message has to look at: a copy of the machine's answers ([`ENDED`], [`AWAITS_LIFE`]),
    /// renewed after each input, so that each message need not ask for the lock, and [`OBSERVED`].
    /// Mostly 0. Written under the lock alone.
    watch: AtomicU8,
    /// The application knows its client: messages may have their full size.
    admitted: AtomicBool,
    /// Which turn will flush.
    mark: Mark,
    state: Mutex<SessionState>,
}

impl Session {
    pub(crate) fn open(engine: Arc<Engine>, opening: SessionOptions) -> Arc<Self> {
        let SessionOptions {
            id,
            revision,
            transport,
            base64,
            is_tracked,
            interval,
            packets_per_poll,
            greeting,
        } = opening;
        let mut config = Arc::clone(&engine.session);
        if !interval.is_zero() {
            Arc::make_mut(&mut config).ping_timeout += interval;
        }
        if packets_per_poll < config.packets_per_poll {
            Arc::make_mut(&mut config).packets_per_poll = packets_per_poll;
        }
        let ping_timeout = config.ping_timeout;
        let mut machine = Machine::new(revision, transport, config, crate::clock::now());
        if is_tracked {
            machine = machine.with_offsets();
        }
        let config = engine.config();
        let mut form = Form::of(revision);
        form.base64 = base64;
        form.is_transcoded = config.is_transcoded;
        let hooks = config.hooks.as_ref();
        let (mut watch, mut outgoing) = (0, 0);
        if hooks.is_some_and(|hooks| hooks.observes_packets()) {
            watch = OBSERVED;
        }
        if hooks.is_some_and(|hooks| hooks.observes_outgoing_packets()) {
            outgoing = OUTGOING_OBSERVED;
        }
        let admits_all = config.max_payload_before_join == usize::MAX;
        let id = id.unwrap_or_else(|| {
            let tag = engine.relay().map(|relay| relay.tag());
            SessionId::random(tag)
        });
        let open = Open {
            sid: id.as_str(),
            upgrades: config.upgrades(transport, revision),
            ping_interval: config.ping_interval,
            ping_timeout,
            max_payload: config.max_payload as u64,
        };
        let packet = EncodedPacket::text(PacketType::Open, &open.to_json());
        let message = match greeting {
            Some(greeting) => Encoded::Frames([&greeting, &packet.frame()[..]].concat().into()),
            None => packet.into(),
        };
        // An empty queue takes any message.
        let _ = machine.send(message, QueuePolicy::Close);
        Arc::new(Self {
            id,
            form,
            outgoing: AtomicU8::new(outgoing),
            engine,
            connection: OnceLock::new(),
            watch: AtomicU8::new(watch),
            admitted: AtomicBool::new(admits_all),
            mark: Mark::default(),
            state: Mutex::new(SessionState {
                machine,
                writer: None,
                driver: None,
                requests: None,
                counted: 0,
                waiting: Waiters::default(),
            }),
        })
    }

    /// Its id, which is also its credential: don't show it to others.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Whether the client asked for text only (`b64=1`).
    pub(crate) const fn is_base64(&self) -> bool {
        self.form.base64
    }

    /// The revision of Engine.IO that its client speaks.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.form.revision
    }

    /// The transport that carries it now.
    #[must_use]
    pub fn transport(&self) -> TransportKind {
        self.lock().machine.transport()
    }

    /// Whether messages can be sent: it is neither closing nor closed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().machine.is_open()
    }

    /// Lets messages have their full size from now on: the application knows its client. Until then
    /// they are held to [`EngineConfig::max_payload_before_join`](super::EngineConfig).
    pub fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Whether the application knows its client.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Whether its client isn't known yet, and doesn't read what it is answered: it gets no more.
    #[inline(never)] // What asks is a hot path, but for this.
    pub(crate) fn is_unread(&self) -> bool {
        !self.is_admitted() && self.queued_bytes() > MOST_UNREAD
    }

    /// Bytes that a message may have now.
    pub(crate) fn max_payload(&self) -> usize {
        self.engine.config().payload_of(self.is_admitted())
    }

    /// Whether a message would leave at once: by polling, whether a GET waits.
    pub(crate) fn is_writable(&self) -> bool {
        self.lock().machine.is_writable()
    }

    /// Whether it is closing or closed, as far as is known without its lock.
    pub(crate) fn has_ended(&self) -> bool {
        self.watch.load(Ordering::Relaxed) & ENDED != 0
    }

    /// Whether its client says how many packets it has had.
    pub(crate) fn is_tracked(&self) -> bool {
        self.lock().machine.is_tracked()
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().machine.queued_bytes()
    }

    /// Closes the session when what is queued has left.
    pub fn close(self: &Arc<Self>) {
        self.input(Input::Close);
    }

    /// Closes the session at once.
    pub(crate) fn abort(self: &Arc<Self>) {
        self.input(Input::Abort);
    }

    /// Resolves when the application takes more.
    pub(crate) async fn unsaturated(&self) {
        self.until(|state| {
            let saturated = self.is_saturated() && state.machine.closed().is_none();
            state.pause_reading(saturated);
            !saturated
        })
        .await;
    }

    /// The engine whose session this is.
    pub(crate) const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The form in which its client takes messages now.
    fn form(&self) -> Form {
        self.form_by(self.outgoing.load(Ordering::Relaxed))
    }

    /// The same, by what a message has looked at.
    fn form_by(&self, outgoing: u8) -> Form {
        let mut form = self.form;
        let bits = outgoing & !OUTGOING_OBSERVED;
        form.compression = self.engine.config().compression_of(bits);
        form
    }

    /// Its packets leave by a WebSocket from now on, for which this window was agreed on.
    pub(crate) fn compress(&self, window: Option<Window>) {
        let bits = window.map_or(0, Window::bits);
        // Nobody else writes it.
        let observed = self.outgoing.load(Ordering::Relaxed) & OUTGOING_OBSERVED;
        self.outgoing.store(bits | observed, Ordering::Relaxed);
    }

    /// Flushes now, or leaves it to the turn of this thread.
    fn flush(self: &Arc<Self>, state: &mut SessionState) {
        if !turn::note(self, &self.mark) {
            state.flush();
            self.has_flushed(state);
        }
    }

    /// Something may have left, and the session ended with it.
    pub(in crate::engine) fn has_flushed(&self, state: &mut SessionState) {
        self.note_end(state);
        if state.counted > 0 {
            self.recount(state);
        }
    }

    /// Renews the copy of the machine's answer for messages that come.
    pub(in crate::engine) fn note_end(&self, state: &SessionState) {
        if !state.machine.takes_messages() {
            self.watch.store(ENDED, Ordering::Relaxed);
        }
    }

    /// The same behind an input, which may have changed the heartbeat.
    fn renew_watch(&self, state: &SessionState) {
        let observed = self.watch.load(Ordering::Relaxed) & OBSERVED;
        // In one step: a session that has ended never looks as if it hadn't.
        let watch = match (state.machine.takes_messages(), state.machine.awaits_life()) {
            (false, _) => ENDED,
            (true, true) => AWAITS_LIFE,
            (true, false) => 0,
        };
        self.watch.store(watch | observed, Ordering::Relaxed);
    }

    /// A turn that has noted this session flushes it, if no other has.
    pub(crate) fn flush_noted(&self) {
        if !self.mark.is_noted() {
            return;
        }
        let mut state = self.lock();
        let _flush = self.being_flushed();
        state.flush();
        self.has_flushed(&mut state);
    }

    /// It is being flushed for as long as the guard lives.
    pub(crate) fn being_flushed(&self) -> impl Drop {
        self.mark.flush()
    }

    /// Whether another thread writes to it: what is sent to it now waits for that.
    pub(crate) fn is_being_flushed(&self) -> bool {
        self.mark.is_being_flushed()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing that is broadcast from now on is put before what comes next.
    pub(crate) fn settle(&self) {
        self.lock().machine.settle();
    }

    pub(crate) fn attach(&self, connection: Arc<dyn Connection>) {
        // Only the opening of the session calls this.
        let _ = self.connection.set(connection);
    }

    fn connection(&self) -> Option<&Arc<dyn Connection>> {
        self.connection.get()
    }

    /// Something has happened: does what the rules ask for, up to messages and HTTP answers.
    pub(crate) fn input(self: &Arc<Self>, input: Input<'_>) -> Output {
        let now = crate::clock::now();
        let mut state = self.lock();
        let next = state.machine.next_timer();
        let deadline = next.map(|(_, at)| at);
        let is_timeout = matches!(input, Input::Timeout);
        let output = state.machine.handle(input, now);
        match output {
            Output::Flush => self.flush(&mut state),
            Output::Probe(_) => state.wake_transports(),
            _ => {}
        }
        self.renew_watch(&state);
        if state.machine.closed().is_some() {
            if let (true, Some((Timer::Behind | Timer::Stall, _))) = (is_timeout, next) {
                let waiting = state.machine.queued_bytes();
                self.note_slow_reader(&format_args!("{waiting} bytes wait, and none were taken"));
            }
            state.wake_all();
        } else {
            state.wake_driver_before(deadline);
        }
        output
    }

    /// A GET waits for packets; its client has had as many as `offset` says. The number of the GET,
    /// if the session is tracked: the one before is superseded.
    pub(crate) fn begin_get(self: &Arc<Self>, offset: Option<u64>) -> Result<Option<u32>, Refusal> {
        if let Some(refusal) = refusal(&self.input(Input::GetOpened(offset))) {
            return Err(refusal);
        }
        let mut state = self.lock();
        let requests = state.requests();
        let is_unread = requests.forget_answer();
        if state.machine.is_tracked() {
            return Ok(Some(state.requests().begin_get()));
        }
        if is_unread {
            // As two GETs at a time: what the client didn't read is lost.
            drop(state);
            self.input(Input::ResponseCut);
            return Err(Refusal::Overlap);
        }
        Ok(None)
    }

    /// Something is left of an answer that was given, and can be forgotten with the session.
    pub(crate) fn begin_answer(self: &Arc<Self>, bytes: Bytes) -> Reading {
        let session = Arc::downgrade(self);
        let patience = self.engine.config().longest_silence();
        let reading = Reading::new(bytes, patience, move || {
            if let Some(session) = session.upgrade() {
                tracing::debug!(session = ?session.id, "an answer was not read");
                session.input(Input::ResponseCut);
            }
        });
        let mut state = self.lock();
        state.requests().begin_answer(reading.unread());
        self.recount(&mut state);
        drop(state);
        reading
    }

    /// An answer has ended, read or not.
    pub(crate) fn end_answer(self: &Arc<Self>, reading: &Reading) {
        let is_cut = !reading.unread().is_over();
        if let Some(requests) = &mut self.lock().requests {
            requests.end_answer(reading.unread());
        }
        self.has_flushed(&mut self.lock());
        if is_cut {
            self.input(Input::ResponseCut);
        }
    }

    /// A POST says how many packets its client has had.
    pub(crate) fn confirm(self: &Arc<Self>, offset: u64) -> Result<(), Refusal> {
        match refusal(&self.input(Input::Confirmed(offset))) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// A packet has come on the session's transport. Messages are nearly all: they ask a copy of
    /// the machine's answer. All others are inputs of the machine.
    pub(crate) fn receive(self: &Arc<Self>, packet: Packet<'_>) {
        if self.watch.load(Ordering::Relaxed) != 0 && !self.notice(&packet) {
            return;
        }
        match packet {
            Packet::Message(message) => {
                if let Some(connection) = self.connection() {
                    connection.message(self, message);
                }
            }
            Packet::Ping(_) if self.is_unread() => {
                tracing::debug!(session = ?self.id, "closing session: pings whose answers aren't read");
                self.abort();
            }
            packet => {
                self.input(Input::Packet(packet));
            }
        }
    }

    /// Looks at a packet that has come, where that is asked for. Returns whether it is handled.
    #[cold]
    fn notice(self: &Arc<Self>, packet: &Packet<'_>) -> bool {
        let watch = self.watch.load(Ordering::Relaxed);
        let is_message = matches!(packet, Packet::Message(_));
        if watch & ENDED != 0 {
            return !is_message;
        }
        if let Some(hooks) = self.engine.config().hooks.as_ref() {
            hooks.received(self, packet);
        }
        if watch & AWAITS_LIFE != 0 && is_message {
            self.input(Input::MessageTaken);
        }
        true
    }

    /// What came could not be decoded.
    pub(crate) fn undecodable(self: &Arc<Self>, error: &dyn fmt::Display) {
        self.engine.counters().undecodable.add(1);
        tracing::debug!(session = ?self.id, %error, "closing session: parse error");
        self.input(Input::Undecodable);
    }

    /// When the driver is needed next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let machine = self.lock().machine.deadline()?;
        let connection = self.connection().and_then(|one| one.deadline());
        Some(connection.map_or(machine, |one| one.min(machine)))
    }

    /// The connection's deadline has moved closer: the driver's timer is set for later.
    pub(crate) fn wake_driver(&self) {
        let driver = self.lock().driver.take();
        driver.into_iter().for_each(Waker::wake);
    }

    /// The deadline has come.
    pub(crate) fn timeout(self: &Arc<Self>) {
        self.lock().note_reading();
        while self.input(Input::Timeout) != Output::Nothing {}
        if let Some(connection) = self.connection() {
            connection.timeout(self, crate::clock::now());
        }
    }

    /// Ends the session: the driver's last act.
    pub(crate) fn finish(self: &Arc<Self>, reason: CloseReason) {
        tracing::debug!(session = ?self.id, reason = reason.as_str(), "session closed");
        self.engine.remove(self.id);
        {
            let mut state = self.lock();
            state.writer = None;
            if let Some(requests) = &mut state.requests
                && reason != CloseReason::ForcedClose
            {
                // Where this side closes, the client may read to the end.
                requests.forget_answer();
            }
            // Handles may be kept for long; what nobody will write any more isn't.
            state
                .machine
                .handle(Input::DriverEnded, crate::clock::now());
            state.wake_all();
            self.has_flushed(&mut state);
        }
        if let Some(connection) = self.connection() {
            turn::scope(|| connection.closed(self, reason));
        }
    }

    /// It has moved to another transport.
    pub(crate) fn upgraded(self: &Arc<Self>) {
        self.engine().counters().upgrades_completed.add(1);
        if let Some(connection) = self.connection() {
            connection.upgraded(self);
        }
    }

    /// Whether the application takes nothing more for now.
    pub(crate) fn is_saturated(&self) -> bool {
        self.connection().is_some_and(|one| one.is_saturated())
    }

    /// The application takes messages again, after it was saturated.
    pub(crate) fn resume(&self) {
        self.lock().wake_all();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// The refusal of an HTTP request, if the output is one.
pub(crate) const fn refusal(output: &Output) -> Option<Refusal> {
    match output {
        Output::Refuse(refusal) => Some(*refusal),
        _ => None,
    }
}
