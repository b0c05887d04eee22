//! What nodes show, and have on their disks, when a run is over and they agree.

use std::collections::BTreeSet;

use anyhow::Context;

use crate::check::same_everywhere::Document;
use crate::check::streams::{End, PAGE, Shown};
use crate::check::{Violation, keeps_all};
use crate::client::{ADMIN, basic};
use crate::cluster::Cluster;
use crate::feed::{self, NodeFeed};
use crate::program;

/// The rule that files of nodes which were stopped in order are without damage.
pub(super) const FILES: &str = "files";

/// Of more streams, so many are read.
const MOST_STREAMS: usize = 100;

/// Both ends of every stream that keeps its events, on each node.
pub(super) async fn streams(cluster: &Cluster, feeds: &[NodeFeed]) -> anyhow::Result<Vec<Shown>> {
    let names = names(feeds);
    let kept = names.iter().filter(|name| keeps_all(name) && !names.contains(format!("$${name}").as_str()));
    let kept: Vec<&str> = kept.copied().take(MOST_STREAMS).collect();
    let mut pages = Vec::new();
    for (node, base) in cluster.bases() {
        for stream in &kept {
            for (end, page) in [(End::Newest, "head/backward"), (End::Oldest, "0/forward")] {
                let url = format!("{base}/streams/{stream}/{page}/{PAGE}?embed=body");
                let shown = cluster.client().get_feed(&url, &feed::AS_STORED).await?;
                let events = feed::entries(&shown).with_context(|| url.clone())?;
                pages.push(Shown { node, stream: (*stream).to_owned(), end, events });
            }
        }
    }
    Ok(pages)
}

/// What each node shows that is not in the log, but made of it: users, and the metadata of streams.
pub(super) async fn documents(cluster: &Cluster, feeds: &[NodeFeed]) -> anyhow::Result<Vec<Document>> {
    let of_streams = names(feeds).into_iter().filter_map(|name| name.strip_prefix("$$")).take(MOST_STREAMS);
    let paths = of_streams.map(|name| format!("/streams/{}/metadata", name.replace('$', "%24")));
    let paths: Vec<String> = std::iter::once("/users/".to_owned()).chain(paths).collect();
    let credentials = basic(ADMIN);
    let headers = [("Authorization", credentials.as_str()), ("Accept", "application/json")];
    let mut documents = Vec::new();
    for (node, base) in cluster.bases() {
        for path in &paths {
            let answer = cluster.client().get(&format!("{base}{path}"), &headers).await?;
            let status = answer.status();
            // Links name the node that was asked.
            let text = format!("{status}: {}", answer.text().await?.replace(&base, ""));
            documents.push(Document { node, path: path.clone(), text });
        }
    }
    Ok(documents)
}

/// Stops every node in order and reads all of its files.
pub(super) async fn files(cluster: &mut Cluster) -> anyhow::Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for id in cluster.ids() {
        let status = cluster.terminate(id).await?;
        anyhow::ensure!(status.success(), "an ordered shutdown of node {id} ended with {status}");
        let data_dir = cluster.data_dir(id).display().to_string();
        if let Err(error) = program::said(program::run(&["verify", &data_dir]).await?) {
            violations.push(Violation::new(FILES, format!("node {id}: {error:#}")));
        }
    }
    Ok(violations)
}

/// Names of the streams in the logs.
fn names(feeds: &[NodeFeed]) -> BTreeSet<&str> {
    feeds.iter().flat_map(|feed| &feed.events).map(|event| event.stream.as_str()).collect()
}
