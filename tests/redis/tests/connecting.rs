//! How the first connection goes: what is wrong is an error that says what to do.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};

use antiphon_cluster::Health;
use antiphon_redis::{Error, NodeWire, Redis};
use antiphon_test_cluster::{
    faults::servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes,
    support::within,
};
use antiphon_test_redis::{RedisServer, free_port};
use support::{Two, ready};

async fn error(url: &str) -> Error {
    within("an error", Redis::connect(url)).await.unwrap_err()
}

/// What listens here answers everything with this, or nothing.
fn listens(answer: Option<&'static [u8]>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(answer) = answer {
                let _ = stream.read(&mut [0; 1_024]);
                let _ = stream.write_all(answer);
            }
            held.push(stream);
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn a_wrong_url_is_an_error_also_for_those_that_wait() {
    let wrong = Redis::builder("http://127.0.0.1").wait().connect().await;
    assert!(matches!(wrong, Err(Error::Url { .. })), "{wrong:?}");
}

#[tokio::test]
async fn a_wrong_password_says_so_and_the_right_one_is_taken() {
    let redis = RedisServer::with(&["--requirepass", "secret"]);
    for login in ["", ":wrong@", "nobody:secret@"] {
        let error = error(&redis.url_of(login)).await;
        assert!(matches!(error, Error::Login { .. }), "{login}: {error:?}");
    }
    Redis::connect(&redis.url()).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error() {
    let error = error(&format!("redis://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let error = self::error("redis://no-such-host.invalid").await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redis_that_doesnt_answer_is_an_error_in_time() {
    let error = error(&listens(None)).await;
    assert!(
        matches!(error, Error::Silent { seconds: 5, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_old_redis_is_told_by_its_age() {
    let answer = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n\
        -ERR unknown subcommand\r\n-ERR unknown subcommand\r\n";
    let error = error(&listens(Some(answer))).await;
    assert!(matches!(error, Error::TooOld { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_redis_is_an_error() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let error = error(&listens(Some(answer))).await;
    assert!(matches!(error, Error::NotRedis { .. }), "{error:?}");
}

#[tokio::test]
async fn who_isnt_let_in_learns_that_and_what_may_be_the_reason() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let error = error(&format!("redis://{address}")).await;
    assert!(matches!(error, Error::NotTaken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redis_whose_configuration_disables_a_command_says_so_at_the_start() {
    let redis = RedisServer::with(&["--rename-command", "XADD", ""]);
    let streams = Redis::builder(&redis.url()).connect_node(NodeWire::streams());
    let error = within("an error", streams).await.unwrap_err();
    assert!(matches!(error, Error::NoCommand { .. }), "{error:?}");
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = RedisServer::start();
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = RedisServer::with(&["--replicaof", &of]);
    let error = error(&replica.url()).await;
    assert!(matches!(error, Error::Replica { .. }), "{error:?}");
}

#[tokio::test]
async fn a_user_without_rights_learns_which_are_needed_and_with_these_it_works() {
    let redis = RedisServer::start();
    let allow = |user: &str, rights: &[&str]| {
        let words = ["ACL", "SETUSER", user, "on", ">secret", "resetchannels"];
        redis.command(&[&words[..], rights].concat());
    };
    allow("mute", &["+@all", "-publish", "&antiphon:*"]);
    allow("deaf", &["+@all", "-subscribe", "&antiphon:*"]);
    allow("elsewhere", &["+@all", "&other:*"]);
    for user in ["mute", "deaf", "elsewhere"] {
        let error = error(&redis.url_of(&format!("{user}:secret@"))).await;
        assert!(
            matches!(error, Error::Forbidden { .. }),
            "{user}: {error:?}"
        );
        let text = error.to_string();
        assert!(text.contains("&antiphon:*"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    // The rights of the text are enough.
    let text = error(&redis.url_of("mute:secret@")).await.to_string();
    let (_, rights) = text.split_once("ACL SETUSER .. ").unwrap();
    let rights: Vec<_> = rights.split_ascii_whitespace().collect();
    allow("able", &rights);
    let able = Redis::connect(&redis.url_of("able:secret@")).await.unwrap();
    ready(&able).await;
}

#[tokio::test]
async fn a_user_of_nodes_wires_learns_at_the_start_which_command_it_may_not_use() {
    let redis = RedisServer::start();
    let both = ["subscribe", "psubscribe", "publish", "pubsub"];
    let of_streams = ["xadd", "xread", "xinfo"];
    let sharded = ["ssubscribe", "spublish", "pubsub"];
    let wires = [
        (NodeWire::classic(), both.to_vec()),
        (NodeWire::sharded(), sharded.to_vec()),
        (NodeWire::streams(), [&both[..], &of_streams].concat()),
    ];
    for (wire, commands) in wires {
        for command in commands {
            let but = format!("-{command}");
            redis.command(&[
                "ACL", "SETUSER", "u", "reset", "on", ">secret", "~*", "&*", "+@all", &but,
            ]);
            let redis = Redis::builder(&redis.url_of("u:secret@"));
            let connects = within("an error", redis.connect_node(wire.clone())).await;
            let error = connects.err();
            assert!(
                matches!(&error, Some(Error::Forbidden { .. })),
                "{wire:?} without {command}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_emitter_needs_the_right_to_publish_alone() {
    let redis = RedisServer::start();
    let rights = ["ACL", "SETUSER", "u", "on", ">secret", "+hello", "+publish"];
    redis.command(&[&rights[..], &["&antiphon:*"]].concat());
    let emitter = Redis::builder(&redis.url_of("u:secret@")).emitter();
    within("its connection", emitter).await.unwrap();
}

#[tokio::test]
async fn servers_that_dont_wait_for_their_redis_begin_alone_and_find_it_when_it_comes() {
    let mut redis = RedisServer::start();
    redis.kill();
    let builder = Redis::builder(&redis.url()).wait();
    let [one, two] = [builder.clone().connect(), builder.connect()];
    let nodes = [one.await.unwrap(), two.await.unwrap()].map(|node| (*node).clone());
    servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes(nodes, || {
        redis.restart();
    })
    .await;
}

#[tokio::test]
async fn clusters_with_two_prefixes_dont_hear_each_other() {
    let two = Two::new().await;
    let other = Redis::builder(&two.redis.url()).prefix("shop");
    let other = other.connect().await.unwrap();
    within("its start", other.started()).await;
    assert_eq!(other.health(), Health::Ready);
    assert_eq!(other.servers().len(), 1);
    assert_eq!(two.nodes[0].servers().len(), 2);
}
