//! The user as whom a subcommand logs in.

use std::fmt;
use std::io::IsTerminal;
use std::path::Path;

use reqwest::Url;

use super::ClientError;
use crate::config::{ClientFlags, Secret};

/// The environment variable with the password.
pub(crate) const PASSWORD_VARIABLE: &str = "HEADWATER_PASSWORD";

/// A user's name and password.
#[derive(Clone)]
pub(crate) struct Login {
    /// Name.
    pub(super) user: String,
    /// Password.
    pub(super) password: Secret,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    /// The login of the flags: the password comes from a file if one is named, else from the
    /// environment, else from the terminal. `None` for anonymous requests.
    pub(super) fn find(flags: &ClientFlags, url: &Url, variable: &str) -> Result<Option<Self>, ClientError> {
        let Some(user) = flags.user.clone() else { return Ok(None) };
        let text = match (&flags.password_file, std::env::var(variable)) {
            (Some(file), _) => from_file(file)?,
            (None, Ok(password)) => password,
            (None, Err(_)) => ask(&user, url, variable)?,
        };
        let no_password = |_| ClientError::Password { reason: format!("the password of {user} is empty") };
        let password = text.parse().map_err(no_password)?;
        Ok(Some(Self { user, password }))
    }
}

fn from_file(file: &Path) -> Result<String, ClientError> {
    let unusable = |error| ClientError::Password { reason: format!("{} cannot be read: {error}", file.display()) };
    let text = std::fs::read_to_string(file).map_err(unusable)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn ask(user: &str, url: &Url, variable: &str) -> Result<String, ClientError> {
    if !std::io::stdin().is_terminal() {
        let reason =
            format!("there is no terminal to ask for the password of {user}; set {variable} or --password-file");
        return Err(ClientError::Password { reason });
    }
    let host = url.host_str().unwrap_or_default();
    rpassword::prompt_password(format!("Password of {user} at {host}: "))
        .map_err(|error| ClientError::Password { reason: format!("the terminal cannot be read: {error}") })
}
