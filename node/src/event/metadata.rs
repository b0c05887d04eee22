//! What a stream's metadata means (contract/streams 12).

use super::MAX_NUMBER;

/// The keys of a metadata document that have a meaning for the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMetadata {
    /// `$maxCount`: only the last so many events are visible.
    pub max_count: Option<u64>,
    /// `$maxAge`, seconds: older events are invisible.
    pub max_age_s: Option<u64>,
    /// `$tb`: numbers below are invisible; [`MAX_NUMBER`] means soft-deleted.
    pub truncate_before: Option<u64>,
    /// `$cacheControl`, seconds: how long a head page may be cached.
    pub cache_control_s: Option<u64>,
    /// `$acl`.
    pub acl: Option<Acl>,
}

/// Roles per right; a right that is `None` falls through to the defaults (contract/streams 13).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// `$r`
    pub read: Option<Vec<String>>,
    /// `$w`
    pub write: Option<Vec<String>>,
    /// `$d`
    pub delete: Option<Vec<String>>,
    /// `$mr`
    pub meta_read: Option<Vec<String>>,
    /// `$mw`
    pub meta_write: Option<Vec<String>>,
}

impl StreamMetadata {
    /// The fixed metadata of every `$$...` stream (contract/streams 12.1).
    pub fn of_metastream() -> Self {
        Self { max_count: Some(1), ..Self::default() }
    }

    /// Whether the stream was deleted in a way that can be undone.
    pub fn is_soft_deleted(&self) -> bool {
        self.truncate_before == Some(MAX_NUMBER)
    }
}
