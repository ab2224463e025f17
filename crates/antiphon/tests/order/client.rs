//! A client that takes messages in the form that its query and its server's parser ask for.

use std::{collections::VecDeque, net::SocketAddr};

use antiphon::{Limits, Parser};
use antiphon_protocol::{
    engine::Revision,
    socket::{Decoder, Packet, msgpack},
    websocket::Opcode,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Received, WebSocket, http, sid, stream::Stream};

/// A message of Socket.IO, or a part of one. One in MessagePack is shown as what it would be in
/// JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

enum Transport {
    WebSocket(Box<WebSocket<TcpStream>>),
    /// The path of the session.
    Polling(String),
    Streaming(Streaming),
}

/// A session on streaming.
struct Streaming {
    path: String,
    stream: Stream,
    /// Packets that have come, as the server counts them.
    had: usize,
}

impl Streaming {
    /// The next packet of the response. `None` if it has ended, as the server may do at any time.
    async fn packet(&mut self) -> Option<String> {
        loop {
            let event = self.stream.event().await?;
            if let Some(number) = event.strip_prefix("id: ") {
                assert_eq!(number.parse(), Ok(self.had));
            } else if event != ":" {
                let packet = event.strip_prefix("data: ").unwrap();
                // Noops have no number.
                self.had += usize::from(packet != "6");
                return Some(packet.to_owned());
            }
        }
    }

    /// Asks for what follows, in a new response.
    async fn reopen(&mut self, address: SocketAddr) {
        let path = format!("{}&antiphon-offset={}", self.path, self.had);
        self.stream = Stream::open(address, &path).await;
    }
}

/// A client that knows how its messages are written.
pub(crate) struct Client {
    address: SocketAddr,
    is_v3: bool,
    parser: Parser,
    transport: Transport,
    came: VecDeque<Message>,
}

impl Client {
    /// Opens a session, and joins `/` and `/calls`.
    pub(crate) async fn connect(address: SocketAddr, query: &str, parser: Parser) -> Self {
        let mut client = Self::open(address, query, parser).await;
        if !client.is_v3 {
            client.send("0").await;
        }
        assert!(matches!(client.next().await, Some(Message::Text(text)) if text.starts_with('0')));
        client.join("/calls").await;
        client
    }

    /// Opens a session.
    pub(crate) async fn open(address: SocketAddr, query: &str, parser: Parser) -> Self {
        let path = format!("/socket.io/?{query}");
        let mut client = Self {
            address,
            is_v3: query.contains("EIO=3"),
            parser,
            transport: Transport::Polling(path.clone()),
            came: VecDeque::new(),
        };
        if query.contains("transport=websocket") {
            let mut websocket = websocket(address, &path).await;
            websocket.expect_prefix("0{").await;
            client.transport = Transport::WebSocket(websocket);
        } else if query.contains("transport=streaming") {
            let stream = Stream::open(address, &path).await;
            let mut streaming = Streaming {
                path: String::new(),
                stream,
                had: 0,
            };
            let open = streaming.packet().await.unwrap();
            streaming.path = format!("{path}&sid={}", sid(&open));
            client.transport = Transport::Streaming(streaming);
        } else {
            let (_, open) = http(address, &format!("GET {path}"), "").await;
            client.transport = Transport::Polling(format!("{path}&sid={}", sid(&open)));
            // Of revision 3, more may have come with it already.
            client.take_payload(&open);
        }
        client
    }

    pub(crate) async fn join(&mut self, namespace: &str) {
        let connect = format!("0{namespace}");
        self.send(&connect).await;
        let joined = self.next().await;
        assert!(matches!(joined, Some(Message::Text(text)) if text.starts_with(&connect)));
    }

    /// Sends a packet of Socket.IO without attachments.
    pub(crate) async fn send(&mut self, text: &str) {
        if matches!(self.parser, Parser::Json) {
            return self.send_packet(&format!("4{text}")).await;
        }
        let data = packed(text);
        match &mut self.transport {
            Transport::WebSocket(websocket) => {
                let data = match self.is_v3 {
                    true => [&[4], &data[..]].concat(),
                    false => data,
                };
                websocket.send_frame(Opcode::Binary, &data).await;
            }
            Transport::Polling(_) | Transport::Streaming(_) => {
                let data = BASE64_STANDARD.encode(data);
                self.send_packet(&format!("{}{data}", self.binary())).await;
            }
        }
    }

