//! An XML list of events (contract/streams 6.5): each child of the root is one event.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::{BodyError, Draft, Payload, parse_guid};
use crate::http::format::json::{push_indent, push_string};
use crate::http::format::xml::document::{Part, Tag, XmlDocument};
use crate::http::format::xml::error::DocumentError;
use crate::http::format::xml::markup::is_white;
use crate::http::format::xml::member_of;
use crate::http::limits::{MAX_INDENTED_BYTES, MAX_XML_NODES};
use crate::streams::events::{CheckedEvents, EventCollector, EventError};

impl From<DocumentError> for BodyError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Malformed => Self::Invalid,
            DocumentError::TooLarge => Self::Event(EventError::TooLarge),
        }
    }
}

/// Reads the events of a body. Each is made as soon as it ends, and what means nothing in it is
/// skipped, so that only one payload stands in memory as a tree.
pub(crate) fn parse_events(body: &str) -> Result<CheckedEvents, BodyError> {
    let mut document = XmlDocument::new(body)?;
    let mut events = EventCollector::default();
    let Some(Part::Open(root)) = document.next_part()? else { return Err(BodyError::Invalid) };
    if !root.is_self_closing {
        while let Some(event) = next_child(&mut document)? {
            events.push(draft(&mut document, &event)?.into())?;
        }
    }
    match document.next_part()? {
        None => Ok(events.finish()?),
        Some(_) => Err(BodyError::Invalid),
    }
}

/// The next element in the one that is open; `None` when that has ended.
fn next_child<'a>(document: &mut XmlDocument<'a>) -> Result<Option<Tag<'a>>, BodyError> {
    loop {
        match document.next_part()? {
            Some(Part::Open(tag)) => return Ok(Some(tag)),
            Some(Part::Text(_)) => {}
            Some(Part::Close) | None => return Ok(None),
        }
    }
}

fn draft(document: &mut XmlDocument<'_>, event: &Tag<'_>) -> Result<Draft, BodyError> {
    let mut draft = Draft::default();
    if event.is_self_closing {
        return Ok(draft);
    }
    let mut count = 0;
    while let Some(part) = next_child(document)? {
        let name = part.name;
        if name.eq_ignore_ascii_case("eventId") {
            let content = Content::read(document, part, &mut count)?;
            let text = content.only_text(0).ok_or(BodyError::Invalid)?.trim();
            draft.id = if text.is_empty() { None } else { Some(parse_guid(text).ok_or(BodyError::Invalid)?) };
        } else if name.eq_ignore_ascii_case("eventType") {
            let content = Content::read(document, part, &mut count)?;
            draft.event_type = Some(content.only_text(0).ok_or(BodyError::Invalid)?.to_owned());
        } else if name.eq_ignore_ascii_case("data") {
            draft.data = Content::read(document, part, &mut count)?.payload()?;
        } else if name.eq_ignore_ascii_case("metadata") {
            draft.metadata = Content::read(document, part, &mut count)?.payload()?;
        } else {
            skip(document, &part)?;
        }
    }
    Ok(draft)
}

/// Reads on to the end of an element that has begun.
fn skip(document: &mut XmlDocument<'_>, tag: &Tag<'_>) -> Result<(), BodyError> {
    let mut open = usize::from(!tag.is_self_closing);
    while open > 0 {
        match document.next_part()?.ok_or(BodyError::Invalid)? {
            Part::Open(tag) => open += usize::from(!tag.is_self_closing),
            Part::Close => open -= 1,
            Part::Text(_) => {}
        }
    }
    Ok(())
}

