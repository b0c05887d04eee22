//! `headwater cluster`: looks at the members of a running cluster, and changes them.

mod change;
mod document;
mod status;
mod table;
mod waiting;

pub(crate) use document::Condition;

use super::CommandError;
use crate::config::ClusterCommand;

/// Does what was asked for.
///
/// # Errors
/// See [`CommandError`].
pub(crate) async fn cluster(command: &ClusterCommand) -> Result<Condition, CommandError> {
    let done = match command {
        ClusterCommand::Status(flags) => return status::status(flags).await,
        ClusterCommand::Add(flags) => change::add(flags).await,
        ClusterCommand::Remove(flags) => change::remove(flags).await,
        ClusterCommand::Promote(flags) => change::promote(flags).await,
        ClusterCommand::Demote(flags) => change::demote(flags).await,
        ClusterCommand::Replace(flags) => change::replace(flags).await,
        ClusterCommand::Transfer(flags) => change::transfer(flags).await,
    };
    done.map(|()| Condition::Healthy)
}
