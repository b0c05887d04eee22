//! The audit log of changes of users: who made them and from where, one line each, on the target
//! `audit`.

use std::net::IpAddr;

use crate::access::MAX_LOGIN_BYTES;
use crate::http::exchange::authentication::client_address;
use crate::http::exchange::request::Request;

impl Request<'_> {
    /// Where the request came from.
    pub(crate) fn client_address(&self) -> IpAddr {
        client_address(self.headers, self.connection.peer.ip(), &self.state.config.trusted_proxies)
    }

    /// Who sent the request, for the audit log.
    fn who(&self) -> &str {
        self.caller.login().unwrap_or("(anonymous)")
    }
}

/// A user was changed, or was not.
pub(crate) fn user(request: &Request<'_>, change: &'static str, login: &str, result: &str) {
    let (who, from) = (request.who(), request.client_address());
    // Clients choose the names: quoted, they cannot end the line, and no user has a longer one.
    let login = &login[..login.floor_char_boundary(MAX_LOGIN_BYTES)];
    tracing::info!(target: "audit", change, user = ?login, result, ?who, %from, "audit: users");
}
