//! Each node rewrites those of its tables that hold many removed rows, one piece after the other,
//! when no run is adding to them.

use std::time::{Duration, Instant};

use super::Inner;
use crate::store::{Reclaimable, Store};

/// How often a node looks at its tables.
const INTERVAL: Duration = Duration::from_secs(15);

/// While events are removed all the time, tables are rewritten no more often than this.
const BUSY_INTERVAL: Duration = Duration::from_secs(600);

/// Rewrites tables whenever it is worthwhile.
pub(super) async fn run(inner: &Inner) {
    let mut removed_before = 0;
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let store = inner.cluster.store();
        let removed = store.removed_rows();
        let is_busy = std::mem::replace(&mut removed_before, removed) != removed;
        if is_busy && last.elapsed() < BUSY_INTERVAL {
            continue;
        }
        last = Instant::now();
        let looked = apart(store, Store::reclaimable).await;
        match looked {
            Some(Ok(found)) => rewrite(inner, found).await,
            Some(Err(error)) => tracing::warn!(%error, "cannot tell which tables hold removed rows"),
            None => {}
        }
    }
}

async fn rewrite(inner: &Inner, mut ranges: Vec<Reclaimable>) {
    let left = |ranges: &[Reclaimable]| ranges.iter().map(|range| range.bytes).sum::<u64>();
    let store = inner.cluster.store();
    let before = apart(store, Store::table_bytes).await.and_then(Result::ok).unwrap_or(0);
    if !ranges.is_empty() {
        tracing::info!(ranges = ranges.len(), bytes = left(&ranges), "rewriting tables that hold removed rows");
    }
    let is_something = !ranges.is_empty();
    while let Some(range) = ranges.pop() {
        inner.metrics.reclaimable_bytes.set((left(&ranges) + range.bytes) as i64);
        let (began, bytes) = (Instant::now(), range.bytes);
        match apart(store, move |store| store.reclaim(&range)).await {
            Some(Ok(true)) => {
                inner.metrics.rewritten_bytes.inc_by(bytes);
            }
            Some(Ok(false)) | None => continue,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot tell which tables hold removed rows");
                continue;
            }
        }
        tokio::time::sleep(inner.pause_after(began.elapsed(), bytes)).await;
    }
    inner.metrics.reclaimable_bytes.set(0);
    let after = apart(store, Store::table_bytes).await.and_then(Result::ok).unwrap_or(before);
    inner.metrics.state_bytes.set(after as i64);
    if is_something {
        inner.metrics.reclaimed_bytes.inc_by(before.saturating_sub(after));
        tracing::info!(before, after, "tables were rewritten");
    }
}

/// Runs it where it may wait for the disk. `None` when the runtime ends.
pub(super) async fn apart<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Option<T> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || work(&store)).await.ok()
}
