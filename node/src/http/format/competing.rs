//! The URIs of a group of competing consumers, and its messages as a feed and as server-sent events
//! (contract/services 3.4).

use uuid::Uuid;

use crate::consumers::{Delivery, GroupName};
use crate::http::format::atom::{Additions, Embed, Feed, FeedWriter, Format};
use crate::http::format::links::{Base, encode};
use crate::http::format::sse;

/// What a message takes besides its payload, roughly: its links name stream and group.
const ROOM_FOR_ENTRY: usize = 2 * 1024;

/// The URIs of a group.
pub(crate) struct GroupUris<'a> {
    base: &'a Base,
    name: &'a GroupName,
    own: String,
}

impl<'a> GroupUris<'a> {
    /// The URIs of the group of this name.
    pub(crate) fn new(base: &'a Base, name: &'a GroupName) -> Self {
        let own = [base.as_str(), &path(name.stream.as_str(), &name.group)].concat();
        Self { base, name, own }
    }

    /// That of the group.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// That of what is told of the group.
    pub(crate) fn info(&self) -> String {
        format!("{}/info", self.own)
    }

    /// That of the next messages, so many at most.
    pub(crate) fn messages(&self, count: usize) -> String {
        format!("{}/{count}", self.own)
    }

    /// That by which parked messages are handed out again.
    pub(crate) fn replay_parked(&self) -> String {
        format!("{}/replayParked", self.own)
    }

    /// That of the stream of parked messages. The colons are not encoded, as in the original.
    pub(crate) fn parked_stream(&self) -> String {
        let (stream, group) = (encode(self.name.stream.as_str()), encode(&self.name.group));
        format!("{}/streams/%24persistentsubscription-{stream}::{group}-parked", self.base.as_str())
    }

