//! What a server publishes with one of Node's adapters, for the tests in `tests/cluster`, which let
//! Node's own packages read it.
//!
//! ```text
//! cluster_frames ADAPTER REQUEST ASKER
//! ```
//!
//! Prints an object of JSON a line: the step, and what is published. Answers are for `REQUEST` of
//! the server `ASKER`.

use std::env;
use std::error::Error;

use antiphon_protocol::cluster::node::{
    Answer, Classic, Content, Flags, Frame, Limits, Message, Mode, Posted, Postgres, Reply, Sent,
    Session, Sharded, SocketDetails, Sockets, Streams,
};
use antiphon_protocol::socket::{Outgoing, OwnedArgs};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The name of the server that publishes.
const ME: &str = "antiphon";

/// The name of its requests.
const REQUEST: &str = "ours";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [adapter, request, asker] = &*args else {
        return Err("usage: cluster_frames ADAPTER REQUEST ASKER".into());
    };
    for (step, content) in steps(request)? {
        for published in publish(adapter, asker, &content)? {
            let mut line = json!({ "step": step });
            if let (Value::Object(line), Value::Object(published)) = (&mut line, published) {
                line.extend(published);
            }
            println!("{line}");
        }
    }
    if adapter == "streams" {
        let (key, value) = session()?;
        println!(
            "{}",
            json!({ "step": "session", "key": key, "value": value })
        );
    }
    Ok(())
}

/// The session of a socket of ours, and the key under which it is kept.
fn session() -> Result<(String, String), Box<dyn Error>> {
    let session = Session {
        id: "ours".into(),
        private_id: "secret".into(),
        rooms: vec!["ours".into(), "lobby".into()],
        data: OwnedArgs::new(&json!({ "name": "é" }))?,
    };
    let key = format!("sio:session:{}", session.private_id);
    Ok((key, session.encode()?))
}

/// The steps, in their order.
fn steps(request: &str) -> Result<Vec<(&'static str, Content)>, Box<dyn Error>> {
    let bytes = Bytes::from_static(&[1, 2, 3]);
    let lobby = || Sockets {
        rooms: vec!["lobby".into()],
        except: vec!["elsewhere".into()],
    };
    let broadcast = |name, request: Option<&str>| -> Result<Message, Box<dyn Error>> {
        Ok(Message::Broadcast {
            event: Outgoing::event(name, &(1, &bytes))?,
            target: lobby(),
            flags: Flags::new(),
            request: request.map(Into::into),
        })
    };
    let json = r#"{"_placeholder":true,"num":0}"#;
    let value = || OwnedArgs::from_parts(json, vec![bytes.clone()], &Limits::default());
    let socket = SocketDetails {
        id: "ours".into(),
        handshake: OwnedArgs::new(&json!({ "headers": {} }))?,
        rooms: vec!["ours".into()],
        data: value()?,
    };
    let rooms = || vec!["more".into()];
    let (target, request_of_ours) = (lobby(), REQUEST.into());
    let messages = [
        ("heartbeat", Message::Heartbeat),
        ("emit", broadcast("ev", None)?),
        ("emit with acks", broadcast("ask", Some(REQUEST))?),
        (
            "join",
            Message::Join {
                target: lobby(),
                rooms: rooms(),
            },
        ),
        (
            "leave",
            Message::Leave {
                target: lobby(),
                rooms: rooms(),
            },
        ),
        (
            "fetch",
            Message::Fetch {
                request: request_of_ours,
                target,
            },
        ),
        (
            "server-side emit",
            Message::ServerSideEmit {
                event: Outgoing::event("question", &bytes)?,
                request: Some(REQUEST.into()),
            },
        ),
        (
            "disconnect",
            Message::Disconnect {
                target: lobby(),
                close: true,
            },
        ),
    ];
    let answers = [
        ("fetched", Reply::Sockets(vec![socket])),
        ("emitted", Reply::Emitted(value()?)),
        ("clients", Reply::Clients(1)),
        ("acknowledged", Reply::Acknowledged(value()?)),
    ];
    let answers = answers.map(|(step, reply)| {
        let request = request.into();
        (step, Content::Answer(Answer { request, reply }))
    });
    let messages = messages.map(|(step, message)| (step, Content::Message(message)));
    Ok(messages.into_iter().chain(answers).collect())
}

/// What is published to say this, as objects of JSON.
fn publish(adapter: &str, asker: &str, content: &Content) -> Result<Vec<Value>, Box<dyn Error>> {
    let prefix = "socket.io";
    Ok(match adapter {
        "classic" => {
            let codec = Classic::new(prefix, "/", ME);
            match content {
                // There are none.
                Content::Message(Message::Heartbeat) => vec![],
                Content::Message(message) => vec![frame(codec.encode(message)?)],
                Content::Answer(answer) => vec![frame(codec.encode_answer(asker, answer)?)],
            }
        }
        "sharded" => {
            let codec = Sharded::new(prefix, "/", ME, Mode::Dynamic);
            vec![frame(match content {
                Content::Message(message) => codec.encode(message)?,
                Content::Answer(answer) => codec.encode_answer(asker, answer)?,
            })]
        }
        "streams" => {
            let codec = Streams::new(prefix, "/", ME);
            match content {
                Content::Message(message) => match codec.encode(message)? {
                    Sent::Frame(sent) => vec![frame(sent)],
                    Sent::Entry(entry) => {
                        let fields = entry.fields();
                        let fields = fields.map(|(key, value)| (key.to_owned(), json!(value)));
                        vec![json!({ "fields": fields.collect::<Map<_, _>>() })]
                    }
                },
                Content::Answer(answer) => vec![frame(codec.encode_answer(asker, answer)?)],
            }
        }
        "postgres" => {
            let codec = Postgres::new(prefix, "/", ME);
            let posted = match content {
                Content::Message(message) => codec.encode(message)?,
                Content::Answer(answer) => codec.encode_answer(answer)?,
            };
            match posted {
                Posted::Notification(sent) => vec![frame(sent)],
                // The test puts the row's id in the place of 0.
                Posted::Attachment(it) => {
                    vec![
                        json!({ "row": hex(&it.payload) }),
                        frame(it.notification(0)),
                    ]
                }
            }
        }
        other => return Err(format!("no adapter {other}").into()),
    })
}

fn frame(frame: Frame) -> Value {
    json!({ "channel": frame.channel, "hex": hex(&frame.payload) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
