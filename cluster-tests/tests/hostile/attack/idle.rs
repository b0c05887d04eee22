//! Connections on which nothing is said, or nearly nothing.

use super::{Attack, Bound, hold};
use crate::door::{Connection, Protocol, push};
use crate::frames;

/// The state of a connection and little else.
const BOUND: Bound = Bound { shared_mib: 32, each_kib: 160 };

pub(super) fn all() -> Vec<Attack> {
    vec![
        Attack {
            name: "idle connections",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| Box::pin(async move { Ok(hold(count, |_| door.connect(Protocol::Http1)).await) }),
        },
        Attack {
            name: "heads of one byte",
            needs_tls: false,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    Ok(hold(count, async |_| {
                        let mut connection = door.connect(Protocol::Http1).await?;
                        push(&mut connection, b"G").await;
                        Ok(connection)
                    })
                    .await)
                })
            },
        },
        Attack {
            name: "handshakes that do not begin",
            needs_tls: true,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(
                    async move { Ok(hold(count, async |_| Ok(Box::new(door.knock().await?) as Connection)).await) },
                )
            },
        },
        Attack {
            name: "idle HTTP/2 connections",
            needs_tls: true,
            bound: BOUND,
            begin: |door, count| {
                Box::pin(async move {
                    Ok(hold(count, async |_| {
                        let mut connection = door.connect(Protocol::Http2).await?;
                        push(&mut connection, &frames::opening(65_535)).await;
                        Ok(connection)
                    })
                    .await)
                })
            },
        },
    ]
}
