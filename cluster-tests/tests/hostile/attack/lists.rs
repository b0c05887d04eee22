//! Access lists and names as large as they may be.

use super::{Attack, Bound, Held, hold};
use crate::door::{Door, Protocol, push};

/// As large as metadata may be, in roles of no letters.
const HUGE_ROLES: usize = 1_300_000;

/// Huge lists. Each was 40 MiB of memory once.
const HUGE_LISTS: usize = 20;

/// Requests on one connection.
const NAMES_EACH: usize = 50;

/// The longest name of a stream, less a number.
const NAME_BYTES: usize = 4_000;

/// What is kept of lists and streams, with a few bodies at a time.
const BOUND: Bound = Bound { shared_mib: 160, each_kib: 160 };

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            name: "huge access lists",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| Box::pin(async move { huge_lists(&door, count.min(HUGE_LISTS)).await }),
        },
        Attack {
            name: "long names",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    Ok(hold(count, async |attacker| {
                        let mut connection = door.connect(Protocol::Http1).await?;
                        for number in 0..NAMES_EACH {
                            let name = format!("{}-{attacker}-{number}", "n".repeat(NAME_BYTES));
                            let path = format!("/streams/{name}");
                            push(&mut connection, format!("{}\r\n", door.request_line("GET", &path)).as_bytes()).await;
                        }
                        Ok(connection)
                    })
                    .await)
                })
            },
        },
    ]
}

/// Writes lists, each of which is in force or refused, and makes the node look at each.
async fn huge_lists(door: &Door, count: usize) -> anyhow::Result<Held> {
    let list = format!("{{\"$acl\":{{\"$r\":[\"$all\"{}]}}}}", ",\"\"".repeat(HUGE_ROLES));
    for number in 0..count {
        let stream = format!("/streams/huge-{number}");
        let head = |path: &str, event_type: &str| {
            let line = door.request_line("POST", path);
            let id = uuid::Uuid::new_v4();
            format!("{line}Content-Type: application/json\r\nES-EventType: {event_type}\r\nES-EventId: {id}\r\n")
        };
        let written = door.exchange(&head(&format!("{stream}/metadata"), "$metadata"), list.as_bytes()).await?;
        let is_refused = written.starts_with("HTTP/1.1 400 ");
        anyhow::ensure!(is_refused, "a list of {HUGE_ROLES} roles: {}", written.lines().next().unwrap_or_default());
        door.exchange(&head(&stream, "t"), b"{}").await?;
    }
    Ok(Held::default())
}
