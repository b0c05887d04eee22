//! The rules for the use of streams (contract/services 1.6, contract/streams 13). Pure: all input
//! is passed in.

use std::sync::Arc;

use super::admission::Admission;
pub(crate) use crate::event::caller::{ADMINS, Caller, Principal, is_reserved};
use crate::event::metadata::{Acl, DefaultAcls};
use crate::event::{StreamNameRef, stream_name};
use crate::store::StreamInfo;

/// Role that every caller has, anonymous callers included.
pub(crate) const EVERYBODY: &str = "$all";
/// Role of the users that operate the nodes.
pub(crate) const OPERATORS: &str = "$ops";

/// A kind of access to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Right {
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
    /// The roles that a list names for the right. A list that names roles for writing and none for
    /// deleting uses the former for both (contract/streams 13).
    fn of(self, acl: &Acl) -> Option<&[String]> {
        let roles = match self {
            Self::Read => &acl.read,
            Self::Write => &acl.write,
            Self::Delete if acl.delete.is_none() => &acl.write,
            Self::Delete => &acl.delete,
            Self::MetaRead => &acl.meta_read,
            Self::MetaWrite => &acl.meta_write,
        };
        roles.as_deref()
    }
}

/// The stream whose access list decides, and the right of that list: for a metastream, the stream
/// that it describes. `None` for what is denied to every caller: metadata of metadata, deleting a
/// metastream, writing to or deleting the log of all events.
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

/// Whether no caller may ever read the stream, whatever the lists say: metadata of metadata.
pub(crate) fn is_sealed(stream: &str) -> bool {
    subject(stream, Right::Read).is_none()
}

/// The roles that have a right on a stream: by the stream's own list, else by `$settings`, else by
/// the built-in default.
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

/// Whether every caller has the right on `stream`, which is not a metastream, given its own list.
pub(crate) fn is_open(stream: &str, right: Right, own: Option<&Acl>, defaults: &DefaultAcls) -> bool {
    match roles(stream, right, own, defaults) {
        Roles::Listed(listed) => listed.iter().any(|role| role == EVERYBODY),
        Roles::Everybody => true,
        Roles::Admins => false,
    }
}

/// Whether `caller` has the right on `stream`, which is not a metastream, given its own list.
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

/// One caller and the default lists at one moment: decides for a read, whatever streams it meets.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// The caller that reads.
    pub(crate) caller: Caller,
    /// For streams without a list of their own.
    pub(crate) defaults: Arc<DefaultAcls>,
    /// Which callers may read anything at all; without anonymous ones nothing is public.
    pub(crate) admission: Admission,
}

impl Policy {
    /// Whether the caller may read the stream, given its state.
    pub(crate) fn may_read(&self, stream: &str, info: &StreamInfo) -> bool {
        if !self.admission.to_streams(&self.caller) {
            return false;
        }
        match subject(stream, Right::Read) {
            Some((owner, right)) => allows(&self.caller, owner, right, own_list(info), &self.defaults),
            None => false,
        }
    }

    /// Whether every caller may read the stream, so that shared caches may keep its pages.
    pub(crate) fn is_public(&self, stream: &str, info: &StreamInfo) -> bool {
        self.admission.to_streams(&Caller::Anonymous)
            && subject(stream, Right::Read)
                .is_some_and(|(owner, right)| is_open(owner, right, own_list(info), &self.defaults))
    }
}

/// A metastream has no list; the list of the stream it describes decides.
fn own_list(info: &StreamInfo) -> Option<&Acl> {
    info.described.as_ref().unwrap_or(&info.metadata).acl.as_ref()
}
