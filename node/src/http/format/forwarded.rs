//! What proxies say about a request as its client sent it: the X-Forwarded headers and Forwarded
//! (RFC 7239). Anybody can send them, so a value that cannot be part of a URI is as good as none.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

use crate::http::format::authority::{alphanumeric_and, consists_of, is_authority, is_host, split_port};

/// How the names of all headers begin by which a proxy says what its client asked for.
const X_FORWARDED: &str = "x-forwarded-";
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

static OF_PREFIX: [bool; 256] = alphanumeric_and(b"-._~/%!$&'()*+;=:@");

/// Whether there is any such header. One look at all names instead of a search for each: most
/// requests have none of them.
pub(crate) fn is_sent(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(X_FORWARDED) || *name == header::FORWARDED)
}

/// The address that the client used, as far as proxies tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded<'h> {
    /// Without a port.
    pub(super) host: Option<Cow<'h, str>>,
    pub(super) port: ForwardedPort,
    pub(super) scheme: Option<&'static str>,
    /// Empty, or with a slash before it and none behind it.
    pub(super) prefix: Cow<'static, str>,
}

/// The port that the client used.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForwardedPort {
    /// Nothing is said of it.
    #[default]
    Unsaid,
    /// This one.
    Is(u16),
    /// That of the scheme: the header repeats the Host header of the client, which names any other.
    DefaultOfScheme,
}

impl<'h> Forwarded<'h> {
    /// What the headers say. Forwarded counts where no X-Forwarded header says the same
    /// (contract/streams 14).
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        let own = [&FORWARDED_HOST, &FORWARDED_PORT, &FORWARDED_PROTO];
        let address = if own.iter().any(|name| headers.contains_key(*name)) {
            Self::of_x_forwarded(headers)
        } else {
            Element::first(headers).map_or_else(Self::default, Self::of_element)
        };
        Self { prefix: prefix(headers), ..address }
    }

    fn of_x_forwarded(headers: &'h HeaderMap) -> Self {
        let (host, port) = host_and_port(headers).unzip();
        let port = port.flatten().or_else(|| first_item(headers, &FORWARDED_PORT)?.parse().ok());
        Self {
            host: host.map(Cow::Borrowed),
            port: port.map_or(ForwardedPort::Unsaid, ForwardedPort::Is),
            scheme: first_item(headers, &FORWARDED_PROTO).and_then(scheme),
            prefix: Cow::Borrowed(""),
        }
    }

    fn of_element(element: Element) -> Self {
        let scheme = element.proto.as_deref().and_then(scheme);
        let Some(sent) = element.host.filter(|host| is_authority(host) && is_host(host)) else {
            return Self { scheme, ..Self::default() };
        };
        let (host, port) = split_port(&sent);
        let port = port.map_or(ForwardedPort::DefaultOfScheme, ForwardedPort::Is);
        Self { host: Some(Cow::Owned(host.to_owned())), port, scheme, prefix: Cow::Borrowed("") }
    }
}

/// The host and the port that X-Forwarded-Host names, the port if there is one.
fn host_and_port(headers: &HeaderMap) -> Option<(&str, Option<u16>)> {
    first_item(headers, &FORWARDED_HOST).filter(|host| is_authority(host)).map(split_port)
}

/// Which headers can change the links of an answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// X-Forwarded-Host names host and port: no other header counts for either of them.
    Authority,
    /// All the X-Forwarded headers, but not Forwarded.
    XForwarded,
    /// All of them.
    Any,
}

impl Basis {
    /// The basis of the links in the answer to a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if !is_sent(headers) {
            return Self::Any;
        }
        match host_and_port(headers) {
            Some((_, Some(_))) => Self::Authority,
            _ if [&FORWARDED_HOST, &FORWARDED_PORT, &FORWARDED_PROTO]
                .iter()
                .any(|name| headers.contains_key(*name)) =>
            {
                Self::XForwarded
            }
            _ => Self::Any,
        }
    }
}

/// The first item of the list that all lines of a header make together: each proxy in a row adds
/// its own, and the first one spoke with the client (RFC 9110 5.6.1: empty items do not count).
fn first_item<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut items = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let first = items.find_map(|item| Some(item.trim_ascii()).filter(|item| !item.is_empty()))?;
    std::str::from_utf8(first).ok()
}

fn scheme(text: &str) -> Option<&'static str> {
    match () {
        () if text.eq_ignore_ascii_case("https") => Some("https"),
        () if text.eq_ignore_ascii_case("http") => Some("http"),
        () => None,
    }
}

/// A prefix that is no plain path is ignored.
fn prefix(headers: &HeaderMap) -> Cow<'static, str> {
    let prefix = first_item(headers, &FORWARDED_PREFIX).unwrap_or_default().trim_matches('/');
    if prefix.is_empty() || !consists_of(prefix, &OF_PREFIX) {
        Cow::Borrowed("")
    } else {
        Cow::Owned(format!("/{prefix}"))
    }
}

/// What an element of a Forwarded list says (RFC 7239 4).
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    host: Option<String>,
    proto: Option<String>,
}

impl Element {
    /// The first element that says anything; `None` where there is none or it cannot be read.
    fn first(headers: &HeaderMap) -> Option<Self> {
        for line in headers.get_all(header::FORWARDED) {
            let mut rest = line.to_str().ok()?;
            while !rest.is_empty() {
                let (element, after) = Self::parse(rest)?;
                if let Some(element) = element {
                    return Some(element);
                }
                rest = after;
            }
        }
        None
    }

