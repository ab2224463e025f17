//! The index of rooms: against a model, and how it grows and shrinks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::RecvTimeoutError,
};

use super::*;
use crate::{
    Server,
    server::{Handshake, client::handshake::Kept, handlers::permits::Permits},
};

/// A socket that is in no index yet.
fn socket(io: &Server) -> Socket {
    let (request, ()) = http::Request::new(()).into_parts();
    let permits = Arc::new(Permits::new(1));
    let handshake = Handshake::new(&request, &Kept::default());
    Socket::of_call(io.of("/"), io.engine(), &permits, Arc::new(handshake), None)
}

fn room(number: usize) -> Room {
    Room::from(format!("room {number}"))
}

fn target(room: &Room) -> Target {
    Target {
        rooms: vec![Room::clone(room)],
        ..Target::default()
    }
}

/// Everyone and everything is where the model says, and both sides of the index agree.
fn assert_is(rooms: &Rooms, sockets: &[Socket], model: &BTreeMap<usize, Vec<Room>>) {
    assert_eq!(rooms.len(), model.len());
    let mut members = BTreeMap::<Room, BTreeSet<&str>>::new();
    for (number, joined) in model {
        let socket = &sockets[*number];
        let mut expected = vec![socket.id().as_shared().clone()];
        expected.extend(joined.iter().cloned());
        assert_eq!(rooms.of_socket(socket), expected, "in the order of joining");
        for room in joined {
            let members = members.entry(Room::clone(room)).or_default();
            members.insert(socket.id().as_str());
        }
    }
    let occupied: BTreeMap<_, _> = rooms.occupied().into_iter().collect();
    let expected = members.iter();
    let expected: BTreeMap<_, _> = expected
        .map(|(room, members)| (Room::clone(room), members.len()))
        .collect();
    assert_eq!(occupied, expected);
    for (room, members) in &members {
        let mut found = Vec::new();
        rooms.for_each(&target(room), |socket| found.push(socket.clone()));
        assert_eq!(found.len(), members.len());
        assert!(found.iter().all(|one| members.contains(one.id().as_str())));
    }
}

#[test]
fn whoever_joins_and_leaves_is_where_they_should_be() {
    let io = Server::new();
    let sockets: Vec<_> = (0..8).map(|_| socket(&io)).collect();
    let rooms = Rooms::default();
    let mut model = BTreeMap::<usize, Vec<Room>>::new();
    // A generator of its own, so that each run is the same.
    let mut random = 7_u64;
    let mut below = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % bound) as usize
    };
    for step in 0..30_000 {
        let number = below(8);
        let socket = &sockets[number];
        // More rooms than places are kept for, and seldom everyone at once.
        let name = room(below(120));
        match below(100) {
            0..2 => {
                rooms.remove(socket);
                model.remove(&number);
            }
            2..50 => {
                let wanted = std::slice::from_ref(&name);
                if !rooms.join_one(socket, wanted) {
                    rooms.add(socket.clone(), wanted);
                }
                let joined = model.entry(number).or_default();
                if !joined.contains(&name) {
                    joined.push(name);
                }
            }
            50..98 => {
                rooms.leave_one(socket, std::slice::from_ref(&name));
                if let Some(joined) = model.get_mut(&number) {
                    joined.retain(|one| *one != name);
                }
            }
            _ => {
                rooms.leave(&Target::default(), std::slice::from_ref(&name));
                for joined in model.values_mut() {
                    joined.retain(|one| *one != name);
                }
            }
        }
        if step % 100 == 0 {
            assert_is(&rooms, &sockets, &model);
        }
    }
    assert_is(&rooms, &sockets, &model);
}

/// So many that what is quadratic takes minutes.
const MANY: usize = 100_000;

#[test]
fn leaving_many_rooms_one_by_one_costs_as_much_for_each_as_leaving_one() {
    let (ended, end) = std::sync::mpsc::channel();
    let leaving = std::thread::spawn(move || {
        leave_one_by_one();
        ended.send(())
    });
    // Ample for what is linear, also on a busy machine.
    if end.recv_timeout(std::time::Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
        panic!("leaving rooms takes longer the more there are");
    }
    leaving.join().unwrap().unwrap();
}

