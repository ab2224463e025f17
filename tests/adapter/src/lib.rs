//! An adapter that joins servers of one process by channels of bytes: it shows that adapters can be
//! written with the public interface of `antiphon` alone, and by its tests that this interface is
//! enough.
//!
//! A [`Hub`] is what a broker is elsewhere. [`Hub::node`] gives the [`Node`] that makes the
//! adapters of one server. Each adapter has a channel for what others say, and a task that reads
//! it. A channel that is full refuses. The hub can freeze a server, which then reads nothing more,
//! and declare it dead.

#![allow(missing_docs, unreachable_pub)]

mod questions;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use antiphon::{
    RemoteSocket, Room, Target,
    adapter::{
        Adapter, AdapterError, AdapterFactory, Answers, BoxFuture, DecodeError, Flags, Local,
        Membership, NodeId, Outgoing, OwnedArgs, ServerAnswer, SocketAnswer, Watch,
    },
};
use tokio::sync::{mpsc, watch};

use questions::{Questions, To};
use wire::{Event, Frame, Says};

/// Frames that may wait for one server.
const QUEUE: usize = 1_024;

/// What servers are joined by.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By namespace and server.
    members: BTreeMap<(String, NodeId), Member>,
    frozen: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Member {
    sender: mpsc::Sender<Vec<u8>>,
    questions: Arc<Questions>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server that joins.
    pub fn node(&self, name: &str, watch: Watch) -> Node {
        Node {
            hub: self.clone(),
            name: NodeId::new(name),
            watch,
            log: Arc::default(),
        }
    }

    /// The server reads nothing more, and nobody knows.
    pub fn freeze(&self, name: &str) {
        self.lock().frozen.insert(NodeId::new(name));
    }

    /// The server is known to be dead.
    pub fn bury(&self, name: &str) {
        let name = NodeId::new(name);
        let mut state = self.lock();
        state.members.retain(|(_, node), _| *node != name);
        state
            .members
            .values()
            .for_each(|member| member.questions.dead(&name));
    }

    /// Gives a frame to every reader, whatever it holds.
    pub fn inject(&self, bytes: &[u8]) {
        for member in self.lock().members.values() {
            let _ = member.sender.try_send(bytes.to_vec());
        }
    }

    /// How many questions of a server aren't over.
    pub fn questions(&self, name: &str) -> usize {
        let name = NodeId::new(name);
        let state = self.lock();
        let members = state.members.iter();
        let members = members.filter(|((_, node), _)| *node == name);
        members.map(|(_, member)| member.questions.len()).sum()
    }

    fn is_frozen(&self, node: &NodeId) -> bool {
        self.lock().frozen.contains(node)
    }
}

/// Makes the adapters of one server.
#[derive(Debug, Clone)]
pub struct Node {
    hub: Hub,
    name: NodeId,
    watch: Watch,
    log: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// What its adapters were told, in order.
    pub fn log(&self) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    fn note(&self, what: String) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(what);
    }
}

impl AdapterFactory for Node {
    fn make(&self, namespace: &str, local: Local) -> Arc<dyn Adapter> {
        Arc::new(Channels(Arc::new(Inner {
            node: self.clone(),
            namespace: namespace.to_owned(),
            local,
            questions: Arc::default(),
            stop: watch::channel(()).0,
        })))
    }
}

/// The adapter of one namespace of a server.
#[derive(Debug, Clone)]
pub struct Channels(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Node,
    namespace: String,
    local: Local,
    questions: Arc<Questions>,
    stop: watch::Sender<()>,
}

impl Inner {
    fn key(&self) -> (String, NodeId) {
        (self.namespace.clone(), self.node.name.clone())
    }

    fn others(&self) -> Vec<NodeId> {
        let state = self.node.hub.lock();
        let names = state.members.keys();
        let names = names
            .filter(|(namespace, node)| *namespace == self.namespace && *node != self.node.name);
        names.map(|(_, node)| node.clone()).collect()
    }

    /// Tells one server, or all others.
    fn say(&self, to: Option<&NodeId>, says: Says) -> Result<(), AdapterError> {
        let from = self.node.name.as_str().to_owned();
        let frame = serde_json::to_vec(&Frame { from, says });
        let frame = frame.map_err(|error| AdapterError::Unreachable {
            reason: error.to_string(),
        })?;
        let state = self.node.hub.lock();
        if !state.members.contains_key(&self.key()) {
            return Err(AdapterError::Closed);
        }
        let mut told = Ok(());
        for ((namespace, node), member) in &state.members {
            let is_meant = to.is_none_or(|to| to == node);
            if *namespace == self.namespace && *node != self.node.name && is_meant {
                let sent = member.sender.try_send(frame.clone());
                told = told.and(sent.map_err(|_| AdapterError::Full));
            }
        }
        told
    }

