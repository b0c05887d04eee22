//! Names of streams and what they imply.

/// A stream's name: any non-empty text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId(String);

/// The log of all events under its stream name.
pub const ALL: &str = "$all";
/// The stream whose last event holds the access lists of streams without their own (contract/services 1.6).
pub const SETTINGS: &str = "$settings";
/// Prefix of the stream that holds another stream's metadata.
pub const METASTREAM_PREFIX: &str = "$$";

impl StreamId {
    /// `None` for the empty text.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty()).then_some(Self(name))
    }

    /// The name as written by clients, not percent-encoded.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this stream holds the metadata of another (`$$name`).
    pub fn is_metastream(&self) -> bool {
        is_metastream(&self.0)
    }

    /// Name of the stream that holds this stream's metadata.
    pub fn metastream(&self) -> StreamId {
        StreamId(format!("{METASTREAM_PREFIX}{}", self.0))
    }
}

/// Whether `name` is `$$` and something more or nothing.
pub fn is_metastream(name: &str) -> bool {
    name.starts_with(METASTREAM_PREFIX)
}

/// The stream whose metadata the metastream `name` holds.
pub fn described_by(name: &str) -> Option<&str> {
    name.strip_prefix(METASTREAM_PREFIX)
}

/// Whether the stream belongs to the server: only `$admins` may do anything with it unless it says otherwise.
pub fn is_system(name: &str) -> bool {
    name.starts_with('$')
}
