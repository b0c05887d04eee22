//! Raft's entries as records of the log database.

use bytes::Bytes;
use headwater_proto::stored;
use openraft::EntryPayload;
use prost::Message;

use super::codec::{self, CodecError};
use super::types::LogEntry;
use crate::log;

/// Memory of an entry besides its commands.
const ENTRY_OVERHEAD_BYTES: usize = 128;
/// Approximate memory of one member of a membership.
const MEMBER_BYTES: usize = 128;

impl log::Record for LogEntry {
    fn index(&self) -> u64 {
        self.log_id.index
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        let message = codec::entry_to_message(self);
        buffer.reserve(message.encoded_len());
        message.encode_raw(buffer);
    }

    fn decode(bytes: Bytes) -> Result<Self, String> {
        let entry = stored::Entry::decode(bytes).map_err(CodecError::from).and_then(codec::entry_from_message);
        entry.map_err(|error| error.to_string())
    }

    fn weight(&self) -> usize {
        ENTRY_OVERHEAD_BYTES
            + match &self.payload {
                EntryPayload::Blank => 0,
                EntryPayload::Normal(proposal) => proposal.weight(),
                EntryPayload::Membership(membership) => membership.nodes().count() * MEMBER_BYTES,
            }
    }
}
