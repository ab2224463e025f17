//! A client that takes messages in the form that its query asks for.

use std::{collections::VecDeque, net::SocketAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Received, WebSocket, http, sid};

/// A message of Socket.IO, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

enum Transport {
    WebSocket(Box<WebSocket<TcpStream>>),
    Polling(String),
}

/// A client that knows how its messages are written.
pub(crate) struct Client {
    address: SocketAddr,
    is_v3: bool,
    transport: Transport,
    came: VecDeque<Message>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, query: &str) -> Self {
        let path = format!("/socket.io/?{query}");
        let mut client = Self {
            address,
            is_v3: query.contains("EIO=3"),
            transport: Transport::Polling(path.clone()),
            came: VecDeque::new(),
        };
        if query.contains("transport=websocket") {
            // Such a client takes little of what it doesn't read.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(64 << 10).unwrap();
            let stream = socket.connect(address).await.unwrap();
            let mut websocket = Box::new(WebSocket::over(stream, &path).await);
            websocket.expect_prefix("0{").await;
            client.transport = Transport::WebSocket(websocket);
        } else {
            let (_, open) = http(address, &format!("GET {path}"), "").await;
            client.transport = Transport::Polling(format!("{path}&sid={}", sid(&open)));
            // Of revision 3, it may have come with that already.
            if open.contains("}2:40") {
                client.came.push_back(Message::Text("0".to_owned()));
            }
        }
        if !client.is_v3 {
            client.send("0").await;
        }
        assert!(matches!(client.next().await, Some(Message::Text(text)) if text.starts_with('0')));
        client.send("0/calls").await;
        let calls = client.next().await;
        assert!(matches!(calls, Some(Message::Text(text)) if text.starts_with("0/calls")));
        client
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.send_packet(&format!("4{text}")).await;
    }

    /// Sends a packet of Engine.IO.
    pub(crate) async fn send_packet(&mut self, packet: &str) {
        match &mut self.transport {
            Transport::WebSocket(websocket) => websocket.send(packet).await,
            Transport::Polling(path) => {
                let body = match self.is_v3 {
                    true => format!("{}:{packet}", packet.len()),
                    false => packet.to_owned(),
                };
                let (status, answer) = http(self.address, &format!("POST {path}"), &body).await;
                assert_eq!(status, 200, "{answer}");
            }
        }
    }

    /// The next message. `None` if the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        while self.came.is_empty() {
            match &mut self.transport {
                Transport::WebSocket(websocket) => match websocket.next().await {
                    Received::Text(text) => self.take(&text),
                    Received::Binary(data) => {
                        let data = if self.is_v3 {
                            data.strip_prefix(&[4]).unwrap()
                        } else {
                            &data
                        };
                        self.came.push_back(Message::Binary(data.to_vec()));
                    }
                    Received::Closed(_) => return None,
                },
                Transport::Polling(path) => {
                    let request = format!("GET {path}");
                    let (status, body) = http(self.address, &request, "").await;
                    assert_eq!(status, 200, "{body}");
                    self.take_payload(&body);
                }
            }
        }
        self.came.pop_front()
    }

    /// Takes a packet of Engine.IO.
    fn take(&mut self, packet: &str) {
        let binary = if self.is_v3 { "b4" } else { "b" };
        if let Some(text) = packet.strip_prefix('4') {
            self.came.push_back(Message::Text(text.to_owned()));
        } else if let Some(data) = packet.strip_prefix(binary) {
            let data = BASE64_STANDARD.decode(data).unwrap();
            self.came.push_back(Message::Binary(data));
        } else {
            assert_eq!(packet, "6", "neither a message nor a noop");
        }
    }

    fn take_payload(&mut self, body: &str) {
        if !self.is_v3 {
            return body.split('\x1e').for_each(|packet| self.take(packet));
        }
        let mut rest = body;
        while let Some((length, behind)) = rest.split_once(':') {
            let length = length.parse().unwrap();
            let end = behind
                .char_indices()
                .nth(length)
                .map_or(behind.len(), |(at, _)| at);
            self.take(&behind[..end]);
            rest = &behind[end..];
        }
        assert_eq!(rest, "");
    }

    /// Moves to a WebSocket, while a poll is under way.
    pub(crate) async fn upgrade(&mut self) {
        let Transport::Polling(path) = &self.transport else {
            panic!("it has been upgraded already");
        };
        let poll = format!("GET {path}");
        let path = path.replace("transport=polling", "transport=websocket");
        let probe = async {
            let mut websocket = Box::new(WebSocket::connect(self.address, &path).await);
            websocket.send("2probe").await;
            websocket.expect("3probe").await;
            websocket
        };
        let ((status, body), mut websocket) = tokio::join!(http(self.address, &poll, ""), probe);
        assert_eq!(status, 200, "{body}");
        self.take_payload(&body);
        websocket.send("5").await;
        self.transport = Transport::WebSocket(websocket);
    }
}
