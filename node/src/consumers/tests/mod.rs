//! Groups on the log of all events, which no door makes yet: by the operations of the room, on
//! whole nodes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::settings::Settings;
use super::{ChangeError, Consumers, Delivery, GroupInfo, GroupName, Settlement, Take};
use crate::access::{Caller, Principal};
use crate::event::StreamName;
use crate::event::caller::ADMINS;
use crate::node::support::nodes::Nodes;
use crate::node::support::{PATIENCE, client};
use crate::streams::{Filter, FilterBy, Pattern, RemoteCaller};

const EVENTS: &str = "application/vnd.eventstore.events+json";

/// The operations of one node, by an administrator.
struct Door {
    consumers: Consumers,
    caller: Caller,
    base: String,
}

impl Door {
    fn of(nodes: &Nodes, index: usize) -> Self {
        let caller = Caller::User(Arc::new(Principal::vouched_for("admin", vec![ADMINS.to_owned()])));
        Self { consumers: nodes.node(index).consumers().clone(), caller, base: nodes.base(index) }
    }

    fn client(&self) -> RemoteCaller<'_> {
        RemoteCaller { caller: &self.caller, address: Ipv4Addr::LOCALHOST.into() }
    }

    async fn create(&self, group: &str, settings: &Settings, filter: Option<&Filter>) -> Result<(), ChangeError> {
        self.consumers.create_on_log(self.client(), group, settings, filter).await
    }

    async fn take(&self, group: &str, wait: Duration) -> Vec<Delivery> {
        let take = Take { count: 100, wait: Some(wait) };
        self.consumers.take(self.client(), &on_log(group), take).await.unwrap()
    }

    /// So many messages; a group that has just begun may hand out fewer at first.
    async fn take_all(&self, group: &str, count: usize) -> Vec<Delivery> {
        let (mut taken, started) = (Vec::new(), Instant::now());
        while taken.len() < count {
            assert!(started.elapsed() < PATIENCE, "{} of {count}", taken.len());
            taken.extend(self.take(group, Duration::from_secs(1)).await);
        }
        assert_eq!(taken.len(), count);
        taken
    }

    async fn settle(&self, group: &str, messages: &[Delivery], settlement: Settlement) {
        let ids: Vec<_> = messages.iter().map(|message| message.id).collect();
        self.consumers.settle(self.client(), &on_log(group), &ids, settlement).await.unwrap();
    }

    async fn info(&self, group: &str) -> GroupInfo {
        self.consumers.describe(self.client(), &on_log(group)).await.unwrap().unwrap()
    }

    /// What is told of the group as soon as it is so.
    async fn told(&self, group: &str, what: &str, is_so: impl Fn(&GroupInfo) -> bool) -> GroupInfo {
        let started = Instant::now();
        loop {
            let info = self.info(group).await;
            if is_so(&info) {
                return info;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {info:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A request of the administrator over HTTP.
    fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> client::Answer {
        let headers = [
            ("Authorization", client::ADMIN.to_owned()),
            ("Content-Type", content_type.to_owned()),
            ("Accept", "application/json".to_owned()),
            ("ES-ResolveLinkTos", "false".to_owned()),
        ];
        tokio::task::block_in_place(|| client::send(&self.base, method, path, &headers, body.as_bytes()))
    }

    fn append(&self, stream: &str, count: usize) {
        let event = |number| json!({"eventId": id(), "eventType": "t", "data": {"a": number}});
        let events: Vec<Value> = (0..count).map(event).collect();
        let answer = self.send("POST", &format!("/streams/{stream}"), EVENTS, &json!(events).to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// The newest event of a stream, as soon as it has these data: this node may be behind the
    /// leader.
    async fn newest(&self, stream: &str, data: &str) -> Value {
        let path = format!("/streams/{}/head/backward/1?embed=tryharder", stream.replace('$', "%24"));
        let started = Instant::now();
        loop {
            let answer = self.send("GET", &path, "", "");
            let newest = if answer.status == 200 { answer.json()["entries"][0].clone() } else { Value::Null };
            if newest["data"] == data {
                return newest;
            }
            assert!(started.elapsed() < PATIENCE, "{stream}: {newest}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn on_log(group: &str) -> GroupName {
    GroupName { stream: StreamName::parse("$all").unwrap(), group: group.to_owned() }
}

fn of_streams(prefix: &str) -> Filter {
    let pattern = Pattern::prefixes([prefix].into_iter()).unwrap();
    Filter { pattern: Some((FilterBy::Stream, pattern)), without_system_events: false }
}

fn titles(messages: &[Delivery]) -> Vec<String> {
    let title = |message: &Delivery| {
        let (number, stream) = message.event.borrowed().identity();
        format!("{number}@{stream}")
    };
    messages.iter().map(title).collect()
}

fn position(message: &Delivery) -> i64 {
    message.event.original.position.try_into().unwrap()
}

/// Stores what was settled at once. No message comes back by itself.
fn eager() -> Settings {
    let (min_checkpoint_count, checkpoint_after_milliseconds, message_timeout_milliseconds) = (1, 0, 0);
    Settings {
        min_checkpoint_count,
        checkpoint_after_milliseconds,
        message_timeout_milliseconds,
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_on_the_log_shares_out_what_its_filter_leaves_and_goes_on_with_the_next_leader() {
    let mut nodes = Nodes::start(3).await;
    let door = Door::of(&nodes, nodes.follower_index());
    door.append("orders-1", 3);
    door.append("other", 2);
    door.append("orders-2", 2);
    door.create("g", &eager(), Some(&of_streams("orders-"))).await.unwrap();
    let taken = door.take_all("g", 5).await;
    assert_eq!(titles(&taken), ["0@orders-1", "1@orders-1", "2@orders-1", "0@orders-2", "1@orders-2"]);
    door.settle("g", &taken[..2], Settlement::Acknowledge).await;
    door.settle("g", &taken[2..3], Settlement::Park).await;
    door.settle("g", &taken[4..], Settlement::Skip).await;
    let done = position(&taken[3]) - 1;
    let info = door.told("g", "it is stored", |info| info.last_checkpointed == done && info.parked == 1).await;
    assert_eq!((info.outstanding, info.settings.clone()), (1, eager()));

    let at = position(&taken[2]);
    door.newest("$persistentsubscription-$all::g-checkpoint", &format!("\"C:{done}/P:{done}\"")).await;
    let parked = door.newest("$persistentsubscription-$all::g-parked", "2@orders-1").await;
    let metadata: Value = serde_json::from_str(parked["metaData"].as_str().unwrap()).unwrap();
    assert_eq!(metadata["subscriptionEventPosition"], json!(format!("C:{at}/P:{at}")));

    nodes.stop_node(nodes.leader_index()).await;
    nodes.wait_until_ready().await;
    let door = Door::of(&nodes, nodes.follower_index());
    assert_eq!(titles(&door.take_all("g", 1).await), ["0@orders-2"], "what was settled does not come again");
    door.consumers.replay_parked(door.client(), &on_log("g"), None).await.unwrap();
    let replayed = door.take_all("g", 1).await;
    assert_eq!(titles(&replayed), ["2@orders-1"]);
    door.settle("g", &replayed, Settlement::Acknowledge).await;
    door.told("g", "nothing is parked", |info| info.parked == 0).await;
    door.append("orders-3", 1);
    assert_eq!(titles(&door.take_all("g", 1).await), ["0@orders-3"]);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_tells_of_groups_on_the_log_and_makes_none() {
    let nodes = Nodes::start(1).await;
    let door = Door::of(&nodes, 0);
    let made = door.send("PUT", "/subscriptions/%24all/g", "application/json", "{}");
    assert_eq!((made.status, &made.json()["reason"]), (500, &json!("Bad stream name.")));
    let filter = Filter { without_system_events: true, ..of_streams("a") };
    door.create("g", &eager(), Some(&filter)).await.unwrap();
    assert!(matches!(door.create("g", &eager(), None).await, Err(ChangeError::AlreadyExists)));
    let beyond = Settings { start_from: 1 << 40, ..eager() };
    let refused = door.create("h", &beyond, None).await;
    assert!(matches!(&refused, Err(ChangeError::Failed(reason)) if reason.starts_with("Invalid Start From position")));
    assert_eq!(door.send("PUT", "/subscriptions/%24all/g", "application/json", "{}").status, 409);

    for path in ["/subscriptions", "/subscriptions/%24all"] {
        let list = door.send("GET", path, "", "").json();
        let names: Vec<_> =
            list.as_array().unwrap().iter().map(|of| (&of["eventStreamId"], &of["groupName"])).collect();
        assert_eq!(names, [(&json!("$all"), &json!("g"))], "{path}");
    }
    door.append("a", 1);
    let taken = door.take_all("g", 1).await;
    door.settle("g", &taken, Settlement::Acknowledge).await;
    let at = position(&taken[0]);
    door.told("g", "it is stored", |info| info.last_checkpointed >= at).await;
    let info = door.send("GET", "/subscriptions/%24all/g/info", "", "").json();
    let expected = json!({"context": "streamid", "type": "prefix", "data": "a", "excludeSystemEvents": true});
    assert_eq!(info["filter"], expected, "{info}");
    let done = info["lastProcessedEventNumber"].as_i64().unwrap();
    assert_eq!(info["lastCheckpointedEventPosition"], json!(format!("C:{done}/P:{done}")));

    // An update keeps the filter and what was done.
    let updated = door.send("POST", "/subscriptions/%24all/g", "application/json", r#"{"maxRetryCount":3}"#);
    assert_eq!(updated.status, 200, "{}", updated.text());
    let info = door.send("GET", "/subscriptions/%24all/g/info", "", "").json();
    assert_eq!((&info["filter"], &info["config"]["maxRetryCount"]), (&expected, &json!(3)));
    door.append("a", 1);
    assert_eq!(titles(&door.take_all("g", 1).await), ["1@a"]);
    assert_eq!(door.send("DELETE", "/subscriptions/%24all/g", "", "").status, 200);
    assert_eq!(door.send("GET", "/subscriptions/%24all/g/info", "", "").status, 404);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_on_the_log_stores_of_itself_is_no_message_of_it() {
    let nodes = Nodes::start(1).await;
    let door = Door::of(&nodes, 0);
    door.create("g", &Settings { start_from: -1, ..eager() }, None).await.unwrap();
    door.append("a", 1);
    let (mut streams, mut rounds) = (Vec::new(), 0);
    loop {
        // Longer than it takes to store what was settled.
        let taken = door.take("g", Duration::from_secs(3)).await;
        if taken.is_empty() {
            break;
        }
        rounds += 1;
        assert!(rounds < 20, "it does not come to rest: {streams:?}");
        door.settle("g", &taken, Settlement::Acknowledge).await;
        streams.extend(taken.iter().map(|message| message.event.original.stream.clone()));
    }
    assert!(streams.contains(&"a".to_owned()), "{streams:?}");
    let own: Vec<_> = streams.iter().filter(|stream| stream.contains("$persistentsubscription-$all::")).collect();
    assert!(own.is_empty(), "{own:?}");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checkpoint_of_a_group_on_the_log_moves_over_what_its_filter_leaves_out() {
    let nodes = Nodes::start(1).await;
    let door = Door::of(&nodes, 0);
    door.create("g", &Settings::default(), Some(&of_streams("wanted"))).await.unwrap();
    door.append("other", 18_000);
    assert!(door.take("g", Duration::ZERO).await.is_empty());
    door.told("g", "it has passed them", |info| info.last_checkpointed > 16_000).await;
    door.append("wanted", 1);
    assert_eq!(titles(&door.take_all("g", 1).await), ["0@wanted"]);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_this_program_does_not_take_is_told_as_the_failure_of_its_group() {
    let nodes = Nodes::start(1).await;
    let door = Door::of(&nodes, 0);
    let filter = json!({"wants": {"context": "streamid", "regex": "("}});
    let log = json!({"begin": 0, "filter": filter});
    let document = json!({"stream": "$all", "group": "g", "settings": {}, "log": log, "updatedBy": "me"});
    let event = json!([{"eventId": id(), "eventType": "x", "data": document}]);
    let path = "/streams/%24persistentsubscription-%24all%3A%3Ag-settings";
    assert_eq!(door.send("POST", path, EVENTS, &event.to_string()).status, 201);
    assert!(door.take("g", Duration::ZERO).await.is_empty());
    let info = door.told("g", "it has failed", |info| info.failure.is_some()).await;
    assert_eq!(info.failure.as_deref(), Some("invalid regular expression"));
    nodes.stop().await;
}
