//! That the load notices what a server does wrong: each test has a server with one fault.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use crate::{
    Result,
    broadcast::Broadcast,
    echo::{Echo, Shape},
    frame,
    net::Net,
    talk::{Pace, Talk},
};

type Messages = Vec<Vec<u8>>;

/// A server of one WebSocket: `answer` makes the answers to what came in one read.
fn server(mut answer: impl FnMut(Messages) -> Messages + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 64 * 1024];
        // Short messages that fit into one read: no frame is split.
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let mut rest = &buffer[..length];
            let mut messages = Vec::new();
            while let [_, size, key @ ..] = rest {
                let size = usize::from(size & 0x7f);
                let (key, body) = key.split_at(4);
                messages.push((0..size).map(|at| body[at] ^ key[at % 4]).collect());
                rest = &body[size..];
            }
            let mut out = Vec::new();
            for message in answer(messages) {
                out.extend_from_slice(&[0x80 | frame::TEXT, message.len() as u8]);
                out.extend_from_slice(&message);
            }
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    });
    address
}

fn net(answer: impl FnMut(Messages) -> Messages + Send + 'static) -> Net {
    let mut net = Net::new(server(answer))
        .unwrap()
        .patience(Duration::from_millis(200));
    let id = net.connect().unwrap();
    net.is_websocket_now(id);
    net
}

const TIME: Duration = Duration::from_millis(30);

fn echo(
    keeps_order: bool,
    answer: impl FnMut(Messages) -> Messages + Send + 'static,
) -> Result<Echo> {
    let mut net = net(answer);
    let mut load = Echo::new(Shape::Text, 1, 8, 40).keeps_order(keeps_order);
    load.run(&mut net, TIME)?;
    net.quiet(TIME)?;
    Ok(load)
}

fn error<T>(result: Result<T>) -> String {
    result
        .err()
        .map_or_else(String::new, |error| error.to_string())
}

#[test]
fn a_good_server_passes() {
    let load = echo(true, |messages| messages).unwrap();
    assert!(load.answered >= 8);
    assert_eq!(load.reordered, 0);
}

#[test]
fn a_lost_message_is_noticed() {
    let lost = error(echo(true, |mut messages| {
        messages.pop();
        messages
    }));
    assert!(lost.contains("expected number"), "{lost}");
}

#[test]
fn a_changed_message_is_noticed() {
    for at in [3, 12, 30, 45] {
        let changed = error(echo(true, move |mut messages| {
            messages[0][at] ^= 1;
            messages
        }));
        assert!(changed.contains("expected number 0"), "{changed}");
    }
}

#[test]
fn a_doubled_message_is_noticed_in_any_order() {
    for keeps_order in [true, false] {
        let doubled = error(echo(keeps_order, |mut messages| {
            messages.extend(messages.last().cloned());
            messages
        }));
        assert!(doubled.contains("expected"), "{doubled}");
    }
}

#[test]
fn swapped_messages_are_noticed_or_counted() {
    let swap = |mut messages: Messages| {
        messages.reverse();
        messages
    };
    let swapped = error(echo(true, swap));
    assert!(swapped.contains("expected number 0"), "{swapped}");
    assert!(echo(false, swap).unwrap().reordered > 0);
}

#[test]
fn a_broadcast_that_is_lost_or_goes_elsewhere_is_noticed() {
    let mut broadcast = Broadcast::new("broadcast", 1, 4, 40);
    assert!(broadcast.run(&mut net(|messages| messages), TIME).is_ok());

    let mut broadcast = Broadcast::new("broadcast", 1, 4, 40);
    let lost = error(broadcast.run(&mut net(|_| Vec::new()), TIME));
    assert!(
        lost.contains("lost: expected broadcast 0 on connection 0"),
        "{lost}"
    );

    let mut nobody = Broadcast::new("room", 0, 1, 40);
    let elsewhere = error(
        nobody
            .run(&mut net(|messages| messages), TIME)
            .and_then(|()| {
                let mut net = net(|messages| messages);
                net.send_text(0, b"42[\"room\"]");
                net.quiet(Duration::from_millis(100))
            }),
    );
    assert!(elsewhere.contains("expected nothing"), "{elsewhere}");
}

const OFFERED: Pace = Pace::Offered {
    each_second: 200,
    tick: Duration::from_millis(10),
};

fn talk(
    pace: Pace,
    keeps_order: bool,
    answer: impl FnMut(Messages) -> Messages + Send + 'static,
) -> Result<Talk> {
    let mut net = net(answer);
    let mut load = Talk::new("room", 1, 40, pace).keeps_order(keeps_order);
    load.run(&mut net, TIME)?;
    net.quiet(TIME)?;
    Ok(load)
}

#[test]
fn a_talk_at_each_pace_passes_with_a_good_server() {
    let load = talk(OFFERED, true, |messages| messages).unwrap();
    assert_eq!((load.delivered, load.reordered), (6, 0));
    assert!(
        talk(Pace::Full, true, |messages| messages)
            .unwrap()
            .delivered
            >= 1
    );
}

#[test]
fn what_is_lost_doubled_or_changed_in_a_talk_is_noticed() {
    let lost = error(talk(Pace::Full, true, |_| Vec::new()));
    assert!(
        lost.contains("lost: expected number 0 of client 0"),
        "{lost}"
    );
    for keeps_order in [true, false] {
        let doubled = error(talk(OFFERED, keeps_order, |mut messages| {
            messages.extend(messages.last().cloned());
            messages
        }));
        assert!(doubled.contains("expected"), "{doubled}");
        for at in [3, 12, 20, 35] {
            let changed = error(talk(OFFERED, keeps_order, move |mut messages| {
                messages[0][at] ^= 0x10;
                messages
            }));
            assert!(changed.contains("expected"), "{changed}");
        }
    }
}

#[test]
fn what_is_swapped_in_a_talk_is_noticed_or_counted() {
    // Two are held back until there are two.
    let swap = || {
        let mut held = Messages::new();
        move |messages: Messages| {
            held.extend(messages);
            match held.len() {
                0 | 1 => Messages::new(),
                _ => held.drain(..).rev().collect(),
            }
        }
    };
    let swapped = error(talk(OFFERED, true, swap()));
    assert!(
        swapped.contains("expected number 0 of client 0, got 1"),
        "{swapped}"
    );
    assert!(talk(OFFERED, false, swap()).unwrap().reordered > 0);
}