    /// What an entry has besides other entries: the links that settle the message.
    fn of_message(&self, id: Uuid) -> [(&'static str, String); 2] {
        ["ack", "nack"].map(|verb| (verb, format!("{}/{verb}/{}", self.own, id.hyphenated())))
    }

    /// The links that settle all messages at once, in the order in which they were handed out.
    fn of_all(&self, messages: &[Delivery]) -> [(&'static str, String); 2] {
        let ids: Vec<String> = messages.iter().map(|message| message.id.hyphenated().to_string()).collect();
        let ids = ids.join(",");
        [("ackAll", "ack"), ("nackAll", "nack")]
            .map(|(relation, verb)| (relation, format!("{}/{verb}?ids={ids}", self.own)))
    }
}

/// The path of a group.
pub(crate) fn path(stream: &str, group: &str) -> String {
    format!("/subscriptions/{}/{}", encode(stream), encode(group))
}

/// Messages as a feed, the newest first. `count` is how many were asked for.
pub(crate) fn feed(format: &Format, name: &GroupName, messages: &[Delivery], count: usize) -> Vec<u8> {
    let uris = GroupUris::new(&format.base, name);
    let mut links = Vec::with_capacity(4);
    if !messages.is_empty() {
        links.extend(uris.of_all(messages));
    }
    links.push(("previous", uris.messages(count)));
    links.push(("self", uris.own().to_owned()));
    let feed = Feed {
        title: format!("Messages for '{}/{}'", name.stream.as_str(), name.group),
        id: uris.own().to_owned(),
        updated: messages.last().map(|message| message.event.original.time),
        stream: None,
        head_of_stream: false,
        has_self_url: false,
        tag: None,
        links,
    };
    let mut out = Vec::with_capacity(bytes(messages));
    let mut writer = FeedWriter::new(format, false);
    writer.start(&mut out, &feed);
    for message in messages.iter().rev() {
        let additions = Additions { links: &uris.of_message(message.id), retries: None };
        writer.entry_with(&mut out, &message.event.borrowed(), additions);
    }
    writer.end(&mut out);
    out
}

/// Messages as server-sent events, in the order in which they were handed out.
pub(crate) fn events(base: &Base, embed: Embed, name: &GroupName, messages: &[Delivery]) -> Vec<u8> {
    let uris = GroupUris::new(base, name);
    let mut out = Vec::with_capacity(bytes(messages));
    for message in messages {
        let links = uris.of_message(message.id);
        let additions = Additions { links: &links, retries: Some(message.retries) };
        let id = message.id.hyphenated().to_string();
        sse::push_event_with(&mut out, &id, &message.event.borrowed(), base, embed, additions);
    }
    out
}

fn bytes(messages: &[Delivery]) -> usize {
    messages.iter().map(|message| message.event.payload_bytes() + ROOM_FOR_ENTRY).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{LinkTarget, RecordedEvent, ResolvedEvent, StreamName, Ticks};
    use crate::http::format::atom::Notation;

    fn name() -> GroupName {
        GroupName { stream: StreamName::parse("a b").unwrap(), group: "g/é".to_owned() }
    }

    fn base() -> Base {
        Base::of_request(&HeaderMap::new(), "http", None, "node:1")
    }

    fn message(number: u64) -> Delivery {
        let original = RecordedEvent {
            position: number,
            stream: "a b".to_owned(),
            number,
            event_id: Uuid::from_u128(number.into()),
            event_type: "t".to_owned(),
            is_json: true,
            time: Ticks(number),
            data: Bytes::from_static(b"{\"x\":1}"),
            metadata: Bytes::new(),
        };
        let id = original.event_id;
        Delivery { event: ResolvedEvent { original, target: LinkTarget::NotFollowed }, id, retries: 2, memory: None }
    }

    fn written(notation: Notation, embed: Embed, messages: &[Delivery]) -> String {
        let format = Format { notation, embed, base: base() };
        String::from_utf8(feed(&format, &name(), messages, 5)).unwrap()
    }

    #[test]
    fn a_feed_has_its_newest_message_first_and_links_in_the_order_of_delivery() {
        let feed: Value =
            serde_json::from_str(&written(Notation::Json, Embed::Body, &[message(1), message(2)])).unwrap();
        assert_eq!(feed["title"], "Messages for 'a b/g/é'");
        assert_eq!(feed["headOfStream"], false);
        assert_eq!(feed["updated"], feed["entries"][0]["updated"]);
        let own = "http://node:1/subscriptions/a%20b/g%2F%C3%A9";
        let [one, two] = [1, 2].map(|id: u128| Uuid::from_u128(id).to_string());
        let link = |relation: &str, rest: &str| json!({"uri": format!("{own}{rest}"), "relation": relation});
        let expected = [
            link("ackAll", &format!("/ack?ids={one},{two}")),
            link("nackAll", &format!("/nack?ids={one},{two}")),
            link("previous", "/5"),
            link("self", ""),
        ];
        assert_eq!(feed["links"], json!(expected));
        let entry = &feed["entries"][0];
        assert_eq!((&entry["title"], &entry["data"]), (&json!("2@a b"), &json!("{\"x\":1}")));
        let event = |relation: &str| json!({"uri": "http://node:1/streams/a%20b/2", "relation": relation});
        let settled = |verb: &str| link(verb, &format!("/{verb}/{two}"));
        assert_eq!(entry["links"], json!([event("edit"), event("alternate"), settled("ack"), settled("nack")]));
        assert_eq!(entry.get("retryCount"), None);
        assert_eq!(feed["entries"][1]["title"], "1@a b");
    }

    #[test]
    fn an_empty_feed_has_no_time_and_nothing_to_settle() {
        let feed: Value = serde_json::from_str(&written(Notation::Json, Embed::None, &[])).unwrap();
        assert_eq!((&feed["updated"], &feed["entries"]), (&json!("0001-01-01T00:00:00Z"), &json!([])));
        let relations: Vec<&Value> = feed["links"].as_array().unwrap().iter().map(|link| &link["relation"]).collect();
        assert_eq!(relations, ["previous", "self"]);
    }

    #[test]
    fn the_links_of_messages_stand_in_xml_too() {
        let feed = written(Notation::Xml, Embed::None, &[message(1)]);
        for relation in ["ackAll", "nackAll", "previous", "self", "edit", "alternate", "ack", "nack"] {
            assert_eq!(feed.matches(&format!(" rel=\"{relation}\" />")).count(), 1, "{relation} in {feed}");
        }
    }

    #[test]
    fn a_server_sent_event_says_how_often_it_was_handed_out() {
        let sent = String::from_utf8(events(&base(), Embed::Body, &name(), &[message(7)])).unwrap();
        let lines: Vec<&str> = sent.split('\n').collect();
        assert_eq!(lines[..2], [&format!("id: {}", Uuid::from_u128(7)), "event: t"]);
        let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["retryCount"], &data["eventNumber"]), (&json!(2), &json!(7)));
        assert_eq!(data["links"][2]["relation"], "ack");
        assert_eq!(lines[3..], ["", ""]);
    }

    #[test]
    fn the_uri_of_parked_messages_is_that_of_their_stream() {
        let (base, name) = (base(), name());
        let uri = GroupUris::new(&base, &name).parked_stream();
        assert_eq!(uri, "http://node:1/streams/%24persistentsubscription-a%20b::g%2F%C3%A9-parked");
    }
}
