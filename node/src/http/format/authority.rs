//! Hosts and ports as they stand in headers and in URIs.

/// Letters, digits and `others`: which bytes a text may have, at the price of one look-up for each.
pub(super) const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

static OF_AUTHORITY: [bool; 256] = alphanumeric_and(b"-._~:[]%");
static OF_NAME: [bool; 256] = alphanumeric_and(b"-._~%!$&'()*+,;=");

pub(super) fn consists_of(text: &str, allowed: &[bool; 256]) -> bool {
    text.bytes().all(|byte| allowed[usize::from(byte)])
}

/// Whether links may have this host, with or without a port.
pub(crate) fn is_authority(text: &str) -> bool {
    consists_of(text, &OF_AUTHORITY) && !text.is_empty() && !text.starts_with(':') && split_address(text).is_some()
}

/// Whether a Host header may have this value: a name or an address, and perhaps a port (RFC 9110
/// 7.2). An empty one stands for a target without a host.
pub(crate) fn is_host(text: &str) -> bool {
    let Some((address, rest)) = split_address(text) else { return false };
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rest, None),
    };
    let is_port =
        |port: &str| port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let has_host = if address.is_empty() { !name.is_empty() || port.is_none() } else { name.is_empty() };
    has_host && consists_of(name, &OF_NAME) && port.is_none_or(is_port)
}

/// Splits an IPv6 address in brackets off, if there is one. `None` for brackets around or beside
/// anything else.
fn split_address(text: &str) -> Option<(&str, &str)> {
    let Some(inner) = text.strip_prefix('[') else {
        let has_bracket = memchr::memchr2(b'[', b']', text.as_bytes()).is_some();
        return (!has_bracket).then_some(("", text));
    };
    let (address, rest) = inner.split_once(']')?;
    let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
    (is_address && (rest.is_empty() || rest.starts_with(':'))).then_some((address, rest))
}

/// Host and port of an authority. A port that is no number counts as none. Of so few bytes each is
/// looked at: a search that is made for many takes longer.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    // The colons of an IPv6 address stand in brackets.
    let host_end = authority.bytes().position(|byte| byte == b']').map_or(0, |bracket| bracket + 1);
    match authority.bytes().skip(host_end).position(|byte| byte == b':') {
        Some(colon) => {
            let (host, ports) = authority.split_at(host_end + colon);
            let port = ports.bytes().rposition(|byte| byte == b':').map_or(ports, |colon| &ports[colon + 1..]);
            (host, port.parse().ok())
        }
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for host in ["", "node", "node:2113", "node:", "127.0.0.1:80", "[::1]", "[::1]:2113", "a_b.c-d:1", "n%61"] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "[::1", "::1]", "[::1]x", "[x]", "[]:1", "x:abc", "x:70000", "x:-1", ":80", "a:b:c", "::1", "a/b", "a b",
            "u@h",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }
}
