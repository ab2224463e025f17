//! The wires of Node's adapters between servers of ours, with the broker in memory: an
//! acknowledgement has one argument there, and doesn't say whose it is.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use antiphon::{
    Bytes, Recovery, Server, ServerBuilder,
    adapter::{AdapterError, BoxFuture},
};
use antiphon_cluster::{
    Emitter, Topic,
    broker::memory::Hub,
    node::{Mode, NodeCluster, NodeWire},
};
use antiphon_test_cluster::{Pair, answer, features, support::within};

async fn pair(wire: NodeWire) -> Pair {
    on(&Hub::new(), wire).await.0
}

async fn on(hub: &Hub, wire: NodeWire) -> (Pair, [NodeCluster; 2]) {
    built(hub, wire, Server::builder).await
}

async fn built(
    hub: &Hub,
    wire: NodeWire,
    builder: impl Fn() -> ServerBuilder,
) -> (Pair, [NodeCluster; 2]) {
    let clusters = [hub.broker(), hub.broker()];
    let clusters = clusters.map(|broker| NodeCluster::new(broker, wire.clone()));
    for cluster in &clusters {
        cluster.started().await;
    }
    let (settled, seen) = (clusters.clone(), clusters.clone());
    let settle = move || -> BoxFuture<()> {
        let clusters = settled.clone();
        Box::pin(async move {
            for cluster in clusters {
                cluster.subscribed().await;
            }
        })
    };
    (Pair::built(clusters, settle, builder), seen)
}

