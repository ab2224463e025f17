use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use antiphon::Server;

use super::*;
use crate::chat::{Chat, NewMessage};

/// A folder that is gone when its test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("antiphon-demo-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn server(folder: &Folder) -> Server {
    let recovery = recovery(&folder.0).unwrap();
    Server::builder().recovery(recovery).build()
}

fn posted(chat: &Chat, new: serde_json::Value) -> Message {
    let ada = Chat::person("Ada", "key").unwrap();
    let new: NewMessage = serde_json::from_value(new).unwrap();
    chat.post(&ada, new, Instant::now()).unwrap().unwrap().0
}

#[tokio::test]
async fn messages_files_and_rooms_outlive_the_server() {
    let folder = Folder::new();
    let chat = Chat::new(0);
    let io = server(&folder);
    let namespace = io.of("/chat");
    let said: Vec<_> = (0..150)
        .map(|number| {
            let text = number.to_string();
            posted(&chat, serde_json::json!({ "room": "lobby", "text": text }))
        })
        .collect();
    for message in &said {
        say(&namespace, message, Some(Bytes::from_static(b"notes")));
    }
    namespace.emit(
        "rooms",
        serde_json::json!([{ "name": "choir", "people": 1 }]),
    );
    io.close().await;
    drop((namespace, io));

    let io = server(&folder);
    let namespace = io.of("/chat");
    let ids = |messages: &[Message]| messages.iter().map(|it| it.id).collect::<Vec<_>>();
    let kept = messages(&namespace, "lobby").await.unwrap();
    assert_eq!(ids(&kept), ids(&said[50..]), "the last 100, in order");
    assert!(messages(&namespace, "choir").await.unwrap().is_empty());
    let kept = file(&namespace, "lobby", said[0].id).await.unwrap();
    assert_eq!(kept.data, "notes");
    let elsewhere = file(&namespace, "choir", said[0].id).await;
    assert_eq!(elsewhere.unwrap_err(), ChatError::FileGone);
    assert_eq!(rooms(&namespace).await.unwrap(), ["choir"]);
}

#[test]
fn a_folder_that_cannot_be_used_is_told_with_what_to_do() {
    let folder = Folder::new();
    let first = recovery(&folder.0).unwrap();
    let in_use = recovery(&folder.0).unwrap_err();
    assert!(
        in_use.contains("in use") && in_use.contains("DATA="),
        "{in_use}"
    );
    drop(first);
    assert!(recovery(&folder.0).is_ok());

    let path = folder.0.join("messages.redb");
    let no_folder = recovery(&path).unwrap_err();
    assert!(
        no_folder.starts_with("Can’t make the folder"),
        "{no_folder}"
    );
    fs::write(&path, "something else").unwrap();
    let damaged = recovery(&folder.0).unwrap_err();
    assert!(damaged.contains("messages.redb: "), "{damaged}");
}
