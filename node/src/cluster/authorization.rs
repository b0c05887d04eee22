//! On whose behalf a write is made, and the leader's decision whether it may be made
//! (contract/services 5.2).
//!
//! The node that receives a request decides by its own state, which may be behind. So a write
//! travels with its requester, and the leader, whose state has everything that was acknowledged,
//! decides again before it proposes the write. The rules are in the room `access`, which registers
//! them here.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::BoxFuture;
use headwater_proto::reader::{Malformed, Reader, WireType};
use headwater_proto::stored::Purpose;
use headwater_proto::stored::fields::{append, append_all, command, delete};

use super::Cluster;
use super::gate::Proposed;
use crate::event::Caller;

/// On whose behalf a write is made. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// The node itself: the first users, the renewed hash of a password.
    Node,
    /// The sender of a request.
    Caller(Caller),
}

/// A term in which this node leads. Its state has everything that was acknowledged only in such a
/// term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderTerm(NonZeroU64);

impl LeaderTerm {
    /// `None` for 0, which is the term of no leader.
    pub(super) fn new(term: u64) -> Option<Self> {
        NonZeroU64::new(term).map(Self)
    }
}

/// A write and what decides whether it may be made.
#[derive(Debug, Clone)]
pub struct Write {
    /// An encoded [`headwater_proto::stored::Command`].
    pub command: Bytes,
    /// On whose behalf.
    pub requester: Requester,
    /// The term in which this node, as leader, found just now that the requester may make the
    /// write. With `None` the leader decides when the write reaches it.
    pub authorized_in: Option<LeaderTerm>,
}

/// What the requester of a command needs permission for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// To append to each of these streams, by its access list.
    Append(Vec<String>),
    /// To delete the stream, by its access list.
    Delete(String),
    /// To change users: the change appends to these streams.
    ManageUsers(Vec<String>),
    /// The command is of another version, or damaged: nobody can tell.
    Unknown,
}

impl Permission {
    /// Reads it from an encoded command, whose events are skipped.
    pub fn of(command: &[u8]) -> Self {
        // The generated decoder copies every event; see the figures in `headwater_proto::reader`.
        Self::read(command).unwrap_or(Self::Unknown)
    }

    fn read(encoded: &[u8]) -> Result<Self, Malformed> {
        let (mut purpose, mut written) = (0, None);
        let mut reader = Reader::new(encoded);
        while let Some(key) = reader.key() {
            let kind = match key {
                (command::APPEND, WireType::LengthDelimited) => Written::Append(Appended::read(reader.bytes())?),
                (command::DELETE, WireType::LengthDelimited) => Written::Delete(deleted(reader.bytes())?),
                (command::APPEND_ALL, WireType::LengthDelimited) => Written::AppendAll(all_appended(reader.bytes())?),
                (command::PURPOSE, WireType::Varint) => {
                    purpose = reader.varint();
                    continue;
                }
                other => {
                    reader.skip(other);
                    continue;
                }
            };
            // No node encodes two kinds, and the generated decoder would merge them.
            if written.replace(kind).is_some() {
                return Ok(Self::Unknown);
            }
        }
        reader.finish()?;
        let purpose = i32::try_from(purpose).ok().and_then(|purpose| Purpose::try_from(purpose).ok());
        Ok(written.zip(purpose).map_or(Self::Unknown, |(written, purpose)| written.permission(purpose)))
    }
}

/// The streams that a command names.
enum Written<'a> {
    Append(Appended<'a>),
    Delete(&'a str),
    AppendAll(Vec<Appended<'a>>),
}

impl Written<'_> {
    fn permission(self, purpose: Purpose) -> Permission {
        match (self, purpose) {
            (Self::Append(append), Purpose::Streams | Purpose::Unspecified) => {
                Permission::Append(vec![append.stream.to_owned()])
            }
            (Self::Delete(stream), Purpose::Streams | Purpose::Unspecified) => Permission::Delete(stream.to_owned()),
            // A demand without events tells the version of the stream by its refusal, so it needs
            // the right too.
            (Self::AppendAll(appends), Purpose::Streams) => {
                Permission::Append(appends.into_iter().map(|append| append.stream.to_owned()).collect())
            }
            (Self::AppendAll(appends), Purpose::Users | Purpose::Unspecified) => {
                let with_events = appends.into_iter().filter(|append| append.has_events);
                Permission::ManageUsers(with_events.map(|append| append.stream.to_owned()).collect())
            }
            // Only changes of several streams at once are changes of users.
            (Self::Append(_) | Self::Delete(_), Purpose::Users) => Permission::Unknown,
        }
    }
}

/// An append without its events.
struct Appended<'a> {
    stream: &'a str,
    has_events: bool,
}

impl<'a> Appended<'a> {
    fn read(encoded: &'a [u8]) -> Result<Self, Malformed> {
        let mut appended = Self { stream: "", has_events: false };
        let mut reader = Reader::new(encoded);
        while let Some(key) = reader.key() {
            match key {
                (append::STREAM, WireType::LengthDelimited) => appended.stream = reader.text(),
                (append::EVENTS, WireType::LengthDelimited) => {
                    appended.has_events = true;
                    reader.bytes();
                }
                other => reader.skip(other),
            }
        }
        reader.finish()?;
        Ok(appended)
    }
}

fn deleted(encoded: &[u8]) -> Result<&str, Malformed> {
    let mut stream = "";
    let mut reader = Reader::new(encoded);
    while let Some(key) = reader.key() {
        match key {
            (delete::STREAM, WireType::LengthDelimited) => stream = reader.text(),
            other => reader.skip(other),
        }
    }
    reader.finish()?;
    Ok(stream)
}

