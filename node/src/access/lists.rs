//! The access lists in force: those of streams and those of `$settings`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::rules::{self, Caller, Policy, Right};
use crate::event::metadata::{Acl, DefaultAcls};
use crate::event::stream_name;
use crate::store::slots::Slots;
use crate::store::{ReadError, Store};

/// Streams whose access lists are kept in memory, at about 100 bytes each for short names and at
/// most 1 KiB. A write to another one, or to one with a longer list, reads one row more.
pub(crate) const KEPT_LISTS: usize = 16_384;

/// What decides who may do what with a stream.
pub(super) struct Lists {
    store: Store,
    /// The list that a stream itself has.
    of_streams: Slots<Option<Arc<Acl>>>,
    /// `$settings` as of the newest commit.
    defaults: ArcSwap<DefaultAcls>,
    /// Held while `defaults` is read and replaced, so that the newest one stays.
    refreshing: Mutex<()>,
    /// Whether anonymous callers may do anything at all.
    anonymous_allowed: bool,
}

impl Lists {
    pub(super) fn new(store: Store, anonymous_allowed: bool) -> Self {
        Self {
            store,
            of_streams: Slots::new(KEPT_LISTS),
            defaults: ArcSwap::default(),
            refreshing: Mutex::new(()),
            anonymous_allowed,
        }
    }

    /// What a read decides with.
    pub(super) fn policy(&self, caller: &Caller) -> Policy {
        Policy {
            caller: caller.clone(),
            defaults: self.defaults.load_full(),
            anonymous_allowed: self.anonymous_allowed,
        }
    }

    /// Whether the caller, with the roles that it says, has the right.
    pub(super) async fn allow(&self, caller: &Caller, stream: &str, right: Right) -> Result<bool, ReadError> {
        if *caller == Caller::Anonymous && !self.anonymous_allowed {
            return Ok(false);
        }
        let Some((owner, right)) = rules::subject(stream, right) else { return Ok(false) };
        let own = self.of_stream(owner).await?;
        Ok(rules::allows(caller, owner, right, own.as_deref(), &self.defaults.load()))
    }

    /// The list that a stream itself has.
    pub(super) async fn of_stream(&self, stream: &str) -> Result<Option<Arc<Acl>>, ReadError> {
        let (place, known) = self.of_streams.get(stream);
        if let Some(list) = known {
            return Ok(list);
        }
        let name = stream.to_owned();
        let list = self.store.read(move |view| view.acl(&name)).await?.map(Arc::new);
        // Changed meanwhile or not: this is what the state said when it was asked.
        self.of_streams.put_light(place, stream, list.clone(), list.as_deref().map_or(0, Acl::weight));
        Ok(list)
    }

    /// A commit changed the stream.
    pub(super) fn changed(&self, stream: &str) {
        self.of_streams.changed(stream);
    }

    /// The state was replaced.
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
                // From another server or an earlier version: nobody can write such a document now
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
