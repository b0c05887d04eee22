//! Groups of competing consumers over HTTP, by the numbers of contract/cases-services.

mod clients;
mod groups;
mod live;
mod messages;
mod never_stalls;
mod told;

use serde_json::Value;
use uuid::Uuid;

use crate::support::block_until;
use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

const JSON: &str = "application/json";
const MESSAGES: &str = "application/vnd.eventstore.competingatom+json";
const OPS: &str = "Basic b3BzOmNoYW5nZWl0";

/// Runs what blocks beside a single node, and stops the node.
async fn on_a_node(work: impl FnOnce(&str) + Send + 'static) {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    tokio::task::spawn_blocking(move || work(&base)).await.unwrap();
    nodes.stop().await;
}

/// Runs what blocks beside a node that does not lead.
async fn on_a_follower(work: impl FnOnce(&str) + Send + 'static) {
    let nodes = Nodes::start(3).await;
    let base = nodes.follower();
    tokio::task::spawn_blocking(move || work(&base)).await.unwrap();
    nodes.stop().await;
}

/// A request of the administrator.
fn send(base: &str, method: &str, path: &str, more: &[(&str, &str)], body: &str) -> Answer {
    let mut headers: Vec<(&str, String)> = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    if !more.iter().any(|(name, _)| *name == "Authorization") {
        headers.push(("Authorization", client::ADMIN.to_owned()));
    }
    client::send(base, method, path, &headers, body.as_bytes())
}

fn basic(login: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{login}:secret")))
}

/// Makes a user with the password `secret`.
fn create_user(base: &str, login: &str) {
    let body = format!(r#"{{"loginName":"{login}","fullName":"","groups":[],"password":"secret"}}"#);
    assert_eq!(send(base, "POST", "/users", &[("Content-Type", JSON)], &body).status, 201);
}

fn write_metadata(base: &str, stream: &str, metadata: &str) {
    let id = Uuid::new_v4().to_string();
    let headers = [("Content-Type", JSON), ("ES-EventId", id.as_str()), ("ES-EventType", "$metadata")];
    assert_eq!(send(base, "POST", &format!("/streams/{stream}/metadata"), &headers, metadata).status, 201);
}

/// A stream and a group of their own.
struct Group {
    base: String,
    stream: String,
    name: String,
}

impl Group {
    /// Names; nothing is made.
    fn new(base: &str) -> Self {
        let unique = &Uuid::new_v4().simple().to_string()[..8];
        Self { base: base.to_owned(), stream: format!("s-{unique}"), name: format!("g-{unique}") }
    }

    /// A group with these settings, of a stream that does not exist.
    fn made(base: &str, settings: &str) -> Self {
        let group = Self::new(base);
        let made = group.put(settings);
        assert_eq!(made.status, 201, "{}", made.text());
        group
    }

    /// Another group of the same stream.
    fn beside(&self, name: &str) -> Self {
        Self { base: self.base.clone(), stream: self.stream.clone(), name: name.to_owned() }
    }

    fn path(&self, rest: &str) -> String {
        format!("/subscriptions/{}/{}{rest}", self.stream, self.name)
    }

    fn send(&self, method: &str, rest: &str, more: &[(&str, &str)], body: &str) -> Answer {
        send(&self.base, method, &self.path(rest), more, body)
    }

    fn put(&self, settings: &str) -> Answer {
        self.send("PUT", "", &[("Content-Type", JSON)], settings)
    }

    fn post(&self, rest: &str) -> Answer {
        self.send("POST", rest, &[], "")
    }

    fn info(&self) -> Value {
        let answer = self.send("GET", "/info", &[("Accept", JSON)], "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Appends events `{"a": n}` of type `t`, and returns their ids.
    fn append(&self, count: usize) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|_| Uuid::new_v4().to_string()).collect();
        let event =
            |(number, id): (usize, &String)| format!(r#"{{"eventId":"{id}","eventType":"t","data":{{"a":{number}}}}}"#);
        let events: Vec<String> = ids.iter().enumerate().map(event).collect();
        let headers = [("Content-Type", "application/vnd.eventstore.events+json")];
        let path = format!("/streams/{}", self.stream);
        let answer = send(&self.base, "POST", &path, &headers, &format!("[{}]", events.join(",")));
        assert_eq!(answer.status, 201, "{}", answer.text());
        ids
    }

    /// The feed of the next messages.
    fn feed(&self, rest: &str, more: &[(&str, &str)]) -> Value {
        let answer = self.send("GET", rest, &[&[("Accept", MESSAGES)], more].concat(), "");
        assert_eq!((answer.status, answer.header("Cache-Control").as_deref()), (200, Some("no-store")));
        answer.json()
    }

    /// So many messages, in the order of delivery. A group that has just begun may hand out fewer
    /// at first.
    fn take(&self, count: usize) -> Vec<Message> {
        let mut taken = Vec::new();
        block_until("all messages are there", || {
            let left = count - taken.len();
            taken.extend(messages_of(&self.feed(&format!("/{left}?embed=rich"), &[])));
            taken.len() == count
        });
        taken
    }

    /// What comes within so many seconds.
    fn wait(&self, seconds: u64) -> Vec<Message> {
        messages_of(&self.feed("/100?embed=rich", &[("ES-LongPoll", &seconds.to_string())]))
    }

    /// The events of the stream of this group that ends so, the oldest first.
    fn own_stream(&self, end: &str) -> Vec<Value> {
        let path = format!("/streams/%24persistentsubscription-{}::{}-{end}", self.stream, self.name);
        let headers = [("Accept", "application/vnd.eventstore.atom+json"), ("ES-ResolveLinkTos", "false")];
        let answer = send(&self.base, "GET", &format!("{path}/0/forward/100?embed=tryharder"), &headers, "");
        if answer.status == 404 {
            return Vec::new();
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["entries"].as_array().unwrap().iter().rev().cloned().collect()
    }

    /// The parked messages, as soon as there are so many.
    fn parked(&self, count: usize) -> Vec<Value> {
        let mut parked = Vec::new();
        block_until("the messages are parked", || {
            parked = self.own_stream("parked");
            parked.len() >= count
        });
        parked
    }
}

/// A message in a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    title: String,
    ack: String,
    nack: String,
}

impl Message {
    /// Asks for what a link of this message leads to.
    fn follow(&self, base: &str, uri: &str) -> Answer {
        let path = uri.strip_prefix(base).unwrap_or_else(|| panic!("{uri} is not of {base}"));
        send(base, "POST", path, &[], "")
    }

    fn acknowledge(&self, base: &str) {
        assert_eq!(self.follow(base, &self.ack).status, 202);
    }

    fn give_back(&self, base: &str, action: &str) {
        assert_eq!(self.follow(base, &format!("{}{action}", self.nack)).status, 202);
    }
}

/// The messages of a feed, in the order of delivery.
fn messages_of(feed: &Value) -> Vec<Message> {
    let message = |entry: &Value| Message {
        title: entry["title"].as_str().unwrap().to_owned(),
        ack: link(entry, "ack").unwrap(),
        nack: link(entry, "nack").unwrap(),
    };
    feed["entries"].as_array().unwrap().iter().rev().map(message).collect()
}

fn link(of: &Value, relation: &str) -> Option<String> {
    let links = of["links"].as_array().unwrap();
    links.iter().find(|link| link["relation"] == relation).map(|link| link["uri"].as_str().unwrap().to_owned())
}

/// The numbers of messages in the stream of their group.
fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.title.split('@').next().unwrap().parse().unwrap()).collect()
}
