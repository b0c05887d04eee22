//! What the head of a request says, read into values: its headers and its target.

mod headers;
mod target;

pub(crate) use headers::{
    EVENT_TYPE, LAST_EVENT_ID, delete_kind, event_id, expected_version, links, links_of_log, long_poll, read_barrier,
    rename_later_headers, require_leader, text,
};
pub(crate) use target::{appended_metastream, appended_stream, count, metastream, number, position, query, stream};
