//! `headwater cluster status`.

use super::document::{Condition, ask};
use super::table;
use crate::client::Client;
use crate::commands::CommandError;
use crate::config::ClusterStatusFlags;

/// Shows the cluster as one of its nodes sees it.
pub(super) async fn status(flags: &ClusterStatusFlags) -> Result<Condition, CommandError> {
    let client = Client::new(&flags.node)?;
    let (document, body) = ask(&client).await?;
    if flags.json {
        say!("{}", String::from_utf8_lossy(&body));
    } else {
        say!("{}", table::of(&document).trim_end());
    }
    Ok(document.condition)
}
