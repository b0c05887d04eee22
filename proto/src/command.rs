//! Commands with their purpose.

use crate::stored::{Append, AppendAll, Command, Purpose, command::Kind};

impl Command {
    /// What a client asks of streams: their access lists decide whether the write may be made.
    pub fn of_streams(kind: Kind) -> Self {
        Self { kind: Some(kind), purpose: Purpose::Streams.into() }
    }

    /// A change of users, stored as a whole or not at all.
    pub fn of_users(appends: Vec<Append>) -> Self {
        Self { kind: Some(Kind::AppendAll(AppendAll { appends })), purpose: Purpose::Users.into() }
    }
}
