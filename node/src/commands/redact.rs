//! `headwater redact`: blanks one event.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::CommandError;
use crate::client::{Call, Client, Repeat};
use crate::config::RedactFlags;

/// Blanks the event. Doing it twice is the same as doing it once.
///
/// # Errors
/// See [`CommandError`].
pub(crate) async fn redact(flags: &RedactFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node)?;
    let stream = utf8_percent_encode(&flags.stream, NON_ALPHANUMERIC);
    client.send(&Call::post(format!("/admin/redact/{stream}/{}", flags.number), Repeat::Safe)).await?;
    say!("event {} of stream '{}' is blank on every node that has applied the log", flags.number, flags.stream);
    Ok(())
}