/// What an element consists of.
#[derive(Debug)]
enum Node<'a> {
    /// An element; its attributes and its content follow, up to the node at `end`.
    Element { name: &'a str, end: u32, is_self_closing: bool },
    /// An attribute; its value follows as text.
    Attribute(&'a str),
    /// A prefix that is declared around the payload; its namespace follows as text.
    Declaration(&'a str),
    /// Text between two tags that is not layout.
    Text(Cow<'a, str>),
}

/// An element with everything in it as one list in the order of the document, because a tree of
/// millions of small lists would take many times as much memory. An element is known by its place
/// in the list; that of the whole is 0.
#[derive(Debug, Default)]
struct Content<'a> {
    nodes: Vec<Node<'a>>,
}

/// The prefixes of names in a payload that are declared around it, as .NET writes them, on the root
/// of the body. They have to be stored with the payload, because nothing else of the body is.
struct UsedPrefixes<'a> {
    /// Depth of the payload's own element.
    depth: usize,
    /// Each of them, and its namespace, in the order of their first use.
    declared_around: Vec<(&'a str, String)>,
    seen: HashSet<&'a str>,
}

impl<'a> UsedPrefixes<'a> {
    /// None yet of the payload that begins with this tag, the last part that was read.
    fn of(document: &XmlDocument<'a>, tag: &Tag<'a>) -> Self {
        let depth = document.depth() + usize::from(tag.is_self_closing);
        Self { depth, declared_around: Vec::new(), seen: HashSet::new() }
    }

    /// The last part that was read of the payload is this tag.
    fn look_at(&mut self, document: &XmlDocument<'a>, tag: &Tag<'a>) {
        let names = tag.attributes.iter().map(|(name, _)| *name).chain([tag.name]);
        for (prefix, _) in names.filter_map(|name| name.split_once(':')) {
            // A tag without content has ended already, and its own declarations with it.
            let declares_it = || tag.attributes.iter().any(|(name, _)| name.strip_prefix("xmlns:") == Some(prefix));
            if prefix == "xmlns" || self.seen.contains(prefix) || declares_it() {
                continue;
            }
            if let Some(namespace) = document.inherited_namespace(prefix, self.depth) {
                self.declared_around.push((prefix, namespace.to_owned()));
                self.seen.insert(prefix);
            }
        }
    }
}

impl<'a> Content<'a> {
    /// Reads the element that begins with this tag. `count` is what the event has of elements and
    /// attributes so far.
    fn read(document: &mut XmlDocument<'a>, tag: Tag<'a>, count: &mut usize) -> Result<Self, BodyError> {
        let mut content = Self::default();
        let mut used = UsedPrefixes::of(document, &tag);
        let mut open = Vec::new();
        // The text before the next tag; comments do not end it.
        let mut text: Option<Cow<'a, str>> = None;
        let mut part = Part::Open(tag);
        loop {
            if let Part::Text(more) = part {
                match &mut text {
                    Some(text) => text.to_mut().push_str(&more),
                    None => text = Some(more),
                }
            } else {
                // White space alone is layout.
                content.nodes.extend(text.take().filter(|text| !is_white(text)).map(Node::Text));
                match part {
                    Part::Open(tag) => {
                        let (element, is_self_closing) = (content.nodes.len(), tag.is_self_closing);
                        *count += 1 + tag.attributes.len();
                        if *count > MAX_XML_NODES {
                            return Err(EventError::TooLarge.into());
                        }
                        used.look_at(document, &tag);
                        content.begin(tag);
                        open.push(element);
                        if is_self_closing {
                            content.end(open.pop());
                        }
                    }
                    _ => content.end(open.pop()),
                }
                if open.is_empty() {
                    content.declare(used.declared_around);
                    return Ok(content);
                }
            }
            part = document.next_part()?.ok_or(BodyError::Invalid)?;
        }
    }

    /// Puts declarations before the attributes of the whole, which could not be understood without
    /// them.
    fn declare(&mut self, declarations: Vec<(&'a str, String)>) {
        if declarations.is_empty() {
            return;
        }
        let added = 2 * declarations.len() as u32;
        for node in &mut self.nodes {
            if let Node::Element { end, .. } = node {
                *end += added;
            }
        }
        let nodes = declarations
            .into_iter()
            .flat_map(|(prefix, namespace)| [Node::Declaration(prefix), Node::Text(Cow::Owned(namespace))]);
        self.nodes.splice(1..1, nodes);
    }

    fn begin(&mut self, tag: Tag<'a>) {
        self.nodes.push(Node::Element { name: tag.name, end: 0, is_self_closing: tag.is_self_closing });
        for (name, value) in tag.attributes {
            self.nodes.extend([Node::Attribute(name), Node::Text(value)]);
        }
    }

    /// The element at this place has all its content.
    fn end(&mut self, element: Option<usize>) {
        // There are fewer nodes than bytes in a body.
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        if let Some(Node::Element { end, .. }) = element.and_then(|at| self.nodes.get_mut(at)) {
            *end = next;
        }
    }

    /// The place behind the node at this place and all that belongs to it.
    fn after(&self, at: usize) -> usize {
        match self.nodes[at] {
            Node::Element { end, .. } => end as usize,
            Node::Attribute(_) | Node::Declaration(_) => at + 2,
            Node::Text(_) => at + 1,
        }
    }

    /// The text of an element that has nothing else, `None` when it has.
    fn only_text(&self, element: usize) -> Option<&str> {
        match &self.nodes[element + 1..self.after(element)] {
            [] => Some(""),
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn payload(&self) -> Result<Payload, BodyError> {
        if let Some(text) = self.only_text(0) {
            return Payload::from_text(text);
        }
        let mut json = Vec::new();
        self.push_value(&mut json, 0, 0)?;
        Ok(Payload { bytes: json.into(), is_json: true })
    }

    /// Appends the element's content as a JSON value. Indentation makes deep lists many times
    /// longer, hence the limit.
    fn push_value(&self, out: &mut Vec<u8>, element: usize, indent: usize) -> Result<(), BodyError> {
        if out.len() > MAX_INDENTED_BYTES {
            return Err(EventError::TooLarge.into());
        }
        if let Some(text) = self.only_text(element) {
            match self.nodes[element] {
                Node::Element { is_self_closing: true, .. } => out.extend_from_slice(b"null"),
                _ => push_string(out, text),
            }
            return Ok(());
        }
        let members = self.members(element);
        for (number, values) in members.chunk_by(|one, next| one.0 == next.0).enumerate() {
            out.extend_from_slice(if number == 0 { b"{\n" } else { b",\n" });
            push_indent(out, indent + 2);
            push_string(out, &self.name(values[0].1 as usize));
            out.extend_from_slice(b": ");
            match values {
                [(_, at)] => self.push_member(out, *at as usize, indent + 2)?,
                _ => self.push_array(out, values, indent + 2)?,
            }
        }
        out.push(b'\n');
        push_indent(out, indent);
        out.push(b'}');
        Ok(())
    }

    fn push_member(&self, out: &mut Vec<u8>, at: usize, indent: usize) -> Result<(), BodyError> {
        match &self.nodes[at] {
            Node::Element { .. } => self.push_value(out, at, indent)?,
            Node::Attribute(_) | Node::Declaration(_) => return self.push_member(out, at + 1, indent),
            Node::Text(text) => push_string(out, text),
        }
        Ok(())
    }

    fn push_array(&self, out: &mut Vec<u8>, values: &[(u32, u32)], indent: usize) -> Result<(), BodyError> {
        for (number, (_, at)) in values.iter().enumerate() {
            out.extend_from_slice(if number == 0 { b"[\n" } else { b",\n" });
            push_indent(out, indent + 2);
            self.push_member(out, *at as usize, indent + 2)?;
        }
        out.push(b'\n');
        push_indent(out, indent);
        out.push(b']');
        Ok(())
    }

    /// Attributes, then elements and texts, those of one name together where it first appears: the
    /// number of the member, and a place.
    fn members(&self, element: usize) -> Vec<(u32, u32)> {
        let mut members = Vec::new();
        let mut numbers = HashMap::new();
        let mut next = 0;
        let mut at = element + 1;
        while at < self.after(element) {
            let number = match &self.nodes[at] {
                Node::Attribute(_) | Node::Declaration(_) => next,
                _ => *numbers.entry(self.name(at)).or_insert(next),
            };
            next = next.max(number + 1);
            members.push((number, at as u32));
            at = self.after(at);
        }
        members.sort_by_key(|(number, _)| *number);
        members
    }

    /// What the node is called as a member of an object.
    fn name(&self, at: usize) -> Cow<'a, str> {
        match &self.nodes[at] {
            Node::Element { name, .. } => member_of(name),
            Node::Attribute(name) => Cow::Owned(format!("@{}", member_of(name))),
            Node::Declaration(prefix) => Cow::Owned(format!("@xmlns:{}", member_of(prefix))),
            Node::Text(_) => Cow::Borrowed("#text"),
        }
    }
}

#[cfg(test)]
mod tests;
