//! Streams that are truncated, deleted and written again, while the scavenge removes what nobody
//! sees any more ([`crate::removal`]).

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Reader;
use crate::check::removals::{PREFIX, RULE};
use crate::removal::{Stream, Writer};

/// Streams of a writer that live at the same time, about.
const STREAMS: u64 = 3;

pub(super) async fn run(reader: Reader) {
    let mut writer = Writer {
        client: reader.client.clone(),
        nodes: reader.nodes.clone(),
        up: reader.liveness.clone(),
        random: StdRng::seed_from_u64(rand::random()),
        streams: BTreeMap::new(),
        repeats_deletes: false,
    };
    let mut born = 0;
    while reader.goes_on().await {
        while writer.alive() < STREAMS as usize {
            born += 1;
            writer.streams.insert(format!("{PREFIX}{}-{born}", reader.node), Stream::default());
        }
        // The writer knows what has to come of each request: an error is one of the nodes.
        if let Err(error) = writer.step().await {
            reader.observer.trouble(RULE, format!("{error:#}"));
            break;
        }
    }
    reader.observer.add(|seen| seen.removals.extend(writer.streams));
}
