//! `headwater scavenge`: starts a run and shows how far it has come.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::{CommandError, parsed};
use crate::client::{Call, Client, Progress, Repeat, Unit};
use crate::config::ScavengeFlags;

/// Time between two questions how far the run has come.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// What a node says of a run.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    scavenge_id: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    events_removed: u64,
    #[serde(default)]
    space_saved: u64,
}

/// Starts a run and waits for its end, or stops one.
///
/// # Errors
/// See [`CommandError`]. An interrupted wait leaves the run alone.
pub(crate) async fn scavenge(flags: &ScavengeFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node)?;
    if let Some(id) = flags.stop {
        let stop = Call::new(reqwest::Method::DELETE, format!("/admin/scavenge/{id}"), Repeat::IfNotDone);
        client.send(&stop).await.map_err(|error| match error.status() {
            Some(StatusCode::NOT_FOUND) => CommandError::NotRunning { id },
            _ => error.into(),
        })?;
        say!("the scavenge {id} is stopped");
        return Ok(());
    }
    // A repetition of one that was started is refused, and says so.
    let started = client.send(&Call::post("/admin/scavenge", Repeat::IfNotDone).accept("application/json")).await?;
    let Run { scavenge_id: id, .. } = parsed(&client, &started)?;
    say!("scavenge {id}");
    if flags.detach {
        return Ok(());
    }
    let progress = Progress::new("removed", Unit::Bytes, None);
    let mut shown = 0;
    loop {
        tokio::time::sleep(ASK_INTERVAL).await;
        let last = client.send(&Call::get("/admin/scavenge/last").accept("application/json")).await?;
        let run: Run = parsed(&client, &last)?;
        if run.scavenge_id != id {
            // It ended, and another one has begun.
            progress.finish();
            return Ok(());
        }
        progress.advance(run.space_saved.saturating_sub(shown));
        shown = shown.max(run.space_saved);
        match run.state.as_str() {
            "Running" => {}
            "Success" => {
                progress.finish();
                say!("{} events are removed; each node rewrites its tables now", run.events_removed);
                return Ok(());
            }
            _ => return Err(CommandError::Ended { id, state: run.state }),
        }
    }
}
