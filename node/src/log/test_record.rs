//! The simplest record, for tests.

use bytes::Bytes;

use super::Record;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestRecord {
    index: u64,
    payload: Bytes,
}

impl TestRecord {
    pub(super) fn new(index: u64) -> Self {
        Self::with_payload(index, format!("payload of {index:08}"))
    }

    pub(super) fn with_payload(index: u64, payload: impl Into<Bytes>) -> Self {
        Self { index, payload: payload.into() }
    }
}

impl Record for TestRecord {
    fn index(&self) -> u64 {
        self.index
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.index.to_be_bytes());
        buffer.extend_from_slice(&self.payload);
    }

    fn decode(bytes: Bytes) -> Result<Self, String> {
        let (index, _) = bytes.split_first_chunk::<8>().ok_or("too short")?;
        Ok(Self { index: u64::from_be_bytes(*index), payload: bytes.slice(8..) })
    }

    fn weight(&self) -> usize {
        self.payload.len() + 32
    }
}
