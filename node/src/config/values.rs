//! The values of options: their types, and how they are parsed.

use std::net::IpAddr;

use ipnet::IpNet;

use super::MemberConfig;

/// Longest time span in milliseconds that an option accepts: ten minutes. A longer one is a
/// mistaken unit.
const MAX_MS: u64 = 600_000;

/// Longest interval in seconds that an option accepts: thirty days.
pub(super) const MAX_INTERVAL_S: u64 = 30 * 24 * 3_600;

/// The scheme that a 401 asks for (contract/services 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// No browser knows this scheme, so none opens a dialog.
    BasicCustom,
    /// RFC 7617.
    Basic,
}

impl Challenge {
    /// The name of the scheme.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BasicCustom => "BasicCustom",
            Self::Basic => "Basic",
        }
    }
}

/// What a node that does not lead does with a request for the leader (contract/services 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderRedirect {
    /// It sends the client there.
    Redirect,
    /// It answers itself, once the leader has told what it has to know; writes it forwards.
    Proxy,
}

impl LeaderRedirect {
    /// Its name as a value of the option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Proxy => "proxy",
        }
    }
}

/// A share of all requests, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio(u32);

impl Ratio {
    /// Millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1e6)
    }
}

pub(super) fn parse_ratio(text: &str) -> Result<Ratio, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Ratio((ratio * 1e6).round() as u32)),
        _ => Err("expected a number from 0 to 1, such as 0.01".to_owned()),
    }
}

/// Base of a collector: scheme, host and perhaps port and path.
pub(super) fn parse_collector(text: &str) -> Result<String, String> {
    let refused = || format!("'{text}' is no collector; write http://HOST:4318 or https://HOST");
    let url = reqwest::Url::parse(text).map_err(|_| refused())?;
    let is_base = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_base { Ok(text.trim_end_matches('/').to_owned()) } else { Err(refused()) }
}

/// The parsed list of addresses and networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetworkList(pub Vec<IpNet>);

/// Origins of web pages, separated by commas.
#[derive(Debug, Clone)]
pub(super) struct OriginList(pub Vec<String>);

/// The parsed list of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberList(pub Vec<MemberConfig>);

/// `123`, `64KiB`, `64MiB`, `2GiB`, `1TiB`; also `KB`, `MB`, `GB` and `TB` as powers of ten.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("expected a number of bytes such as 1048576, 64KiB, 256MiB or 2GiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number of bytes such as 1048576 or 64MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "this is more than 2^64 bytes".to_owned())
}

/// The same for a rate, which is not zero: what has to be done would never end.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("at 0 bytes per second it would never end; expected a rate such as 50MiB".to_owned()),
        rate => Ok(rate),
    }
}

pub(super) fn parse_ms(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(ms @ 1..=MAX_MS) => Ok(ms),
        _ => Err(format!("expected whole milliseconds from 1 to {MAX_MS}")),
    }
}

/// The same for a wait that may be left out.
pub(super) fn parse_wait_ms(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(ms @ 0..=MAX_MS) => Ok(ms),
        _ => Err(format!("expected whole milliseconds from 0 to {MAX_MS}")),
    }
}

/// Hours of every day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// Minute of the day at which it begins.
    from: u32,
    /// Minute of the day at which it ends; before `from` when it goes over midnight.
    to: u32,
}

impl TimeWindow {
    /// Whether the time is in the window.
    pub fn contains(self, time: std::time::SystemTime) -> bool {
        let seconds = time.duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let minute = (seconds / 60 % (24 * 60)) as u32;
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl std::fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

pub(super) fn parse_window(text: &str) -> Result<TimeWindow, String> {
    let minute = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    };
    let window = text.split_once('-').and_then(|(from, to)| Some(TimeWindow { from: minute(from)?, to: minute(to)? }));
    window.filter(|window| window.from != window.to).ok_or_else(|| "expected hours like 22:00-05:30, UTC".to_owned())
}

pub(super) fn parse_challenge(text: &str) -> Result<Challenge, String> {
    [Challenge::BasicCustom, Challenge::Basic]
        .into_iter()
        .find(|challenge| challenge.as_str() == text)
        .ok_or_else(|| "expected BasicCustom or Basic".to_owned())
}

pub(super) fn parse_leader_redirect(text: &str) -> Result<LeaderRedirect, String> {
    [LeaderRedirect::Redirect, LeaderRedirect::Proxy]
        .into_iter()
        .find(|way| way.as_str() == text)
        .ok_or_else(|| "expected redirect or proxy".to_owned())
}

pub(super) fn parse_networks(text: &str) -> Result<NetworkList, String> {
    let network = |text: &str| {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            format!("'{text}' is neither an address nor a network; write 10.0.0.1, 10.0.0.0/8 or fd00::/8")
        })
    };
    text.split(',').map(str::trim).map(network).collect::<Result<_, _>>().map(NetworkList)
}

