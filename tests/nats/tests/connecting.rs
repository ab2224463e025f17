//! How the first connection goes: what is wrong is an error that says what to do.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use antiphon_cluster::Health;
use antiphon_nats::{Error, Nats};
use antiphon_test_cluster::{
    faults::servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes,
    support::within,
};
use antiphon_test_nats::{NatsServer, free_port};
use support::{Two, ready};

async fn error(url: &str) -> Error {
    within("an error", Nats::connect(url)).await.unwrap_err()
}

/// What listens here greets everybody with this, or says nothing.
fn listens(greeting: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(greeting);
            held.push(stream);
        }
    });
    format!("nats://{address}")
}

#[tokio::test]
async fn a_wrong_url_is_an_error_also_for_those_that_wait() {
    let wrong = Nats::builder("http://127.0.0.1").wait().connect().await;
    assert!(matches!(wrong, Err(Error::Url { .. })), "{wrong:?}");
}

#[tokio::test]
async fn a_wrong_password_says_so_and_the_right_one_is_taken() {
    let nats = NatsServer::with("authorization { user: able, password: \"s@cret\" }");
    for login in ["", "able:wrong@", "nobody:s%40cret@", "s%40cret@"] {
        let error = error(&nats.url_of(login)).await;
        assert!(matches!(error, Error::Login { .. }), "{login}: {error:?}");
        assert!(!error.to_string().contains("cret"), "{error}");
    }
    let able = Nats::connect(&nats.url_of("able:s%40cret@")).await.unwrap();
    ready(&able).await;
}

#[tokio::test]
async fn a_wrong_token_says_so_and_the_right_one_is_taken() {
    let nats = NatsServer::with("authorization { token: secret }");
    let error = error(&nats.url_of("wrong@")).await;
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
    let able = Nats::connect(&nats.url_of("secret@")).await.unwrap();
    ready(&able).await;
}

#[tokio::test]
async fn a_nats_that_is_away_is_an_error() {
    let error = error(&format!("nats://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let error = self::error("nats://no-such-host.invalid").await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn of_several_servers_one_that_is_there_is_taken() {
    let nats = NatsServer::start();
    let url = format!("nats://127.0.0.1:{},{}", free_port(), nats.url());
    ready(&Nats::connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn a_nats_that_doesnt_answer_is_an_error_in_time() {
    for greeting in [&b""[..], b"INFO {\"max_payload\":1000}\r\n"] {
        let error = error(&listens(greeting)).await;
        assert!(
            matches!(error, Error::Silent { seconds: 5, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_nats_is_an_error() {
    let error = error(&listens(b"220 mail.example.com ESMTP\r\n")).await;
    assert!(matches!(error, Error::NotNats { .. }), "{error:?}");
    assert!(error.to_string().contains("220 mail"), "{error}");
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn a_server_that_wants_tls_says_so() {
    let error = error(&listens(b"INFO {\"tls_required\":true}\r\n")).await;
    assert!(matches!(error, Error::NoTls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_user_without_rights_learns_which_are_needed_and_with_these_it_works() {
    let user = |name: &str, rights: &str| {
        format!("{{ user: {name}, password: secret, permissions {{ {rights} }} }}")
    };
    let mute = user("mute", "publish: \"other.>\", subscribe: \"antiphon.>\"");
    let deaf = user("deaf", "publish: \"antiphon.>\", subscribe: \"other.>\"");
    let nats = NatsServer::with(&format!("authorization {{ users: [{mute}, {deaf}] }}"));
    let mut needed = String::new();
    for user in ["mute", "deaf"] {
        let error = error(&nats.url_of(&format!("{user}:secret@"))).await;
        assert!(
            matches!(error, Error::Forbidden { .. }),
            "{user}: {error:?}"
        );
        needed = error.to_string();
        assert!(!needed.contains("secret"), "{needed}");
    }
    // The rights of the text are enough.
    let (_, rights) = needed.split_once("needed: permissions { ").unwrap();
    let able = user("able", rights.trim_end_matches(['}', ' ']));
    let nats = NatsServer::with(&format!("authorization {{ users: [{able}] }}"));
    let able = Nats::connect(&nats.url_of("able:secret@")).await.unwrap();
    ready(&able).await;
}

#[tokio::test]
async fn servers_that_dont_wait_for_their_nats_begin_alone_and_find_it_when_it_comes() {
    let mut nats = NatsServer::start();
    nats.kill();
    let builder = Nats::builder(&nats.url()).wait();
    let [one, two] = [builder.clone().connect(), builder.connect()];
    let nodes = [one.await.unwrap(), two.await.unwrap()].map(|node| (*node).clone());
    servers_that_wait_for_nothing_begin_alone_and_find_the_broker_when_it_comes(nodes, || {
        nats.restart();
    })
    .await;
}

#[tokio::test]
async fn clusters_with_two_prefixes_dont_hear_each_other() {
    let two = Two::new().await;
    let other = Nats::builder(&two.nats.url()).prefix("shop.eu");
    let other = other.connect().await.unwrap();
    within("its start", other.started()).await;
    assert_eq!(other.health(), Health::Ready);
    assert_eq!(other.servers().len(), 1);
    assert_eq!(two.nodes[0].servers().len(), 2);
}
