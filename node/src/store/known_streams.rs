//! What is known of the streams that were read lately, so that a request which needs no event of
//! theirs asks no database: a page that is kept, "not modified", a refusal.
//!
//! The apply thread takes a stream out before it commits a change of it and lets it in again
//! afterwards, so what is found here is never older than anything that a reader has seen on this
//! node.

use std::sync::Arc;

use super::StreamInfo;
use super::slots::{SlotPlace, Slots};
use crate::event::StreamNameRef;
use crate::event::metadata::Acl;

/// Streams whose state is kept for readers, at about 300 bytes each and at most 1 KiB; another one
/// costs two short reads.
pub const KEPT_STREAMS: usize = 16_384;

/// See the module. Metastreams are left out: what they are depends on two streams.
pub(super) struct KnownStreams {
    streams: Slots<Arc<StreamInfo>>,
}

impl KnownStreams {
    pub(super) fn new() -> Self {
        Self { streams: Slots::new(KEPT_STREAMS) }
    }

    /// What is known of `stream`, and where to put what is read of it after this call.
    pub(super) fn get(&self, stream: &str) -> (SlotPlace, Option<Arc<StreamInfo>>) {
        self.streams.get(stream)
    }

    /// Keeps what was read after `place` was taken, unless the stream was changed meanwhile.
    /// Unusually long names and access lists are not kept.
    pub(super) fn put(&self, place: SlotPlace, stream: &str, info: &Arc<StreamInfo>) {
        let weight = info.metadata.acl.as_ref().map_or(0, Acl::weight);
        if !StreamNameRef::new(stream).is_metastream() {
            self.streams.put_light(place, stream, info.clone(), weight);
        }
    }

    /// Before a commit that changes these streams, each named once.
    pub(super) fn begin_change<'a>(&self, changed: impl Iterator<Item = &'a str>) {
        changed.for_each(|stream| self.streams.begin_change(stream));
    }

    /// After it, with the same streams.
    pub(super) fn end_change<'a>(&self, changed: impl Iterator<Item = &'a str>) {
        changed.for_each(|stream| self.streams.end_change(stream));
    }

    /// Around the replacement of the whole state.
    pub(super) fn begin_replacement(&self) {
        self.streams.begin_change_of_everything();
    }

    /// See [`Self::begin_replacement`].
    pub(super) fn end_replacement(&self) {
        self.streams.end_change_of_everything();
    }
}
