//! Places of which a node has only so many: for those who wait, and for passwords to be hashed.

use std::time::Duration;

use headwater_cluster_tests::client::basic;
use tokio::task::JoinSet;

use super::{Attack, Bound, Held, hold};
use crate::door::{Connection, Door, Protocol, push};

/// Attackers that try passwords. Each address has a thousand attempts before they are slowed down.
const GUESSERS: usize = 4;

/// Between two attempts of one attacker. A hash takes 20 ms, and of each of two cores clients
/// should keep most.
const GUESS_INTERVAL: Duration = Duration::from_millis(200);

/// The state of a connection and of a request that waits.
const BOUND: Bound = Bound { shared_mib: 96, each_kib: 160 };

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            name: "long polls",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let line = door.request_line("GET", "/streams/nothing/0/forward/20");
                    let sent = format!("{line}ES-LongPoll: 60\r\n\r\n");
                    Ok(hold(count, |_| say(&door, &sent)).await)
                })
            },
        },
        Attack {
            name: "subscriptions",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let sent =
                        format!("{}Accept: text/event-stream\r\n\r\n", door.request_line("GET", "/streams/nothing"));
                    Ok(hold(count, |_| say(&door, &sent)).await)
                })
            },
        },
        Attack {
            name: "wrong passwords",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let mut tasks = JoinSet::new();
                    for attacker in 0..count.min(GUESSERS) {
                        let door = door.clone();
                        tasks.spawn(async move { guess(&door, attacker).await });
                    }
                    Ok(Held { _connections: Vec::new(), _tasks: tasks })
                })
            },
        },
    ]
}

async fn say(door: &Door, text: &str) -> anyhow::Result<Connection> {
    let mut connection = door.connect(Protocol::Http1).await?;
    push(&mut connection, text.as_bytes()).await;
    Ok(connection)
}

/// Tries one password after the other; a refusal is what an attacker expects.
async fn guess(door: &Door, attacker: usize) {
    for number in 0.. {
        let (user, password) = (format!("user-{attacker}"), format!("password-{number}"));
        let credentials = basic((&user, &password));
        let head = format!("{}Authorization: {credentials}\r\n", door.request_line("GET", "/users/$current"));
        let _ = door.exchange(&head, b"").await;
        tokio::time::sleep(GUESS_INTERVAL).await;
    }
}