fn all_appended(encoded: &[u8]) -> Result<Vec<Appended<'_>>, Malformed> {
    let mut all = Vec::new();
    let mut reader = Reader::new(encoded);
    while let Some(key) = reader.key() {
        match key {
            (append_all::APPENDS, WireType::LengthDelimited) => all.push(Appended::read(reader.bytes())?),
            other => reader.skip(other),
        }
    }
    reader.finish()?;
    Ok(all)
}

/// The decision on a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// The requester may make it.
    Granted,
    /// The requester may not.
    Denied,
    /// The state of this node cannot be read now.
    Undecided,
}

/// Decides on writes by the newest state of this node.
pub trait Authorizer: Send + Sync {
    /// Whether the requester has the permission.
    fn authorize(&self, requester: Requester, permission: Permission) -> BoxFuture<'static, Authorization>;
}

impl Cluster {
    /// Registers what decides on writes while this node leads. Before that no write is made.
    pub fn authorize_with(&self, authorizer: Box<dyn Authorizer>) {
        let is_first = self.inner.authorizer.set(authorizer).is_ok();
        debug_assert!(is_first, "there is an authorizer already");
    }

    /// The term in which this node leads, for [`Write::authorized_in`]: ask for it before the right
    /// is checked.
    pub fn leader_term(&self) -> Option<LeaderTerm> {
        LeaderTerm::new(self.inner.leader_term.load(Ordering::Acquire))
    }

    /// Whether a right that was checked in that term counts: this node leads in it still.
    pub fn is_authorized(&self, authorized_in: Option<LeaderTerm>) -> bool {
        authorized_in.is_some() && authorized_in == self.leader_term()
    }

    /// Decides as leader whether the write may enter the gate: `None`, or the answer instead.
    pub(super) fn refusal(&self, requester: Requester, command: &[u8]) -> BoxFuture<'static, Option<Proposed>> {
        let term = self.leader_term();
        let Some(authorizer) = self.inner.authorizer.get().filter(|_| term.is_some()) else {
            return Box::pin(std::future::ready(Some(Proposed::NotLeader)));
        };
        let (cluster, decision) = (self.clone(), authorizer.authorize(requester, Permission::of(command)));
        Box::pin(async move {
            match decision.await {
                Authorization::Granted if cluster.is_authorized(term) => None,
                Authorization::Denied if cluster.is_authorized(term) => Some(Proposed::Denied),
                Authorization::Granted | Authorization::Denied | Authorization::Undecided => Some(Proposed::NotLeader),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::stored::{Append, AppendAll, Command, Delete, NewEvent, command::Kind};
    use prost::Message;

    use super::*;

    fn append(stream: &str, events: usize) -> Append {
        let event =
            NewEvent { data: Bytes::from_static(b"xyz"), event_type: "t".into(), is_json: true, ..NewEvent::default() };
        Append {
            stream: stream.into(),
            expected_version: 7,
            events: vec![event; events],
            write_id: Bytes::from_static(&[9; 16]),
        }
    }

    fn delete(stream: &str) -> Kind {
        Kind::Delete(Delete { stream: stream.into(), hard: true, ..Delete::default() })
    }

    fn append_all() -> Kind {
        Kind::AppendAll(AppendAll { appends: vec![append("c", 1), append("d", 0), append("e", 2)] })
    }

    fn needed(kind: Option<Kind>, purpose: i32) -> Permission {
        Permission::of(&Command { kind, purpose }.encode_to_vec())
    }

    fn streams(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_command_says_which_rule_decides_whether_it_may_be_made() {
        for (kind, purpose, expected) in [
            (Kind::Append(append("a", 3)), Purpose::Streams, Permission::Append(streams(&["a"]))),
            (delete("b"), Purpose::Streams, Permission::Delete("b".into())),
            (append_all(), Purpose::Streams, Permission::Append(streams(&["c", "d", "e"]))),
            (append_all(), Purpose::Users, Permission::ManageUsers(streams(&["c", "e"]))),
            (Kind::Append(append("a", 3)), Purpose::Users, Permission::Unknown),
            (delete("b"), Purpose::Users, Permission::Unknown),
        ] {
            assert_eq!(needed(Some(kind), purpose.into()), expected);
        }
    }

    #[test]
    fn appends_to_several_streams_without_a_purpose_are_a_change_of_users() {
        let unspecified = Purpose::Unspecified.into();
        assert_eq!(needed(Some(append_all()), unspecified), Permission::ManageUsers(streams(&["c", "e"])));
        assert_eq!(needed(Some(Kind::Append(append("a", 1))), unspecified), Permission::Append(streams(&["a"])));
        assert_eq!(needed(Some(delete("b")), unspecified), Permission::Delete("b".into()));
    }

    #[test]
    fn a_purpose_or_a_kind_of_a_later_version_is_unknown() {
        assert_eq!(needed(Some(Kind::Append(append("a", 1))), 99), Permission::Unknown);
        assert_eq!(needed(None, Purpose::Streams.into()), Permission::Unknown);
    }

    #[test]
    fn what_is_no_command_or_two_in_one_is_unknown() {
        let one = Command::of_streams(Kind::Append(append("a", 1))).encode_to_vec();
        let two = [one.clone(), Command::of_streams(delete("b")).encode_to_vec()].concat();
        for damaged in [&one[..one.len() - 3], &two, b"\xff\xff"] {
            assert_eq!(Permission::of(damaged), Permission::Unknown);
        }
    }
}