    /// What stands before base64.
    const fn binary(&self) -> &'static str {
        if self.is_v3 { "b4" } else { "b" }
    }

    /// Sends a packet of Engine.IO.
    pub(crate) async fn send_packet(&mut self, packet: &str) {
        match &mut self.transport {
            Transport::WebSocket(websocket) => websocket.send(packet).await,
            Transport::Polling(path) | Transport::Streaming(Streaming { path, .. }) => {
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
                        self.take_binary(data);
                    }
                    Received::Closed(_) => return None,
                },
                Transport::Polling(path) => {
                    let request = format!("GET {path}");
                    let (status, body) = http(self.address, &request, "").await;
                    assert_eq!(status, 200, "{body}");
                    self.take_payload(&body);
                }
                Transport::Streaming(streaming) => match streaming.packet().await {
                    Some(packet) => self.take(&packet),
                    None => streaming.reopen(self.address).await,
                },
            }
        }
        self.came.pop_front()
    }

    /// Takes a packet of Engine.IO.
    fn take(&mut self, packet: &str) {
        if let Some(text) = packet.strip_prefix('4') {
            self.came.push_back(Message::Text(text.to_owned()));
        } else if let Some(data) = packet.strip_prefix(self.binary()) {
            let data = BASE64_STANDARD.decode(data).unwrap();
            self.take_binary(&data);
        } else {
            let is_open = packet.starts_with("0{");
            assert!(is_open || packet == "6", "{packet} is no message");
        }
    }

    fn take_binary(&mut self, data: &[u8]) {
        match self.parser {
            Parser::Json => self.came.push_back(Message::Binary(data.to_vec())),
            _ => self.came.extend(unpacked(data)),
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

    /// Moves to a WebSocket, while a poll or a stream is under way.
    pub(crate) async fn upgrade(&mut self) {
        let address = self.address;
        let probed = async |path: &str| {
            let (query, sid) = path.split_once("transport=").unwrap();
            let (_, rest) = sid.split_once('&').unwrap();
            let path = format!("{query}transport=websocket&{rest}");
            let mut websocket = websocket(address, &path).await;
            websocket.send("2probe").await;
            websocket.expect("3probe").await;
            websocket
        };
        let mut websocket = match &mut self.transport {
            Transport::Polling(path) => {
                let poll = format!("GET {path}");
                let ((status, body), websocket) =
                    tokio::join!(http(address, &poll, ""), probed(path));
                assert_eq!(status, 200, "{body}");
                self.take_payload(&body);
                websocket
            }
            Transport::Streaming(streaming) => {
                let websocket = probed(&streaming.path).await;
                // The server ends it for the probe.
                let mut packets = Vec::new();
                while let Some(packet) = streaming.packet().await {
                    packets.push(packet);
                }
                packets.iter().for_each(|packet| self.take(packet));
                websocket
            }
            Transport::WebSocket(_) => panic!("it has been upgraded already"),
        };
        websocket.send("5").await;
        self.transport = Transport::WebSocket(websocket);
    }

    /// Moves from polling to streaming, while a poll is under way.
    pub(crate) async fn upgrade_to_stream(&mut self) {
        let Transport::Polling(poll) = &self.transport else {
            panic!("it is not on polling");
        };
        let poll = poll.clone();
        let path = poll.replace("transport=polling", "transport=streaming");
        let post = format!("POST {path}");
        let probe = async {
            let mut stream = Stream::open(self.address, &path).await;
            stream.expect(":").await;
            let (status, answer) = http(self.address, &post, "2probe").await;
            assert_eq!(status, 200, "{answer}");
            stream.expect("data: 3probe").await;
            stream
        };
        let poll = format!("GET {poll}");
        let ((status, body), stream) = tokio::join!(http(self.address, &poll, ""), probe);
        assert_eq!(status, 200, "{body}");
        self.take_payload(&body);
        let (status, answer) = http(self.address, &post, "5").await;
        assert_eq!(status, 200, "{answer}");
        self.transport = Transport::Streaming(Streaming {
            path,
            stream,
            had: 0,
        });
    }
}

/// A WebSocket that takes little of what it doesn't read, and compressed messages if its query
/// says so.
async fn websocket(address: SocketAddr, path: &str) -> Box<WebSocket<TcpStream>> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(address).await.unwrap();
    #[cfg(feature = "deflate")]
    if path.contains("deflate") {
        use antiphon_protocol::websocket::{Decoder, deflate::OFFER};

        let offer = format!("Sec-WebSocket-Extensions: {OFFER}\r\n");
        let (websocket, head) = WebSocket::offering(stream, path, &offer).await;
        assert!(head.contains(OFFER), "{head}");
        return Box::new(websocket.map_decoder(Decoder::with_deflate));
    }
    Box::new(WebSocket::over(stream, path).await)
}

/// A packet without attachments in MessagePack.
fn packed(text: &str) -> Vec<u8> {
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    let packet = decoder.text(text).unwrap().unwrap();
    let mut bytes = Vec::new();
    msgpack::encode(&packet, &mut bytes).unwrap();
    bytes
}

/// What a packet in MessagePack would be in JSON.
fn unpacked(message: &[u8]) -> Vec<Message> {
    let mut buffer = msgpack::Buffer::default();
    let packet = msgpack::decode(message, &Limits::default(), &mut buffer).unwrap();
    let within = |namespace: &str| match namespace {
        "/" => String::new(),
        other => format!("{other},"),
    };
    let (text, attachments) = match packet {
        Packet::Connect { namespace, .. } => (format!("0{}", within(namespace)), &[][..]),
        Packet::Disconnect { namespace } => (format!("1{}", within(namespace)), &[][..]),
        Packet::Event {
            namespace,
            id,
            name,
            args,
        } => {
            let kind = match args.attachments().len() {
                0 => "2".to_owned(),
                count => format!("5{count}-"),
            };
            let namespace = within(namespace);
            let id = id.map_or(String::new(), |id| id.to_string());
            let json = args.json();
            let text = format!(r#"{kind}{namespace}{id}["{name}",{json}]"#);
            (text, args.attachments())
        }
        Packet::Ack {
            namespace,
            id,
            args,
        } => {
            let text = format!("3{}{id}[{}]", within(namespace), args.json());
            (text, args.attachments())
        }
        Packet::ConnectError { data, .. } => panic!("{data}"),
    };
    let attachments = attachments
        .iter()
        .map(|data| Message::Binary(data.to_vec()));
    std::iter::once(Message::Text(text))
        .chain(attachments)
        .collect()
}
