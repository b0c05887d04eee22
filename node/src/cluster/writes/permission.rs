//! What a command needs permission for, read from its bytes.

use headwater_proto::reader::{Malformed, Reader, WireType};
use headwater_proto::stored::Purpose;
use headwater_proto::stored::fields::{append, append_all, command, delete};

/// What the requester of a command needs permission for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Permission {
    /// To append to each of these streams, by its access list.
    Append(Vec<String>),
    /// To delete the stream, by its access list.
    Delete(String),
    /// To change users: the change appends to these streams.
    ManageUsers(Vec<String>),
    /// To do upkeep of the whole store, past every access list.
    Maintain,
    /// The command is of a later version, or damaged: the permission is not known.
    Unknown,
}

impl Permission {
    /// Reads the permission from an encoded command, skipping its events.
    pub(crate) fn of(command: &[u8]) -> Self {
        // The generated decoder copies every event; see the figures in `headwater_proto::reader`.
        Self::read(command).unwrap_or(Self::Unknown)
    }

    fn read(encoded: &[u8]) -> Result<Self, Malformed> {
        let (mut purpose, mut change) = (0, None);
        let mut reader = Reader::new(encoded);
        while let Some(key) = reader.key() {
            let kind = match key {
                (command::APPEND, WireType::LengthDelimited) => Change::Append(AppendHeader::read(reader.bytes())?),
                (command::DELETE, WireType::LengthDelimited) => Change::Delete(read_delete(reader.bytes())?),
                (command::APPEND_ALL, WireType::LengthDelimited) => Change::AppendAll(read_append_all(reader.bytes())?),
                (
                    command::SCAVENGE | command::REDACT | command::IMPORT | command::RAISE_VERSION,
                    WireType::LengthDelimited,
                ) => {
                    reader.bytes();
                    Change::Maintenance
                }
                (command::PURPOSE, WireType::Varint) => {
                    purpose = reader.varint();
                    continue;
                }
                other => {
                    reader.skip(other);
                    continue;
                }
            };
            // No node encodes two kinds in one command, and the generated decoder would merge them.
            if change.replace(kind).is_some() {
                return Ok(Self::Unknown);
            }
        }
        reader.finish()?;
        let purpose = i32::try_from(purpose).ok().and_then(|purpose| Purpose::try_from(purpose).ok());
        Ok(change.zip(purpose).map_or(Self::Unknown, |(change, purpose)| change.permission(purpose)))
    }
}

/// What a command does, and to which streams.
enum Change<'a> {
    Append(AppendHeader<'a>),
    Delete(&'a str),
    AppendAll(Vec<AppendHeader<'a>>),
    /// Removal of what nobody can see, the redaction of an event, an import, or another cluster
    /// version.
    Maintenance,
}

impl Change<'_> {
    fn permission(self, purpose: Purpose) -> Permission {
        match (self, purpose) {
            (Self::Append(append), Purpose::Streams | Purpose::Unspecified) => {
                Permission::Append(vec![append.stream.to_owned()])
            }
            (Self::Delete(stream), Purpose::Streams | Purpose::Unspecified) => Permission::Delete(stream.to_owned()),
            // An expected version without events reveals the version of the stream when it is
            // refused, so it needs the permission too.
            (Self::AppendAll(appends), Purpose::Streams) => {
                Permission::Append(appends.into_iter().map(|append| append.stream.to_owned()).collect())
            }
            (Self::AppendAll(appends), Purpose::Users | Purpose::Unspecified) => {
                let with_events = appends.into_iter().filter(|append| append.has_events);
                Permission::ManageUsers(with_events.map(|append| append.stream.to_owned()).collect())
            }
            (Self::Maintenance, Purpose::Maintenance) => Permission::Maintain,
            // Only a change of several streams at once can be a change of users; clients write to
            // streams with the kinds above only.
            (Self::Append(_) | Self::Delete(_), Purpose::Users | Purpose::Maintenance)
            | (Self::AppendAll(_), Purpose::Maintenance)
            | (Self::Maintenance, Purpose::Streams | Purpose::Users | Purpose::Unspecified) => Permission::Unknown,
        }
    }
}

/// An append without its events.
struct AppendHeader<'a> {
    stream: &'a str,
    has_events: bool,
}

impl<'a> AppendHeader<'a> {
    fn read(encoded: &'a [u8]) -> Result<Self, Malformed> {
        let mut header = Self { stream: "", has_events: false };
        let mut reader = Reader::new(encoded);
        while let Some(key) = reader.key() {
            match key {
                (append::STREAM, WireType::LengthDelimited) => header.stream = reader.text(),
                (append::EVENTS, WireType::LengthDelimited) => {
                    header.has_events = true;
                    reader.bytes();
                }
                other => reader.skip(other),
            }
        }
        reader.finish()?;
        Ok(header)
    }
}

fn read_delete(encoded: &[u8]) -> Result<&str, Malformed> {
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

fn read_append_all(encoded: &[u8]) -> Result<Vec<AppendHeader<'_>>, Malformed> {
    let mut all = Vec::new();
    let mut reader = Reader::new(encoded);
    while let Some(key) = reader.key() {
        match key {
            (append_all::APPENDS, WireType::LengthDelimited) => all.push(AppendHeader::read(reader.bytes())?),
            other => reader.skip(other),
        }
    }
    reader.finish()?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_proto::stored::{Append, AppendAll, Command, Delete, Import, NewEvent, RaiseVersion, command::Kind};
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
            (Kind::Import(Import::default()), Purpose::Maintenance, Permission::Maintain),
            (Kind::Import(Import::default()), Purpose::Streams, Permission::Unknown),
            (Kind::RaiseVersion(RaiseVersion::default()), Purpose::Maintenance, Permission::Maintain),
            (append_all(), Purpose::Maintenance, Permission::Unknown),
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

    /// The field numbers of the kinds of a command, as the protocol lists them.
    fn kinds() -> Vec<u8> {
        let protocol = include_str!("../../../../proto/proto/stored.proto");
        let (_, rest) = protocol.split_once("message Command {").unwrap();
        let (_, rest) = rest.split_once("oneof kind {").unwrap();
        let (kinds, _) = rest.split_once('}').unwrap();
        let numbers = kinds.split(';').filter_map(|kind| kind.split_once('=')?.1.trim().parse().ok());
        numbers.collect()
    }

    #[test]
    fn every_kind_of_the_protocol_needs_a_known_permission() {
        let kinds = kinds();
        assert!(kinds.len() >= 6, "{kinds:?}");
        for kind in kinds {
            // The kind without fields of its own, once with each purpose.
            let of = |purpose: Purpose| Permission::of(&[kind << 3 | 2, 0, 4 << 3, purpose as u8]);
            let purposes = [Purpose::Streams, Purpose::Users, Purpose::Maintenance];
            assert!(purposes.into_iter().any(|purpose| of(purpose) != Permission::Unknown), "kind {kind}");
        }
        assert_eq!(Permission::of(&[15 << 3 | 2, 0, 4 << 3, 1]), Permission::Unknown);
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
