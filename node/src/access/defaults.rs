//! The first users of a cluster, and the warning about their first password.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Access;
use super::change::{append, created, event, first_creation};
use super::password::StoredPassword;
use super::rules::{ADMINS, OPERATORS};
use super::user::{NOTIFICATIONS, NOTIFICATIONS_METADATA, USERS, User, metastream_of};
use crate::cluster::Requester;
use crate::config::Config;
use crate::event::{ExpectedVersion, METADATA_EVENT_TYPE};

/// The password of the first users unless another was configured (contract/services 1.4).
pub(crate) const DEFAULT_PASSWORD: &str = "changeit";

/// The user that administers the cluster.
const ADMIN: &str = "admin";
/// The user who operates it.
const OPERATOR: &str = "ops";

/// How long to wait before trying again to create the first users.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How often the warning is repeated while it applies.
const WARN_INTERVAL: Duration = Duration::from_secs(6 * 3600);

impl Access {
    /// Creates the first users when this node leads a cluster without any. Then it warns of default
    /// passwords until `stop`.
    pub(crate) async fn run(self, config: std::sync::Arc<Config>, stop: CancellationToken) {
        let work = async {
            self.create_first_users(&config).await;
            loop {
                let open = self.users_with_default_password().await;
                if open.is_empty() {
                    return;
                }
                tracing::warn!("{}", warning(&open, config.http_listen));
                tokio::time::sleep(WARN_INTERVAL).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Returns once there are users. They are created once in the life of a cluster: the command
    /// expects that `$users` never had an event.
    async fn create_first_users(&self, config: &Config) {
        let mut exist = self.inner.users.existence();
        let mut leadership = self.inner.cluster.leader_changes();
        let mut command = None;
        while !*exist.borrow_and_update() {
            if self.inner.cluster.leads() {
                if command.is_none() {
                    command = self.first_users(config).await;
                }
                // A failure is due to leadership or to time, and both pass. The same holds for a
                // repetition of what another leader began.
                if let Some(appends) = &command
                    && matches!(self.store_all(&Requester::Node, appends.clone()).await, Ok(true))
                {
                    tracing::info!(target: "audit", "audit: created the users {ADMIN} and {OPERATOR}");
                }
            }
            tokio::select! {
                _ = exist.changed() => {}
                _ = leadership.changed() => {}
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
        }
    }

    async fn first_users(&self, config: &Config) -> Option<Vec<headwater_proto::stored::Append>> {
        let password = |given: &Option<crate::config::Secret>| {
            given.as_ref().map_or(DEFAULT_PASSWORD, |secret| secret.expose()).to_owned()
        };
        let admin_password = self.inner.hashing.hash(&password(&config.default_admin_password)).await.ok()?;
        let ops_password = self.inner.hashing.hash(&password(&config.default_ops_password)).await.ok()?;
        let operator = first_user(OPERATOR, "Event Store Operations", OPERATORS, ops_password);
        let admin = first_user(ADMIN, "Event Store Administrator", ADMINS, admin_password);
        let notifications = event(METADATA_EVENT_TYPE, true, NOTIFICATIONS_METADATA.as_bytes());
        let mut appends = first_creation(&operator);
        appends.append(&mut first_creation(&admin));
        appends.push(append(USERS, ExpectedVersion::NoStream, vec![created(OPERATOR), created(ADMIN)]));
        appends.push(append(&metastream_of(NOTIFICATIONS), ExpectedVersion::Any, vec![notifications]));
        Some(appends)
    }

    /// Those of the first users that still have the default password, which everyone knows.
    async fn users_with_default_password(&self) -> Vec<&'static str> {
        let mut open = Vec::new();
        for login in [ADMIN, OPERATOR] {
            let Ok(Some(found)) = self.user(login).await else { continue };
            let verdict = self.inner.hashing.verify(found.user.password, DEFAULT_PASSWORD).await;
            if !found.user.disabled && verdict.is_ok_and(|verdict| verdict.is_right) {
                open.push(login);
            }
        }
        open
    }
}

fn first_user(login: &str, full_name: &str, group: &str, password: StoredPassword) -> User {
    User {
        login: login.to_owned(),
        full_name: Some(full_name.to_owned()),
        groups: Some(vec![group.to_owned()]),
        password: Some(password),
        disabled: false,
    }
}

fn warning(open: &[&str], listen: SocketAddr) -> String {
    let users = open.join(" and ");
    let reach = if listen.ip().is_loopback() {
        String::new()
    } else {
        format!(", and this node listens on {listen}: anyone who reaches it can do everything")
    };
    format!("the password of {users} is still '{DEFAULT_PASSWORD}'{reach}; change it (docs/security.md)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_louder_where_strangers_can_connect() {
        let local = warning(&["admin"], "127.0.0.1:2113".parse().unwrap());
        assert!(local.contains("admin") && !local.contains("anyone"));
        let public = warning(&["admin", "ops"], "0.0.0.0:2113".parse().unwrap());
        assert!(public.contains("admin and ops") && public.contains("0.0.0.0:2113"));
    }
}
