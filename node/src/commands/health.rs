//! `headwater health`: asks a node once how it is, for health checks of containers, which have no
//! other client of HTTP.

use super::CommandError;
use crate::client::{Call, Client};
use crate::config::HealthFlags;

/// Returns when the node has said yes.
///
/// # Errors
/// The node said no, and why; or it said nothing. See [`CommandError`].
pub(crate) async fn health(flags: &HealthFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node())?;
    client.send(&Call::get(flags.path())).await?;
    say!("{} says yes to {}", client.name(), flags.path());
    Ok(())
}
