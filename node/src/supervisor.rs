//! What systemd hears of a node that it runs as `Type=notify`: that it serves, that it lives, that
//! it stops (sd_notify(3)). Nothing is sent where no service manager listens.

use std::time::Duration;

use sd_notify::NotifyState;

/// Signs of life per interval of the watchdog: one may come late, on a busy machine.
const SIGNS_PER_INTERVAL: u32 = 3;

/// The port for clients is open.
pub(crate) fn serving() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving; /health/ready says more")]);
}

/// An ordered shutdown has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping in order")]);
}

/// Gives signs of life for as long as the runtime carries tasks on, if the service manager wants
/// them (`WatchdogSec`): it ends and restarts a process whose runtime hangs.
pub(crate) fn live() {
    if let Some(interval) = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()) {
        tracing::debug!(?interval, "the service manager watches this process");
        tokio::spawn(give_signs(interval / SIGNS_PER_INTERVAL));
    }
}

async fn give_signs(pause: Duration) {
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// A service manager that cannot be told anything acts as if nothing had been said; the node serves
/// all the same.
fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told {state:?}");
    }
}
