//! Seeds of the formats that are no text, made by what writes them in a node.

use bytes::Bytes;
use headwater_proto::cluster;
use headwater_proto::raft::{self, snapshot_part::Part};
use headwater_proto::stored::{self, Append, AppendAll, Command, NewEvent, command::Kind, entry::Payload};
use prost::Message;
use uuid::Uuid;

use crate::backup::fuzzing::seed as backup;
use crate::event::Ticks;
use crate::store::{event_id_row, event_row, index_row, stream_row};

/// Target, name and content of each.
pub(super) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut of = |target: &'static str, named: Vec<(&'static str, Vec<u8>)>| {
        seeds.extend(named.into_iter().map(|(name, input)| (target, name, input)));
    };
    of("rendered_events", rendered());
    of("stored_rows", rows());
    of("stored_log", log());
    of("stored_files", files());
    of("commands", commands());
    of("raft_messages", raft_messages());
    of("cluster_messages", cluster_messages());
    of("snapshot_transfer", snapshot());
    of("backup_archive", backup());
    seeds
}

/// An input of a target that takes several kinds.
fn kind(kind: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind], bytes.as_ref()].concat()
}

fn id(number: u128) -> Bytes {
    Bytes::copy_from_slice(Uuid::from_u128(number).as_bytes())
}

