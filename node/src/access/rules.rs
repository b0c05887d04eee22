//! Who may do what with a stream (contract/services 1.6, contract/streams 13). Pure: everything it
//! needs is handed in.

use std::sync::Arc;

pub(crate) use crate::event::caller::{ADMINS, Caller, Principal, is_reserved};
use crate::event::metadata::{Acl, DefaultAcls};
use crate::event::{StreamNameRef, stream_name};
use crate::store::StreamInfo;

/// Role that everybody has, anonymous callers included.
pub(crate) const EVERYBODY: &str = "$all";
/// Role of those who operate the nodes.
pub(crate) const OPERATORS: &str = "$ops";

/// What somebody wants to do with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// `$r`
    Read,
    /// `$w`
    Write,
    /// `$d`
    Delete,
    /// `$mr`
    MetaRead,
    /// `$mw`
    MetaWrite,
}

impl Right {
    fn of(self, acl: &Acl) -> Option<&[String]> {
        let roles = match self {
            Self::Read => &acl.read,
            Self::Write => &acl.write,
            Self::Delete => &acl.delete,
            Self::MetaRead => &acl.meta_read,
            Self::MetaWrite => &acl.meta_write,
        };
        roles.as_deref()
    }
}

/// Whose access list decides, and which of its rights: for a metastream those of the stream it
/// describes. `None` for what is denied to everybody: metadata of metadata, deleting a metastream,
/// writing to or deleting the log of all events.
pub(crate) fn subject(stream: &str, right: Right) -> Option<(&str, Right)> {
    match (StreamNameRef::new(stream).described(), right) {
        (Some(described), _) if described.is_metastream() => None,
        (Some(described), Right::Read) => Some((described.as_str(), Right::MetaRead)),
        (Some(described), Right::Write) => Some((described.as_str(), Right::MetaWrite)),
        (Some(_), Right::Delete | Right::MetaRead | Right::MetaWrite) => None,
        (None, Right::Write | Right::Delete) if stream == stream_name::ALL => None,
        (None, right) => Some((stream, right)),
    }
}

/// Whether nobody may ever read the stream, whatever the lists say: metadata of metadata.
pub(crate) fn is_sealed(stream: &str) -> bool {
    subject(stream, Right::Read).is_none()
}

/// The roles that have a right on a stream, after falling through from the stream's own list to
/// `$settings` to the built-in default.
enum Roles<'a> {
    Listed(&'a [String]),
    Everybody,
    Admins,
}

fn roles<'a>(stream: &str, right: Right, own: Option<&'a Acl>, defaults: &'a DefaultAcls) -> Roles<'a> {
    let is_system = StreamNameRef::new(stream).is_system();
    let settings = if is_system { &defaults.system_streams } else { &defaults.user_streams };
    match own.and_then(|acl| right.of(acl)).or_else(|| right.of(settings)) {
        Some(listed) => Roles::Listed(listed),
        None if is_system => Roles::Admins,
        None => Roles::Everybody,
    }
}

/// Whether everybody has the right on `stream`, which is no metastream, given the list it has
/// itself.
pub(crate) fn is_open(stream: &str, right: Right, own: Option<&Acl>, defaults: &DefaultAcls) -> bool {
    match roles(stream, right, own, defaults) {
        Roles::Listed(listed) => listed.iter().any(|role| role == EVERYBODY),
        Roles::Everybody => true,
        Roles::Admins => false,
    }
}

/// Whether `caller` has the right on `stream`, which is no metastream, given the list it has
/// itself.
pub(crate) fn allows(caller: &Caller, stream: &str, right: Right, own: Option<&Acl>, defaults: &DefaultAcls) -> bool {
    if is_open(stream, right, own, defaults) {
        return true;
    }
    let Some(principal) = caller.principal() else { return false };
    if principal.has_role(ADMINS) {
        return true;
    }
    match roles(stream, right, own, defaults) {
        Roles::Listed(listed) => listed.iter().any(|role| principal.has_role(role)),
        Roles::Everybody | Roles::Admins => false,
    }
}

/// One caller and the default lists at one moment: what a read decides with, wherever it meets a
/// stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Who reads.
    pub caller: Caller,
    /// For streams without a list of their own.
    pub defaults: Arc<DefaultAcls>,
    /// Whether anonymous callers may read anything at all; if not, nothing is public.
    pub anonymous_allowed: bool,
}

impl Policy {
    /// Whether the caller may read the stream, given what the store knows of it.
    pub fn may_read(&self, stream: &str, info: &StreamInfo) -> bool {
        if self.caller == Caller::Anonymous && !self.anonymous_allowed {
            return false;
        }
        match subject(stream, Right::Read) {
            Some((owner, right)) => allows(&self.caller, owner, right, own_list(info), &self.defaults),
            None => false,
        }
    }

    /// Whether everybody may read the stream, so that shared caches may keep its pages.
    pub fn is_public(&self, stream: &str, info: &StreamInfo) -> bool {
        self.anonymous_allowed
            && subject(stream, Right::Read)
                .is_some_and(|(owner, right)| is_open(owner, right, own_list(info), &self.defaults))
    }
}

/// A metastream has no list; that of the stream it describes decides.
fn own_list(info: &StreamInfo) -> Option<&Acl> {
    info.described.as_ref().unwrap_or(&info.metadata).acl.as_ref()
}
