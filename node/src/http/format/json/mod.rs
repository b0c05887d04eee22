//! JSON text: writing documents straight into a buffer, re-indenting and reading stored text.

pub mod indent;
pub mod tree;
pub mod write;

pub use indent::{IndentError, indent, indent_into, indent_value};
pub use write::{Object, push_escaped, push_indent, push_string};
