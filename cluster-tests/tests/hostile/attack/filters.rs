//! Filters that take long for each event.

use rand::RngExt;

use super::{Attack, Bound, append, credentials, hold};
use crate::door::{Protocol, push};

/// For each event it takes about a millisecond.
const EXPRESSION: &str = "%5Bab%5D*a%5Bab%5D%7B300%7Dc";

/// Events that it is matched with, in several appends.
const EVENTS: usize = 1_000;
const APPENDS: usize = 8;

/// Letters of a type, by chance: what was found out about one helps with no other.
const TYPE_LETTERS: usize = 960;

/// Readers of pages; the others subscribe.
const PAGES: usize = 3;

/// As many as one node's memory for expressions allows, and more.
const MOST: usize = 50;

/// Expressions at work, and what the log and the database hold of the events.
const BOUND: Bound = Bound { shared_mib: 128, each_kib: 256 };

pub(super) fn all() -> Vec<Attack> {
    vec![Attack {
        name: "filters that take long",
        needs_tls: false,
        bound: BOUND,
        begin: |door, count| {
            Box::pin(async move {
                for _ in 0..APPENDS {
                    append(&door, "slow", (0..EVENTS).map(|_| (random_letters(), "1".to_owned()))).await?;
                }
                let path = format!("/streams/$all/filtered?context=eventtype&type=regex&data={EXPRESSION}");
                let request = |accept: &str| {
                    format!("{}{}Accept: {accept}\r\n\r\n", door.request_line("GET", &path), credentials())
                };
                Ok(hold(count.min(MOST), async |number| {
                    let mut connection = door.connect(Protocol::Http1).await?;
                    // One page after the other, and nothing of them is read.
                    let asked = match number {
                        0..PAGES => request("application/vnd.eventstore.atom+json").repeat(20),
                        _ => request("text/event-stream"),
                    };
                    push(&mut connection, asked.as_bytes()).await;
                    Ok(connection)
                })
                .await)
            })
        },
    }]
}

fn random_letters() -> String {
    let mut random = rand::rng();
    (0..TYPE_LETTERS).map(|_| if random.random() { 'a' } else { 'b' }).collect()
}
