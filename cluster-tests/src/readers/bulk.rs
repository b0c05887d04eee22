//! Writes of many small events, so that runs of minutes hold hundreds of thousands.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::Reader;
use crate::history::{Attempt, SentEvent, Write};
use crate::workload::GIVE_UP;

/// Between two writes of one node.
const PERIOD: Duration = Duration::from_secs(1);

/// Writes with up to `most` events each, sent until a node answers for certain.
pub(super) async fn run(reader: Reader, most: usize) {
    let stream = format!("bulk-{}", reader.node);
    for sequence in 0_u64.. {
        tokio::time::sleep(PERIOD).await;
        if !reader.goes_on().await {
            return;
        }
        let count = rand::rng().random_range(1..=most);
        let mut write = Write {
            stream: stream.clone(),
            expected_version: -2,
            events: (0..count).map(|index| event(sequence, index)).collect(),
            must_be_refused: false,
            attempts: Vec::new(),
        };
        // Also beyond the end of the run, so that its outcome is known.
        let started = Instant::now();
        while !write.is_acknowledged() && started.elapsed() < GIVE_UP {
            send(&reader, &mut write).await;
        }
        reader.recorder.write(write);
    }
}

fn event(sequence: u64, index: usize) -> SentEvent {
    SentEvent {
        id: uuid::Uuid::new_v4().to_string(),
        event_type: "bulk".to_owned(),
        stored_data: format!("{{\n  \"bulk\": {sequence},\n  \"index\": {index}\n}}"),
    }
}

/// Through the reader's node first, then through the others by turns.
async fn send(reader: &Reader, write: &mut Write) {
    let home = reader.nodes.iter().position(|(node, _)| *node == reader.node).unwrap_or(0);
    let (node, base) = &reader.nodes[(home + write.attempts.len()) % reader.nodes.len()];
    let sent_at = reader.recorder.now();
    let answer = reader.client.append(base, &write.stream, write.expected_version, &write.events).await;
    write.attempts.push(Attempt { node: *node, sent_at, answered_at: reader.recorder.now(), answer });
    if !write.is_acknowledged() {
        tokio::time::sleep(reader.period()).await;
    }
}
