//! Namespaces that clients have caused, and that nobody is in any more.

use std::time::{Duration, Instant};

use antiphon::{Auth, Namespace, Recovery, Server};

use crate::{
    join, joined, open, refused,
    support::{serve, until},
};

#[tokio::test]
async fn an_empty_namespace_goes_away_if_the_options_say_so() {
    for removes in [true, false] {
        let io = Server::builder().remove_empty_namespaces(removes).build();
        let rooms = io.of_pattern("/room-{id}");
        rooms.on("ping", async || "pong");
        let _pinned = io.of("/room-pinned");
        let address = serve(&io).await;
        let (mut client, _) = joined(address, "/room-1").await;
        join(&mut client, "/room-pinned", "").await;
        join(&mut client, "/room-retains", "").await;
        io.namespace("/room-retains")
            .unwrap()
            .broadcast()
            .retain()
            .emit("r", ());
        client.expect(r#"42/room-retains,["r"]"#).await;
        let first = io.namespace("/room-1").unwrap();
        client.send("41/room-1,").await;
        client.send("41/room-pinned,").await;
        client.send("41/room-retains,").await;
        if removes {
            until("its end", || io.namespace("/room-1").is_none()).await;
        } else {
            until("its end", || first.sockets_count() == 0).await;
        }
        // By a connection that ends, too. It comes again as another.
        join(&mut client, "/room-1", "").await;
        assert_eq!(io.namespace("/room-1").unwrap() == first, !removes);
        client.send(r#"42/room-1,1["ping"]"#).await;
        client.expect(r#"43/room-1,1["pong"]"#).await;
        drop(client);
        let left = if removes { 2 } else { 3 };
        until("the sockets' end", || io.engine().stats().sessions == 0).await;
        until("the children's end", || rooms.children().len() == left).await;
    }
}

#[tokio::test]
async fn clients_that_are_refused_leave_no_namespace_behind() {
    let io = Server::builder().max_dynamic_namespaces(2).build();
    let rooms = io.of_pattern("/room-{id}");
    rooms.middleware(
        async |Auth(auth): Auth<serde_json::Value>| match auth["n"].as_u64() {
            Some(_) => Ok(()),
            None => Err("a number, please".into()),
        },
    );
    let mut client = open(serve(&io).await).await;
    for number in 0..10 {
        refused(
            &mut client,
            &format!("/room-{number}"),
            r#"{"message":"a number, please"}"#,
        )
        .await;
    }
    join(&mut client, "/room-1", r#"{"n":1}"#).await;
    client.send("41/room-1,").await;
    refused(&mut client, "/room-2", r#"{"message":"a number, please"}"#).await;
    let names: Vec<_> = rooms
        .children()
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    assert_eq!(names, ["/room-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_joins_a_namespace_that_goes_away() {
    let io = Server::builder().remove_empty_namespaces(true).build();
    let rooms = io.of_pattern("/room-{id}");
    rooms.on("all", async |namespace: Namespace| {
        namespace.emit("all", ()).is_queued()
    });
    let address = serve(&io).await;
    let clients = (0..8).map(|_| {
        let io = io.clone();
        tokio::spawn(async move {
            let mut client = open(address).await;
            for _ in 0..100 {
                let id = join(&mut client, "/room-1", "").await;
                // The namespace that everybody finds has its socket.
                let namespace = io.namespace("/room-1").unwrap();
                assert!(namespace.socket(&id).is_some());
                client.send("41/room-1,").await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    until("the namespace's end", || rooms.children().is_empty()).await;
}

#[tokio::test]
async fn a_namespace_with_recovery_goes_when_nobody_can_come_back() {
    // Long enough for a client to come back in time on a busy machine.
    const AWAY: Duration = Duration::from_secs(5);

    let recovery = Recovery::new().duration(AWAY).namespaces(["/room-{id}"]);
    let io = Server::builder()
        .recovery(recovery)
        .remove_empty_namespaces(true)
        .build();
    let rooms = io.of_pattern("/room-{id}");
    let address = serve(&io).await;
    let mut client = open(address).await;
    client.send("40/room-1,").await;
    let connected = client.expect_prefix("40/room-1,").await;
    let connected: serde_json::Value = serde_json::from_str(&connected[10..]).unwrap();
    let pid = connected["pid"].as_str().unwrap().to_owned();
    drop(client);
    until("its end", || io.engine().stats().sessions == 0).await;
    rooms.emit("missed", ());
    let mut client = open(address).await;
    client
        .send(&format!(r#"40/room-1,{{"pid":"{pid}"}}"#))
        .await;
    let back = client.expect_prefix("40/room-1,").await;
    assert!(back.contains(&pid), "{back}");
    client.expect_prefix(r#"42/room-1,["missed","#).await;
    // Before it leaves: the end of its session may be seen late.
    let left = Instant::now();
    drop(client);
    until("the namespace's end", || rooms.children().is_empty()).await;
    assert!(left.elapsed() >= AWAY, "{:?}", left.elapsed());
}
