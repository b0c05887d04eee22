//! The caller of a request: step 1 of contract/streams 1.1, contract/services 1.1 and 1.5.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::access::{Caller, Principal};
use crate::http::AppState;
use crate::http::exchange::error::ApiError;
use crate::http::limits::MAX_CREDENTIALS_BYTES;

const TRUSTED_AUTH: HeaderName = HeaderName::from_static("es-trustedauth");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Finds out which caller sent a request. Most requests have no credentials.
///
/// # Errors
/// Credentials that are wrong (401) or cannot be verified now (503).
pub(crate) async fn identify(state: &AppState, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, ApiError> {
    let mut basics = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| basic(value.as_bytes()));
    if let Some(credentials) = basics.next() {
        let from = client_address(headers, peer, &state.config.trusted_proxies);
        // With several headers, the caller would depend on which of them a reader takes.
        let is_only = basics.next().is_none();
        let Some((login, password)) = credentials.filter(|_| is_only).and_then(decode) else {
            tracing::info!(target: "audit", %from, "audit: a login was refused: the Authorization header cannot be read, or there are several");
            return Err(ApiError::BadCredentials);
        };
        // On the heap: it is five times as large as the rest of this step, and rare.
        return Ok(Caller::User(Box::pin(state.rooms.access.login(&login, &password, from)).await?));
    }
    let trusted = &state.config.trusted_auth_from;
    if !trusted.is_empty()
        && headers.contains_key(TRUSTED_AUTH)
        && trusted.iter().any(|network| network.contains(&peer.to_canonical()))
    {
        let values: Vec<&HeaderValue> = headers.get_all(TRUSTED_AUTH).iter().collect();
        let principal = match values[..] {
            [value] => std::str::from_utf8(value.as_bytes()).ok().and_then(intermediary),
            _ => None,
        };
        return principal.map(|principal| Caller::User(Arc::new(principal))).ok_or_else(|| {
            tracing::info!(target: "audit", from = %peer, "audit: a login was refused: the ES-TrustedAuth header cannot be read");
            ApiError::BadCredentials
        });
    }
    Ok(Caller::Anonymous)
}

/// The credentials in an Authorization header: `None` for a scheme other than Basic, `Some(None)`
/// for credentials that are too long. A scheme ends where its characters do (RFC 9110 11.1),
/// whatever follows.
fn basic(value: &[u8]) -> Option<Option<&[u8]>> {
    const SCHEME: usize = b"basic".len();
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let (scheme, rest) = value.trim_ascii_start().split_at_checked(SCHEME)?;
    let is_basic = scheme.eq_ignore_ascii_case(b"basic") && !rest.first().is_some_and(is_of_token);
    is_basic.then(|| Some(rest.trim_ascii()).filter(|encoded| encoded.len() <= MAX_CREDENTIALS_BYTES))
}

/// Name and password. RFC 7617 leaves the charset open: bytes that are not UTF-8 are read as
/// Latin-1.
fn decode(encoded: &[u8]) -> Option<(String, String)> {
    let bytes = STANDARD.decode(encoded).ok()?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    };
    let (login, password) = text.split_once(':')?;
    Some((login.to_owned(), password.to_owned()))
}

/// `user; group1, group2`, the groups optional.
fn intermediary(value: &str) -> Option<Principal> {
    let mut parts = value.split(';');
    let login = parts.next()?.trim();
    let groups = parts.next().unwrap_or_default();
    if parts.next().is_some() || login.is_empty() {
        return None;
    }
    let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned).collect();
    Some(Principal::vouched_for(login, groups))
}

/// Where a request came from: the peer, or, behind trusted proxies, the last address in
/// X-Forwarded-For that is not theirs. Addresses before it were written by the client.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[ipnet::IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let values = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
    let mut nearest = peer;
    for item in values.flat_map(|value| value.rsplit(',')) {
        let Some(address) = address(item.trim()) else { break };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

/// An address, which some proxies write with a port.
fn address(text: &str) -> Option<IpAddr> {
    let parsed: Option<IpAddr> = text.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    parsed.or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(header: &str) -> Option<Option<(String, String)>> {
        basic(header.as_bytes()).map(|encoded| encoded.and_then(decode))
    }

    #[test]
    fn only_basic_credentials_are_looked_at() {
        for other in ["", "Bas", "Bearer x", "Digest username=\"x\"", "BasicCustom YTpi", "Basic-x YTpi", "Negotiate"] {
            assert_eq!(credentials(other), None, "{other}");
        }
        let pair = |login: &str, password: &str| Some(Some((login.to_owned(), password.to_owned())));
        for good in ["Basic YTpi", "basic YTpi", "BASIC  YTpi ", "Basic\tYTpi", " Basic YTpi"] {
            assert_eq!(credentials(good), pair("a", "b"), "{good}");
        }
        assert_eq!(credentials("Basic YTpiOmM="), pair("a", "b:c"));
        assert_eq!(credentials("Basic Og=="), pair("", ""));
        assert_eq!(credentials("Basic w7hzdDrDuA=="), pair("øst", "ø"));
        assert_eq!(credentials("Basic +HN0OvgK"), pair("øst", "ø\n"));
        for bad in [
            "Basic",
            "Basic ",
            "Basic\t",
            "Basic !!",
            "Basic:YTpi",
            "Basic,YTpi",
            "Basic YTpi=",
            "Basic YQ==",
            &format!("Basic {}", "A".repeat(9000)),
        ] {
            assert_eq!(credentials(bad), Some(None), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn names_and_passwords_come_out_as_they_went_in(login in "[^:]{0,40}", password in ".{0,40}") {
            let header = format!("Basic {}", STANDARD.encode(format!("{login}:{password}")));
            proptest::prop_assert_eq!(credentials(&header), Some(Some((login, password))));
        }

        #[test]
        fn no_header_makes_the_reader_fail(bytes: Vec<u8>, text in "(Basic )?[ -~]{0,60}") {
            let _ = basic(&bytes).map(|encoded| encoded.and_then(decode));
            let _ = credentials(&text);
            let _ = intermediary(&text);
            let _ = address(&text);
        }
    }

    #[test]
    fn an_intermediary_names_a_user_and_perhaps_groups() {
        let roles = |value: &str, asked: &[&str]| {
            intermediary(value).map(|principal| asked.iter().map(|role| principal.has_role(role)).collect::<Vec<_>>())
        };
        assert_eq!(roles("bob; g1, g2", &["bob", "g1", "g2", "g3"]), Some(vec![true, true, true, false]));
        assert_eq!(roles(" bob ", &["bob", ""]), Some(vec![true, false]));
        assert_eq!(roles("bob;", &["bob", ""]), Some(vec![true, false]));
        for bad in ["", " ; g1", "a; b; c", "a;;"] {
            assert_eq!(roles(bad, &[]), None, "{bad}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_added_itself() {
        let trusted: Vec<ipnet::IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let from = |peer: &str, forwarded: &[&'static str]| {
            let values = forwarded.iter().map(|value| (FORWARDED_FOR, HeaderValue::from_static(value)));
            client_address(&values.collect(), peer.parse().unwrap(), &trusted).to_string()
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("::ffff:10.0.0.1", &["203.0.113.9, 198.51.100.7:1234, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(from("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
    }
}
