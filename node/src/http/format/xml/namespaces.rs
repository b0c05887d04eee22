//! Which namespaces prefixes stand for at a place in a document (Namespaces in XML 1.0, third
//! edition), whether it is being read or written.

use std::collections::HashMap;

use super::error::DocumentError::{self, Malformed, TooLarge};
use crate::http::limits::MAX_XML_NAMESPACES;

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS_NAMESPACE: &str = "http://www.w3.org/2000/xmlns/";

/// The prefixes that are declared around a place.
#[derive(Default)]
pub(super) struct Namespaces<'a> {
    bound: HashMap<&'a str, Binding>,
    /// What each declaration replaced, and at which depth; the innermost last.
    declared: Vec<(usize, &'a str, Option<Binding>)>,
}

/// What a prefix stands for.
struct Binding {
    namespace: String,
    /// The depth of the element that declares it.
    depth: usize,
}

impl<'a> Namespaces<'a> {
    /// The element at this depth declares a prefix.
    ///
    /// # Errors
    /// The prefix or the namespace is not free to be declared so, or there are too many.
    pub(super) fn declare(&mut self, depth: usize, prefix: &'a str, namespace: &str) -> Result<(), DocumentError> {
        match prefix {
            "xml" if namespace == XML_NAMESPACE => return Ok(()),
            "xml" | "xmlns" => return Err(Malformed),
            _ if namespace.is_empty() || is_reserved(namespace) => return Err(Malformed),
            _ => {}
        }
        if self.declared.len() == MAX_XML_NAMESPACES {
            return Err(TooLarge);
        }
        let before = self.bound.insert(prefix, Binding { namespace: namespace.to_owned(), depth });
        self.declared.push((depth, prefix, before));
        Ok(())
    }

    /// The element at this depth has ended.
    pub(super) fn leave(&mut self, depth: usize) {
        while let Some((_, prefix, before)) = self.declared.pop_if(|(of, ..)| *of == depth) {
            match before {
                Some(binding) => self.bound.insert(prefix, binding),
                None => self.bound.remove(prefix),
            };
        }
    }

    /// What a prefix stands for here.
    pub(super) fn of(&self, prefix: &str) -> Option<&str> {
        if prefix == "xml" { Some(XML_NAMESPACE) } else { self.bound.get(prefix).map(|binding| &*binding.namespace) }
    }

    /// The same, if it was an element above this depth that declared it.
    pub(super) fn inherited(&self, prefix: &str, depth: usize) -> Option<&str> {
        self.bound.get(prefix).filter(|binding| binding.depth < depth).map(|binding| &*binding.namespace)
    }
}

/// Namespaces that only their own prefixes may stand for.
pub(super) fn is_reserved(namespace: &str) -> bool {
    namespace == XML_NAMESPACE || namespace == XMLNS_NAMESPACE
}
