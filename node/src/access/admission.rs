//! What the leader asks before it makes a write (contract/services 5.2).

use std::sync::Weak;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::rules::Right;
use super::user::{NOTIFICATIONS, stream_of};
use super::{Access, Inner};
use crate::cluster::Asker;
use crate::cluster::admission::{Admission, Admitted, Target};
use crate::store::ReadError;

/// This room as the cluster knows it.
pub(super) struct Doorkeeper {
    /// The cluster is below this room and must not keep it.
    inner: Weak<Inner>,
}

impl Admission for Doorkeeper {
    fn admits(&self, asker: Asker, target: Target) -> BoxFuture<'static, Admitted> {
        let Some(inner) = self.inner.upgrade() else { return Box::pin(std::future::ready(Admitted::NotNow)) };
        let access = Access { inner };
        async move {
            match access.may_make(&asker, &target).await {
                Ok(true) => Admitted::Yes,
                Ok(false) => Admitted::No,
                Err(error) => {
                    tracing::error!(%error, "nobody can tell whether a write may be made");
                    Admitted::NotNow
                }
            }
        }
        .boxed()
    }
}

impl Access {
    pub(super) fn admission(&self) -> Doorkeeper {
        Doorkeeper { inner: std::sync::Arc::downgrade(&self.inner) }
    }

    async fn may_make(&self, asker: &Asker, target: &Target) -> Result<bool, ReadError> {
        let Asker::Caller(caller) = asker else { return Ok(true) };
        let Some(caller) = self.present(caller).await? else { return Ok(false) };
        match target {
            Target::Append(stream) => self.has_right(&caller, stream, Right::Write).await,
            Target::Delete(stream) => self.has_right(&caller, stream, Right::Delete).await,
            // Users change their own password, everything else is for administrators.
            Target::Users(streams) => Ok(caller.is_admin()
                || streams.iter().all(|stream| {
                    stream == NOTIFICATIONS || caller.login().is_some_and(|login| *stream == stream_of(login))
                })),
            Target::Nothing => Ok(true),
        }
    }
}
