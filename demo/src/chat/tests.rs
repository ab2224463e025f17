use super::*;

fn chat_with_ada() -> (Chat, Person) {
    let ada = Chat::person("Ada", "key of Ada").unwrap();
    (Chat::new(0), ada)
}

fn saying(text: &str) -> NewMessage {
    NewMessage {
        room: "lobby".to_owned(),
        text: text.to_owned(),
        ..NewMessage::default()
    }
}

fn with_file(bytes: usize) -> NewMessage {
    let file = NewFile {
        name: "song.ogg".to_owned(),
        media_type: "audio/ogg".to_owned(),
        data: Bytes::from(vec![7; bytes]),
    };
    NewMessage {
        file: Some(file),
        ..saying("")
    }
}

#[test]
fn names_are_tidied_and_bounded() {
    assert_eq!(
        Chat::person("  Ada \n Lovelace ", "k").unwrap().name,
        "Ada Lovelace"
    );
    let ada = Chat::person("Ada", "k").unwrap();
    for bad in ["", "   ", &"x".repeat(5_000), "a\u{0}b", "\u{202e}adA"] {
        assert_eq!(Chat::person(bad, "k"), Err(ChatError::BadName), "{bad:.10}");
        assert_eq!(ada.renamed(bad), Err(ChatError::BadName), "{bad:.10}");
    }
}

#[test]
fn another_name_is_tidied_and_leaves_the_person_the_same() {
    let ada = Chat::person("Ada", "key of Ada").unwrap();
    let augusta = ada.renamed(" Augusta  King").unwrap();
    assert_eq!(augusta, Chat::person("Augusta King", "key of Ada").unwrap());
}

#[test]
fn a_key_makes_the_same_person_in_each_run_and_is_not_shown() {
    let ada = Chat::person("Ada", "key of Ada").unwrap();
    // The first 8 bytes of its SHA-256.
    assert_eq!(ada.id, "86a6ebac45ab582d");
    assert_ne!(Chat::person("Ada", "another key").unwrap().id, ada.id);
}

#[test]
fn messages_and_files_are_bounded() {
    let (chat, ada) = chat_with_ada();
    let elsewhere = NewMessage {
        room: "nowhere".to_owned(),
        ..saying("hello")
    };
    let error = |new| chat.post(&ada, new, Instant::now()).unwrap_err().code();
    assert_eq!(error(elsewhere), "unknown_room");
    assert_eq!(error(saying(" \n ")), "empty");
    assert_eq!(error(saying(&"y".repeat(4_001))), "too_long");
    assert_eq!(error(with_file(700_001)), "file_too_big");
    assert_eq!(error(with_file(0)), "bad_file");
}

#[test]
fn messages_of_two_servers_have_ids_of_their_own_in_the_order_of_time() {
    let ada = Chat::person("Ada", "key of Ada").unwrap();
    let servers = [Chat::new(1), Chat::new(2)];
    let post = |server: usize| {
        let posted = servers[server].post(&ada, saying("hello"), Instant::now());
        posted.unwrap().unwrap().0.id
    };
    let mut ids: Vec<_> = (0..2_000).map(|number| post(number % 2)).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    std::thread::sleep(Duration::from_millis(200)); // more than what was said is ahead of the clock
    assert!(post(0) > *ids.last().unwrap());
    assert!(*ids.last().unwrap() < 1 << 53);
}

#[test]
fn a_message_that_comes_again_is_said_once() {
    let (chat, ada) = chat_with_ada();
    let ben = Chat::person("Ben", "key of Ben").unwrap();
    let began = Instant::now();
    let is_said = |person, nonce: &str, seconds| {
        let message = NewMessage {
            nonce: nonce.to_owned(),
            ..saying("hello")
        };
        let now = began + Duration::from_secs(seconds);
        chat.post(person, message, now).unwrap().is_some()
    };
    assert!(is_said(&ada, "n1", 0));
    assert!(!is_said(&ada, "n1", 9), "the same one");
    assert!(is_said(&ada, "n2", 9), "another one");
    assert!(is_said(&ben, "n1", 9), "that of somebody else");
    assert!(is_said(&ada, "", 9) && is_said(&ada, "", 9), "no nonces");
    assert!(is_said(&ada, "n1", 10), "the first could not be stored");
}

#[test]
fn what_is_kept_of_a_message_has_not_the_bytes_of_its_file() {
    let (chat, ada) = chat_with_ada();
    let posted = chat.post(&ada, with_file(700_000), Instant::now());
    let (message, data) = posted.unwrap().unwrap();
    assert_eq!(data.unwrap().len(), 700_000);
    assert_eq!(message.file.unwrap().size, 700_000);
}

#[test]
fn rooms_are_bounded_and_idle_ones_make_place() {
    let chat = Chat::new(0);
    let nobody = HashMap::new();
    let make = |name: &str, people: &HashMap<_, _>| chat.make_room(name, people);
    assert_eq!(
        make("Choir  Berlin", &nobody).as_deref(),
        Ok("choir-berlin")
    );
    assert_eq!(make("<b>", &nobody), Err(ChatError::BadRoom));
    assert!(chat.find_room("nowhere").is_err());
    let mut people = HashMap::new();
    for number in chat.rooms().len()..LIMITS.rooms {
        let name = make(&format!("room-{number}"), &people).unwrap();
        people.insert(name, 1);
    }
    people.insert(make("one-more", &people).unwrap(), 1);
    assert_eq!(chat.rooms().len(), LIMITS.rooms);
    assert!(chat.find_room("choir-berlin").is_err(), "it was empty");
    assert!(chat.find_room("lobby").is_ok(), "this one always stays");
    assert_eq!(make("too-many", &people), Err(ChatError::TooManyRooms));
}

#[test]
fn rooms_of_another_run_are_there_again_within_the_bound() {
    let chat = Chat::new(0);
    let before = (0..100).map(|number| format!("room-{number}"));
    chat.restore(["lobby".to_owned()].into_iter().chain(before));
    assert_eq!(chat.rooms().len(), LIMITS.rooms);
    let lobbies = chat.rooms().into_iter().filter(|room| room == "lobby");
    assert_eq!(lobbies.count(), 1);
    assert!(chat.find_room("room-0").is_ok());
}
