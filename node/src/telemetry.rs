//! Logging: lines on standard error for an operator, and the end of a process that panicked.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// The filter unless another is configured.
///
/// openraft warns on every heartbeat to an absent peer, several times a second while it is absent.
/// The node itself logs once that a peer went or came back. What `openraft::raft` reports are calls
/// that came after the end of consensus: whoever calls is told, and a failure of consensus itself
/// is reported by `openraft::core`.
pub(crate) const DEFAULT_FILTER: &str = "info,openraft=error,openraft::raft=off";

/// Checks a filter without installing it.
///
/// # Errors
/// A sentence that names the invalid part.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// Puts another filter in the place of the one in force.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

/// Set once, when logging starts.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Puts another filter in the place of the one in force. Without logging nothing happens.
///
/// # Errors
/// A sentence that names the invalid part; the filter in force stays.
pub(crate) fn set_filter(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    SET_FILTER.get().map_or(Ok(()), |set| set(filter)).map_err(|error| error.to_string())
}

/// Starts logging to standard error and makes every panic end the process.
///
/// # Errors
/// The filter is not valid, or logging was started before.
pub(crate) fn start(filter: &str, json: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let (started, set): (_, SetFilter) = if json {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_filter_reloading();
        let handle = lines.reload_handle();
        (lines.try_init(), Box::new(move |filter| handle.reload(filter)))
    } else {
        // Colours would only put escape sequences into journals and files.
        let lines = lines.with_ansi(false).with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        (lines.try_init(), Box::new(move |filter| handle.reload(filter)))
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    // Only the first start comes so far.
    let _ = SET_FILTER.set(set);
    std::panic::set_hook(Box::new(abort_on_panic));
    Ok(())
}

/// Logs the panic and aborts: a node that has lost a thread or task looks alive to its peers but
/// does no work. A dead node is replaced by an election and restarted by its supervisor.
#[expect(clippy::disallowed_methods, reason = "a panic is a defect, and its core dump helps to find it")]
fn abort_on_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::force_capture();
    tracing::error!(message, place, thread, %backtrace, "panic; this is a defect of the program and the node stops now");
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_filter_is_valid() {
        assert_eq!(check_filter(DEFAULT_FILTER), Ok(()));
    }

    #[test]
    fn unknown_level_is_refused() {
        assert!(check_filter("openraft=loud").is_err());
    }
}
