//! The newest event of the log as one node shows it, asked for one after the other.

use super::Reader;
use crate::feed;
use crate::observations::HeadRead;

pub(super) async fn run(reader: Reader) {
    let url = format!("{}/streams/%24all/head/backward/1?embed=body", reader.base());
    while reader.goes_on().await {
        let sent_at = reader.recorder.now();
        // A node that is down shows nothing.
        let Ok(page) = reader.client.get_feed(&url, &feed::AS_STORED).await else { continue };
        let answered_at = reader.recorder.now();
        let Some(event) = feed::entries(&page).ok().and_then(|events| events.into_iter().next()) else { continue };
        let head = HeadRead { node: reader.node, sent_at, answered_at, stream: event.stream, id: event.id };
        reader.observer.add(|seen| seen.heads.push(head));
    }
}
