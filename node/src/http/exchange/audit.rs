//! What has to be traceable: who changed users and access lists, and from where. One line each, on the target `audit`.

use std::net::IpAddr;

use crate::event::metadata::Acl;
use crate::http::exchange::authentication::client_address;
use crate::http::exchange::request::Request;

impl Request<'_> {
    /// Where the request came from.
    pub fn client_address(&self) -> IpAddr {
        client_address(self.headers, self.connection.peer.ip(), &self.state.config.trusted_proxies)
    }

    /// Who sent the request, for the audit log.
    fn who(&self) -> &str {
        self.caller.login().unwrap_or("(anonymous)")
    }
}

/// A user was changed, or was not.
pub fn user(request: &Request<'_>, change: &'static str, login: &str, result: &str) {
    let (who, from) = (request.who(), request.client_address());
    // Names come from clients: in quotes nothing in them can end the line.
    tracing::info!(target: "audit", change, user = ?login, result, ?who, %from, "audit: users");
}

/// The access list of a stream was replaced. `None` is no list of its own.
pub fn acl(request: &Request<'_>, stream: &str, before: Option<&Acl>, after: Option<&Acl>) {
    if before == after {
        return;
    }
    let (who, from) = (request.who(), request.client_address());
    tracing::info!(target: "audit", ?stream, before = %Shown(before), after = %Shown(after), ?who, %from, "audit: access list");
}

/// The lists for streams without their own were replaced.
pub fn settings(request: &Request<'_>) {
    let (who, from) = (request.who(), request.client_address());
    tracing::info!(target: "audit", ?who, %from, "audit: $settings, the access lists of streams without their own, were replaced");
}

/// A list as its document has it.
struct Shown<'a>(Option<&'a Acl>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(acl) = self.0 else { return f.write_str("none") };
        let rights = [
            ("$r", &acl.read),
            ("$w", &acl.write),
            ("$d", &acl.delete),
            ("$mr", &acl.meta_read),
            ("$mw", &acl.meta_write),
        ];
        let mut map = f.debug_map();
        map.entries(rights.iter().filter_map(|(key, roles)| roles.as_ref().map(|roles| (key, roles)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_shown_on_one_line_whatever_roles_are_called() {
        let acl = Acl { read: Some(vec!["a\nb".into()]), write: Some(vec![]), ..Acl::default() };
        assert_eq!(Shown(Some(&acl)).to_string(), r#"{"$r": ["a\nb"], "$w": []}"#);
        assert_eq!(Shown(None).to_string(), "none");
    }
}
