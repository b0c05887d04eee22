//! Long polls of a hot stream on one node.

use super::Reader;
use crate::client::ATOM_JSON;
use crate::feed;
use crate::observations::Poll;
use crate::workload::shared_stream;

/// Seconds that a poll may wait: longer than a wake-up takes at worst, far shorter than a run.
const WAIT: &str = "3";

pub(super) async fn run(reader: Reader) {
    let stream = shared_stream(0);
    while reader.goes_on().await {
        let newest = reader.newest(reader.node, &stream, &[]).await;
        let Ok(Some(newest)) = newest else { continue };
        let next = newest + 1;
        let url = format!("{}/streams/{stream}/{next}/forward/20?embed=body", reader.base());
        let sent_at = reader.recorder.now();
        let answer = reader.client.get_feed(&url, &[("ES-LongPoll", WAIT), ("Accept", ATOM_JSON)]).await;
        let answered_at = reader.recorder.now();
        let Some(events) = answer.ok().and_then(|page| feed::entries(&page).ok()) else { continue };
        let (node, stream, events) = (reader.node, stream.clone(), events.len());
        reader.observer.add(|seen| seen.polls.push(Poll { node, stream, next, sent_at, answered_at, events }));
    }
}
