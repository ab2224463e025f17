//! Handlers of one socket: for what only that socket needs.
//!
//! They come after those of its namespace. A socket owns [`Listeners`] from the first on, and they go
//! with it: one that resumes a session begins without any.
//!
//! [`Listeners`]: crate::server::handlers::listeners::Listeners

use std::any::TypeId;

use crate::server::{
    Handler, IntoReply, NewEvent, OnEvent, Rejection, Socket,
    handlers::{
        handler,
        listeners::{Place, Times},
    },
};

impl Socket {
    /// Calls `handler` for each event of this name that this socket sends, after the namespace's.
    ///
    /// For what only some sockets need; what all need is registered on the
    /// [`Namespace`](crate::Namespace).
    pub fn on<A, H>(&self, event: &str, handler: H) -> &Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        let handler = handler::event(event, handler);
        let listeners = self.own_listeners();
        listeners.on(event, handler, Times::Always, Place::Last);
        self
    }

    /// As [`on`](Self::on), before the handlers of this socket that there are.
    #[doc(alias = "prependListener")]
    pub fn prepend<A, H>(&self, event: &str, handler: H) -> &Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        let handler = handler::event(event, handler);
        let listeners = self.own_listeners();
        listeners.on(event, handler, Times::Always, Place::First);
        self
    }

    /// As [`on`](Self::on), for the first such event only.
    pub fn once<A, H>(&self, event: &str, handler: H) -> &Self
    where
        H: Handler<OnEvent, A>,
        H::Output: IntoReply + Send,
    {
        let handler = handler::event(event, handler);
        let listeners = self.own_listeners();
        listeners.on(event, handler, Times::once(), Place::Last);
        self
    }

    /// Removes all handlers of an event that were registered on this socket.
    #[doc(alias = "removeListener")]
    pub fn off(&self, event: &str) -> &Self {
        if let Some(listeners) = self.listeners() {
            listeners.off(event);
        }
        self
    }

    /// Removes one handler of an event that was registered on this socket: the one that is this function, the
    /// last if it was registered several times. Others of the event stay.
    ///
    /// A function is known by its type: so this takes a function by its name, or a closure that was
    /// kept in a variable. Two closures that one line of the source has made are alike.
    ///
    /// ```
    /// # let io = antiphon::Server::new();
    /// async fn tell() {}
    ///
    /// io.on_connect(async |socket: antiphon::Socket| {
    ///     socket.on("a", tell).off_handler("a", tell);
    /// });
    /// ```
    #[doc(alias("removeListener", "off"))]
    pub fn off_handler<A, H>(&self, event: &str, _: H) -> &Self
    where
        H: Handler<OnEvent, A>,
    {
        if let Some(listeners) = self.listeners() {
            listeners.off_handler(event, TypeId::of::<H>());
        }
        self
    }

    /// Removes the handlers of all events that were registered on this socket by name.
    #[doc(alias = "removeAllListeners")]
    pub fn off_all(&self) -> &Self {
        if let Some(listeners) = self.listeners() {
            listeners.off_all();
        }
        self
    }

    /// Calls `handler` for every event that this client sends, before the handlers of its name.
    #[doc(alias = "onAny")]
    pub fn on_any<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let handler = handler::quiet("(any)", handler);
        self.own_listeners().on_any(handler, Place::Last);
        self
    }

    /// As [`on_any`](Self::on_any), before the handlers of this socket that there are.
    #[doc(alias = "prependAny")]
    pub fn prepend_any<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let handler = handler::quiet("(any)", handler);
        self.own_listeners().on_any(handler, Place::First);
        self
    }

    /// Removes all handlers of [`on_any`](Self::on_any) that were registered on this socket.
    #[doc(alias = "offAny")]
    pub fn off_any(&self) -> &Self {
        if let Some(listeners) = self.listeners() {
            listeners.off_any();
        }
        self
    }

    /// Calls `handler` for every event that is emitted to this socket, acknowledgements aside: alone,
    /// to a room, or by another server. It gets what was emitted, before it is known whether the client
    /// takes it.
    #[doc(alias = "onAnyOutgoing")]
    pub fn on_any_outgoing<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let registered = &self.namespace().shared().outgoing_listeners;
        let handler = handler::quiet("(any outgoing)", handler);
        let listeners = self.own_listeners();
        listeners.on_any_outgoing(handler, Place::Last, registered);
        self
    }

    /// As [`on_any_outgoing`](Self::on_any_outgoing), before the handlers of this socket that there
    /// are.
    #[doc(alias = "prependAnyOutgoing")]
    pub fn prepend_any_outgoing<A, H>(&self, handler: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = ()>,
    {
        let registered = &self.namespace().shared().outgoing_listeners;
        let handler = handler::quiet("(any outgoing)", handler);
        let listeners = self.own_listeners();
        listeners.on_any_outgoing(handler, Place::First, registered);
        self
    }

    /// Removes all handlers of [`on_any_outgoing`](Self::on_any_outgoing) that were registered on this
    /// socket.
    #[doc(alias = "offAnyOutgoing")]
    pub fn off_any_outgoing(&self) -> &Self {
        if let Some(listeners) = self.listeners() {
            listeners.off_any_outgoing(&self.namespace().shared().outgoing_listeners);
        }
        self
    }

    /// Lets events of this socket pass, or not: asked before their handlers, in the order of
    /// registration. An error is the event's error acknowledgement. Later events wait meanwhile.
    #[doc(alias = "use")]
    pub fn middleware<A, H>(&self, middleware: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = Result<(), Rejection>>,
    {
        self.own_listeners()
            .middleware(handler::passing(middleware));
        self
    }

    /// As [`middleware`](Self::middleware), and may change the event: middlewares behind it, and the
    /// handlers, get the one that it returns. The acknowledgement stays that of the client's event, and
    /// whether an event is [handled once](crate::Namespace::handle_once) is known by what the client
    /// sent. It is async: the event that it returns is no reply.
    ///
    /// ```
    /// use antiphon::{Args, Event, NewEvent, Socket};
    ///
    /// async fn connected(socket: Socket) {
    ///     // Clients of the last version say "msg".
    ///     socket.map_events(async |Event(name): Event, args: Args| match &*name {
    ///         "msg" => NewEvent::new("message", args),
    ///         name => NewEvent::new(name, args),
    ///     });
    /// }
    /// # antiphon::Server::new().on_connect(connected);
    /// ```
    #[doc(alias = "use")]
    pub fn map_events<A, H>(&self, middleware: H) -> &Self
    where
        H: Handler<OnEvent, A, Output = Result<NewEvent, Rejection>>,
    {
        self.own_listeners()
            .middleware(handler::mapping(middleware));
        self
    }
}
