//! The wire of Node's adapter for Redis streams when its Redis, or the connection to it, fails, and
//! what else has to do with streams.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use antiphon::{Server, Socket};
use antiphon_cluster::Health;
use antiphon_redis::{Error, NodeWire, Redis};
use antiphon_test_cluster::{
    Client, features, joined,
    support::{Received, until, within},
};
use antiphon_test_redis::RedisServer;
use redis::Value;
use support::Streams;

impl Streams {
    /// The ids of the connections that read.
    fn readers(&self) -> Vec<String> {
        let clients = self.redis.clients("normal");
        let readers = clients.iter().filter(|client| client.contains("cmd=xread"));
        let id = |client: &String| client.split([' ', '=']).nth(1).unwrap().to_owned();
        readers.map(id).collect()
    }

    /// Kills the connections that read, and does this before there are new ones.
    fn kill_readers_and(&self, then: redis::Cmd) {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for id in self.readers() {
            pipeline
                .cmd("CLIENT")
                .arg("KILL")
                .arg("ID")
                .arg(id)
                .ignore();
        }
        pipeline.add_command(then).ignore();
        pipeline.exec(&mut self.connection()).unwrap();
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.redis.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// Events `n` with these numbers that another server appends, of which the stream keeps so many.
    fn appended(&self, numbers: std::ops::Range<u32>, kept: u32) -> redis::Cmd {
        let script = r#"
            for number = ARGV[1], ARGV[2] - 1 do
                local packet = '{"type":2,"data":["n",' .. string.format('%d', number) .. ']}'
                local data = '{"opts":{"rooms":[],"except":[]},"packet":' .. packet .. '}'
                redis.call('XADD', 'socket.io', '*', 'uid', 'other', 'nsp', '/', 'type', '3', 'data', data)
            end
            redis.call('XTRIM', 'socket.io', 'MAXLEN', ARGV[3])"#;
        let mut eval = redis::cmd("EVAL");
        eval.arg(script).arg(0);
        eval.arg(numbers.start).arg(numbers.end).arg(kept);
        eval
    }
}

async fn with(wire: NodeWire) -> Streams {
    Streams::built(RedisServer::start(), wire, Server::builder).await
}

/// The numbers of events `n`, of which the last is this.
async fn numbers_to(client: &mut Client, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let Received::Text(text) = client.next().await else {
            panic!("no text");
        };
        let number = text.strip_prefix(r#"42["n","#);
        let number = number.unwrap_or_else(|| panic!("{text}"));
        numbers.push(number.trim_end_matches(']').parse().unwrap());
    }
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_are_killed_lose_and_double_nothing() {
    let two = Streams::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    let mut kills = 0;
    for number in 0..1_000 {
        two.pair
            .one()
            .to("b")
            .emit("n", number)
            .into_result()
            .unwrap();
        if number % 50 == 0 {
            let readers = two.readers();
            kills += readers.len();
            for id in readers {
                two.redis.command(&["CLIENT", "KILL", "ID", &id]);
            }
        }
        if number % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(kills > 10, "{kills}");
    let numbers = within("the last", numbers_to(&mut there, 999)).await;
    assert!(numbers.into_iter().eq(0..1_000));
    assert_eq!(two.nodes[1].stats().dropped, 0);
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_are_read_at_once_come_in_order() {
    let two = Streams::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    two.appended(0..5_000, 10_000)
        .exec(&mut two.connection())
        .unwrap();
    let numbers = within("the last", numbers_to(&mut there, 4_999)).await;
    assert!(numbers.into_iter().eq(0..5_000));
    assert_eq!(two.nodes[1].stats().dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_before_it_is_read_is_counted() {
    let two = Streams::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    // A server that waits for entries sees those that are left.
    two.appended(0..1_000, 300)
        .exec(&mut two.connection())
        .unwrap();
    let numbers = within("the last", numbers_to(&mut there, 999)).await;
    assert!(numbers.into_iter().eq(700..1_000));
    assert_eq!(two.nodes[1].stats().dropped, 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_while_a_reader_is_away_is_counted() {
    let two = Streams::new().await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    two.pair.one().emit("n", 0).into_result().unwrap();
    assert_eq!(numbers_to(&mut there, 0).await, [0]);
    until("they read", || two.readers().len() == 2).await;
    two.kill_readers_and(two.appended(1..101, 10));
    let numbers = within("the last", numbers_to(&mut there, 100)).await;
    assert!(numbers.into_iter().eq(91..101));
    assert_eq!(two.nodes[1].stats().dropped, 90);
    two.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_crashes_and_starts_again_with_nothing_is_found_again() {
    let mut two = Streams::new().await;
    let (mut clients, _) = two.pair.clients(["a", "b"]).await;
    two.pair.comes_to_both(&mut clients).await;
    two.redis.kill();
    two.down().await;
    two.redis.restart();
    two.ready().await;
    two.pair.comes_to_both(&mut clients).await;
    two.pair.two().emit("n", 1).into_result().unwrap();
    assert_eq!(numbers_to(&mut clients[0], 1).await, [1]);
    assert_eq!(two.nodes[0].stats().dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_left_out_and_counted() {
    let two = Streams::new().await;
    let (mut clients, _) = two.pair.clients(["a", "b"]).await;
    let mut connection = two.connection();
    let garbage: [&[&[u8]]; 6] = [
        &[b"nsp", b"/"],
        &[b"nsp", b"/", b"type", b"three"],
        &[b"nsp", b"/", b"type", b"3", b"data", b"{"],
        &[b"nsp", b"/", b"type", b"3", b"data", b"%%%"],
        &[b"nsp", b"/", b"type", b"3"],
        &[b"nsp", b"\xff", b"type", b"3"],
    ];
    let of_others: [&[&[u8]]; 2] = [&[b"of", b"another"], &[b"nsp", b"/nowhere", b"type", b"x"]];
    for fields in garbage.into_iter().chain(of_others) {
        let mut add = redis::cmd("XADD");
        add.arg("socket.io").arg("*").arg(fields);
        add.exec(&mut connection).unwrap();
    }
    two.pair.comes_to_both(&mut clients).await;
    for node in &two.nodes {
        // One of them has its own event before it has read what came before.
        let counted = || node.stats().malformed == garbage.len() as u64;
        until("all are counted", counted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_spread_over_streams_and_all_are_read() {
    let mut wire = NodeWire::streams();
    if let NodeWire::Streams { count, .. } = &mut wire {
        *count = 3;
    }
    let two = with(wire).await;
    let (mut clients, _) = two.pair.clients(["a", "b"]).await;
    two.pair.comes_to_both(&mut clients).await;
    // The hash of "/" is 47.
    assert_eq!(two.redis.command(&["XLEN", "socket.io-2"]), Value::Int(1));
    // What a server of Node writes for a namespace whose hash is negative.
    let data = r#"{"opts":{"rooms":[],"except":[]},"packet":{"type":2,"data":["n",1]}}"#;
    let entry = ["uid", "n1", "nsp", "/", "type", "3", "data", data];
    two.redis
        .command(&[&["XADD", "socket.io--1", "*"], &entry[..]].concat());
    for client in &mut clients {
        assert_eq!(numbers_to(client, 1).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_trimmed_to_about_its_length() {
    let mut wire = NodeWire::streams();
    if let NodeWire::Streams { max_len, .. } = &mut wire {
        *max_len = 200;
    }
    let two = with(wire).await;
    let ([_here, mut there], _) = two.pair.clients(["a", "b"]).await;
    for number in 0..2_000 {
        two.pair
            .one()
            .to("b")
            .emit("n", number)
            .into_result()
            .unwrap();
        numbers_to(&mut there, number).await;
    }
    let Value::Int(length) = two.redis.command(&["XLEN", "socket.io"]) else {
        panic!("no length");
    };
    assert!((200..=400).contains(&length), "{length}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_server_emits_and_reads_nothing() {
    let two = Streams::new().await;
    let emitter = Redis::builder(&two.redis.url());
    let emitter = emitter.node_emitter(NodeWire::streams()).await.unwrap();
    until("its servers read", || two.readers().len() == 2).await;
    features::a_program_that_is_no_server_emits(two.pair, emitter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_told_with_what_it_needs() {
    let redis = RedisServer::start();
    let rights = [
        "ACL",
        "SETUSER",
        "able",
        "on",
        ">secret",
        "resetchannels",
        "&socket.io*",
    ];
    let commands = ["+@all", "resetkeys"];
    redis.command(&[&rights[..], &commands].concat());
    let builder = || Redis::builder(&redis.url_of("able:secret@"));
    let refused = builder()
        .connect_node(NodeWire::streams())
        .await
        .unwrap_err();
    let Error::Forbidden { rights: needed, .. } = refused else {
        panic!("{refused:?}");
    };
    let least = ["ACL", "SETUSER", "able", "reset", "on", ">secret"];
    let needed: Vec<_> = needed.split(' ').collect();
    redis.command(&[&least[..], &needed].concat());
    let node = builder().connect_node(NodeWire::streams()).await.unwrap();
    let mut health = node.watch_health();
    let ready = health.wait_for(|health| *health == Health::Ready);
    within("its health", ready).await.unwrap();
    let io = Server::builder().adapter(node.clone()).build();
    io.of("/").on("enter", async |_: Socket| {});
    let (mut client, _) = joined(&io, "a").await;
    io.of("/").emit("n", 1).into_result().unwrap();
    assert_eq!(numbers_to(&mut client, 1).await, [1]);
    assert_eq!(io.of("/").server_count().await, Ok(1));
    until("it is appended", || {
        redis.command(&["XLEN", "socket.io"]) == Value::Int(1)
    })
    .await;
    assert_eq!(node.stats().lost, 0);
}