fn leave_one_by_one() {
    let io = Server::new();
    let rooms = Rooms::default();
    let (one, other) = (socket(&io), socket(&io));
    let names: Vec<_> = (0..MANY).map(room).collect();
    rooms.add(one.clone(), &names);
    rooms.add(other.clone(), &names[..1]);
    for name in &names {
        assert!(rooms.leave_one(&one, std::slice::from_ref(name)));
    }
    assert_eq!(rooms.of_socket(&one).len(), 1);
    rooms.join_one(&one, &names);
    for name in &names {
        rooms.leave(&target(name), std::slice::from_ref(name));
    }
    assert_eq!(rooms.occupied(), []);
    rooms.join_one(&one, &names);
    rooms.leave_one(&one, &names);
    assert_eq!(rooms.occupied(), []);
}

#[test]
fn what_many_rooms_needed_is_given_back_while_their_socket_stays() {
    let io = Server::new();
    let rooms = Rooms::default();
    let (stays, leaves) = (socket(&io), socket(&io));
    let names: Vec<_> = (0..MANY).map(room).collect();
    // The last room is the one that stays: it lies behind all the others.
    rooms.add(leaves.clone(), &names[1..]);
    rooms.add(stays.clone(), &names);
    rooms.remove(&leaves);
    rooms.leave_one(&stays, &names[..MANY - 1]);
    let last = &names[MANY - 1];
    assert_eq!(rooms.occupied(), [(last.clone(), 1)]);
    assert_eq!(rooms.of_socket(&stays)[1..], *std::slice::from_ref(last));
    let index = rooms.read();
    assert!(index.rooms.capacity() <= FEW, "{}", index.rooms.capacity());
    assert!(index.by_name.capacity() <= 4 * FEW);
    let (_, member) = index.members.iter().next().unwrap();
    assert!(member.rooms.capacity() <= 2 * FEW_IN_A_LIST);
}

#[test]
fn what_a_crowd_needed_is_given_back_while_its_last_member_stays() {
    const CROWD: usize = 20_000;
    let io = Server::new();
    let rooms = Rooms::default();
    let lobby = [Room::from("lobby")];
    let sockets: Vec<_> = (0..CROWD).map(|_| socket(&io)).collect();
    for socket in &sockets {
        rooms.add(socket.clone(), &lobby);
    }
    let (last, others) = sockets.split_last().unwrap();
    for socket in others {
        rooms.remove(socket);
    }
    let mut found = Vec::new();
    rooms.for_each(&target(&lobby[0]), |socket| found.push(socket.clone()));
    assert_eq!(found, *std::slice::from_ref(last));
    assert_eq!(rooms.get(last.id().as_str()), Some(last.clone()));
    assert_eq!(rooms.of_socket(last).len(), 2);
    let index = rooms.read();
    assert!(index.members.capacity() <= FEW);
    assert!(index.by_id.capacity() <= 4 * FEW);
    let (_, occupied) = index.rooms.iter().next().unwrap();
    assert!(occupied.members.capacity() <= 2 * FEW_IN_A_LIST);
}

#[test]
fn a_socket_with_the_id_of_another_is_another() {
    let io = Server::new();
    let rooms = Rooms::default();
    let old = socket(&io);
    let new = old.with_the_same_id();
    let lobby = [Room::from("lobby")];
    rooms.add(new.clone(), &lobby);
    assert!(!rooms.join_one(&old, &[Room::from("of the old one")]));
    assert!(!rooms.leave_one(&old, &lobby));
    assert_eq!(rooms.of_socket(&old), []);
    rooms.remove(&old);
    assert_eq!(rooms.of_socket(&new).len(), 2);
}

#[cfg(feature = "test")]
#[tokio::test]
async fn a_broadcast_comes_last_to_a_socket_that_another_thread_writes_to() {
    let io = Server::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(crate::test::Client::connect(&io).await.unwrap());
    }
    let namespace = io.of("/");
    let rooms = namespace.joins().rooms();
    let in_order = || {
        let mut sockets = Vec::new();
        rooms.send_each(&Target::default(), |socket| sockets.push(socket.clone()));
        sockets
    };
    let sockets = in_order();
    let _flushes = [0, 2].map(|place| sockets[place].peer().session().unwrap().being_flushed());
    assert_eq!(in_order(), [1, 3, 0, 2].map(|place| sockets[place].clone()));
}
