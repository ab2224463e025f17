//! What several servers must do together, whatever connects them.
//!
//! A test of an adapter or a broker makes a [`Pair`] and calls the [`features`], by
//! [`test_features!`]: stock behaviour, seen by real WebSocket clients.

#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::new_without_default,
    clippy::unwrap_used
)]

pub mod faults;
pub mod features;
pub mod held;
mod port;
pub mod recovery;
#[path = "../../../crates/antiphon/tests/support/mod.rs"]
pub mod support;
pub mod tls;

use std::{
    ops::Deref,
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon::{
    Namespace, Server, ServerBuilder, Socket,
    adapter::{AdapterFactory, BoxFuture},
};
use antiphon_cluster::{Cluster, Health, Trouble};
pub use port::free_port;
use serde::{Deserialize, Serialize};
use support::{WEBSOCKET, WebSocket, serve, until, within};
use tokio::net::TcpStream;

pub type Client = WebSocket<TcpStream>;

/// Longer than a test: its clients take a heartbeat for an event that they don't expect, and with a broker a test
/// may need more than the 25 s after which the first one comes.
pub const NO_PING: Duration = Duration::from_secs(3_600);

/// A value of sockets that the servers share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    pub name: String,
}

/// Two servers that something connects.
pub struct Pair {
    pub servers: [Server; 2],
    settle: Box<dyn Fn() -> BoxFuture<()>>,
    kept: Option<Box<dyn std::any::Any + Send>>,
}

impl Pair {
    /// Two servers with these adapters. `settle` resolves when each hears what the other says to
    /// the rooms that it has.
    pub fn new<F: AdapterFactory>(
        adapters: [F; 2],
        settle: impl Fn() -> BoxFuture<()> + 'static,
    ) -> Self {
        Self::built(adapters, settle, Server::builder)
    }

    /// Servers that are built so, at these connections of our own wire, once those know each other.
    pub async fn of<N>(nodes: &[N; 2], builder: impl Fn() -> ServerBuilder) -> Self
    where
        N: AdapterFactory + Clone + Deref<Target = Cluster> + Sync,
    {
        for node in nodes {
            until("both servers", || node.servers().len() == 2).await;
            ready(node).await;
        }
        let settled = nodes.clone();
        let settle = move || -> BoxFuture<()> {
            let nodes = settled.clone();
            Box::pin(async move {
                for node in &nodes {
                    node.subscribed().await;
                }
            })
        };
        Self::built(nodes.clone(), settle, builder)
    }

    /// The same with servers that are built so.
    pub fn built<F: AdapterFactory>(
        adapters: [F; 2],
        settle: impl Fn() -> BoxFuture<()> + 'static,
        builder: impl Fn() -> ServerBuilder,
    ) -> Self {
        let servers = adapters.map(|adapter| {
            let io = builder()
                .ping_interval(NO_PING)
                .share_data::<User>("user")
                .adapter(adapter)
                // A panic, with its backtrace, takes its time on a busy machine.
                .ack_timeout(Duration::from_secs(5))
                .build();
            io.of("/").on(
                "enter",
                async |socket: Socket, antiphon::Data(room): antiphon::Data<String>| {
                    socket.join(room);
                },
            );
            io
        });
        let settle = Box::new(settle);
        Self {
            servers,
            settle,
            kept: None,
        }
    }

    pub fn one(&self) -> Namespace {
        self.servers[0].of("/")
    }

    pub fn two(&self) -> Namespace {
        self.servers[1].of("/")
    }

    /// Keeps something as long as the pair.
    pub fn keeping(mut self, kept: impl std::any::Any) -> Self {
        let settle = self.settle;
        self.settle = Box::new(move || {
            let _ = &kept;
            settle()
        });
        self
    }

    pub async fn settle(&self) {
        (self.settle)().await;
    }

    /// This lives as long as the servers do: the broker.
    pub fn keeps(&mut self, broker: impl Send + 'static) {
        self.kept = Some(Box::new(broker));
    }

    /// A client of each server, in these rooms, and their ids.
    pub async fn clients(&self, rooms: [&str; 2]) -> ([Client; 2], [String; 2]) {
        let (one, first) = joined(&self.servers[0], rooms[0]).await;
        let (two, second) = joined(&self.servers[1], rooms[1]).await;
        self.settle().await;
        ([one, two], [first, second])
    }