    fn publish(&self, flags: Flags, says: impl FnOnce() -> Says) -> Result<(), AdapterError> {
        match flags.local {
            true => Ok(()),
            false => self.say(None, says()),
        }
    }

    /// Answers another server; it will do without if it can't be told.
    fn answer(&self, to: &NodeId, says: Says) {
        let _ = self.say(Some(to), says);
    }

    /// Another server has said something.
    fn heard(self: &Arc<Self>, bytes: &[u8]) -> Result<(), DecodeError> {
        let Ok(frame) = serde_json::from_slice::<Frame>(bytes) else {
            self.node.note("garbage".to_owned());
            return Ok(());
        };
        let from = NodeId::new(frame.from);
        let local = &self.local;
        match frame.says {
            Says::Broadcast {
                event,
                to,
                volatile,
            } => {
                let mut flags = Flags::default();
                flags.volatile = volatile;
                local.broadcast(&event.try_into()?, &to.into(), flags);
            }
            Says::Ask {
                question,
                event,
                to,
                volatile,
                time,
            } => {
                let mut flags = Flags::default();
                flags.volatile = volatile;
                let event: Outgoing = event.try_into()?;
                let (answers, mut answered) = Answers::channel(time);
                let count = local.broadcast_with_ack(&event, &to.into(), flags, &answers);
                drop(answers);
                self.answer(&from, Says::Count { question, count });
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    while let Some((socket, args)) = answered.next().await {
                        let socket = socket.as_str().to_owned();
                        let args = (&args).into();
                        let answer = Says::Answer {
                            question,
                            socket,
                            args,
                        };
                        this.answer(&from, answer);
                    }
                    this.answer(&from, Says::Over { question });
                });
            }
            Says::Count { question, count } => {
                self.questions.heard(question, &from, |to| {
                    if let To::Acks(answers) = to {
                        answers.expect(count);
                    }
                });
            }
            Says::Answer {
                question,
                socket,
                args,
            } => {
                let args: OwnedArgs = args.try_into()?;
                self.questions.heard(question, &from, |to| {
                    if let To::Acks(answers) = to {
                        answers.give((antiphon::SocketId::new(socket), args));
                    }
                });
            }
            Says::Over { question } => self.questions.over(question, &from),
            Says::Join { to, rooms } => local.join(&to.into(), &rooms),
            Says::Leave { to, rooms } => local.leave(&to.into(), &rooms),
            Says::Disconnect { to, close } => local.disconnect(&to.into(), close),
            Says::Fetch { question, to } => {
                let sockets = local.fetch(&to.into()).into_iter().map(wire::told);
                let sockets = sockets.collect();
                self.answer(&from, Says::Found { question, sockets });
            }
            Says::Found { question, sockets } => {
                self.questions.heard(question, &from, |to| {
                    if let To::Sockets(found) = to {
                        let sockets = sockets.into_iter().map(wire::heard);
                        sockets.for_each(|socket| found.give(socket));
                    }
                });
                self.questions.over(question, &from);
            }
            Says::Emit { event, question } => {
                let handled = local.server_side_emit(&event.try_into()?);
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    let args = handled.await.as_ref().map(Into::into);
                    if let Some(question) = question {
                        this.answer(&from, Says::Reply { question, args });
                    }
                });
            }
            Says::Reply { question, args } => {
                let args = args.map(OwnedArgs::try_from).transpose()?;
                self.questions.heard(question, &from, |to| {
                    if let (To::Servers(answers), Some(args)) = (to, args) {
                        answers.give((from.clone(), args));
                    }
                });
                self.questions.over(question, &from);
            }
        }
        Ok(())
    }
}

