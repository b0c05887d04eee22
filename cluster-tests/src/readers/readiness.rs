//! Whether a node says that it is ready, and then how far it is.

use super::Reader;
use crate::feed;
use crate::observations::ReadinessRead;

pub(super) async fn run(reader: Reader) {
    let url = format!("{}/streams/%24all/head/backward/1?embed=body", reader.base());
    while reader.goes_on().await {
        let sent_at = reader.recorder.now();
        let is_ready = reader.client.is_ready(reader.base()).await;
        // A node that is down shows nothing.
        let Ok(page) = reader.client.get_feed(&url, &feed::AS_STORED).await else { continue };
        let Some(event) = feed::entries(&page).ok().and_then(|events| events.into_iter().next()) else { continue };
        let read = ReadinessRead { node: reader.node, sent_at, is_ready, stream: event.stream, id: event.id };
        reader.observer.add(|seen| seen.readiness.push(read));
    }
}
