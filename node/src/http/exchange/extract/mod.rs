//! What the head of a request says, read into values: its headers and its target.

mod headers;
mod target;

pub(crate) use headers::{
    EVENT_TYPE, LAST_EVENT_ID, delete_kind, event_id, expected_version, long_poll, min_position, rename_later_headers,
    require_leader, resolve_links, text,
};
pub(crate) use target::{appended_metastream, appended_stream, count, number, position, query, stream};
