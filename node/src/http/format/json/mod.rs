//! JSON text: writing documents straight into a buffer, re-indenting and reading stored text.

pub(crate) mod indent;
pub(crate) mod tree;
pub(crate) mod write;

pub(crate) use indent::{IndentError, indent, indent_into, indent_value};
pub(crate) use write::{Object, push_escaped, push_indent, push_string};
