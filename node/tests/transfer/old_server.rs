//! A server that prints pages as EventStore 4.1.4 does, from events in memory: the log with links
//! followed, streams with what is truncated or deleted out of sight, single events as bytes. The
//! shapes are those of cluster-tests/conformance/recorded.jsonl and contract/streams 8 to 10.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

pub(crate) const TOMBSTONE: u64 = i64::MAX as u64;

/// An event as that server stores it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) stream: String,
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) is_json: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) metadata: String,
    pub(crate) time: String,
}

/// What readers see of a stream.
enum Seen {
    From(u64),
    NotFound,
    Deleted,
}

/// The events by position, and an index of them.
pub(crate) struct OldServer {
    log: Vec<Stored>,
    index: HashMap<(String, u64), usize>,
    last: HashMap<String, u64>,
    pub(crate) base: String,
}

/// Positions of that server are bytes, and so further apart than events.
const EVENT_BYTES: u64 = 300;

impl OldServer {
    /// Serves these events on a free port until the program ends.
    pub(crate) fn serve(log: Vec<Stored>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (mut index, mut last) = (HashMap::new(), HashMap::new());
        for (at, event) in log.iter().enumerate() {
            index.insert((event.stream.clone(), event.number), at);
            if event.number != TOMBSTONE {
                last.insert(event.stream.clone(), event.number);
            }
        }
        let server = Arc::new(Self { log, index, last, base: base.clone() });
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                std::thread::spawn(move || server.connection(connection));
            }
        });
        base
    }

    fn connection(&self, connection: TcpStream) {
        let mut writer = connection.try_clone().unwrap();
        let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
        while let Some(first) = lines.next() {
            let headers: Vec<String> =
                lines.by_ref().take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
            let target = first.split(' ').nth(1).unwrap();
            let (status, kind, body) = self.answer(target, &headers);
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, target: &str, headers: &[String]) -> (&'static str, &'static str, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let embed = query.split('&').find_map(|part| part.strip_prefix("embed=")).unwrap_or("none").to_owned();
        let parts: Vec<String> =
            path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let resolves = !headers.iter().any(|header| header == "es-resolvelinktos: false");
        assert!(headers.iter().any(|header| header == "es-requiremaster: true") || parts[0] != "streams");
        let feed = |page: Value| {
            ("200 OK", "application/vnd.eventstore.atom+json; charset=utf-8", serde_json::to_vec_pretty(&page).unwrap())
        };
        match parts.as_slice() {
            ["streams", "$all", position, "forward", count] => {
                feed(self.log_page(u64::from_str_radix(&position[..16], 16).unwrap(), count.parse().unwrap(), &embed))
            }
            ["streams", "$all", "head", "backward", _] => feed(self.head_page()),
            ["streams", name, rest @ ..] => match (self.seen(name), rest) {
                (Seen::NotFound, _) => ("404 Not Found", "text/plain; charset=utf-8", Vec::new()),
                (Seen::Deleted, _) => ("410 Deleted", "text/plain; charset=utf-8", Vec::new()),
                (Seen::From(min), [number, direction, count]) => {
                    let number = if *number == "head" { self.last[*name] } else { number.parse().unwrap() };
                    let count = count.parse::<u64>().unwrap();
                    let numbers = match *direction {
                        "forward" => number..number + count,
                        _ => (number + 1).saturating_sub(count)..number + 1,
                    };
                    feed(self.stream_page(name, numbers, min, &embed, resolves))
                }
                (Seen::From(min), [number]) => {
                    assert!(!resolves && headers.iter().any(|header| header == "accept: application/octet-stream"));
                    let number: u64 = number.parse().unwrap();
                    match self.find(name, number).filter(|_| number >= min) {
                        Some(event) => ("200 OK", "application/octet-stream", event.data.clone()),
                        None => ("404 Not Found", "text/plain; charset=utf-8", Vec::new()),
                    }
                }
                _ => ("404 Not Found", "text/plain", Vec::new()),
            },
            _ => ("404 Not Found", "text/plain", Vec::new()),
        }
    }

    fn find(&self, stream: &str, number: u64) -> Option<&Stored> {
        self.index.get(&(stream.to_owned(), number)).map(|at| &self.log[*at])
    }

    fn seen(&self, stream: &str) -> Seen {
        let described = stream.strip_prefix("$$").unwrap_or(stream);
        if self.find(described, TOMBSTONE).is_some() {
            return Seen::Deleted;
        }
        let Some(last) = self.last.get(stream) else { return Seen::NotFound };
        if stream.starts_with("$$") {
            return Seen::From(*last);
        }
        let metadata =
            self.last.get(&format!("$${stream}")).and_then(|number| self.find(&format!("$${stream}"), *number));
        let metadata: Value = metadata.map_or(json!({}), |event| serde_json::from_slice(&event.data).unwrap());
        let by_count = metadata["$maxCount"].as_u64().map_or(0, |count| (last + 1).saturating_sub(count));
        match metadata["$tb"].as_u64().unwrap_or_default().max(by_count) {
            TOMBSTONE => Seen::NotFound,
            min => Seen::From(min),
        }
    }

    fn link(&self, path: &str, relation: &str) -> Value {
        json!({ "uri": format!("{}{path}", self.base), "relation": relation })
    }

    fn log_page(&self, position: u64, count: usize, embed: &str) -> Value {
        let first = position.div_ceil(EVENT_BYTES) as usize;
        let events: Vec<&Stored> = self.log.iter().skip(first).take(count).collect();
        let behind = (first + events.len()) as u64 * EVENT_BYTES;
        let mut links = vec![
            self.link("/streams/%24all", "self"),
            self.link(&format!("/streams/%24all/head/backward/{count}"), "first"),
        ];
        if position != 0 {
            links.push(self.link(&format!("/streams/%24all/{:032X}/forward/{count}", 0), "last"));
            links.push(self.link(&format!("/streams/%24all/{position:016X}{position:016X}/backward/{count}"), "next"));
        }
        if !events.is_empty() {
            links.push(self.link(&format!("/streams/%24all/{behind:016X}{behind:016X}/forward/{count}"), "previous"));
        }
        links.push(self.link("/streams/%24all/metadata", "metadata"));
        let entries: Vec<Value> = events.iter().rev().map(|event| self.entry(event, embed, true)).collect();
        let updated = events.last().map_or("0001-01-01T00:00:00Z", |event| &event.time);
        json!({ "title": "All events", "id": format!("{}/streams/%24all", self.base), "updated": updated,
            "author": { "name": "EventStore" }, "headOfStream": false, "links": links, "entries": entries })
    }

    fn head_page(&self) -> Value {
        let end = self.log.len() as u64 * EVENT_BYTES;
        json!({ "title": "All events", "headOfStream": false, "entries": [],
            "links": [self.link(&format!("/streams/%24all/{end:016X}{end:016X}/forward/1"), "previous")] })
    }

    fn stream_page(&self, name: &str, numbers: std::ops::Range<u64>, min: u64, embed: &str, resolves: bool) -> Value {
        let last = self.last[name];
        let shown = numbers.clone().rev().filter(|number| *number >= min).filter_map(|number| self.find(name, number));
        let entries: Vec<Value> = shown.map(|event| self.entry(event, embed, resolves)).collect();
        let mut links = Vec::new();
        if numbers.start <= last {
            let count = numbers.end - numbers.start;
            links
                .push(self.link(&format!("/streams/{name}/{}/forward/{count}", numbers.end.min(last + 1)), "previous"));
        }
        json!({ "title": format!("Event stream '{name}'"), "streamId": name, "author": { "name": "EventStore" },
            "headOfStream": numbers.end > last, "eTag": format!("{last};248368668"), "links": links, "entries": entries })
    }

    fn entry(&self, event: &Stored, embed: &str, resolves: bool) -> Value {
        let text = String::from_utf8_lossy(&event.data).into_owned();
        let is_link = resolves && event.kind == "$>";
        let target = text.split_once('@').filter(|_| is_link);
        let resolved = target.and_then(|(number, stream)| {
            let number = number.parse().unwrap();
            match self.seen(stream) {
                Seen::From(min) if number >= min => self.find(stream, number),
                _ => None,
            }
        });
        let shown = if is_link { resolved } else { Some(event) };
        let (number, stream) = target
            .map_or((event.number.to_string(), event.stream.as_str()), |(number, stream)| (number.to_owned(), stream));
        let mut entry = serde_json::Map::new();
        if let Some(shown) = shown.filter(|_| embed != "none") {
            entry.insert("eventId".into(), json!(shown.id));
            entry.insert("eventType".into(), json!(shown.kind));
            entry.insert("eventNumber".into(), json!(shown.number));
            if shown.is_json || embed == "tryharder" {
                entry.insert("data".into(), json!(String::from_utf8_lossy(&shown.data)));
            }
            if !shown.metadata.is_empty() {
                entry.insert("metaData".into(), json!(shown.metadata));
            }
            if is_link {
                entry.insert("linkMetaData".into(), json!(event.metadata));
            }
            entry.insert("streamId".into(), json!(shown.stream));
            entry.insert("isJson".into(), json!(shown.is_json));
            entry.insert("isMetaData".into(), json!(!shown.metadata.is_empty()));
            entry.insert("isLinkMetaData".into(), json!(is_link && !event.metadata.is_empty()));
            entry.insert("positionEventNumber".into(), json!(event.number));
            entry.insert("positionStreamId".into(), json!(event.stream));
        }
        let uri = format!("{}/streams/{stream}/{number}", self.base);
        entry.insert("title".into(), json!(format!("{number}@{stream}")));
        entry.insert("id".into(), json!(uri));
        entry.insert("updated".into(), json!(event.time));
        entry.insert("author".into(), json!({ "name": "EventStore" }));
        entry.insert("summary".into(), json!(event.kind));
        entry.insert(
            "links".into(),
            json!([{ "uri": uri, "relation": "edit" }, { "uri": uri, "relation": "alternate" }]),
        );
        Value::Object(entry)
    }
}
