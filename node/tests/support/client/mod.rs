//! A plain HTTP/1.1 client that shows answers exactly as they come, reason phrase and all.

pub(crate) mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// Credentials of the administrator.
pub(crate) const ADMIN: &str = "Basic YWRtaW46Y2hhbmdlaXQ=";

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The reason phrase. HTTP/2 has none: the text that stands in for it, or `None` where none
    /// does.
    pub(crate) reason: Option<String>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body stands in for the reason phrase that HTTP/2 has not got.
    pub(crate) reason_is_body: bool,
}

impl Answer {
    /// All values of a header, joined as HTTP says.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let values: Vec<&str> = self.headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text, unless it only stands in for a reason phrase.
    pub(crate) fn own_text(&self) -> String {
        if self.reason_is_body { String::new() } else { self.text() }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request to `base` (`http://host:port`) on a connection of its own.
pub(crate) fn send(base: &str, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Answer {
    if let Some(host) = base.strip_prefix("https://") {
        return tls::send(host, method, path, headers, body);
    }
    let host = base.strip_prefix("http://").unwrap();
    exchange(connect(host), host, method, path, headers, body)
}

fn connect(host: &str) -> TcpStream {
    let stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One request and its answer as HTTP/1.1.
fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // A node that refuses a body may close before it was sent whole; its answer is there all the
    // same.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer to {method} {path}: {read:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let (status_line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut status_line = status_line.splitn(3, ' ').skip(1);
    let split = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    let mut answer = Answer {
        status: status_line.next().unwrap().parse().unwrap(),
        reason: Some(status_line.next().unwrap_or_default().to_owned()),
        headers: rest.split("\r\n").filter_map(split).collect(),
        body: bytes[end + 4..].to_vec(),
        reason_is_body: false,
    };
    if answer.header("transfer-encoding").as_deref() == Some("chunked") {
        answer.body = unchunked(&answer.body);
    }
    answer
}

/// Decodes a chunked body; panics when the last chunk is missing.
fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|window| window == b"\r\n").expect("the size of the next chunk");
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&chunks[line + 2..line + 2 + size]);
        chunks = &chunks[line + 2 + size + 2..];
        if size == 0 {
            return body;
        }
    }
}

/// An answer that does not end by itself, read line by line.
pub(crate) struct Live {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    lines: BufReader<TcpStream>,
}

/// Asks for server-sent events. HTTP/1.0 spares the frames of chunks.
pub(crate) fn subscribe(base: &str, path: &str, headers: &[(&str, String)]) -> Live {
    let host = base.strip_prefix("http://").unwrap();
    let mut stream = connect(host);
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/event-stream\r\n");
    if !headers.iter().any(|(name, _)| *name == "Authorization") {
        request.push_str(&format!("Authorization: {ADMIN}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut live = Live { status: 0, headers: Vec::new(), lines: BufReader::new(stream) };
    let status_line = live.line().unwrap();
    live.status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
    while let Some(line) = live.line().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        live.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    live
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Live {
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next event; comments and checkpoints are passed over. `None` when the answer has ended.
    pub(crate) fn next(&mut self) -> Option<Sent> {
        loop {
            let sent = self.next_id()?;
            if !sent.data.is_empty() {
                return Some(sent);
            }
        }
    }

    /// The next event, or an id without one.
    pub(crate) fn next_id(&mut self) -> Option<Sent> {
        let mut sent = Sent { id: String::new(), event: String::new(), data: String::new() };
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("id", id)) => sent.id = id.to_owned(),
                Some(("event", event)) => sent.event = event.to_owned(),
                Some(("data", data)) => sent.data = data.to_owned(),
                Some((field, _)) if !field.is_empty() => panic!("{line}"),
                _ if line.is_empty() && !sent.id.is_empty() => return Some(sent),
                _ => {}
            }
        }
    }

    /// Ids of the next events.
    pub(crate) fn ids(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().expect("the answer has ended").id).collect()
    }
}
