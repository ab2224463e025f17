//! A primary that fails, and Sentinels that name another one.

#![allow(clippy::unwrap_used)]

mod support;

use antiphon_redis::{Error, Redis};
use antiphon_test_cluster::{
    Pair,
    support::{until, within},
};
use antiphon_test_redis::{RedisServer, free_port};
use redis::Value;
use support::{down_for, ready};

const NAME: &str = "the-primary";

async fn connect(sentinels: &[String]) -> Result<Redis, Error> {
    let redis = Redis::builder(&format!("redis://{NAME}")).sentinels(sentinels);
    within("the connection", redis.connect()).await
}

/// How many servers of ours listen at a Redis.
fn listeners(redis: &RedisServer) -> i64 {
    let control = redis.command(&["PUBSUB", "NUMSUB", "antiphon:control"]);
    let (_, count): (String, i64) = redis::from_redis_value(control).unwrap();
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_follow_the_primary_that_sentinels_name() {
    let mut first = RedisServer::start();
    let of = format!("127.0.0.1 {}", first.port());
    let second = RedisServer::with(&["--replicaof", &of]);
    let in_sync = || second.info("master_link_status") == "up";
    until("the replica", in_sync).await;
    let sentinel = first.sentinel(NAME);
    let replicas = || match sentinel.command(&["SENTINEL", "REPLICAS", NAME]) {
        Value::Array(replicas) => replicas.len(),
        other => panic!("{other:?}"),
    };
    until("its replica", || replicas() == 1).await;

    // The first of the Sentinels is away.
    let away = format!("redis://127.0.0.1:{}", free_port());
    let sentinels = [away, sentinel.url()];
    let nodes = [
        connect(&sentinels).await.unwrap(),
        connect(&sentinels).await.unwrap(),
    ];
    for node in &nodes {
        ready(node).await;
    }
    let pair = Pair::new(nodes.clone(), || Box::pin(async {}));
    let (mut clients, _) = pair.clients(["a", "b"]).await;
    nodes[1].subscribed().await;
    pair.one().to("b").emit("n", 1).into_result().unwrap();
    clients[1].expect(r#"42["n",1]"#).await;

    first.kill();
    let reason = down_for(&nodes[0], "").await;
    assert!(reason.contains("Redis at 127.0.0.1"), "{reason}");
    for node in &nodes {
        ready(node).await;
    }
    assert_eq!(listeners(&second), 2);
    pair.one().to("b").emit("n", 2).into_result().unwrap();
    clients[1].expect(r#"42["n",2]"#).await;

    // What was the primary comes back and takes itself for it yet, and nobody goes there.
    first.restart();
    pair.two().to("a").emit("n", 3).into_result().unwrap();
    clients[0].expect(r#"42["n",3]"#).await;
    assert_eq!(listeners(&first), 0);
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_an_error_that_says_what_each_said() {
    let redis = RedisServer::start();
    let sentinel = redis.sentinel("another");
    let away = format!("redis://127.0.0.1:{}", free_port());
    let error = connect(&[away, sentinel.url()]).await.unwrap_err();
    assert!(matches!(error, Error::NoPrimary { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(NAME) && text.contains("it knows none"),
        "{text}"
    );
    assert!(text.contains(&format!(":{}: ", sentinel.port())), "{text}");
}
