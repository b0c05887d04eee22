//! Why an XML document cannot be read.

/// Why a document cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    /// Not well-formed, or nested deeper than [`MAX_NESTING`](crate::http::limits::MAX_NESTING).
    #[error("not well-formed")]
    Malformed,
    /// An element with more than [`MAX_XML_NODES`](crate::http::limits::MAX_XML_NODES) attributes,
    /// or more than [`MAX_XML_NAMESPACES`](crate::http::limits::MAX_XML_NAMESPACES) around it.
    #[error("too large")]
    TooLarge,
}