fn rendered() -> Vec<(&'static str, Vec<u8>)> {
    let event = |properties: u8, fields: [&[u8]; 4]| {
        [&[properties][..], &17_000_000_001_234_567_u64.to_le_bytes(), &fields.join(&0xfe)].concat()
    };
    let json = br##"{"a":{"@id":1.50,"x":[1,[2,"\ud83d\ude00"],{}],"p:q":null},"@xmlns:p":"u","#text":"t"}"##;
    vec![
        ("json", event(1, [b"orders-7", b"placed", br#"{"by":"me"}"#, json])),
        ("bytes", event(0, [b"\xc3\xa9 /?&<\">]]>", b"t\n\x01", b"", b"\xff\x00<\xfe"])),
        ("link", event(5, [b"links", b"$>", b"{}", b"7@orders"])),
        ("dangling", event(7, [b"links", b"$>", b"{}", b"7@orders"])),
        ("string", event(1, [b"s", b"t", b"null", b"\"text\""])),
    ]
}

fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let record = stored::EventRecord {
        stream: "orders".to_owned(),
        number: 7,
        event_id: id(1),
        event_type: "placed".to_owned(),
        is_json: true,
        time_ticks: 17_000_000_001_234_567,
        data: "{}".into(),
        metadata: "m".into(),
    };
    let mut event = Vec::new();
    event_row::encode(&record, &mut event);
    let roles = |roles: &[&str]| Some(stored::RoleList { roles: roles.iter().map(ToString::to_string).collect() });
    let acl =
        stored::Acl { read: roles(&["$all"]), write: roles(&["a", "b"]), delete: roles(&[]), ..Default::default() };
    let record = stored::StreamRecord {
        id: 9,
        tombstone_position: Some(3),
        metadata: Some(stored::StreamMetadata {
            max_count: Some(5),
            max_age_s: Some(60),
            truncate_before: Some(2),
            cache_control_s: Some(1),
            acl: Some(acl),
        }),
        last_number: Some(8),
        recreation: Some(stored::Recreation { first_number: 1, events: 2, write_id: id(2) }),
        undone_recreation: None,
        removed_before: 4,
        gaps: vec![stored::Gap { first: 5, end: 7 }],
        removals: vec![stored::RemovalMark { before: 4, time_ticks: 1 }],
        forgotten_before: 1,
        redactions: 1,
    };
    let mut stream = Vec::new();
    stream_row::encode(&record, &mut stream);
    let heading = index_row::Heading { time: Ticks(1), event_type: "placed" };
    let index = [&index_row::key(9, 7)[..], index_row::IndexValue::new(11, 100, heading).as_ref()].concat();
    let event_id = [&event_id_row::key(9, Uuid::from_u128(1))[..], &event_id_row::value(7)].concat();
    let counters = [&[1][..], &3_u64.to_be_bytes(), &2_u64.to_be_bytes(), &9_u64.to_be_bytes()].concat();
    vec![
        ("event", kind(0, event)),
        ("stream", kind(1, stream)),
        ("index", kind(2, index)),
        ("event-id", kind(3, event_id)),
        ("holes-all", kind(4, [2])),
        ("holes", kind(4, [&[1][..], &[0x81; 1024]].concat())),
        ("counters", kind(5, counters)),
    ]
}

fn log_id(index: u64) -> Option<stored::LogId> {
    Some(stored::LogId { term: 2, index })
}

fn vote() -> Option<stored::Vote> {
    Some(stored::Vote { term: 2, node_id: Some(1 << 48 | 7), committed: true })
}

fn membership() -> stored::Membership {
    let member = |server: u64| stored::Member {
        node_id: server << 48 | 7,
        raft_address: format!("10.0.0.{server}:2114"),
        http_address: format!("10.0.0.{server}:2113"),
        joined: true,
        replica: server == 3,
        changed: false,
        replaces: 0,
    };
    stored::Membership {
        configs: vec![stored::VoterSet { node_ids: vec![1 << 48 | 7, 2 << 48 | 7] }],
        members: vec![member(1), member(2), member(3)],
        log_id: log_id(4),
    }
}

fn event(number: u128, event_type: &str, data: &str) -> NewEvent {
    NewEvent {
        event_id: id(number),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.to_owned().into(),
        metadata: Bytes::new(),
    }
}

fn append(stream: &str, expected_version: i64, events: Vec<NewEvent>) -> Append {
    Append { stream: stream.to_owned(), expected_version, events, write_id: id(99) }
}

fn entry(index: u64, commands: &[Command]) -> stored::Entry {
    let commands = commands.iter().map(|command| command.encode_to_vec().into()).collect();
    let proposal = stored::Proposal { time_ticks: 17_000_000_000_000_000 + index, commands };
    stored::Entry { log_id: log_id(index), payload: Some(Payload::Proposal(proposal)) }
}

/// A write of each kind, as a leader sends them.
fn request() -> raft::AppendRequest {
    let users = AppendAll { appends: vec![append("$user-a", -1, vec![event(5, "$UserCreated", "{}")])] };
    let delete = |hard: bool, number: u128| stored::Delete {
        stream: "orders".to_owned(),
        expected_version: -2,
        hard,
        event_id: id(number),
        keeps_access_list: true,
    };
    let imported = |number: u64| stored::ImportedEvent {
        stream: "old".to_owned(),
        number,
        time_ticks: 5,
        event: Some(event(50 + u128::from(number), "t", "{}")),
    };
    let import = stored::Import {
        events: vec![imported(3), imported(4)],
        progress: Some(stored::ImportProgress { stream: "$import-1".to_owned(), document: "{}".into() }),
        ends: vec![stored::ImportedEnd { stream: "old".to_owned(), next_number: 9 }],
    };
    let scavenge = stored::Scavenge { streams: vec!["orders".to_owned()], max_events: 10, forget_removed_before: 9 };
    let metadata = r#"{"$maxCount":1,"$acl":{"$r":"$all"}}"#;
    raft::AppendRequest {
        vote: vote(),
        prev_log_id: log_id(4),
        entries: vec![
            entry(
                5,
                &[
                    Command::of_streams(Kind::Append(append(
                        "orders",
                        -1,
                        vec![event(1, "placed", "{}"), event(2, "paid", "1")],
                    ))),
                    Command::of_streams(Kind::Append(append("orders", 1, vec![event(3, "shipped", "[]")]))),
                    Command::of_streams(Kind::Append(append("$$orders", -2, vec![event(4, "$metadata", metadata)]))),
                ],
            ),
            entry(6, &[Command::of_users(users.appends)]),
            entry(
                7,
                &[
                    Command::of_maintenance(Kind::Scavenge(scavenge)),
                    Command::of_maintenance(Kind::Redact(stored::Redact { stream: "orders".to_owned(), number: 2 })),
                    Command::of_maintenance(Kind::Import(import)),
                    Command::of_maintenance(Kind::RaiseVersion(stored::RaiseVersion { version: 2 })),
                ],
            ),
            entry(
                8,
                &[
                    Command::of_streams(Kind::Delete(delete(false, 6))),
                    Command::of_streams(Kind::Append(append("orders", -1, vec![event(7, "placed", "{}")]))),
                    Command::of_streams(Kind::Delete(delete(true, 8))),
                ],
            ),
        ],
        leader_commit: log_id(6),
        traced: vec![raft::TracedEntry { entry: 0, span: vec![1; 24].into() }],
    }
}

fn commands() -> Vec<(&'static str, Vec<u8>)> {
    vec![("each", request().encode_to_vec())]
}

fn log() -> Vec<(&'static str, Vec<u8>)> {
    let of = |payload: Payload| stored::Entry { log_id: log_id(5), payload: Some(payload) }.encode_to_vec();
    vec![
        ("blank", kind(0, of(Payload::Blank(stored::Blank {})))),
        ("commands", kind(0, request().entries[0].encode_to_vec())),
        ("members", kind(0, of(Payload::Membership(stored::Membership { log_id: None, ..membership() })))),
        ("vote", kind(1, vote().unwrap().encode_to_vec())),
        ("membership", kind(2, membership().encode_to_vec())),
    ]
}

fn raft_messages() -> Vec<(&'static str, Vec<u8>)> {
    use raft::append_response::Result as Answer;
    use raft::transfer_leader_response::Refusal;
    let matched = raft::AppendResponse { result: Some(Answer::Matched(raft::Matched { log_id: log_id(8) })) };
    let higher = raft::AppendResponse { result: vote().map(Answer::HigherVote) };
    let ask = raft::VoteRequest { vote: vote(), last_log_id: log_id(8), leadership_transfer: true };
    let granted = raft::VoteResponse { vote: vote(), granted: true, last_log_id: log_id(8) };
    let transfer = raft::TransferLeaderRequest { from: vote(), to_node_id: 2 << 48 | 7, last_log_id: log_id(8) };
    let behind = raft::LogNotFlushed { expected: log_id(8), actual: log_id(7) };
    let refused = raft::TransferLeaderResponse { refusal: Some(Refusal::LogNotFlushed(behind)) };
    vec![
        ("append", kind(0, request().encode_to_vec())),
        ("matched", kind(1, matched.encode_to_vec())),
        ("higher-vote", kind(1, higher.encode_to_vec())),
        ("ask-for-vote", kind(2, ask.encode_to_vec())),
        ("granted", kind(3, granted.encode_to_vec())),
        ("transfer", kind(4, transfer.encode_to_vec())),
        ("not-transferred", kind(5, refused.encode_to_vec())),
        ("snapshot-installed", kind(6, raft::SnapshotResponse { vote: vote() }.encode_to_vec())),
    ]
}

fn cluster_messages() -> Vec<(&'static str, Vec<u8>)> {
    use cluster::change_members_request::Change;
    use cluster::forward_response::Result as Answer;
    use cluster::requester::Kind as Of;
    let user = cluster::User { login: "a".to_owned(), credentials: vec![id(1), id(2)] };
    let command = &request().entries[0].payload;
    let Some(Payload::Proposal(proposal)) = command else { panic!("the first entry has commands") };
    let forward = |command: Bytes, kind: Of| cluster::ForwardRequest {
        request_id: 7,
        deadline_ms: 1000,
        command,
        requester: Some(cluster::Requester { kind: Some(kind) }),
        span: Bytes::new(),
    };
    let vouched = cluster::Vouched { login: "b".to_owned(), groups: vec!["$admins".to_owned()] };
    let appended = cluster::Appended { first_number: 1, position: 9, repeated_request: false };
    let outcome = cluster::WriteOutcome { kind: Some(cluster::write_outcome::Kind::Appended(appended)) };
    let done = cluster::ForwardResponse { request_id: 7, log_index: Some(8), result: Some(Answer::Outcome(outcome)) };
    let add =
        cluster::AddMember { server: 4, raft_address: "n:1".to_owned(), http_address: "n:2".to_owned(), replica: true };
    let change = cluster::ChangeMembersRequest { requester: None, change: Some(Change::Add(add)) };
    let status = cluster::StatusResponse {
        node_id: 1 << 48 | 7,
        cluster_id: Some(id(3)),
        configured_members: "1=n:1/n:2".to_owned(),
        term: 2,
        version: "0.2.0".to_owned(),
        ..Default::default()
    };
    let all = Command::of_users(vec![append("$user-a", -1, vec![event(5, "$UserCreated", "{}")])]);
    vec![
        ("forward", kind(0, forward(proposal.commands[0].clone(), Of::User(user)).encode_to_vec())),
        ("forward-users", kind(0, forward(all.encode_to_vec().into(), Of::Vouched(vouched)).encode_to_vec())),
        ("forwarded", kind(1, done.encode_to_vec())),
        ("change", kind(2, change.encode_to_vec())),
        ("status", kind(4, status.encode_to_vec())),
        ("join", kind(5, cluster::JoinRequest::default().encode_to_vec())),
        ("take", kind(7, cluster::GroupRequest::default().encode_to_vec())),
        ("read-index", kind(10, cluster::ReadIndexResponse::default().encode_to_vec())),
    ]
}

fn snapshot() -> Vec<(&'static str, Vec<u8>)> {
    let contents = [("1.sst", &b"rows"[..]), ("CURRENT", b"x"), ("EMPTY", b"")];
    let files = contents.map(|(name, content)| stored::SnapshotFile {
        name: name.to_owned(),
        bytes: content.len() as u64,
        crc32c: crc32c::crc32c(content),
    });
    let manifest =
        stored::SnapshotManifest { last_applied: log_id(8), membership: Some(membership()), files: files.to_vec() };
    let header = raft::SnapshotHeader { vote: vote(), manifest: Some(manifest) };
    let chunk = |file: u32, offset: u64, data: &'static [u8]| {
        Part::Chunk(raft::SnapshotChunk { file, offset, crc32c: crc32c::crc32c(data), data: data.into() })
    };
    let parts = [Part::Header(header), chunk(0, 0, b"ro"), chunk(0, 2, b"ws"), chunk(1, 0, b"x")];
    let sent = parts.map(|part| raft::SnapshotPart { part: Some(part) }.encode_length_delimited_to_vec()).concat();
    vec![("files", kind(0, &sent)), ("any-checksum", kind(1, &sent))]
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let numbers = [9_u64.to_le_bytes(), 4_u64.to_le_bytes()].concat();
    let mark = [&numbers[..], &crc32c::crc32c(&numbers).to_le_bytes()].concat();
    let restored = stored::RestoredFor {
        backup: id(4),
        members: "1=n:1/n:2".to_owned(),
        taken_at: "2026-01-01T00:00:00Z".to_owned(),
        next_position: 3,
    };
    let identity = stored::Identity {
        node_id: 1 << 48 | 7,
        cluster_id: Some(id(3)),
        restored: true,
        restored_for: Some(restored),
    };
    let manifest = br#"{"version":"0.2.0","clusterId":"c","database":"1","stateFormat":5,"applied":{"term":1,"index":9},"nextPosition":3,"newestEventTime":null,"takenAt":"2026-01-01T00:00:00Z","files":[{"name":"000007.sst","bytes":9,"crc32c":1,"tailCrc32c":2,"inBase":true}]}"#;
    // A whole record of a log with the number 7, whose kind is 5.
    let summed = [&[5][..], &7_u32.to_le_bytes(), b"row"].concat();
    let crc = crc32c::crc32c(&summed).rotate_right(15).wrapping_add(0xa282_ead8);
    let record = [&crc.to_le_bytes()[..], &3_u16.to_le_bytes(), &summed].concat();
    vec![
        ("durable-mark", kind(0, mark)),
        ("identity", kind(1, kind(0, identity.encode_to_vec()))),
        ("backup", kind(2, manifest)),
        ("current", kind(3, b"MANIFEST-000005\n")),
        ("records", kind(4, [&7_u32.to_le_bytes()[..], &record, &record].concat())),
    ]
}
