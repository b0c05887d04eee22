//! The leader's check before it proposes a write (contract/services 5.2).

use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::rules::Right;
use super::user::{NOTIFICATIONS, stream_of};
use super::{Access, Inner};
use crate::cluster::{Authorization, Authorizer, Permission, Requester};
use crate::store::ReadError;

/// This room as the cluster sees it.
pub(super) struct AccessAuthorizer {
    /// The cluster is below this room and must not keep it alive.
    inner: Weak<Inner>,
}

impl Authorizer for AccessAuthorizer {
    fn authorize(&self, requester: Requester, permission: Permission) -> BoxFuture<'static, Authorization> {
        let Some(inner) = self.inner.upgrade() else {
            return Box::pin(std::future::ready(Authorization::Undecided));
        };
        let access = Access { inner };
        async move {
            match access.has_permission(&requester, &permission).await {
                Ok(true) => Authorization::Granted,
                Ok(false) => Authorization::Denied,
                Err(error) => {
                    tracing::error!(%error, "a write cannot be authorized because the state cannot be read");
                    Authorization::Undecided
                }
            }
        }
        .boxed()
    }
}

impl Access {
    pub(super) fn authorizer(&self) -> AccessAuthorizer {
        AccessAuthorizer { inner: Arc::downgrade(&self.inner) }
    }

    async fn has_permission(&self, requester: &Requester, permission: &Permission) -> Result<bool, ReadError> {
        let Requester::Caller(caller) = requester else { return Ok(true) };
        let Some(caller) = self.caller_now(caller).await? else { return Ok(false) };
        match permission {
            Permission::Append(streams) => {
                for stream in streams {
                    if !self.inner.lists.allow(&caller, stream, Right::Write).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Permission::Delete(stream) => self.inner.lists.allow(&caller, stream, Right::Delete).await,
            // Users change their own password; any other change is for administrators.
            Permission::ManageUsers(streams) => Ok(caller.is_admin()
                || streams.iter().all(|stream| {
                    stream == NOTIFICATIONS || caller.login().is_some_and(|login| *stream == stream_of(login))
                })),
            // What it stores may be users and access lists.
            Permission::Import => Ok(caller.is_admin()),
            Permission::Unknown => Ok(false),
        }
    }
}
