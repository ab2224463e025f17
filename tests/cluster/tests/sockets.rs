//! What concerns one socket goes to its server alone, by the broker in memory.

#![allow(clippy::unwrap_used)]

use antiphon::{Namespace, Recovery, Server, ServerBuilder, Socket, adapter::AdapterFactory as _};
use antiphon_cluster::{Cluster, broker::memory::Hub};
use antiphon_test_cluster::{Client, joined, support::until};

/// A server of this cluster.
fn as_it_is(builder: ServerBuilder, cluster: &Cluster) -> Server {
    builder.adapter(cluster.clone()).build()
}

/// The same by a factory that has no relay.
fn wrapped(builder: ServerBuilder, cluster: &Cluster) -> Server {
    let cluster = cluster.clone();
    let make = move |namespace: &str, local| cluster.make(namespace, local);
    builder.adapter(make).build()
}

/// Three servers, and a client of each in the room `lobby`.
struct Three {
    clusters: Vec<Cluster>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    ids: Vec<String>,
}

async fn three(builder: impl Fn() -> ServerBuilder) -> Three {
    three_by(|cluster| as_it_is(builder(), cluster)).await
}

async fn three_by(server: impl Fn(&Cluster) -> Server) -> Three {
    let hub = Hub::new();
    let clusters: Vec<_> = (0..3).map(|_| Cluster::new(hub.broker())).collect();
    let (mut servers, mut clients, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for cluster in &clusters {
        let io = server(cluster);
        io.of("/").on(
            "enter",
            async |socket: Socket, antiphon::Data(room): antiphon::Data<String>| {
                socket.join(room);
            },
        );
        let (client, id) = joined(&io, "lobby").await;
        servers.push(io);
        clients.push(client);
        ids.push(id);
    }
    for cluster in &clusters {
        until("all servers", || cluster.servers().len() == 3).await;
        cluster.subscribed().await;
    }
    Three {
        clusters,
        servers,
        clients,
        ids,
    }
}

impl Three {
    fn main(&self, server: usize) -> Namespace {
        self.servers[server].of("/")
    }

    /// Does something, and then says something to all: how many frames each server has heard up to
    /// there, the last one and heartbeats aside.
    async fn heard(&mut self, act: impl FnOnce(&Self)) -> Vec<u64> {
        let before = self.frames();
        act(self);
        assert!(self.main(0).emit("last", ()).is_queued());
        for client in &mut self.clients {
            while !client.expect_prefix("42").await.contains("last") {}
        }
        let after = self.frames().into_iter();
        // The broker in memory gives frames back to who has published them.
        after
            .zip(before)
            .map(|(after, before)| after - before - 1)
            .collect()
    }

    fn frames(&self) -> Vec<u64> {
        let stats = self.clusters.iter().map(Cluster::stats);
        stats.map(|stats| stats.received).collect()
    }
}

#[tokio::test]
async fn ids_of_sockets_name_their_server() {
    let three = three(Server::builder).await;
    for (id, cluster) in three.ids.iter().zip(&three.clusters) {
        assert_eq!(id.len(), 20);
        assert_eq!(&id[14..], cluster.relay().unwrap().tag().as_str());
    }
}

#[tokio::test]
async fn an_event_to_one_socket_reaches_no_other_server() {
    let mut three = three(Server::builder).await;
    let id = three.ids[1].clone();
    let heard = three
        .heard(|three| {
            for number in 0..20 {
                assert!(three.main(0).to(&*id).emit("one", number).is_queued());
            }
        })
        .await;
    assert!(heard[1] >= 20, "{heard:?}");
    assert!(heard[2] < 5, "{heard:?}");
}

#[tokio::test]
async fn joins_leaves_and_disconnects_of_one_socket_reach_no_other_server() {
    let mut three = three(Server::builder).await;
    let id = three.ids[1].clone();
    let heard = three
        .heard(|three| {
            for _ in 0..10 {
                assert!(three.main(0).to(&*id).join("game").is_queued());
                assert!(three.main(0).to(&*id).leave("lobby").is_queued());
            }
        })
        .await;
    assert!(heard[1] >= 20 && heard[2] < 5, "{heard:?}");
    assert!(three.main(2).to("game").emit("game", 1).is_queued());
    three.clients[1].expect(r#"42["game",1]"#).await;
    let id = three.ids[2].clone();
    assert!(three.main(0).to(id).disconnect().is_queued());
    three.clients[2].expect("41").await;
}

#[tokio::test]
async fn whoever_is_in_the_room_of_anothers_id_hears_it() {
    let mut three = three(Server::builder).await;
    let host = three.ids[1].clone();
    let guest = &mut three.clients[2];
    guest.send(&format!(r#"422["enter","{host}"]"#)).await;
    guest.expect("432[]").await;
    three.clusters[2].subscribed().await;
    assert!(three.main(0).to(&*host).emit("hosted", 1).is_queued());
    for client in &mut three.clients[1..] {
        client.expect(r#"42["hosted",1]"#).await;
    }
    let topics = three.clusters[2].stats().topics;
    let sockets = three.main(2).to(&*three.ids[2]);
    assert!(sockets.leave(&*host).is_queued());
    // It lingers for a second.
    let is_given_up = || three.clusters[2].stats().topics == topics - 1;
    until("its end", is_given_up).await;
}

#[tokio::test]
async fn names_that_only_look_like_ids_are_rooms_like_others() {
    let mut three = three(Server::builder).await;
    for name in [
        "a room of 20 letters",
        "another one of 20 l.",
        "x#a room of 20 letters",
    ] {
        for client in &mut three.clients[1..] {
            client.send(&format!(r#"422["enter","{name}"]"#)).await;
            client.expect("432[]").await;
        }
        for cluster in &three.clusters {
            cluster.subscribed().await;
        }
        assert!(three.main(0).to(name).emit("named", name).is_queued());
        for client in &mut three.clients[1..] {
            client.expect(&format!(r#"42["named","{name}"]"#)).await;
        }
    }
}

#[tokio::test]
async fn with_recovery_ids_say_nothing_of_where_a_socket_is() {
    let mut three = three(|| Server::builder().recovery(Recovery::new())).await;
    let id = three.ids[1].clone();
    let heard = three
        .heard(|three| {
            for number in 0..20 {
                let to = three.main(0).to(&*id).volatile();
                assert!(to.emit("one", number).is_queued());
            }
        })
        .await;
    assert!(heard[1] >= 20 && heard[2] >= 20, "{heard:?}");
}

#[tokio::test]
async fn servers_whose_ids_name_none_hear_of_their_sockets_too() {
    let mut three = three_by(|cluster| wrapped(Server::builder(), cluster)).await;
    let topics = three.clusters[1].stats().topics;
    let id = three.ids[1].clone();
    let heard = three
        .heard(|three| {
            for number in 0..20 {
                assert!(three.main(0).to(&*id).emit("one", number).is_queued());
            }
        })
        .await;
    assert!(heard[1] >= 20 && heard[2] < 5, "{heard:?}");
    drop(three.clients.remove(1));
    until("the end", || three.clusters[1].stats().topics < topics).await;
}
