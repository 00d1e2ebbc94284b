//! One HTTP request on a connection of its own, without a library between the test and the bytes.

use std::{io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::net::within;

/// A request. `Host` is the address's own unless set.
#[derive(Debug, Clone, Default)]
pub struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Head and body as they came.
    pub text: String,
}

impl Request {
    /// `GET target`.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), ..Self::default() }
    }

    /// `POST target` with a body that says it is JSON.
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

    /// Any method, with a JSON body unless that is null.
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

    /// The bytes for the wire.
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

    /// Sends it and reads the answer. None where nobody listens or answers.
    pub async fn try_send(&self, address: SocketAddr) -> Option<Response> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&self.to_bytes(address)).await.ok()?;
        Response::read(&mut stream, Vec::new()).await.ok()
    }

    /// Sends it and reads the answer.
    ///
    /// # Panics
    /// If there is none in time.
    pub async fn send(&self, address: SocketAddr) -> Response {
        let answer = within("an HTTP answer", self.try_send(address)).await;
        answer.unwrap_or_else(|| panic!("{address} gave no HTTP answer"))
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if head.starts_with("HTTP/1.1 101") {
        return true;
    }
    length(head).is_some_and(|length| body.len() >= length)
}

fn length(head: &str) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

impl Response {
    /// # Panics
    /// If it has another status.
    pub fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Reads the rest of an answer that begins with these bytes.
    ///
    /// # Errors
    /// Where it is no answer.
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

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.text.split("\r\n\r\n").next().unwrap_or(""), name)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The body.
    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Checks that it is this problem (RFC 9457) and not an upgrade.
    ///
    /// # Panics
    /// If it is not.
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