    /// Nothing has come before this.
    pub async fn comes_to_both(&self, clients: &mut [Client; 2]) {
        assert!(self.one().emit("last", ()).is_queued());
        for client in clients {
            client.expect(r#"42["last"]"#).await;
        }
    }
}

/// A client in a room, and its id.
pub async fn joined(io: &Server, room: &str) -> (Client, String) {
    let mut client = WebSocket::connect(serve(io).await, WEBSOCKET).await;
    client.expect_prefix("0{").await;
    client.send("40").await;
    let connected = client.expect_prefix("40{").await;
    let id = support::sid(&connected).to_owned();
    client.send(&format!(r#"421["enter","{room}"]"#)).await;
    client.expect("431[]").await;
    (client, id)
}

/// The number of the event `n` that comes next.
pub async fn number(client: &mut Client) -> u32 {
    loop {
        match client.next().await {
            // A test that takes long sees the heartbeat.
            support::Received::Text(text) if text == "2" => client.send("3").await,
            support::Received::Text(text) => {
                let number = text
                    .strip_prefix(r#"42["n","#)
                    .unwrap_or_else(|| panic!("{text}"));
                return number.trim_end_matches(']').parse().unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The numbers that a client gets, as they come.
pub fn collect(mut client: Client) -> Arc<Mutex<Vec<u32>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let number = number(&mut client).await;
            into.lock().unwrap().push(number);
        }
    });
    seen
}

/// Answers the question that comes next with this.
pub async fn answer(client: &mut Client, with: &str) {
    let question = client.expect_prefix("42").await;
    let id = &question[2..question.find('[').unwrap()];
    client.send(&format!("43{id}{with}")).await;
}

/// A test for each of the features, of the pair that an async function gives.
#[macro_export]
macro_rules! test_features {
    ($pair:path) => {
        $crate::test_features! { $pair;
            a_broadcast_reaches_the_sockets_of_both_servers
            attachments_and_arguments_as_they_came_travel
            sockets_of_both_servers_acknowledge
            a_socket_that_is_silent_is_counted_and_its_server_isnt_missing
            a_socket_that_leaves_is_waited_for_no_longer
            sockets_of_both_servers_are_found_moved_and_disconnected
            a_socket_of_another_server_is_told_asked_and_moved
            servers_talk_to_each_other_and_not_to_themselves
            events_of_a_namespace_stay_in_it
            outgoing_listeners_hear_what_another_server_emits
            a_parent_reaches_the_children_of_both_servers
        }
    };
    ($pair:path; $($feature:ident)*) => {
        $(
            #[tokio::test]
            async fn $feature() {
                $crate::features::$feature($pair().await).await;
            }
        )*
    };
}

/// Waits until this server is well.
pub async fn ready(node: &Cluster) {
    let mut health = node.watch_health();
    let ready = health.wait_for(|health| *health == Health::Ready);
    within("its health", ready).await.unwrap();
}

/// Waits until this server has no connection, and gives the reason.
pub async fn down(node: &Cluster) -> String {
    down_for(node, "").await
}

/// Waits until this server has no connection for a reason that contains this.
pub async fn down_for(node: &Cluster, part: &str) -> String {
    let mut health = node.watch_health();
    let reason = |health: &Health| match health {
        Health::Degraded(Trouble::Down { reason }) => Some(reason.clone()),
        _ => None,
    };
    let down = health.wait_for(|health| reason(health).is_some_and(|reason| reason.contains(part)));
    let down = within("the trouble", down).await.unwrap();
    reason(&down).unwrap()
}

/// Waits until the broker refuses this server its log, and gives the reason.
pub async fn refused(node: &Cluster) -> String {
    let mut health = node.watch_health();
    let reason = |health: &Health| match health {
        Health::Degraded(Trouble::LogRefused { reason, .. }) => Some(reason.clone()),
        _ => None,
    };
    let refused = health.wait_for(|health| reason(health).is_some());
    let refused = within("the refusal", refused).await.unwrap();
    reason(&refused).unwrap()
}
