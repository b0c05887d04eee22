//! Waits for conditions, never for a fixed time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Pause between two checks of a condition: short compared with every measured time, long compared
/// with the cost of a check.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Checks `condition` until it yields a value; after `limit` fails with `what` and the last reason.
///
/// The condition yields `Ok(value)` when it holds, and `Err(reason)` while it does not.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut condition: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let started = Instant::now();
    loop {
        let reason = match condition().await {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if started.elapsed() >= limit {
            anyhow::bail!("{what}: not within {limit:?}: {reason:#}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Checks `condition` during all of `period` and fails as soon as it does not hold: for events that
/// must *not* happen.
pub async fn holds_during<F, Fut>(what: &str, period: Duration, mut condition: F) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let started = Instant::now();
    while started.elapsed() < period {
        if let Err(reason) = condition().await {
            anyhow::bail!("did not hold for {period:?}: {what}: {reason:#}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_never_holds_fails_with_its_reason() {
        let result =
            until::<(), _, _>("the moon", Duration::from_millis(30), || async { anyhow::bail!("still far") }).await;
        let text = result.unwrap_err().to_string();
        assert!(text.contains("the moon") && text.contains("still far"), "{text}");
    }

    #[tokio::test]
    async fn a_condition_that_breaks_is_seen() {
        let mut looks = 0;
        let result = holds_during("calm", Duration::from_secs(5), || {
            looks += 1;
            let broken = looks == 3;
            async move { if broken { anyhow::bail!("storm") } else { Ok(()) } }
        })
        .await;
        assert!(result.unwrap_err().to_string().contains("storm"));
    }
}
