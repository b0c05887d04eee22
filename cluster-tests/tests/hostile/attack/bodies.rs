//! Bodies that are announced and do not come, or come too slowly.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{Attack, Bound, EVENT_ID, Held, hold};
use crate::door::{Connection, Door, Protocol, push};
use crate::frames::{self, Body, Head};

/// The largest body.
const LARGEST_BYTES: usize = 32 << 20;

/// How much of it a part of the attackers sends: more than all budgets together hold.
const HALF_BYTES: usize = LARGEST_BYTES / 2;

/// Attackers of which one sends that much.
const ONE_IN: usize = 8;

/// Requests of one HTTP/2 connection.
const REQUESTS: usize = 128;

/// What each of these sends: all together as much as a node takes before it makes room.
const BEGINNING_BYTES: usize = 60_000 / REQUESTS;

/// Between two bytes of one that comes slowly.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Bodies that come are held within the budgets of large and of small ones.
const BOUND: Bound = Bound { shared_mib: 128, each_kib: 256 };

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            name: "bodies that are announced",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| Box::pin(async move { Ok(announce(&door, count, 0).await) }),
        },
        Attack {
            name: "bodies of which half comes",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| Box::pin(async move { Ok(announce(&door, count.div_ceil(ONE_IN), HALF_BYTES).await) }),
        },
        Attack {
            name: "bodies that come byte by byte",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let mut tasks = JoinSet::new();
                    for connection in announced(&door, count, 0).await {
                        tasks.spawn(trickle(connection));
                    }
                    Ok(Held { _connections: Vec::new(), _tasks: tasks })
                })
            },
        },
        Attack {
            name: "128 bodies for each HTTP/2 connection, none of them whole",
            needs_tls: true,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let fields = frames::fields(
                        "POST",
                        "/streams/bodies",
                        &door.address.to_string(),
                        &[
                            ("content-type", "application/json"),
                            ("es-eventtype", "t"),
                            ("es-eventid", EVENT_ID),
                            ("content-length", "65535"),
                        ],
                    );
                    let mut sent = frames::opening(65_535);
                    for request in 0..REQUESTS {
                        let stream = frames::stream(request);
                        sent.extend(frames::head(stream, &fields, Head::Complete, Body::Follows));
                        sent.extend(frames::data(stream, BEGINNING_BYTES));
                    }
                    Ok(hold(count, async |_| {
                        let mut connection = door.connect(Protocol::Http2).await?;
                        push(&mut connection, &sent).await;
                        Ok(connection)
                    })
                    .await)
                })
            },
        },
    ]
}

async fn announce(door: &Door, count: usize, sent_bytes: usize) -> Held {
    Held { _connections: announced(door, count, sent_bytes).await, _tasks: JoinSet::new() }
}

/// Connections on which the largest body was announced and so much of it sent.
async fn announced(door: &Door, count: usize, sent_bytes: usize) -> Vec<Connection> {
    let line = door.request_line("POST", "/streams/bodies");
    let mut sent = format!(
        "{line}Content-Type: application/json\r\nES-EventType: t\r\nES-EventId: {EVENT_ID}\r\n\
         Content-Length: {LARGEST_BYTES}\r\n\r\n"
    )
    .into_bytes();
    sent.resize(sent.len() + sent_bytes, b' ');
    let held = hold(count, async |_| {
        let mut connection = door.connect(Protocol::Http1).await?;
        push(&mut connection, &sent).await;
        Ok(connection)
    });
    held.await._connections
}

/// Sends a byte now and then for as long as the node takes it.
async fn trickle(mut connection: Connection) {
    loop {
        tokio::time::sleep(SLOW_INTERVAL).await;
        push(&mut connection, b" ").await;
    }
}
