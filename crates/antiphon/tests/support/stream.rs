//! The client's end of a streamed response.

use std::{io::BufRead as _, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::within;

/// A streamed response.
pub struct Stream {
    pub tcp: TcpStream,
    pub head: String,
    /// What has come and was not looked at.
    pub body: Vec<u8>,
    /// Where the line of the body begins that is to be looked at.
    line: usize,
    ended: bool,
}

impl Stream {
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let byte = within("the head", tcp.read_u8()).await.unwrap();
            head.push(char::from(byte));
        }
        Self {
            tcp,
            head: head.to_ascii_lowercase(),
            body: Vec::new(),
            line: 0,
            ended: false,
        }
    }

    /// Reads one chunk of the body.
    pub async fn chunk(&mut self) {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            let byte = within("a chunk", self.tcp.read_u8()).await.unwrap();
            line.push(char::from(byte));
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut data = vec![0; length + 2];
        within("a chunk", self.tcp.read_exact(&mut data))
            .await
            .unwrap();
        self.body.extend_from_slice(&data[..length]);
        self.ended = length == 0;
    }

    /// Where the empty line is that ends the next event. The standard library looks for it: where a test
    /// does, a megabyte takes so long that a server gives its client up.
    fn end(&mut self) -> Option<usize> {
        loop {
            let length = (&self.body[self.line..]).skip_until(b'\n').unwrap();
            let next = self.line + length;
            if length == 0 || self.body[next - 1] != b'\n' {
                return None;
            }
            if length == 1 && self.line > 0 {
                return Some(self.line);
            }
            self.line = next;
        }
    }

    /// The next event, or comment. None: the response has ended in order.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.end() {
                let event = self.body[..end - 1].to_vec();
                self.body.drain(..=end);
                self.line = 0;
                return Some(String::from_utf8(event).unwrap());
            }
            if self.ended {
                assert_eq!(self.body, b"", "half an event");
                return None;
            }
            self.chunk().await;
        }
    }

    pub async fn expect(&mut self, expected: &str) {
        assert_eq!(self.event().await.as_deref(), Some(expected));
    }

    pub async fn expect_end(&mut self) {
        assert_eq!(self.event().await, None);
    }
}
