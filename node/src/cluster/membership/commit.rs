//! The time in which a change of the members has to be committed.

use std::time::Duration;

use tokio::time::timeout;

use crate::raft::ChangeError;

/// How long one change of the members may take to commit. A node that asks for its place back waits
/// longer for the answer.
const COMMIT_DEADLINE: Duration = Duration::from_secs(4);

/// The outcome of a change, in time.
///
/// # Errors
/// That of the change; or it was not committed in time, and may be later.
pub(super) async fn in_time<T>(change: impl Future<Output = Result<T, ChangeError>>) -> Result<T, ChangeError> {
    timeout(COMMIT_DEADLINE, change).await.unwrap_or_else(|_| Err(ChangeError::late()))
}
