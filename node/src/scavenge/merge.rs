//! Rewriting all tables of the index on one node, because an operator asked for it.

use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::Inner;
use super::reclaim::apart;
use crate::store::Store;

/// Merges that were asked for: one at a time.
#[derive(Default)]
pub(super) struct Merges {
    /// The id of the one that is wanted or under way.
    current: Mutex<Option<Uuid>>,
    wanted: Notify,
}

impl Merges {
    /// Asks for a merge, unless one is wanted already. Returns its id.
    pub(super) fn begin(&self) -> Uuid {
        let id = *self.current.lock().get_or_insert_with(Uuid::new_v4);
        self.wanted.notify_one();
        id
    }

    fn end(&self) {
        *self.current.lock() = None;
    }
}

/// Merges whenever it is asked for.
pub(super) async fn run(inner: &Inner) {
    loop {
        inner.merges.wanted.notified().await;
        let Some(id) = *inner.merges.current.lock() else { continue };
        tracing::info!(%id, "rewriting the tables of the index");
        merge(inner).await;
        inner.merges.end();
        tracing::info!(%id, "the tables of the index were rewritten");
    }
}

async fn merge(inner: &Inner) {
    let store = inner.cluster.store();
    let tables = match apart(store, Store::index_tables).await {
        Some(Ok(tables)) => tables,
        Some(Err(error)) => return tracing::warn!(%error, "cannot tell which tables the index has"),
        None => return,
    };
    for table in tables {
        let (began, bytes) = (Instant::now(), table.bytes);
        if let Some(Err(error)) = apart(store, move |store| store.reclaim(&table)).await {
            tracing::warn!(%error, "a table of the index was not rewritten");
        }
        tokio::time::sleep(inner.pause_after(began.elapsed(), bytes)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_that_is_wanted_again_while_it_goes_on_is_the_same() {
        let merges = Merges::default();
        let first = merges.begin();
        assert_eq!(merges.begin(), first);
        merges.end();
        assert_ne!(merges.begin(), first);
    }
}
