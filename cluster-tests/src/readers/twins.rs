//! Writes that are sent twice: through two nodes at once, and again when snapshots, elections and
//! restarts lie between.

use std::collections::VecDeque;
use std::time::Instant;

use rand::RngExt;

use super::Reader;
use crate::history::{Attempt, SentEvent, Write};
use crate::workload::GIVE_UP;

/// Writes that are kept to be sent again: those of some ten seconds.
const KEPT: usize = 60;

/// One of so many turns sends an old write.
const OLD_EVERY: u32 = 3;

/// A write of one event with an id of its own, to any version.
pub(super) fn unique_write(stream: &str, event_type: &str) -> Write {
    let event = SentEvent {
        id: uuid::Uuid::new_v4().to_string(),
        event_type: event_type.to_owned(),
        stored_data: format!("{{\n  \"unique\": \"{}\"\n}}", uuid::Uuid::new_v4()),
    };
    Write {
        stream: stream.to_owned(),
        expected_version: -2,
        events: vec![event],
        must_be_refused: false,
        attempts: Vec::new(),
    }
}

pub(super) async fn run(reader: Reader) {
    let stream = format!("twins-{}", reader.node);
    let mut kept: VecDeque<Write> = VecDeque::new();
    while reader.goes_on().await {
        let is_old = !kept.is_empty() && rand::rng().random_ratio(1, OLD_EVERY);
        let mut write = if is_old {
            let place = rand::rng().random_range(0..kept.len());
            kept.swap_remove_back(place).unwrap_or_else(|| unique_write(&stream, "twin"))
        } else {
            unique_write(&stream, "twin")
        };
        // Also beyond the end of the run, so that its outcome is known.
        let started = Instant::now();
        send_to_two(&reader, &mut write).await;
        while !write.is_acknowledged() && started.elapsed() < GIVE_UP {
            tokio::time::sleep(reader.period()).await;
            send_to_two(&reader, &mut write).await;
        }
        kept.push_back(write);
        if kept.len() > KEPT
            && let Some(oldest) = kept.pop_front()
        {
            reader.recorder.write(oldest);
        }
    }
    kept.into_iter().for_each(|write| reader.recorder.write(write));
}

async fn send_to_two(reader: &Reader, write: &mut Write) {
    let up: Vec<&(u16, String)> = reader.nodes.iter().filter(|(node, _)| reader.liveness.is_up(*node)).collect();
    let first = rand::rng().random_range(0..up.len().max(1));
    let chosen = up.iter().cycle().skip(first).take(up.len().min(2));
    let sending = chosen.map(|(node, base)| {
        let write = &*write;
        async move {
            let sent_at = reader.recorder.now();
            let answer = reader.client.append(base, &write.stream, write.expected_version, &write.events).await;
            Attempt { node: *node, sent_at, answered_at: reader.recorder.now(), answer }
        }
    });
    write.attempts.extend(futures::future::join_all(sending).await);
}
