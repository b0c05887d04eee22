//! Pages of streams that are full and therefore never change, read again and again on every node.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::RngExt;

use super::{Reader, load_streams};
use crate::observations::ImmutablePage;

const PAGE: u64 = 20;

/// How a node marks an answer that will never change.
const FOR_EVER: &str = "max-age=31536000";

/// Media types, and what the query adds.
const FORMS: [(&str, &str); 3] = [
    ("application/vnd.eventstore.atom+json", "?embed=body"),
    ("application/atom+xml", ""),
    ("application/atom+xml", "?embed=rich"),
];

pub(super) async fn run(reader: Reader) {
    let streams = load_streams(&reader.nodes);
    while reader.goes_on().await {
        let stream = &streams[rand::rng().random_range(0..streams.len())];
        let Ok(Some(newest)) = reader.newest(reader.node, stream, &[]).await else { continue };
        // A full page that reaches the newest event may be kept for ever, too, and yet says that it
        // is the head until there is another one (contract/streams 8.7).
        let full = newest / PAGE;
        if full == 0 {
            continue;
        }
        let from = rand::rng().random_range(0..full) * PAGE;
        let (accept, query) = FORMS[rand::rng().random_range(0..FORMS.len())];
        let path = format!("/streams/{stream}/{from}/forward/{PAGE}{query}");
        // A node that is down serves nothing.
        let _ = look(&reader, &path, accept).await;
    }
}

async fn look(reader: &Reader, path: &str, accept: &str) -> anyhow::Result<()> {
    let response = reader.client.get(&format!("{}{path}", reader.base()), &[("Accept", accept)]).await?;
    let caching = response.headers().get("cache-control").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !response.status().is_success() || !caching.contains(FOR_EVER) {
        return Ok(());
    }
    let body = response.text().await?;
    let mut hasher = DefaultHasher::new();
    // Links name the node that was asked.
    body.replace(reader.base(), "").hash(&mut hasher);
    let page = ImmutablePage {
        node: reader.node,
        answered_at: reader.recorder.now(),
        page: format!("{path} {accept}"),
        hash: hasher.finish(),
    };
    reader.observer.add(|seen| seen.pages.push(page));
    Ok(())
}
