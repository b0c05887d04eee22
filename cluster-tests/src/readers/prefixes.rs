//! The whole log of one node, read on as it grows.

use super::Reader;
use crate::feed::FeedReader;

/// Events per page.
const PAGE: usize = 256;

pub(super) async fn run(reader: Reader) {
    let mut log = FeedReader::new(reader.node, reader.base(), PAGE);
    while reader.goes_on().await {
        // It goes on where it was, whatever becomes of the node meanwhile.
        let _ = log.read_on(&reader.client).await;
    }
    reader.observer.add(|seen| seen.prefixes.push(log.into_feed()));
}
