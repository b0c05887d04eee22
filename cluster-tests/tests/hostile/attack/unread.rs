//! Answers that nobody reads.

use headwater_cluster_tests::client::ATOM_JSON;

use super::{Attack, Bound, append, hold};
use crate::door::{Door, Protocol, push};
use crate::frames::{self, Body, Head};

/// Requests of one HTTP/2 connection.
const REQUESTS: usize = 128;

/// A page that is small as it is stored, and six times as long when it is written, which makes it a
/// large one: control characters.
const PAGE: &str = "/streams/unread/head/backward/20?embed=tryharder";
const PAGE_EVENTS: usize = 20;
const PAGE_DATA_BYTES: usize = 5 << 10;

/// A page of 250 KiB, nearly the longest that is written at once.
const WHOLE_PAGE: &str = "/streams/unread/head/backward/8?embed=tryharder";

/// A page of as many events as possible, of which the node keeps the places until it is sent.
const LONG_PAGE: &str = "/streams/unread-long/head/backward/4096";
const LONG_EVENTS: usize = 4096;

/// A page that is sent in parts.
const LARGE_PAGE: &str = "/streams/unread-large/head/backward/20?embed=body";
const LARGE_EVENTS: usize = 4;
const LARGE_DATA_BYTES: usize = 3 << 20;

/// What small answers may hold, with the windows and buffers of each connection.
const SMALL: Bound = Bound { shared_mib: 64, each_kib: 420 };

/// What large answers may hold, of which each connection keeps two pieces.
const LARGE: Bound = Bound { shared_mib: 176, each_kib: 300 };

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            name: "pages that nobody reads",
            needs_tls: false,
            bound: SMALL,
            begin: |door, count| Box::pin(async move { ask_and_read_nothing(&door, count, PAGE, ATOM_JSON).await }),
        },
        Attack {
            name: "large pages that nobody reads",
            needs_tls: false,
            bound: LARGE,
            begin: |door, count| {
                Box::pin(async move { ask_and_read_nothing(&door, count, LARGE_PAGE, ATOM_JSON).await })
            },
        },
        Attack {
            name: "subscriptions that nobody reads",
            needs_tls: false,
            bound: LARGE,
            begin: |door, count| {
                Box::pin(
                    async move { ask_and_read_nothing(&door, count, "/streams/unread", "text/event-stream").await },
                )
            },
        },
        Attack {
            name: "128 pages for each HTTP/2 connection, none of them read",
            needs_tls: true,
            bound: SMALL,
            begin: |door, count| Box::pin(async move { ask_for_many(&door, count, PAGE).await }),
        },
        Attack {
            name: "128 pages for each HTTP/2 connection, written at once, none of them read",
            needs_tls: true,
            bound: SMALL,
            begin: |door, count| Box::pin(async move { ask_for_many(&door, count, WHOLE_PAGE).await }),
        },
        Attack {
            name: "128 pages of 4096 events for each HTTP/2 connection, none of them read",
            needs_tls: true,
            bound: LARGE,
            begin: |door, count| Box::pin(async move { ask_for_many(&door, count, LONG_PAGE).await }),
        },
    ]
}

/// Fills the streams with what the pages show.
async fn prepare(door: &Door) -> anyhow::Result<()> {
    for _ in 0..PAGE_EVENTS {
        let (line, id) = (door.request_line("POST", "/streams/unread"), uuid::Uuid::new_v4());
        let head = format!("{line}Content-Type: application/octet-stream\r\nES-EventType: t\r\nES-EventId: {id}\r\n");
        let answer = door.exchange(&head, &[1; PAGE_DATA_BYTES]).await?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 201 "), "{}", answer.lines().next().unwrap_or_default());
    }
    let large = format!("\"{}\"", "x".repeat(LARGE_DATA_BYTES));
    append(door, "unread-large", (0..LARGE_EVENTS).map(|_| ("t".to_owned(), large.clone()))).await?;
    append(door, "unread-long", (0..LONG_EVENTS).map(|_| ("t".to_owned(), "1".to_owned()))).await
}

async fn ask_and_read_nothing(door: &Door, count: usize, path: &str, accept: &str) -> anyhow::Result<super::Held> {
    prepare(door).await?;
    let request = format!("{}Accept: {accept}\r\n\r\n", door.request_line("GET", path));
    Ok(hold(count, async |_| {
        let mut connection = door.connect(Protocol::Http1).await?;
        push(&mut connection, request.as_bytes()).await;
        Ok(connection)
    })
    .await)
}

async fn ask_for_many(door: &Door, count: usize, page: &str) -> anyhow::Result<super::Held> {
    prepare(door).await?;
    let accept = [("accept", ATOM_JSON)];
    let fields = frames::fields("GET", page, &door.address.to_string(), &accept);
    let mut sent = frames::opening(0);
    for request in 0..REQUESTS {
        sent.extend(frames::head(frames::stream(request), &fields, Head::Complete, Body::None));
    }
    Ok(hold(count, async |_| {
        let mut connection = door.connect(Protocol::Http2).await?;
        push(&mut connection, &sent).await;
        Ok(connection)
    })
    .await)
}