/// What Node's wires can do, for one of them.
macro_rules! test_wire {
    ($module:ident, $wire:expr, $topic:expr) => {
        mod $module {
            use super::*;

            async fn wired() -> Pair {
                pair($wire).await
            }

            antiphon_test_cluster::test_features! { wired;
                a_broadcast_reaches_the_sockets_of_both_servers
                a_parent_reaches_the_children_of_both_servers
                attachments_and_arguments_as_they_came_travel
                a_socket_that_is_silent_is_counted_and_its_server_isnt_missing
                sockets_of_both_servers_are_found_moved_and_disconnected
                outgoing_listeners_hear_what_another_server_emits
                values_of_other_servers_sockets_are_known
            }

            #[tokio::test]
            async fn sockets_acknowledge_with_their_first_argument() {
                let pair = wired().await;
                let (mut clients, _) = pair.clients(["a", "a"]).await;
                let asked = pair.one().to("a").emit_with_ack::<serde_json::Value>("q", ());
                answer(&mut clients[0], r#"[{"n":1}]"#).await;
                answer(&mut clients[1], r#"["two","more"]"#).await;
                let answered = within("the answers", asked).await.unwrap();
                assert!(answered.is_complete(), "{answered:?}");
                let answers = answered.answers.into_iter();
                let mut answers: Vec<_> = answers.map(|(_, answer)| answer.unwrap()).collect();
                answers.sort_by_key(|answer| answer.is_string());
                assert_eq!(answers, [serde_json::json!({"n": 1}), "two".into()]);
            }

            #[tokio::test]
            async fn a_program_that_is_no_server_emits() {
                let hub = Hub::new();
                let (pair, _) = on(&hub, $wire).await;
                let emitter = Emitter::node(hub.broker(), $wire);
                features::a_program_that_is_no_server_emits(pair, emitter).await;
            }

            #[tokio::test]
            async fn who_was_away_gets_what_other_servers_have_emitted() {
                let builder = || Server::builder().recovery(Recovery::new());
                let (pair, _) = built(&Hub::new(), $wire, builder).await;
                features::who_was_away_gets_what_other_servers_have_emitted(pair).await;
            }

            #[tokio::test]
            async fn garbage_is_left_out_and_counted() {
                let hub = Hub::new();
                let (pair, clusters) = on(&hub, $wire).await;
                let (mut clients, _) = pair.clients(["a", "a"]).await;
                let garbage = [&b""[..], b"{", b"[]", &[0x93, 1, 2, 3], &[0xdd; 64], &[0xc1]];
                for bytes in garbage {
                    hub.publish(&Topic::new($topic), &Bytes::from_static(bytes));
                }
                pair.comes_to_both(&mut clients).await;
                for cluster in clusters {
                    assert_eq!(cluster.stats().malformed, garbage.len() as u64);
                }
            }

            #[tokio::test]
            async fn servers_answer_each_other() {
                let pair = wired().await;
                for (name, server) in ["one", "two"].into_iter().zip(&pair.servers) {
                    let root = server.of("/");
                    root.on_server_side("name", move |(): ()| async move { name });
                }
                pair.settle().await;
                let asked = pair.one().server_side_emit_with_ack::<String>("name", ());
                let answered = within("the answer", asked).await.unwrap();
                let answers: Vec<_> = answered.answers.into_iter().map(|(_, it)| it.unwrap()).collect();
                assert_eq!(answers, ["two"]);
                assert_eq!(pair.one().server_count().await, Ok(2));
            }
        }
    };
}

test_wire!(classic, NodeWire::classic(), "socket.io#/#");
test_wire!(sharded, NodeWire::sharded(), "socket.io#/#");
test_wire!(streams, NodeWire::streams(), "socket.io#/#");
test_wire!(postgres, NodeWire::postgres(), "socket.io#/");

#[tokio::test]
async fn where_each_room_has_a_channel_so_has_each_socket() {
    let mut wire = NodeWire::sharded();
    if let NodeWire::Sharded { mode, .. } = &mut wire {
        *mode = Mode::DynamicPrivate;
    }
    let pair = pair(wire).await;
    let (mut clients, ids) = pair.clients(["a", "a"]).await;
    pair.settle().await;
    pair.one().to(&ids[1]).emit("private", 1);
    clients[1].expect(r#"42["private",1]"#).await;
}

#[tokio::test]
async fn how_many_servers_are_missing_is_said() {
    for wire in [
        NodeWire::classic(),
        NodeWire::sharded(),
        NodeWire::streams(),
    ] {
        let pair = pair(wire).await;
        pair.settle().await;
        // No handler, no answer: as in Node.
        let asked = pair.one().server_side_emit_with_ack::<()>("unknown", ());
        let answered = within("its time", asked).await.unwrap();
        let missing = Some(AdapterError::Missing { count: 1, of: 1 });
        assert_eq!((answered.answers.len(), answered.error), (0, missing));
    }
}

/// As with Node's adapters, and not as long as clients have for their acknowledgements.
#[tokio::test]
async fn servers_have_a_time_of_their_own_for_their_answers() {
    for wire in [
        NodeWire::classic(),
        NodeWire::sharded(),
        NodeWire::streams(),
        NodeWire::postgres(),
    ] {
        let hub = Hub::new();
        let clusters = [hub.broker(), hub.broker()].map(|broker| {
            let cluster = NodeCluster::new(broker, wire.clone());
            cluster.requests_timeout(Duration::from_millis(500))
        });
        let servers = clusters.clone().map(|cluster| {
            let an_hour = Duration::from_secs(3_600);
            Server::builder()
                .adapter(cluster)
                .ack_timeout(an_hour)
                .build()
        });
        for cluster in &clusters {
            cluster.started().await;
            cluster.subscribed().await;
        }
        let root = servers[0].of("/");
        let asked = root.server_side_emit_with_ack::<()>("unknown", ());
        let answered = within("its time", asked).await.unwrap();
        assert!(!answered.is_complete(), "{answered:?}");
    }
}

#[tokio::test]
async fn answers_that_have_come_are_there_also_if_others_are_missing() {
    let hub = Hub::new();
    let (pair, _) = on(&hub, NodeWire::classic()).await;
    let third = NodeCluster::new(hub.broker(), NodeWire::classic());
    let other = Server::builder().adapter(third.clone()).build();
    other.of("/").on_server_side("name", async |(): ()| "three");
    pair.settle().await;
    third.subscribed().await;
    let asked = pair.one().server_side_emit_with_ack::<String>("name", ());
    let answered = within("its time", asked).await.unwrap();
    assert!(!answered.is_complete());
    let missing = Some(AdapterError::Missing { count: 1, of: 2 });
    assert_eq!(answered.error, missing);
    let [(_, name)] = &answered.answers[..] else {
        panic!("{answered:?}");
    };
    assert_eq!(name.as_deref().unwrap(), "three");
}

#[tokio::test]
async fn which_servers_are_missing_is_said_where_they_have_names() {
    let pair = pair(NodeWire::postgres()).await;
    let asked = pair.one().server_side_emit_with_ack::<()>("unknown", ());
    let answered = within("its time", asked).await.unwrap();
    assert_eq!((answered.answers.len(), answered.missing.len()), (0, 1));
}

#[tokio::test]
async fn a_server_that_goes_is_asked_no_more() {
    let pair = pair(NodeWire::postgres()).await;
    assert_eq!(pair.one().server_count().await, Ok(2));
    let asked = pair.one().server_side_emit_with_ack::<()>("unknown", ());
    pair.servers[1].close().await;
    let answered = within("its end", asked).await.unwrap();
    assert_eq!(answered.missing.len(), 1);
    assert_eq!(pair.one().server_count().await, Ok(1));
    assert!(
        pair.one()
            .broadcast()
            .sockets()
            .await
            .unwrap()
            .missing
            .is_empty()
    );
}