impl Adapter for Channels {
    fn start(&self) {
        let (sender, mut frames) = mpsc::channel(QUEUE);
        let this = &self.0;
        let questions = Arc::clone(&this.questions);
        let member = Member { sender, questions };
        this.node.hub.lock().members.insert(this.key(), member);
        this.node.note(format!("start {}", this.namespace));
        // Weak: the reader keeps no server alive.
        let (this, mut stop) = (Arc::downgrade(this), this.stop.subscribe());
        tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = frames.recv() => frame,
                    _ = stop.changed() => return,
                };
                let (Some(frame), Some(this)) = (frame, this.upgrade()) else {
                    return;
                };
                if this.node.hub.is_frozen(&this.node.name) {
                    continue;
                }
                if let Err(error) = this.heard(&frame) {
                    this.node.note(format!("refused: {error}"));
                }
            }
        });
    }

    fn close(&self) -> BoxFuture<()> {
        let this = Arc::clone(&self.0);
        Box::pin(async move {
            this.node.hub.lock().members.remove(&this.key());
            let _ = this.stop.send(());
            // As one that has something left to say.
            tokio::task::yield_now().await;
            this.node.note(format!("close {}", this.namespace));
        })
    }

    fn watch(&self) -> Watch {
        self.0.node.watch
    }

    fn changed(&self, change: Membership<'_>) {
        let note = match change {
            Membership::Came { .. } => "came".to_owned(),
            Membership::Created { room } => format!("created {room}"),
            Membership::Joined { room, .. } => format!("joined {room}"),
            Membership::Left { room, .. } => format!("left {room}"),
            Membership::Deleted { room } => format!("deleted {room}"),
            Membership::Gone { .. } => "gone".to_owned(),
            other => format!("{other:?}"),
        };
        self.0.node.note(note);
    }

    fn broadcast(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
    ) -> Result<(), AdapterError> {
        self.0.local.broadcast(event, target, flags);
        self.0.publish(flags, || Says::Broadcast {
            event: event.into(),
            to: target.into(),
            volatile: flags.volatile,
        })
    }

    fn broadcast_with_ack(
        &self,
        event: &Outgoing,
        target: &Target,
        flags: Flags,
        answers: Answers<SocketAnswer>,
    ) {
        let this = &self.0;
        let asked = this
            .local
            .broadcast_with_ack(event, target, flags, &answers);
        answers.expect(asked);
        if flags.local {
            return;
        }
        let time = answers.remaining();
        let question = this.questions.ask(To::Acks(answers.clone()), this.others());
        let asked = this.say(
            None,
            Says::Ask {
                question,
                event: Event::from(event),
                to: target.into(),
                volatile: flags.volatile,
                time,
            },
        );
        if let Err(error) = asked {
            this.questions.cancel(question);
            answers.fail(error);
        }
    }

    fn join(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.0.local.join(target, rooms);
        self.0.publish(flags, || Says::Join {
            to: target.into(),
            rooms: rooms.to_vec(),
        })
    }

    fn leave(&self, target: &Target, rooms: &[Room], flags: Flags) -> Result<(), AdapterError> {
        self.0.local.leave(target, rooms);
        self.0.publish(flags, || Says::Leave {
            to: target.into(),
            rooms: rooms.to_vec(),
        })
    }

    fn disconnect(&self, target: &Target, close: bool, flags: Flags) -> Result<(), AdapterError> {
        self.0.local.disconnect(target, close);
        self.0.publish(flags, || Says::Disconnect {
            to: target.into(),
            close,
        })
    }

    fn fetch(&self, target: &Target, flags: Flags, found: Answers<RemoteSocket>) {
        let this = &self.0;
        let sockets = this.local.fetch(target).into_iter();
        sockets.for_each(|socket| found.give(socket));
        if flags.local {
            return;
        }
        let to = To::Sockets(found.clone());
        let question = this.questions.ask(to, this.others());
        let to = target.into();
        if let Err(error) = this.say(None, Says::Fetch { question, to }) {
            this.questions.cancel(question);
            found.fail(error);
        }
    }

    fn server_count(&self) -> BoxFuture<Result<usize, AdapterError>> {
        let count = self.0.others().len() + 1;
        Box::pin(std::future::ready(Ok(count)))
    }

    fn server_side_emit(&self, event: &Outgoing) -> Result<(), AdapterError> {
        let (event, question) = (event.into(), None);
        self.0.say(None, Says::Emit { event, question })
    }

    fn server_side_emit_with_ack(&self, event: &Outgoing, answers: Answers<ServerAnswer>) {
        let this = &self.0;
        let to = To::Servers(answers.clone());
        let number = this.questions.ask(to, this.others());
        let (event, question) = (event.into(), Some(number));
        if let Err(error) = this.say(None, Says::Emit { event, question }) {
            this.questions.cancel(number);
            answers.fail(error);
        }
    }
}
