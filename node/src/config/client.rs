//! The options of subcommands that talk to a running node over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

/// A node and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NodeFlags {
    /// The node to talk to; any node of a cluster will do
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2113", value_parser = parse_node_url)]
    pub url: Url,
    /// How to reach it.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// How to reach a node: shared by all subcommands that do.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ClientFlags {
    /// Log in as this user; the password is taken from the environment variable HEADWATER_PASSWORD,
    /// from --password-file, or asked for [default: anonymous]
    #[arg(long, value_name = "LOGIN", value_parser = parse_login, help_heading = "Connection")]
    pub user: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user", help_heading = "Connection")]
    pub password_file: Option<PathBuf>,
    /// Certificates of the CA that the node's certificate must come from, PEM [default: those of
    /// this machine]
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub ca_file: Option<PathBuf>,
    /// How to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// How long a subcommand waits for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Patience {
    /// Seconds that making a connection may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MAX_S),
          help_heading = "Connection")]
    pub connect_timeout_s: u64,
    /// Seconds for which a node may send nothing while it owes an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_S),
          help_heading = "Connection")]
    pub idle_timeout_s: u64,
    /// Seconds for which a failed request is repeated, where that is safe; 0 repeats nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=MAX_S),
          help_heading = "Connection")]
    pub retry_s: u64,
}

/// A day. An operator who has to wait longer looks at the node.
const MAX_S: u64 = 86_400;

impl Patience {
    /// See [`Self::connect_timeout_s`].
    pub fn connect(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_s)
    }

    /// See [`Self::idle_timeout_s`].
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    /// See [`Self::retry_s`].
    pub fn retry(&self) -> Duration {
        Duration::from_secs(self.retry_s)
    }
}

/// The address of a node: scheme, host and port, and nothing else.
pub(super) fn parse_node_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; expected http://HOST:PORT or https://HOST:PORT"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("expected http://HOST:PORT or https://HOST:PORT".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not hold a login, which others could see; use --user".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("expected nothing behind host and port, but there is {}", url.path()));
    }
    Ok(url)
}

/// A login as Basic authentication can carry it.
pub(super) fn parse_login(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(':') {
        return Err("a login is not empty and has no colon; the password is not given here".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_node_is_scheme_host_and_port_and_holds_no_secret() {
        for good in ["http://127.0.0.1:2113", "https://node1.example/", "http://[::1]:2113"] {
            assert!(parse_node_url(good).is_ok(), "{good}");
        }
        for bad in
            ["127.0.0.1:2113", "ftp://host", "http://ann:secret@host", "http://host/streams", "http://host?x", ""]
        {
            assert!(parse_node_url(bad).is_err(), "{bad}");
        }
        assert!(!parse_node_url("http://ann:secret@host").unwrap_err().contains("secret"));
    }

    #[test]
    fn a_login_with_a_password_behind_it_is_refused() {
        assert!(parse_login("ann").is_ok());
        assert!(parse_login("ann:secret").is_err() && parse_login("").is_err());
    }
}
