//! Commands with their purpose, and the cluster version that they need.

use crate::stored::{Append, AppendAll, Command, Purpose, command::Kind};

impl Command {
    /// A client's write to streams: the access lists of the streams decide whether it is allowed.
    pub fn of_streams(kind: Kind) -> Self {
        Self { kind: Some(kind), purpose: Purpose::Streams.into() }
    }

    /// A change of users, stored as a whole or not at all.
    pub fn of_users(appends: Vec<Append>) -> Self {
        Self { kind: Some(Kind::AppendAll(AppendAll { appends })), purpose: Purpose::Users.into() }
    }

    /// Upkeep of the whole store.
    pub fn of_maintenance(kind: Kind) -> Self {
        Self { kind: Some(kind), purpose: Purpose::Maintenance.into() }
    }
}

impl Kind {
    /// The cluster version that has to be in force before this command may be proposed, and below
    /// which it is refused when it is applied (docs/adr/0027-cluster-version.md). A kind that is
    /// added names a new version, and a field that changes what is applied does too, by a guard.
    pub fn needed_version(&self) -> u32 {
        match self {
            Self::Append(_)
            | Self::Delete(_)
            | Self::AppendAll(_)
            | Self::Scavenge(_)
            | Self::Redact(_)
            | Self::Import(_)
            // Nothing but this command leads to a higher version.
            | Self::RaiseVersion(_) => 1,
        }
    }
}
