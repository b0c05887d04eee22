//! The parts of a path that handlers read.

use std::borrow::Cow;

/// The parts of a path that have names, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params<'path> {
    /// Name of a stream.
    pub(crate) stream: Cow<'path, str>,
    /// Name of a group of consumers.
    pub(crate) group: Cow<'path, str>,
    /// Login name of a user.
    pub(crate) user: Cow<'path, str>,
    /// Event number, position or `head`.
    pub(crate) number: Option<Cow<'path, str>>,
    /// Size of a page.
    pub(crate) count: Option<Cow<'path, str>>,
    /// Event id.
    pub(crate) guid: Option<Cow<'path, str>>,
    /// All segments from here to the end of the path but the empty ones.
    pub(crate) path: Vec<Cow<'path, str>>,
}
