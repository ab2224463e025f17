use super::*;

fn chat_with_ada_in_the_lobby() -> (Chat, Person) {
    let chat = Chat::default();
    let ada = chat.person("Ada", "key of Ada").unwrap();
    chat.join("lobby", "socket-1", &ada).unwrap();
    (chat, ada)
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

fn history(chat: &Chat) -> Vec<Message> {
    let reader = chat.person("Reader", "another key").unwrap();
    chat.join("lobby", "socket-9", &reader).unwrap().0.messages
}

#[test]
fn names_are_tidied_and_bounded() {
    let chat = Chat::default();
    assert_eq!(
        chat.person("  Ada \n Lovelace ", "k").unwrap().name,
        "Ada Lovelace"
    );
    for bad in ["", "   ", &"x".repeat(5_000), "a\u{0}b", "\u{202e}adA"] {
        assert_eq!(chat.person(bad, "k"), Err(ChatError::BadName), "{bad:.10}");
    }
}

#[test]
fn a_person_with_two_tabs_is_one_person() {
    let (chat, ada) = chat_with_ada_in_the_lobby();
    let again = chat.person("Ada", "key of Ada").unwrap();
    assert_eq!(again, ada);
    let (joined, arrived) = chat.join("lobby", "socket-2", &again).unwrap();
    assert!(!arrived);
    assert_eq!(joined.people, std::slice::from_ref(&ada));
    assert!(!chat.leave("lobby", "socket-1", &ada).unwrap());
    assert_eq!(chat.leave_all("socket-2", &ada), ["lobby"]);
}

#[test]
fn one_speaks_only_where_one_is() {
    let (chat, ada) = chat_with_ada_in_the_lobby();
    let elsewhere = |room: &str| NewMessage {
        room: room.to_owned(),
        ..saying("hello")
    };
    let error = |new| chat.post("socket-1", &ada, new).unwrap_err().code();
    assert_eq!(error(elsewhere("listening")), "not_in_room");
    assert_eq!(error(elsewhere("nowhere")), "unknown_room");
    assert_eq!(error(saying(" \n ")), "empty");
    assert_eq!(error(saying(&"y".repeat(4_001))), "too_long");
    assert_eq!(error(with_file(700_001)), "file_too_big");
    assert_eq!(error(with_file(0)), "bad_file");
}

#[test]
fn a_message_sent_twice_is_kept_once() {
    let (chat, ada) = chat_with_ada_in_the_lobby();
    let message = || NewMessage {
        nonce: "n1".to_owned(),
        ..saying("hello")
    };
    let first = chat.post("socket-1", &ada, message()).unwrap();
    let second = chat.post("socket-1", &ada, message()).unwrap();
    assert!(first.1);
    assert!(!second.1);
    assert_eq!(first.0.id, second.0.id);
    assert_eq!(history(&chat).len(), 1);
}

#[test]
fn the_history_is_bounded_in_messages_and_bytes() {
    let (chat, ada) = chat_with_ada_in_the_lobby();
    for _ in 0..10 {
        chat.post("socket-1", &ada, with_file(700_000)).unwrap();
    }
    let kept = history(&chat);
    assert!(
        kept.iter()
            .all(|message| message.file.as_ref().unwrap().data.is_none())
    );
    let has_bytes = |message: &&Message| chat.file("lobby", "socket-1", message.id).is_ok();
    assert_eq!(kept.iter().filter(has_bytes).count(), 5);
    assert!(has_bytes(&kept.last().unwrap()), "the newest stay");

    for number in 0..200 {
        chat.post("socket-1", &ada, saying(&number.to_string()))
            .unwrap();
    }
    let kept = history(&chat);
    assert_eq!(kept.len(), 100);
    assert_eq!(kept.last().unwrap().text, "199");
}

#[test]
fn rooms_are_bounded_and_idle_ones_make_place() {
    let chat = Chat::default();
    let ada = chat.person("Ada", "key").unwrap();
    assert_eq!(
        chat.find_room("Choir  Berlin", true).as_deref(),
        Ok("choir-berlin")
    );
    assert_eq!(chat.find_room("<b>", true), Err(ChatError::BadRoom));
    assert!(chat.find_room("nowhere", false).is_err());
    for number in chat.rooms().len()..LIMITS.rooms {
        let name = chat.find_room(&format!("room-{number}"), true).unwrap();
        chat.join(&name, "socket-1", &ada).unwrap();
    }
    chat.find_room("one-more", true).unwrap();
    assert_eq!(chat.rooms().len(), LIMITS.rooms);
    assert!(
        chat.find_room("choir-berlin", false).is_err(),
        "it was empty"
    );
    chat.join("one-more", "socket-1", &ada).unwrap();
    assert_eq!(
        chat.find_room("too-many", true),
        Err(ChatError::TooManyRooms)
    );
}
