//! Commands with their purpose.

use crate::stored::{Append, AppendAll, Command, Import, Purpose, command::Kind};

impl Command {
    /// A client's write to streams: the access lists of the streams decide whether it is allowed.
    pub fn of_streams(kind: Kind) -> Self {
        Self { kind: Some(kind), purpose: Purpose::Streams.into() }
    }

    /// A change of users, stored as a whole or not at all.
    pub fn of_users(appends: Vec<Append>) -> Self {
        Self { kind: Some(Kind::AppendAll(AppendAll { appends })), purpose: Purpose::Users.into() }
    }

    /// Events of another store.
    pub fn of_import(import: Import) -> Self {
        Self { kind: Some(Kind::Import(import)), purpose: Purpose::Maintenance.into() }
    }
}
