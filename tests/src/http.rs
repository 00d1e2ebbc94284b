//! One HTTP request on its own connection. No library changes the bytes.

use std::{io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::net::within;

/// A request. The default `Host` header is the address of the server.
#[derive(Debug, Clone, Default)]
pub struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header and body as they were received.
    pub text: String,
}

impl Request {
    /// `GET target`.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), ..Self::default() }
    }

    /// `POST target` with a body that is declared as JSON.
    pub fn post_text(target: impl Into<String>, body: String) -> Self {
        let request = Self { method: "POST", target: target.into(), body, ..Self::default() };
        request.header("Content-Type", "application/json")
    }

    /// `POST target` with a JSON body.
    pub fn post(target: impl Into<String>, body: &Value) -> Self {
        let request =
            Self { method: "POST", target: target.into(), body: body.to_string(), ..Self::default() };
        request.header("Content-Type", "application/json")
    }

    /// Any method, with a JSON body unless `body` is null.
    pub fn call(method: &'static str, target: impl Into<String>, body: &Value) -> Self {
        match body {
            Value::Null => Self { method, ..Self::get(target) },
            body => Self { method, ..Self::post(target, body) },
        }
    }

    /// `GET target` as a WebSocket upgrade (RFC 6455, section 4.1).
    pub fn upgrade(target: impl Into<String>) -> Self {
        Self::get(target)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The bytes of the request.
    pub fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("Host") {
            head += &format!("Host: {address}\r\n");
        }
        if !has("Connection") {
            head += "Connection: close\r\n";
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        format!("{head}\r\n{}", self.body).into_bytes()
    }

    /// Sends the request and reads the response, if the server sends one.
    pub async fn try_send(&self, address: SocketAddr) -> Option<Response> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&self.to_bytes(address)).await.ok()?;
        Response::read(&mut stream, Vec::new()).await.ok()
    }

    /// Sends the request and reads the response.
    ///
    /// # Panics
    /// If no response comes in time.
    pub async fn send(&self, address: SocketAddr) -> Response {
        let response = within("an HTTP response", self.try_send(address)).await;
        response.unwrap_or_else(|| panic!("{address} sent no HTTP response"))
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if head.starts_with("HTTP/1.1 101") {
        return true;
    }
    content_length(head).is_some_and(|length| body.len() >= length)
}

fn content_length(head: &str) -> Option<usize> {
    find_header(head, "content-length")?.parse().ok()
}

fn find_header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

impl Response {
    /// # Panics
    /// If the response has another status.
    pub fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Reads the rest of a response that begins with `bytes`.
    ///
    /// # Errors
    /// If the bytes are not an HTTP response.
    pub async fn read(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Self> {
        while !is_whole(&bytes) {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let digits = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = digits.and_then(|digits| digits.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { status, text })
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(self.text.split("\r\n\r\n").next().unwrap_or(""), name)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The body.
    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Checks that the response is this problem (RFC 9457) and not an upgrade.
    ///
    /// # Panics
    /// If the response is another one.
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        let body = self.json();
        assert_eq!(
            (body["code"].as_str(), body["status"].as_u64()),
            (Some(code), Some(status.into())),
            "{body}"
        );
        if status == 503 {
            let seconds = self.header("retry-after").and_then(|value| value.parse::<u32>().ok());
            assert!(seconds.is_some(), "503 without Retry-After: {}", self.text);
        }
    }
}
