//! What of another server is not copied: what it has written about itself.

use crate::event::{RecordedEvent, StreamNameRef};

/// Streams that begin like this, and why they stay behind. The list of docs/operations.md.
const PREFIXES: &[(&str, &str)] = &[
    ("$stats-", "statistics of the old server"),
    ("$projections-", "definitions and state of projections, which Headwater does not run"),
    ("$ce-", "written by the projection $by_category"),
    ("$category-", "written by the projection $stream_by_category"),
    ("$et-", "written by the projection $by_event_type"),
    ("$bc-", "written by the projection $by_correlation_id"),
    ("$persistentsubscription-", "state of persistent subscriptions of the old server"),
    ("$scavenges", "notes of the old server about scavenges"),
    ("$import-", "notes about imports"),
];

/// Streams with exactly this name, and why they stay behind.
const NAMES: &[(&str, &str)] = &[
    ("$et", "written by the projection $by_event_type"),
    ("$streams", "written by the projection $streams"),
    ("$persistentSubscriptionConfig", "definitions of persistent subscriptions of the old server"),
    ("$epoch-information", "elections of the old server"),
    ("$users-password-notifications", "notices of changed passwords, valid for an hour"),
    ("$user-admin", "the target has a user admin of its own"),
    ("$user-ops", "the target has a user ops of its own"),
];

/// The stream that lists users. Its events are not copied with their numbers: the target has begun
/// the list with users of its own.
pub(super) const USERS: &str = "$users";

/// Users that every server begins with.
const FIRST_USERS: &[&[u8]] = &[b"admin", b"ops"];

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is copied as it is.
    Copied,
    /// It is appended to the list of users.
    Listed,
    /// It stays behind, for this reason.
    Skipped(&'static str),
}

/// Decides about one event.
pub(super) fn fate(event: &RecordedEvent, without_users: bool) -> Fate {
    let name = StreamNameRef::new(&event.stream);
    let is_metadata = name.described().is_some();
    let described = name.described().unwrap_or(name).as_str();
    if let Some(reason) = reason_of_stream(described) {
        return Fate::Skipped(reason);
    }
    let is_of_users = described == USERS || described.starts_with("$user-");
    if is_of_users && without_users {
        return Fate::Skipped("a user, left out by --without-users");
    }
    if described != USERS {
        return Fate::Copied;
    }
    // The target has metadata of its own for the list.
    let is_first = is_metadata || FIRST_USERS.contains(&&event.data[..]);
    if is_first {
        Fate::Skipped("the target has its own list of users, which begins with admin and ops")
    } else {
        Fate::Listed
    }
}

/// Whether the number at which a stream goes on is copied: where its events are.
pub(super) fn takes_end(stream: &str, without_users: bool) -> bool {
    let is_of_users = stream == USERS || (without_users && stream.starts_with("$user-"));
    reason_of_stream(stream).is_none() && !is_of_users
}

/// Why a stream, or the metadata of this stream, stays behind.
pub(super) fn reason_of_stream(name: &str) -> Option<&'static str> {
    if !name.starts_with('$') {
        return None;
    }
    let by_name = NAMES.iter().find(|(whole, _)| *whole == name);
    by_name.or_else(|| PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::event::Ticks;

    fn event(stream: &str, data: &'static str) -> RecordedEvent {
        RecordedEvent {
            position: 0,
            stream: stream.to_owned(),
            number: 0,
            event_id: Uuid::nil(),
            event_type: "t".to_owned(),
            is_json: false,
            time: Ticks(0),
            data: Bytes::from_static(data.as_bytes()),
            metadata: Bytes::new(),
        }
    }

    #[test]
    fn what_users_wrote_is_copied_and_what_the_server_wrote_for_itself_is_not() {
        for stream in
            ["orders", "$$orders", "$settings", "$$$all", "$user-ann", "$$$user-ann", "stats-$stats-", "$mine"]
        {
            assert_eq!(fate(&event(stream, ""), false), Fate::Copied, "{stream}");
            assert!(takes_end(stream, false), "{stream}");
        }
        for stream in [
            "$stats-127.0.0.1:2113",
            "$$$stats-x",
            "$ce-order",
            "$et-paid",
            "$et",
            "$$$et",
            "$streams",
            "$projections-$all",
            "$import-old",
            "$user-admin",
            "$$$user-ops",
            "$persistentsubscription-s::g-parked",
        ] {
            assert!(matches!(fate(&event(stream, ""), false), Fate::Skipped(_)), "{stream}");
            // A metastream has no such end.
            assert!(stream.starts_with("$$") || !takes_end(stream, false), "{stream}");
        }
    }

    #[test]
    fn users_but_the_first_two_are_listed_unless_none_is_wanted() {
        assert_eq!(fate(&event(USERS, "ann"), false), Fate::Listed);
        for event in [event(USERS, "admin"), event(USERS, "ops"), event("$$$users", "{}")] {
            assert!(matches!(fate(&event, false), Fate::Skipped(_)));
        }
        assert!(!takes_end(USERS, false) && takes_end("$user-ann", false) && !takes_end("$user-ann", true));
        for event in [event(USERS, "ann"), event("$user-ann", ""), event("$$$user-ann", "")] {
            assert!(matches!(fate(&event, true), Fate::Skipped(_)));
        }
    }

    #[test]
    fn the_documented_list_is_this_one() {
        let page = include_str!("../../../docs/operations.md");
        for (name, _) in PREFIXES.iter().chain(NAMES) {
            assert!(page.contains(&format!("`{name}")), "docs/operations.md does not name {name}");
        }
    }
}
