//! The access lists in force: those of streams and those of `$settings`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::admission::Admission;
use super::rules::{self, Caller, Policy, Right};
use crate::event::metadata::{Acl, DefaultAcls};
use crate::event::stream_name;
use crate::store::slots::Slots;
use crate::store::{ReadError, Store};

/// Streams whose access lists are kept in memory, at about 100 bytes each for short names and at
/// most 1 KiB. A write to any other stream, or to one with a longer list, reads one row more.
pub(crate) const KEPT_LISTS: usize = 16_384;

/// The access lists that decide on the use of streams.
pub(super) struct Lists {
    store: Store,
    /// The list of the stream itself.
    of_streams: Slots<Option<Arc<Acl>>>,
    /// `$settings` as of the newest commit.
    defaults: ArcSwap<DefaultAcls>,
    /// Held while `defaults` is read and replaced, so that the newest value stays.
    refreshing: Mutex<()>,
    /// Which callers may do anything at all.
    admission: Admission,
}

impl Lists {
    pub(super) fn new(store: Store, admission: Admission) -> Self {
        Self {
            store,
            of_streams: Slots::new(KEPT_LISTS),
            defaults: ArcSwap::default(),
            refreshing: Mutex::new(()),
            admission,
        }
    }

    /// The policy for a read.
    pub(super) fn policy(&self, caller: &Caller) -> Policy {
        Policy { caller: caller.clone(), defaults: self.defaults.load_full(), admission: self.admission }
    }

    /// Whether the caller, with the roles given in it, has the right.
    pub(super) async fn allow(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, ReadError> {
        if !self.admission.to_streams(caller) {
            return Ok(false);
        }
        let Some((owner, right)) = rules::subject(stream, right) else { return Ok(false) };
        let own = self.of_stream(owner).await?;
        Ok(rules::allows(caller, owner, right, own.as_deref(), &self.defaults.load()))
    }

    /// The list of the stream itself.
    pub(super) async fn of_stream(&self, stream: &str) -> Result<Option<Arc<Acl>>, ReadError> {
        let (place, known) = self.of_streams.get(stream);
        if let Some(list) = known {
            return Ok(list);
        }
        let name = stream.to_owned();
        let list = self.store.read(move |view| view.acl(&name)).await?.map(Arc::new);
        // Changed meanwhile or not: this was the state when it was read.
        self.of_streams.put_light(place, stream, list.clone(), list.as_deref().map_or(0, Acl::weight));
        Ok(list)
    }

    /// Call it when a commit changed the stream.
    pub(super) fn changed(&self, stream: &str) {
        self.of_streams.changed(stream);
    }

    /// Call it when the state was replaced.
    pub(super) fn everything_changed(&self) {
        self.of_streams.everything_changed();
    }

    /// Takes over the newest `$settings`.
    #[expect(clippy::disallowed_methods, reason = "runs at the start and on the apply thread")]
    pub(super) fn read_settings(&self) {
        let _refreshing = self.refreshing.lock();
        let event = self.store.read_blocking(|view| view.last_visible_event(stream_name::SETTINGS));
        let defaults = match event.as_ref().map(|event| DefaultAcls::parse(&event.data)) {
            None => DefaultAcls::default(),
            Some(Ok(defaults)) => defaults,
            Some(Err(error)) => {
                // From another server or an earlier version: such a document is refused today
                // (contract/services 1.6).
                tracing::warn!(
                    "the last event of $settings has no effect, the built-in access rules are in force: {error}"
                );
                DefaultAcls::default()
            }
        };
        self.defaults.store(Arc::new(defaults));
    }
}
