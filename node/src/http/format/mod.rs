//! Notations: how bodies are read and documents are written.

pub mod atom;
pub mod body;
pub mod html;
pub mod json;
pub mod links;
pub mod sse;
pub mod xml;
