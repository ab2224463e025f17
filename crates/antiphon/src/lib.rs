#![doc = include_str!("docs/lib.md")]
// docs.rs says at each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "server")]
pub mod big_integer;
#[cfg(feature = "server")]
mod clock;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
mod recent;
#[cfg(feature = "server")]
mod seldom;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "server")]
pub use {
    antiphon_protocol::{
        engine::{Dialect, UpgradeTarget},
        socket::{
            Args as RawArgs, ArgsError, DecodeError, Draft, EncodeError, Limits, Parser, shared,
        },
    },
    big_integer::BigInt,
    bytes::Bytes,
    engine::{
        CloseReason, ConflateKey, Cookie, Cors, Denial, EngineBody, EngineConfig, EngineLayer,
        EngineService, HttpRequest, OrEngine, PeerAddr, QueueLimits, QueuePolicy, RequestError,
        Revision, SameSite, Secure, SendError, SessionId, Stats, TransportKind,
    },
    server::{
        Ack, AckError, Acknowledged, Args, Auth, Binary, Broadcast, BroadcastAnswers, ClientFiles,
        ConnectError, Context, CountedSockets, Data, DisconnectReason, EmitError, Emitted, Emitter,
        ErrorAcks, Event, Extension, FetchedSocket, FetchedSockets, FlashPolicy, FromArgs,
        FromContext, Handler, HandlerError, Handshake, HttpCalls, IntoArgs, IntoReply, IntoRooms,
        JoinRequest, Listener, Namespace, NewEvent, OnConnect, OnDisconnect, OnEvent, Param,
        ParentBroadcast, ParentNamespace, PerCore, Recovery, Rejection, RemoteSocket, Room,
        RoomEvent, Server, ServerAnswers, ServerBuilder, Serving, Socket, SocketId, State, Target,
        Undelivered, UndeliveredReason, adapter, recovery,
    },
};

/// Parsers of one's own: what packets are written as, instead of JSON. See the
/// [guide](crate::guide::parsers).
#[cfg(feature = "server")]
pub mod parser {
    pub use antiphon_protocol::socket::{
        Decoded, Messages, Msgpack, PacketDecoder, PacketKind, PacketParser, RawPacket,
    };
}

#[cfg(feature = "test")]
pub use server::test;
#[cfg(feature = "typescript")]
pub use server::typescript;
#[cfg(feature = "tls")]
pub use {
    rustls,
    server::{Tls, TlsError},
};

/// Guides: how to do what one wants to do.
#[cfg(all(feature = "server", feature = "axum"))]
pub mod guide {
    #[doc = include_str!("docs/handlers.md")]
    pub mod handlers {}
    #[doc = include_str!("docs/http_calls.md")]
    pub mod http_calls {}
    #[doc = include_str!("docs/namespaces.md")]
    pub mod namespaces {}
    #[doc = include_str!("docs/parsers.md")]
    pub mod parsers {}
    #[doc = include_str!("docs/recovery.md")]
    pub mod recovery {}
    #[doc = include_str!("docs/rooms.md")]
    pub mod rooms {}
    #[doc = include_str!("docs/serving.md")]
    pub mod serving {}
}

/// The code in the README compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../README.md")]
mod readme {}
