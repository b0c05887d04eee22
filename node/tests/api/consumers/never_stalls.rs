//! What other systems fall silent at: a group goes on, and tells.

use super::{Group, JSON, Message, messages_of, numbers, on_a_node, send, write_metadata};
use crate::support::block_until;

const SHORT: &str = r#"{"messageTimeoutMilliseconds":1000,"maxRetryCount":1}"#;

/// The messages that are there now.
fn now(group: &Group, most: usize) -> Vec<Message> {
    messages_of(&group.feed(&format!("/{most}?embed=rich"), &[]))
}

/// Takes and acknowledges messages until the last of them is this one.
fn settle_up_to(group: &Group, last: u64) {
    let mut reached = None;
    block_until(&format!("message {last} comes"), || {
        let taken = now(group, 100);
        taken.iter().for_each(|message| message.acknowledge(&group.base));
        reached = numbers(&taken).last().copied().or(reached);
        reached == Some(last)
    });
}

fn delete(group: &Group) {
    let path = format!("/streams/{}", group.stream);
    assert_eq!(send(&group.base, "DELETE", &path, &[], "").status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_steps_over_what_was_truncated_deleted_or_removed() {
    on_a_node(|base| {
        let group = Group::made(base, SHORT);
        group.append(10);
        write_metadata(base, &group.stream, r#"{"$tb":7}"#);
        settle_up_to(&group, 9);
        // Deleted with messages that nobody has taken, and made again.
        group.append(5);
        delete(&group);
        group.append(3);
        settle_up_to(&group, 17);
        write_metadata(base, &group.stream, r#"{"$maxCount":2}"#);
        group.append(20);
        assert_eq!(send(base, "POST", "/admin/scavenge", &[], "").status, 200);
        block_until("the scavenge is done", || {
            let last = send(base, "GET", "/admin/scavenge/last", &[("Accept", JSON)], "").json();
            last["state"] == "Success"
        });
        settle_up_to(&group, 37);
        block_until("all is settled", || group.info()["lastProcessedEventNumber"] == 37);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_deleted_while_it_is_out_counts_as_done() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"messageTimeoutMilliseconds":1000,"maxRetryCount":100}"#);
        group.append(3);
        group.take(3);
        write_metadata(base, &group.stream, r#"{"$tb":3}"#);
        group.append(1);
        settle_up_to(&group, 3);
        // The next consumer that asks gets none of them, and they are done.
        block_until("nothing is left open", || {
            assert_eq!(numbers(&now(&group, 100)), [0; 0]);
            group.info()["lastProcessedEventNumber"] == 3
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_lead_nowhere_and_poison_do_not_hold_back_the_others() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"resolveLinktos":true,"messageTimeoutMilliseconds":1000,"maxRetryCount":1}"#);
        let id = uuid::Uuid::new_v4().to_string();
        let link = [("Content-Type", "application/octet-stream"), ("ES-EventType", "$>"), ("ES-EventId", id.as_str())];
        let path = format!("/streams/{}", group.stream);
        assert_eq!(send(base, "POST", &path, &link, "7@nowhere").status, 201);
        group.append(4);
        // It is never acknowledged, and so parked after its second delivery.
        let poison = format!("2@{}", group.stream);
        let mut done = std::collections::BTreeSet::new();
        block_until("the others are settled", || {
            for message in now(&group, 100).into_iter().filter(|message| message.title != poison) {
                message.acknowledge(base);
                done.insert(message.title);
            }
            done.len() == 4
        });
        block_until("the poison is parked", || {
            now(&group, 100);
            let info = group.info();
            info["parkedMessageCount"] == 1 && info["lastProcessedEventNumber"] == 4
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_and_updates_beside_consumers_lose_nothing() {
    on_a_node(|base| {
        let group = Group::made(base, r#"{"bufferSize":21,"readBatchSize":20,"messageTimeoutMilliseconds":2000}"#);
        let beside = group.beside("other");
        assert_eq!(beside.put("{}").status, 201);
        group.append(300);
        let mut done = std::collections::BTreeSet::new();
        let mut round = 0;
        block_until("all are settled", || {
            round += 1;
            if round % 3 == 0 {
                let settings = format!(r#"{{"bufferSize":{},"messageTimeoutMilliseconds":2000}}"#, 21 + round);
                let updated = group.send("POST", "", &[("Content-Type", JSON)], &settings);
                assert_eq!(updated.status, 200, "{}", updated.text());
            }
            for message in now(&group, 50) {
                message.acknowledge(base);
                done.insert(message.title);
            }
            done.len() == 300
        });
        block_until("all is stored", || group.info()["lastProcessedEventNumber"] == 299);
        settle_up_to(&beside, 299);
    })
    .await;
}
