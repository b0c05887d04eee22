//! The state of recently read streams, so that a request that needs no event does not ask the
//! database: a kept page, "not modified", a refusal.
//!
//! The apply thread removes a stream before it commits a change to it, and admits it again
//! afterwards. So the state found here is never older than what any reader on this node has seen.
//!
//! "Not modified", which needs nothing else, took 52,200 instructions before the version that
//! brought this table and the kept pages, and 32,200 with it (docs/performance-history.md, fourth
//! machine).

use std::sync::Arc;

use super::StreamInfo;
use super::slots::{SlotPlace, Slots};
use crate::event::StreamNameRef;
use crate::event::metadata::Acl;

/// Streams whose state is kept for readers, at about 300 bytes each and at most 1 KiB. Any other
/// stream costs two short reads.
pub(crate) const KEPT_STREAMS: usize = 16_384;

/// See the module. Metastreams are left out, because their state depends on two streams.
pub(super) struct KnownStreams {
    streams: Slots<Arc<StreamInfo>>,
}

impl KnownStreams {
    pub(super) fn new() -> Self {
        Self { streams: Slots::new(KEPT_STREAMS) }
    }

    /// The known state of `stream`, and the slot for what is read after this call.
    pub(super) fn get(&self, stream: &str) -> (SlotPlace, Option<Arc<StreamInfo>>) {
        self.streams.get(stream)
    }

    /// Keeps what was read after `place` was taken, unless the stream has changed since. Unusually
    /// long names and access lists are not kept.
    pub(super) fn put(&self, place: SlotPlace, stream: &str, info: &Arc<StreamInfo>) {
        let weight = info.metadata.acl.as_ref().map_or(0, Acl::weight);
        if !StreamNameRef::new(stream).is_metastream() {
            self.streams.put_light(place, stream, info.clone(), weight);
        }
    }

    /// Call it before a commit that changes these streams, each named once.
    pub(super) fn begin_change<'a>(&self, changed: impl Iterator<Item = &'a str>) {
        changed.for_each(|stream| self.streams.begin_change(stream));
    }

    /// Call it after the commit, with the same streams.
    pub(super) fn end_change<'a>(&self, changed: impl Iterator<Item = &'a str>) {
        changed.for_each(|stream| self.streams.end_change(stream));
    }

    /// Call it before the whole state is replaced.
    pub(super) fn begin_replacement(&self) {
        self.streams.begin_change_of_everything();
    }

    /// Call it after the replacement.
    pub(super) fn end_replacement(&self) {
        self.streams.end_change_of_everything();
    }
}
