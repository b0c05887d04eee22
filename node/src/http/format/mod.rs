//! Notations: how bodies are read and documents are written.

pub(super) mod atom;
pub(super) mod authority;
pub(super) mod body;
pub(super) mod competing;
pub(super) mod forwarded;
pub(super) mod html;
pub(super) mod json;
pub(super) mod links;
pub(super) mod sse;
pub(super) mod xml;
