//! Changes of users and refused logins have to be traceable: one line each, on the target `audit`.

use std::net::IpAddr;

use super::error::LoginError;
use super::limits::MAX_LOGIN_BYTES;
use super::remote_caller::RemoteCaller;

/// A user was changed, or was not.
pub(super) fn user(client: RemoteCaller<'_>, change: &'static str, login: &str, result: &str) {
    let (who, from) = (client.login(), client.address);
    // Clients choose the names: quoted, they cannot end the line.
    let login = cut(login);
    tracing::info!(target: "audit", change, user = ?login, result, ?who, %from, "audit: users");
}

/// A login was refused.
pub(super) fn refused_login(error: &LoginError, login: &str, from: IpAddr) {
    let login = cut(login);
    match error {
        LoginError::Wrong => {
            tracing::info!(target: "audit", user = ?login, %from, "audit: a login was refused: wrong name or password");
        }
        // Logged above for each wrong password that was verified; a line for each further attempt
        // would let a guesser fill the log.
        LoginError::Exhausted => {
            tracing::debug!(target: "audit", user = ?login, %from, "audit: a login was refused: too many wrong passwords");
        }
        LoginError::NotReady | LoginError::Busy | LoginError::Internal => {}
    }
}

/// No user has a longer name, so a longer one is not worth its place in the log.
fn cut(login: &str) -> &str {
    &login[..login.floor_char_boundary(MAX_LOGIN_BYTES)]
}
