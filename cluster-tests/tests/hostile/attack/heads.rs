//! Heads as large as they may be, on requests that do not end.

use super::{Attack, Bound, EVENT_ID, Held, hold};
use crate::door::{Door, Protocol, push};
use crate::frames::{self, Body, Head};

/// The longest value that leaves room for the other fields of a head of 64 KiB.
const LONG_BYTES: usize = 62_000;

/// Requests of one HTTP/2 connection.
const REQUESTS: usize = 128;

/// Fields of one byte, of 46 bytes each when they are decoded.
const INDEXED_FIELDS: usize = 1_400;

/// What heads may hold, with the buffers of each connection.
const BOUND: Bound = Bound { shared_mib: 96, each_kib: 256 };

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            name: "heads without an end",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let head = format!("{}X-Long: {}", door.request_line("GET", "/ping"), "x".repeat(LONG_BYTES));
                    Ok(say(&door, Protocol::Http1, count, head.as_bytes()).await)
                })
            },
        },
        Attack {
            name: "large heads with half a body",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let line = door.request_line("POST", "/streams/heads");
                    let long = "x".repeat(LONG_BYTES);
                    let body = " ".repeat(65_000);
                    let sent = format!(
                        "{line}Content-Type: application/json\r\nES-EventType: t\r\nES-EventId: {EVENT_ID}\r\nX-Long: {long}\r\n\
                         Content-Length: 65536\r\n\r\n{body}"
                    );
                    Ok(say(&door, Protocol::Http1, count, sent.as_bytes()).await)
                })
            },
        },
        Attack {
            name: "128 large heads for each HTTP/2 connection",
            needs_tls: true,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let long = "x".repeat(LONG_BYTES);
                    Ok(ask_for_many(&door, count, &post(&door, &[("x-long", &long)])).await)
                })
            },
        },
        Attack {
            name: "128 heads of indexed fields for each HTTP/2 connection",
            needs_tls: true,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let fields = [post(&door, &[]), frames::indexed_fields(INDEXED_FIELDS)].concat();
                    Ok(ask_for_many(&door, count, &fields).await)
                })
            },
        },
        Attack {
            name: "HTTP/2 heads without an end",
            needs_tls: true,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    let fields = post(&door, &[("x-long", &"x".repeat(LONG_BYTES))]);
                    let head = frames::head(1, &fields, Head::Unfinished, Body::Follows);
                    let sent = [frames::opening(65_535), head].concat();
                    Ok(say(&door, Protocol::Http2, count, &sent).await)
                })
            },
        },
    ]
}

fn post(door: &Door, further: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![("content-type", "application/json"), ("es-eventtype", "t"), ("es-eventid", EVENT_ID)];
    fields.push(("content-length", "65000"));
    fields.extend(further);
    frames::fields("POST", "/streams/heads", &door.address.to_string(), &fields)
}

async fn ask_for_many(door: &Door, count: usize, fields: &[u8]) -> Held {
    let mut sent = frames::opening(65_535);
    for request in 0..REQUESTS {
        sent.extend(frames::head(frames::stream(request), fields, Head::Complete, Body::Follows));
    }
    say(door, Protocol::Http2, count, &sent).await
}

async fn say(door: &Door, protocol: Protocol, count: usize, bytes: &[u8]) -> Held {
    hold(count, async |_| {
        let mut connection = door.connect(protocol).await?;
        push(&mut connection, bytes).await;
        Ok(connection)
    })
    .await
}