/// Origins as browsers send them: `scheme://host` or `scheme://host:port`, in lower case, without
/// the port of the scheme.
pub(super) fn parse_origins(text: &str) -> Result<OriginList, String> {
    let origin = |text: &str| {
        let refused = || format!("'{text}' is no origin; write http://HOST:PORT or https://HOST");
        let origin = text.to_ascii_lowercase();
        let (scheme, host) = origin.split_once("://").ok_or_else(refused)?;
        let port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(refused()),
        };
        let host = host.strip_suffix(port).unwrap_or(host);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let checked = if has_port { check_host_port(host) } else { check_host_port(&format!("{host}{port}")) };
        checked.map_err(|_| refused())?;
        Ok(format!("{scheme}://{host}"))
    };
    text.split(',').map(str::trim).map(origin).collect::<Result<_, _>>().map(OriginList)
}

pub(super) fn parse_members(text: &str) -> Result<MemberList, String> {
    let members: Result<Vec<_>, _> = text.split(',').map(|part| parse_member(part.trim())).collect();
    members.map(MemberList)
}

impl std::str::FromStr for MemberConfig {
    type Err = String;

    /// `ID=RAFTHOST:PORT/HTTPHOST:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        parse_member(text)
    }
}

fn parse_member(text: &str) -> Result<MemberConfig, String> {
    let expected = || format!("expected ID=RAFTHOST:PORT/HTTPHOST:PORT, found '{text}'");
    let (id, addresses) = text.split_once('=').ok_or_else(expected)?;
    let (raft, http) = addresses.split_once('/').ok_or_else(expected)?;
    let id = match id.parse() {
        Ok(id @ 1..) => id,
        _ => return Err(format!("the id '{id}' of a member must be a number from 1 to 65535")),
    };
    check_host_port(raft)?;
    check_host_port(http)?;
    Ok(MemberConfig { id, raft_address: raft.to_owned(), http_address: http.to_owned() })
}

/// Refuses anything but `host:port` with a port from 1 to 65535 (IPv6 in brackets).
pub(super) fn check_host_port(text: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("'{text}' has no port; write HOST:PORT"))?;
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let strange = |c: char| c.is_whitespace() || matches!(c, '/' | ',' | '=' | '@' | '?' | '#' | '"');
    if host.is_empty() || bare_ipv6 || host.contains(strange) {
        return Err(format!("'{text}' has no usable host; write HOST:PORT, an IPv6 address as [::1]:PORT"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("the port of '{text}' must be a number from 1 to 65535")),
    }
}

/// A name that can stand in a certificate: one label of a DNS name.
pub(super) fn parse_cluster_name(text: &str) -> Result<String, String> {
    let is_label = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_label {
        Ok(text.to_owned())
    } else {
        Err("expected up to 63 lower-case letters, digits and hyphens, such as orders-eu".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_plain_or_have_a_unit() {
        for (text, bytes) in [("0", 0), ("1048576", 1 << 20), ("64KiB", 1 << 16), ("2GiB", 2 << 30), ("5MB", 5_000_000)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "64mib", "99999999TiB", "1 x"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_more_than_nothing() {
        assert_eq!(parse_rate("1KiB"), Ok(1_024));
        assert!(parse_rate("0").is_err() && parse_rate("0MiB").is_err() && parse_rate("-1").is_err());
    }

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        let parsed = |text: &str| parse_origins(text).map(|list| list.0.join(" "));
        for (text, origins) in [
            ("https://admin.example", "https://admin.example"),
            ("HTTPS://Admin.example:443, http://a:8080", "https://admin.example http://a:8080"),
            ("http://a:80", "http://a"),
            ("http://[::1]", "http://[::1]"),
            ("http://[::1]:81", "http://[::1]:81"),
            ("https://a:80", "https://a:80"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(origins), "{text}");
        }
        for text in
            ["", "null", "*", "a.example", "ftp://a", "http://", "http://a/", "http://a:0", "http://a:x", "http://a,"]
        {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_need_host_and_port() {
        for good in ["127.0.0.1:2113", "node-1.example:1", "[::1]:65535"] {
            assert_eq!(check_host_port(good), Ok(()), "{good}");
        }
        for bad in ["", "host", ":2113", "::1:2113", "host:0", "host:65536", "host:x", "http://host:1", "a b:1"] {
            assert!(check_host_port(bad).is_err(), "{bad}");
        }
    }
}