    /// The first element of a list, `None` in it if the element is empty, and what stands behind
    /// it.
    fn parse(list: &str) -> Option<(Option<Self>, &str)> {
        let mut element = Self::default();
        let mut names: Vec<&str> = Vec::new();
        let mut rest = list;
        loop {
            rest = rest.trim_ascii_start();
            if let Some(behind) = rest.strip_prefix(';') {
                rest = behind;
                continue;
            }
            if rest.is_empty() || rest.starts_with(',') {
                let found = if names.is_empty() { None } else { Some(element) };
                return Some((found, rest.strip_prefix(',').unwrap_or(rest)));
            }
            let (name, behind) = split_while(rest, is_of_token);
            let (value, behind) = value(behind.strip_prefix('=')?)?;
            // A parameter that is there twice could be read in two ways.
            if name.is_empty() || names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return None;
            }
            names.push(name);
            match () {
                () if name.eq_ignore_ascii_case("host") => element.host = Some(value),
                () if name.eq_ignore_ascii_case("proto") => element.proto = Some(value),
                () => {}
            }
            rest = behind.trim_ascii_start();
            if !(rest.is_empty() || rest.starts_with([';', ','])) {
                return None;
            }
        }
    }
}

/// A token or a quoted string, and what stands behind it. Colons and brackets, which belong into
/// quotes, are taken without them, too: many proxies write addresses with ports so.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, behind) = split_while(text, |byte| is_of_token(byte) || b":[]".contains(&byte));
        return (!token.is_empty()).then(|| (token.to_owned(), behind));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

/// RFC 9110 5.6.2.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn split_while(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::http::format::links::Base;

    fn headers(sent: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn base(headers: &HeaderMap) -> String {
        Base::of_request(headers, "http", None, "n:1").as_str().to_owned()
    }

    #[test]
    fn an_element_is_read_in_every_form_that_has_one() {
        for (value, expected) in [
            ("host=a:1;proto=https", "https://a:1"),
            ("Host=a; PROTO=HTTPS", "https://a"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "http://n:1"),
            ("for=\"[2001:db8:cafe::17]:4711\";host=\"[::1]:80\";proto=https", "https://[::1]:80"),
            ("host=\"a\\:1\"", "http://a:1"),
            ("for=\"_a,b;c\\\"\";host=a:1", "http://a:1"),
            ("host=a:1, host=b:2", "http://a:1"),
            (" , ;;, host=a:1", "http://a:1"),
            ("proto=gopher;host=a:1", "http://a:1"),
            ("host=\"a/b\"", "http://n:1"),
            ("host=\"a:70000\"", "http://n:1"),
            ("host=\"\"", "http://n:1"),
            // What cannot be read is ignored as a whole.
            ("host=a:1;proto", "http://n:1"),
            ("host=a:1;proto=\"https", "http://n:1"),
            ("host = a:1", "http://n:1"),
            ("host=a:1;host=b:1", "http://n:1"),
            ("host=a:1 proto=https", "http://n:1"),
            ("=a;host=b", "http://n:1"),
        ] {
            assert_eq!(base(&headers(&[("forwarded", value)])), expected, "{value}");
        }
        assert_eq!(
            base(&headers(&[("forwarded", ""), ("forwarded", "host=a:1"), ("forwarded", "host=b:1")])),
            "http://a:1"
        );
    }

    #[test]
    fn forwarded_does_not_count_beside_headers_that_say_the_same() {
        let forwarded = ("forwarded", "host=a:1;proto=https");
        for (other, expected) in [
            (("x-forwarded-host", "b:2"), "http://b:2"),
            (("x-forwarded-port", "x"), "http://n:1"),
            (("x-forwarded-proto", "http"), "http://n:1"),
            (("x-forwarded-for", "192.0.2.1"), "https://a:1"),
            (("x-forwarded-prefix", "p"), "https://a:1/p"),
        ] {
            assert_eq!(base(&headers(&[forwarded, other])), expected, "{other:?}");
        }
    }

    /// The headers that links depend on, with values of all kinds.
    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = prop::sample::select(vec![
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-proto",
            "x-forwarded-prefix",
            "forwarded",
            "host",
        ]);
        let value = prop_oneof![
            "[a-c]{1,2}(:[0-9]{1,3})?(, ?[a-c])?",
            "https?",
            "(host=|proto=|for=|;|,|\"|\\\\|[a-c:/ ]|https){0,8}",
            "[ -~]{0,20}",
        ];
        prop::collection::vec((name, value), 0..6).prop_map(|sent| {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(name, HeaderValue::from_str(&value).unwrap());
            }
            headers
        })
    }

    /// The headers that count for `basis`; Host always does.
    fn counted(basis: Basis) -> &'static [&'static str] {
        match basis {
            Basis::Authority => &["host", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"],
            Basis::XForwarded => {
                &["host", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-forwarded-port"]
            }
            Basis::Any => &[
                "host",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-forwarded-prefix",
                "x-forwarded-port",
                "forwarded",
            ],
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_base_that_is_no_uri(lines: Vec<(u8, Vec<u8>)>, sent in any_headers()) {
            let names = ["x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-prefix", "forwarded"];
            let mut headers = sent;
            for (name, value) in lines {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(names[usize::from(name) % names.len()], value);
                }
            }
            let base = base(&headers);
            let rest = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://")).unwrap();
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            prop_assert!(is_authority(authority), "{}", base);
            prop_assert!(consists_of(path, &OF_PREFIX) && !path.ends_with('/'), "{}", base);
        }

        /// What Vary promises: a request that agrees with another one in the headers that counted
        /// for its answer gets the same links.
        #[test]
        fn headers_that_do_not_count_change_no_link(first in any_headers(), second in any_headers()) {
            let counted = counted(Basis::of(&first));
            let mut second = second;
            for name in counted {
                second.remove(*name);
                for value in first.get_all(*name) {
                    second.append(*name, value.clone());
                }
            }
            prop_assert_eq!(base(&first), base(&second));
        }
    }
}
