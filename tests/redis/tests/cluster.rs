//! A Redis Cluster: each server at another of its nodes, which pass on among each other what is
//! published.

#![allow(clippy::unwrap_used)]

mod support;

use antiphon_redis::Redis;
use antiphon_test_cluster::{Pair, support::until};
use antiphon_test_redis::RedisServer;
use redis::Value;
use support::ready;

#[tokio::test(flavor = "multi_thread")]
async fn servers_at_two_nodes_hear_each_other() {
    let cluster = [0, 8_192].map(|slot: u32| {
        let node = RedisServer::with(&["--cluster-enabled", "yes"]);
        let slots = [slot.to_string(), (slot + 8_191).to_string()];
        node.command(&["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]);
        node
    });
    let port = cluster[1].port().to_string();
    cluster[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    let is_ok = |node: &RedisServer| match node.command(&["CLUSTER", "INFO"]) {
        Value::BulkString(info) => String::from_utf8(info).unwrap().contains("state:ok"),
        other => panic!("{other:?}"),
    };
    until("the cluster", || cluster.iter().all(is_ok)).await;
    let nodes = [
        Redis::connect(&cluster[0].url()).await.unwrap(),
        Redis::connect(&cluster[1].url()).await.unwrap(),
    ];
    for node in &nodes {
        until("both servers", || node.servers().len() == 2).await;
        ready(node).await;
    }
    let pair = Pair::new(nodes.clone(), || Box::pin(async {}));
    let (mut clients, _) = pair.clients(["a", "b"]).await;
    nodes[1].subscribed().await;
    pair.one().to("b").emit("n", 1).into_result().unwrap();
    clients[1].expect(r#"42["n",1]"#).await;
    pair.comes_to_both(&mut clients).await;
}
