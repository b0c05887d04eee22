//! Names of streams, and the kinds of streams that names stand for.

/// The log of all events, when it is addressed as a stream.
pub(crate) const ALL: &str = "$all";

/// The stream whose last event holds the access lists of streams without their own
/// (contract/services 1.6).
pub(crate) const SETTINGS: &str = "$settings";

/// The stream with a document of all groups of consumers, for tools. Who may write it may manage
/// them (contract/services 1.3).
pub(crate) const GROUPS: &str = "$persistentSubscriptionConfig";

/// The stream that lists the runs which remove what nobody can see.
pub(crate) const SCAVENGES: &str = "$scavenges";

/// Begins the name of each stream that holds a user.
pub(crate) const USER_PREFIX: &str = "$user-";

/// Prefix of the streams that say how far an import has come.
pub(crate) const IMPORT_PREFIX: &str = "$import-";

/// Prefix of a metastream, the stream that holds the metadata of the stream named after it.
const METASTREAM_PREFIX: &str = "$$";

/// Bytes of a stream's name. The name is a key in the database, and an entry of a page repeats it
/// some ten times, in links with up to three bytes for each byte of it.
pub(crate) const MAX_STREAM_NAME_BYTES: usize = 4 * 1024;

/// A valid stream name, as clients write it, not percent-encoded. Requests name streams by this
/// type, so the name is always checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StreamName(String);

/// Why a text is not a stream name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamNameError {
    /// The text, or the part after the prefix of metastreams, is empty.
    #[error("the name of a stream must not be empty")]
    Empty,
    /// The name is longer than [`MAX_STREAM_NAME_BYTES`].
    #[error("the name of a stream has at most {MAX_STREAM_NAME_BYTES} bytes")]
    TooLong,
    /// It is `.` or `..`, behind the prefix of metastreams, too: clients and proxies take such a
    /// segment out of a path, encoded or not, and ask for something else (contract/streams 2.1).
    #[error("the name of a stream must not be '.' or '..'")]
    Dots,
}

impl StreamName {
    /// Checks a name from a client. The prefix of metastreams does not count towards its length, so
    /// that every stream can have metadata.
    ///
    /// # Errors
    /// No stream can have this name.
    pub(crate) fn parse(name: impl Into<String>) -> Result<Self, StreamNameError> {
        let name = name.into();
        let named = StreamNameRef::new(&name);
        let counted = named.described().unwrap_or(named);
        if counted.0.is_empty() {
            return Err(StreamNameError::Empty);
        }
        if counted.0.len() > MAX_STREAM_NAME_BYTES {
            return Err(StreamNameError::TooLong);
        }
        if matches!(counted.0, "." | "..") {
            return Err(StreamNameError::Dots);
        }
        Ok(Self(name))
    }

    /// The name as text of one's own.
    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, borrowed.
    pub(crate) fn borrowed(&self) -> StreamNameRef<'_> {
        StreamNameRef(&self.0)
    }

    /// The stream that holds the metadata of this one. A metastream has none.
    pub(crate) fn metastream(&self) -> Option<Self> {
        (!self.borrowed().is_metastream()).then(|| Self(self.borrowed().metastream()))
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.0
    }
}

impl std::fmt::Display for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A borrowed stream name: from a command, a row of the database, or the text of a link. Any text,
/// not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamNameRef<'a>(&'a str);

impl<'a> StreamNameRef<'a> {
    /// `name` as the name of a stream.
    pub(crate) const fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// The name as text.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// The stream whose metadata this one holds, if it is a metastream.
    pub(crate) fn described(self) -> Option<Self> {
        self.0.strip_prefix(METASTREAM_PREFIX).map(Self)
    }

    /// Whether this stream holds the metadata of another.
    pub(crate) fn is_metastream(self) -> bool {
        self.0.starts_with(METASTREAM_PREFIX)
    }

    /// Whether it holds a user, or the access lists of streams that have none of their own.
    pub(crate) fn is_of_access(self) -> bool {
        self.0 == SETTINGS || self.0.starts_with(USER_PREFIX)
    }

    /// Name of the stream that holds the metadata of this one.
    pub(crate) fn metastream(self) -> String {
        [METASTREAM_PREFIX, self.0].concat()
    }

    /// Whether the stream belongs to the server: only `$admins` may do anything with it unless an
    /// access list says otherwise.
    pub(crate) fn is_system(self) -> bool {
        self.0.starts_with('$')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_not_be_empty_and_a_metastream_must_describe_a_stream() {
        for (name, expected) in [
            ("", Err(StreamNameError::Empty)),
            ("$$", Err(StreamNameError::Empty)),
            ("$", Ok(())),
            ("$all", Ok(())),
            ("$$$", Ok(())),
            ("$$$$s", Ok(())),
            (" ", Ok(())),
        ] {
            assert_eq!(StreamName::parse(name).map(drop), expected, "{name:?}");
        }
    }

    #[test]
    fn a_name_is_no_step_within_a_path() {
        for name in [".", "..", "$$.", "$$.."] {
            assert_eq!(StreamName::parse(name), Err(StreamNameError::Dots), "{name}");
        }
        for name in ["...", ".x", "x.", "..x", "$.", "$..", "$$$..", ". "] {
            assert!(StreamName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_prefix_of_a_metastream_does_not_count_for_the_length_of_its_name() {
        let longest = StreamName::parse("x".repeat(MAX_STREAM_NAME_BYTES)).unwrap();
        let metastream = longest.metastream().unwrap();
        assert_eq!(StreamName::parse(metastream.as_str()), Ok(metastream.clone()));
        assert_eq!(StreamName::parse(format!("{longest}x")), Err(StreamNameError::TooLong));
        assert_eq!(StreamName::parse(format!("{metastream}x")), Err(StreamNameError::TooLong));
    }

    #[test]
    fn a_metastream_describes_a_stream_and_has_no_metadata_itself() {
        let stream = StreamName::parse("s").unwrap();
        let metastream = stream.metastream().unwrap();
        assert_eq!((metastream.as_str(), metastream.metastream()), ("$$s", None));
        assert_eq!(metastream.borrowed().described(), Some(stream.borrowed()));
        assert_eq!(stream.borrowed().described(), None);
        assert!(metastream.borrowed().is_system() && !stream.borrowed().is_system());
    }
}
